"""An import on a server of the customer: restored aside, held against the bundle, rewritten, swapped by renaming, and back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ireporter import bundle_import, file_manifest, import_journal, import_server, verification
from ireporter.bundle_format import BASE
from ireporter.errors import MigrationError

from .bundle_kit import MIGRATION, ROOT, Kit, quiet
from .conftest import Cluster
from .import_kit import DATABASE, IMPORT, ImportKit
from .test_file_copy import NAMELESS, make_hard_tree

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="owners can be given to files by root only"),
]
UNRESTORABLE = "DROP TABLE stale CASCADE;"
ASIDE, BEFORE, RETURNED = (f"{DATABASE}_{kind}_{IMPORT}" for kind in ("import", "before", "returned"))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.make(tmp_path_factory.mktemp("keys"))


ACCOUNTS = "SELECT count(*) FROM mst_common"


def unpacked(kit: Kit, folder: Path, picture: str, trees: list[dict[str, object]], **more: object) -> Path:
    """A bundle, made and unpacked."""
    kit.run(kit.present(folder, picture, trees, **more))
    target = folder / "unpacked"
    kit.run(kit.received(folder, "unpacked", target=str(target)))
    return target


@pytest.fixture(scope="module")
def source_trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trees")
    make_hard_tree(root / "output")
    (root / "settings" / "xml").mkdir(parents=True)
    (root / "settings" / "xml" / "Server.xml").write_text("<server>cloud</server>")
    (root / "settings" / "xml" / "Quota.xml").write_text("<quota/>")
    return root


@pytest.fixture(scope="module")
def nasty_bag(
    kit: Kit, cluster: Cluster, nasty: str, source_trees: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    trees: list[dict[str, object]] = [
        {"name": name, "path": str(source_trees / name)} for name in ("output", "settings")
    ]
    return unpacked(kit, tmp_path_factory.mktemp("nasty-bundle"), cluster.conninfo(nasty), trees)


@pytest.fixture(scope="module")
def small_bag(kit: Kit, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a tenant with little of everything that rules and mutations need."""
    cluster.execute("postgres", "CREATE DATABASE small_source")
    cluster.execute("postgres", "CREATE ROLE small_owner; CREATE ROLE small_app LOGIN PASSWORD 'x'")
    cluster.execute(
        "small_source",
        """
        CREATE TABLE mst_common (item_key text PRIMARY KEY, item_value text, seen int DEFAULT 0);
        INSERT INTO mst_common VALUES ('FONT_FILE_PATH', '/srv/cloud/fonts/a.ttf'), ('PDF_SETTING', '/srv/cloud/pdf'), ('OTHER', 'kept'), ('EMPTY', NULL);
        CREATE TABLE "Odd ""table" ("a %s column" text, n int);
        INSERT INTO "Odd ""table" VALUES ('it''s', 1), ('%(x)s', 2), (NULL, 3);
        CREATE TABLE log_changes (at timestamptz, what text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log_changes VALUES (now(), TG_OP); RETURN NEW; END';
        CREATE TRIGGER noted AFTER UPDATE ON mst_common FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TABLE rep_top (id int PRIMARY KEY, name text, pdf bytea);
        INSERT INTO rep_top SELECT g, 'report ' || g, decode(repeat(md5(g::text), 50), 'hex') FROM generate_series(1, 500) g;
        CREATE INDEX rep_top_name ON rep_top (name);
        CREATE SEQUENCE ids; SELECT nextval('ids'), nextval('ids');
        SELECT lo_from_bytea(4711, 'a photo');
        ALTER TABLE rep_top OWNER TO small_owner; GRANT SELECT, INSERT ON rep_top TO small_app;
        """,
    )
    root = tmp_path_factory.mktemp("small-trees")
    (root / "output" / "2026").mkdir(parents=True)
    (root / "output" / "2026" / "report.pdf").write_bytes(b"%PDF" + os.urandom(5000))
    (root / "output" / "link").symlink_to("2026/report.pdf")
    os.setxattr(root / "output" / "2026" / "report.pdf", "user.note", b"kept")
    yield unpacked(
        kit, tmp_path_factory.mktemp("small-bundle"), cluster.conninfo("small_source"),
        [{"name": "output", "path": str(root / "output")}], accounts_query=ACCOUNTS,
    )  # fmt: skip
    cluster.execute("postgres", "DROP DATABASE small_source WITH (FORCE)")
    cluster.execute("postgres", "DROP ROLE small_owner; DROP ROLE small_app")


@pytest.fixture
def site(small_bag: Path, clean_second: Cluster, tmp_path: Path) -> ImportKit:
    return ImportKit(clean_second, tmp_path, small_bag, ("output",))


def test_everything_arrives_beside_what_is_there(
    nasty_bag: Path, cluster: Cluster, nasty: str, source_trees: Path, clean_second: Cluster, tmp_path: Path
) -> None:
    site = ImportKit(clean_second, tmp_path, nasty_bag, ("output", "settings"))
    foretold = site.run("restored", check=True)
    assert (foretold["changed"], foretold["phase"]) == (True, "none")
    assert site.databases() == set() and not (tmp_path / "state").exists()
    steps: list[object] = []
    done = bundle_import.run(site.spec("restored"), lambda progress: steps.append(progress["step"]))
    assert (done["changed"], done["phase"]) == (True, "verified")
    assert {"restore", "statistics", "file trees", "verify database", "verify files"} <= set(steps)
    assert site.databases() == {ASIDE}
    assert site.site_names() == {f"output_import_{IMPORT}", f"settings_import_{IMPORT}"}
    assert (site.site / f"output_import_{IMPORT}").stat().st_mode & 0o777 == 0o700
    verified = done["verified"]
    assert isinstance(verified, dict)
    assert (verified["tables"], verified["objects_compared"]) == (20, "definitions")
    assert verified["rows"] >= 2535
    again = site.run("restored")
    assert (again["changed"], again["verified"]) == (False, verified)
    site.run("rewritten")
    assert site.run("swapped")["phase"] == "swapped"
    assert site.databases() == {DATABASE}
    assert site.site_names() == {"output", "settings"}
    site.open()
    # As another program of ours sees it: what a bundle leaves out, what pg_restore computes anew, and nothing else.
    found = verification.run(
        {"source": cluster.conninfo(nasty), "target": clean_second.conninfo(DATABASE), "connection_limit": -1}, quiet
    )
    assert {(one["kind"], one["object"].partition(":")[0]) for one in found["differences"]} == {  # type: ignore[attr-defined]
        ("role password", "nasty_owner"),
        ("role password", "nasty App"),
        ("role", "nasty_group"),
        ("role", "nasty_member"),
        ("role membership", "nasty_owner in nasty_group"),
        ("materialised view", "public.stale"),
        ("row", "public.stale"),
        ("large object", "4713"),
        ("database setting", "ireporter_migration.imported"),
    }
    for name in ("output", "settings"):
        assert dict(file_manifest.manifest(site.site / name)) == dict(file_manifest.manifest(source_trees / name))


IN_ORDER = """
    CREATE TABLE two_levels (a int, b int, PRIMARY KEY (a, b)) PARTITION BY LIST (a);
    CREATE TABLE two_levels_1 PARTITION OF two_levels FOR VALUES IN (1) PARTITION BY LIST (b);
    CREATE TABLE two_levels_11 PARTITION OF two_levels_1 FOR VALUES IN (1);
    CREATE TABLE to_two_levels (a int, b int, CONSTRAINT both_levels FOREIGN KEY (a, b) REFERENCES two_levels);
    COMMENT ON CONSTRAINT both_levels ON to_two_levels IS 'after the indexes';
    CREATE DOMAIN small AS int CONSTRAINT small_check CHECK (VALUE < 10); COMMENT ON CONSTRAINT small_check ON DOMAIN small IS 'early';
    CREATE TABLE seen (tag text);
    CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (tg_tag); END $$;
    CREATE EVENT TRIGGER sees ON ddl_command_end EXECUTE FUNCTION see();
    ALTER EVENT TRIGGER sees ENABLE ALWAYS;
"""


def test_what_parallel_pg_restore_cannot_do(
    kit: Kit, cluster: Cluster, any_database: str, clean_second: Cluster, tmp_path: Path
) -> None:
    """States of partitions' triggers, an extension that is not of the default version, rows that an extension brings, what needs an order."""
    picture = tmp_path / "bundle"
    picture.mkdir()
    cluster.execute("postgres", f"CREATE DATABASE any_picture TEMPLATE {any_database}")
    # Rows that their own table would not take today: no dump can be restored with them, and stock pg_restore says so.
    cluster.execute("any_picture", UNRESTORABLE)
    cluster.execute("any_picture", IN_ORDER)
    try:
        bag = unpacked(kit, picture, cluster.conninfo("any_picture"), [])
        site = ImportKit(clean_second, tmp_path, bag)
        assert site.through()["phase"] == "swapped"
        triggers = "SELECT c.relname, t.tgname, t.tgenabled FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal"
        with cluster.connect("any_picture") as ours, clean_second.connect(DATABASE) as theirs:
            rows = [set(session.execute(triggers).fetchall()) for session in (ours, theirs)]
        assert rows[0] == rows[1] != set()
        assert clean_second.value(DATABASE, "SELECT count(*) FROM seen") == 0
        said = "SELECT count(*) FROM pg_constraint WHERE obj_description(oid, 'pg_constraint') IN ('after the indexes', 'early')"
        assert clean_second.value(DATABASE, said) == 2
    finally:
        cluster.execute("postgres", "DROP DATABASE any_picture WITH (FORCE)")


def test_there_and_back_and_there_again(site: ImportKit, clean_second: Cluster) -> None:
    """What was there before is kept, comes back by renaming, and what was written since is kept beside it."""
    site.through()
    site.open()
    clean_second.execute(DATABASE, "INSERT INTO mst_common VALUES ('OWN', 'first import')")
    (site.site / "output" / "own").write_text("first")
    first = site.import_id
    site.import_id = "acme-i-20260104t000000z"
    with pytest.raises(MigrationError, match=r"lets users in.*\(import-open\)"):
        site.through()
    site.close()
    done = site.run("swapped")
    assert done["before"] == f"{DATABASE}_before_{site.import_id}"
    assert site.databases() == {DATABASE, str(done["before"])}
    assert done["imported"] == {"tenant": "acme", "bundle": MIGRATION, "import_id": site.import_id}
    assert site.site_names() == {"output", f"output_before_{site.import_id}"}
    assert clean_second.value(DATABASE, "SELECT count(*) FROM mst_common WHERE item_key = 'OWN'") == 0
    assert not (site.site / "output" / "own").exists()
    site.open()
    clean_second.execute(DATABASE, "INSERT INTO mst_common VALUES ('OWN', 'second import')")
    with pytest.raises(MigrationError, match=r"\(import-open\)"):
        site.run("returned")
    site.close()
    assert site.run("returned", check=True)["changed"] is True
    back = site.run("returned")
    assert (back["changed"], back["phase"]) == (True, "returned")
    assert site.run("returned")["changed"] is False
    assert clean_second.value(DATABASE, "SELECT item_value FROM mst_common WHERE item_key = 'OWN'") == "first import"
    assert (
        clean_second.value(str(back["returned"]), "SELECT item_value FROM mst_common WHERE item_key = 'OWN'")
        == "second import"
    )
    assert (site.site / "output" / "own").read_text() == "first"
    # Somebody wrote in it, so only the days set remove it.
    with pytest.raises(MigrationError, match=r"Users have written.*\(import-kept\)"):
        site.run("absent")
    assert site.run("forgotten", kept_days=30)["removed"] == []
    foretold = site.run("forgotten", kept_days=0, check=True)["removed"]
    gone = site.run("forgotten", kept_days=0)
    assert sorted(gone["removed"]) == sorted(foretold)  # type: ignore[call-overload]
    assert site.databases() == {DATABASE}
    assert site.site_names() == {"output"}
    assert site.run("forgotten", kept_days=0)["changed"] is False
    assert clean_second.value(DATABASE, "SELECT item_value FROM mst_common WHERE item_key = 'OWN'") == "first import"
    assert {journal.phase for _folder, journal in import_journal.of_tenant(site.folder / "state", "acme")} == {
        "removed"
    }
    assert first != site.import_id


def test_where_nothing_was_there_nothing_is_there_again(site: ImportKit) -> None:
    site.through()
    assert site.run("read")["before"] is None
    site.run("returned")
    assert site.databases() == {RETURNED}
    assert site.site_names() == {f"output_returned_{IMPORT}"}
    # Nobody wrote in it.
    assert site.run("absent")["phase"] == "removed"
    assert site.databases() == set()
    assert site.site_names() == set()


def test_what_was_only_made_aside_goes(site: ImportKit) -> None:
    site.run("restored")
    assert site.run("absent", check=True)["changed"] is True
    assert site.databases() == {ASIDE}
    assert set(site.run("absent")["removed"]) == {ASIDE, str(site.site / f"output_import_{IMPORT}")}  # type: ignore[call-overload]
    assert site.databases() == set() and site.site_names() == set()
    assert site.run("absent")["changed"] is False


def test_what_was_left_aside_goes_with_what_was_kept(site: ImportKit) -> None:
    """An import that was given up, under an id that nobody uses any more."""
    site.run("restored")
    site.import_id = "acme-i-20260108t000000z"
    assert site.run("forgotten", kept_days=1)["removed"] == []
    assert ASIDE in site.run("forgotten", kept_days=0)["removed"]  # type: ignore[operator]
    assert site.databases() == set() and site.site_names() == set()


def test_the_order_is_kept(site: ImportKit) -> None:
    for state in ("rewritten", "swapped"):
        with pytest.raises(MigrationError, match=r"not begun.*\(import-order\)"):
            site.run(state)
    site.run("restored")
    with pytest.raises(MigrationError, match=r"is verified.*\(import-order\)"):
        site.run("swapped")


MUTATIONS = {
    "a row changed": ("UPDATE rep_top SET name = 'report  7' WHERE id = 7", "table public.rep_top"),
    "a bit of a photo": ("UPDATE rep_top SET pdf = set_bit(pdf, 77, 1 - get_bit(pdf, 77)) WHERE id = 3", "table public.rep_top"),
    "values swapped between rows": (
        "UPDATE rep_top SET name = CASE id WHEN 1 THEN 'report 2' ELSE 'report 1' END WHERE id IN (1, 2)",
        "table public.rep_top",
    ),
    "a row gone": ("DELETE FROM rep_top WHERE id = 500", "table public.rep_top"),
    "a row twice": ('INSERT INTO "Odd ""table" VALUES (\'it\'\'s\', 1)', 'table public.Odd "table'),
    "a table more": ("CREATE TABLE more (a int)", "table public.more"),
    "a table gone": ("DROP TABLE log_changes CASCADE", "table public.log_changes"),
    "a sequence": ("SELECT nextval('ids')", "sequence public.ids"),
    "a large object": ("SELECT lo_put(4711, 0, 'A')", "large object 4711"),
    "an index gone": ("DROP INDEX rep_top_name", "object INDEX public.rep_top_name"),
    "an index otherwise": (
        "DROP INDEX rep_top_name; CREATE INDEX rep_top_name ON rep_top (lower(name))", "object INDEX public.rep_top_name",
    ),
    "a constraint gone": ("ALTER TABLE rep_top DROP CONSTRAINT rep_top_pkey", "object CONSTRAINT public.rep_top rep_top_pkey"),
    "a trigger gone": ("DROP TRIGGER noted ON mst_common", "object TRIGGER public.mst_common noted"),
    "a default": ("ALTER TABLE mst_common ALTER seen SET DEFAULT 1", "object TABLE public.mst_common"),
    "a grant": ("REVOKE INSERT ON rep_top FROM small_app", "object ACL public.TABLE rep_top"),
    "an owner": ("ALTER TABLE rep_top OWNER TO small_app", "object TABLE public.rep_top"),
    "the owner of the database": ("ALTER DATABASE {aside} OWNER TO small_owner", "database owner"),
    "a large object's owner": ("ALTER LARGE OBJECT 4711 OWNER TO small_owner", "object BLOB 4711"),
}  # fmt: skip


@pytest.mark.parametrize("what", MUTATIONS)
def test_what_differs_in_the_database_is_found(site: ImportKit, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    statement, found = MUTATIONS[what]
    real = bundle_import.verify

    def mutated(*arguments: object, **named: object) -> object:
        site.cluster.execute(ASIDE, statement.format(aside=f'"{ASIDE}"'))
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(bundle_import, "verify", mutated)
    with pytest.raises(
        MigrationError, match=r"differs from the bundle in \d+ points.*\(import-verification\)"
    ) as caught:
        site.run("restored")
    differences = caught.value.figures["differences"]  # type: ignore[attr-defined]
    assert any(f"{one['kind']} {one['object']}".startswith(found) for one in differences), differences
    with pytest.raises(MigrationError, match=r"\(import-order\)"):
        site.run("rewritten")
    monkeypatch.undo()
    # It was never called verified; taken away and restored anew, it is.
    site.run("absent")
    site.import_id = "acme-i-20260105t000000z"
    assert site.run("restored")["phase"] == "verified"


def _replace(path: Path, content: bytes) -> None:
    seen = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


FILES = {
    "content": (lambda tree: _replace(tree / "2026/report.pdf", b"%PDX" + (tree / "2026/report.pdf").read_bytes()[4:]), "file sha256"),
    "size": (lambda tree: _replace(tree / "2026/report.pdf", b""), "file size"),
    "gone": (lambda tree: (tree / "2026/report.pdf").unlink(), "file output: 2026/report.pdf"),
    "more": (lambda tree: (tree / "2026/more").touch(), "file output: 2026/more"),
    "mode": (lambda tree: (tree / "2026/report.pdf").chmod(0o600), "file mode"),
    "owner": (lambda tree: os.chown(tree / "2026/report.pdf", NAMELESS, -1), "owner"),
    "group": (lambda tree: os.chown(tree / "2026/report.pdf", -1, NAMELESS), "group"),
    "time": (lambda tree: os.utime(tree / "2026/report.pdf", ns=(1, 1)), "file mtime_ns"),
    "attribute": (lambda tree: os.setxattr(tree / "2026/report.pdf", "user.note", b"other"), "file xattrs"),
    "link": (lambda tree: ((tree / "link").unlink(), (tree / "link").symlink_to("/etc/passwd")), "file link_target"),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_what_differs_in_the_files_is_found(site: ImportKit, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    change, found = FILES[what]
    real = bundle_import.verify

    def mutated(*arguments: object, **named: object) -> object:
        change(site.site / f"output_import_{IMPORT}" / "tree")
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(bundle_import, "verify", mutated)
    with pytest.raises(MigrationError, match=r"\(import-verification\)") as caught:
        site.run("restored")
    differences = caught.value.figures["differences"]  # type: ignore[attr-defined]
    assert any(f"{one['kind']} {one['object']}".startswith(found) for one in differences), differences


RULES = [
    {
        "name": "fonts", "reason": "paths of the cloud's server", "table": "mst_common", "column": "item_value",
        "when": [{"column": "item_key", "starts_with": "FONT"}], "part": "/srv/cloud/", "by": "C:\\ConMas\\'%s\\",
    },
    {
        "name": "pdf", "reason": "the same", "table": "mst_common", "column": "item_value",
        "when": [{"column": "item_key", "equals": "PDF_SETTING"}], "value": None,
    },
    {
        "name": "quoting", "reason": "a test", "table": 'Odd "table', "column": "a %s column",
        "when": [{"column": "a %s column", "contains": "%(x"}], "value": "'; DROP TABLE mst_common; --",
    },
    {
        "name": "numbers", "reason": "a test", "table": 'Odd "table', "column": "n",
        "when": [{"column": "a %s column", "is_null": True}], "value": "30",
    },
    {
        "name": "nothing", "reason": "a test", "table": "mst_common", "column": "item_value",
        "when": [{"column": "item_key", "equals": "OTHER"}], "value": "kept",
    },
]  # fmt: skip


def test_rules(site: ImportKit, clean_second: Cluster, tmp_path: Path) -> None:
    licence = tmp_path / "License.xml"
    licence.write_text("<licence>ours</licence>")
    licence.chmod(0o640)
    os.chown(licence, 1, 2)
    files = [
        {
            "name": "licence",
            "reason": "its server's own",
            "tree": "output",
            "path": "xml/deep/License.xml",
            "source": str(licence),
        },
        {"name": "quota", "reason": "an entitlement", "tree": "output", "path": "2026/report.pdf"},
        {"name": "not there", "reason": "a test", "tree": "output", "path": "2026/no such file"},
    ]
    rules = {"value_rules": RULES, "file_rules": files}
    foretold = site.run("rewritten", check=True, **rules)
    assert [one["rule"] for one in foretold["rewritten"]] == [
        "fonts",
        "pdf",
        "quoting",
        "numbers",
        "nothing",
        "licence",
        "quota",
        "not there",
    ]  # type: ignore[attr-defined]
    assert "rows" not in foretold["rewritten"][0]  # type: ignore[index]
    site.run("restored", **rules)
    counted = site.run("rewritten", check=True, **rules)["rewritten"]
    assert [one.get("rows", one.get("files")) for one in counted] == [1, 1, 1, 1, 0, 1, 1, 0]  # type: ignore[attr-defined]
    assert (
        clean_second.value(ASIDE, "SELECT item_value FROM mst_common WHERE item_key = 'FONT_FILE_PATH'")
        == "/srv/cloud/fonts/a.ttf"
    )
    done = site.run("rewritten", **rules)
    assert done["rewritten"] == counted
    assert site.run("rewritten", **rules)["changed"] is False
    with pytest.raises(MigrationError, match=r"rules were changed.*\(import-rules\)"):
        site.run("rewritten", value_rules=RULES[:1])
    site.run("swapped")
    rows = dict(clean_second.connect(DATABASE).execute("SELECT item_key, item_value FROM mst_common").fetchall())
    assert rows == {
        "FONT_FILE_PATH": "C:\\ConMas\\'%s\\fonts/a.ttf",
        "PDF_SETTING": None,
        "OTHER": "kept",
        "EMPTY": None,
    }
    odd = clean_second.connect(DATABASE).execute('SELECT * FROM "Odd ""table" ORDER BY n').fetchall()
    assert odd == [("it's", 1), ("'; DROP TABLE mst_common; --", 2), (None, 30)]
    # No trigger fired.
    assert clean_second.value(DATABASE, "SELECT count(*) FROM log_changes") == 0
    placed = site.site / "output/xml/deep/License.xml"
    assert (placed.read_text(), placed.stat().st_mode & 0o777, placed.stat().st_uid, placed.stat().st_gid) == (
        "<licence>ours</licence>",
        0o640,
        1,
        2,
    )
    assert not (site.site / "output/2026/report.pdf").exists()
    assert {path.name for path in placed.parent.iterdir()} == {"License.xml"}


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"table": "no_such_table"}, "the table public.no_such_table"),
        ({"column": "no_such_column"}, "the column no_such_column"),
        ({"when": [{"column": "no_such_column", "equals": "x"}]}, "the column no_such_column"),
        ({"column": "seen", "value": "no number"}, "cannot be carried out"),
        ({"schema": "pg_catalog", "table": "pg_views"}, "the table pg_catalog.pg_views"),
    ],
)
def test_a_rule_that_cannot_be_carried_out(
    site: ImportKit, clean_second: Cluster, rule: dict[str, object], why: str
) -> None:
    site.run("restored")
    given = {"name": "broken", "reason": "a test", "table": "mst_common", "column": "item_value", "value": "x", **rule}
    with pytest.raises(MigrationError, match=r"\(import-rules\)") as caught:
        site.run("rewritten", value_rules=[RULES[0], given])
    assert why in caught.value.happened
    # All or nothing.
    assert (
        clean_second.value(ASIDE, "SELECT item_value FROM mst_common WHERE item_key = 'FONT_FILE_PATH'")
        == "/srv/cloud/fonts/a.ttf"
    )


def test_an_older_postgresql_is_refused(site: ImportKit, tmp_path: Path) -> None:
    copy = tmp_path / "bag"
    shutil.copytree(site.bag, copy)
    about = site.about()
    about["versions"]["postgresql"] = 170002  # type: ignore[index]
    (copy / BASE / "data/migration.json").write_text(json.dumps(about))
    site.bag = copy
    _refused(site, r"PostgreSQL here is 15\.\d+, older than 17\.2 of the bundle \(target-version\)")


def _refused(site: ImportKit, why: str, **more: object) -> None:
    """In check mode and for real, and nothing was made."""
    before = site.databases()
    roles = site.cluster.value("postgres", "SELECT count(*) FROM pg_roles")
    for check in (True, False):
        with pytest.raises(MigrationError, match=why):
            site.run("restored", check=check, **more)
    assert site.databases() == before
    assert site.cluster.value("postgres", "SELECT count(*) FROM pg_roles") == roles
    assert not any("_import_" in name for name in site.site_names())
    assert not list((site.folder / "state").glob("*/*/import.json"))


@pytest.mark.parametrize(("version", "why"), [("8.1.26020\n", "8.1.26020, older than 8.2.26020"), ("", "is unknown")])
def test_an_older_application_is_refused(site: ImportKit, version: str, why: str) -> None:
    site.version_file().write_text(version)
    _refused(site, why)
    site.version_file().write_text("8.10.0\n")
    assert site.run("restored", check=True)["changed"] is True


def test_foreign_data_is_refused_unless_it_is_said_to_be_the_tenant_s(site: ImportKit, clean_second: Cluster) -> None:
    clean_second.execute("postgres", f"CREATE DATABASE {DATABASE}")
    assert site.run("restored", check=True)["changed"] is True, "an empty database is nobody's"
    clean_second.execute(DATABASE, "CREATE TABLE theirs (a int)")
    _refused(site, r"holds data that no import of acme put there \(target-empty\)")
    clean_second.execute("postgres", f"DROP DATABASE {DATABASE}")
    (site.site / "output").mkdir()
    assert site.run("restored", check=True)["changed"] is True, "an empty folder is nobody's"
    (site.site / "output" / "theirs").write_text("theirs")
    _refused(site, r"holds 'theirs', which no migration put there \(target-empty\)")
    clean_second.execute("postgres", f"CREATE DATABASE {DATABASE} CONNECTION LIMIT 0")
    clean_second.execute(DATABASE, "CREATE TABLE theirs (a int)")
    done = site.through(replace=True)
    assert clean_second.value(str(done["before"]), "SELECT count(*) FROM theirs") == 0
    assert (site.site / f"output_before_{IMPORT}" / "theirs").read_text() == "theirs"


def test_another_tenant_s_import_is_refused_even_where_it_is_empty(site: ImportKit, clean_second: Cluster) -> None:
    clean_second.execute(
        "postgres",
        f"CREATE DATABASE {DATABASE}; ALTER DATABASE {DATABASE} SET ireporter_migration.imported = 'globex/b/c'",
    )
    _refused(site, r"no import of acme.*\(target-empty\)")


@pytest.mark.parametrize("attributes", ["LOGIN", "NOLOGIN"])
def test_a_role_that_is_not_ours_is_refused(site: ImportKit, clean_second: Cluster, attributes: str) -> None:
    clean_second.execute("postgres", f"CREATE ROLE small_app {attributes} PASSWORD 'theirs'")
    _refused(site, r"The role small_app exists.*\(role-clash\)")
    verifier = clean_second.value("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'small_app'")
    done = site.run("restored", known_roles=["small_app"])
    assert done["roles"] == ["small_owner"]
    assert clean_second.value("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'small_app'") == verifier
    assert clean_second.value("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'small_owner'") is None


def test_a_known_role_with_power_over_the_server_is_refused(site: ImportKit, clean_second: Cluster) -> None:
    clean_second.execute("postgres", "CREATE ROLE small_app CREATEROLE")
    _refused(site, r"has power over this server.*\(role-clash\)", known_roles=["small_app"])


def test_a_bundle_of_another_tenant_is_refused(site: ImportKit) -> None:
    _refused(site, r"is of tenant acme, not of globex \(bundle-tenant\)", tenant="globex")


@pytest.mark.parametrize(
    ("trees", "why"),
    [
        ([], r"has a file tree output, and no file tree of this name.*\(import-trees\)"),
        ([{"name": "output", "path": "/no/such/folder/output"}], r"is no folder \(import-trees\)"),
        ([{"name": "output", "path": "/"}], r"is no absolute path of a folder \(file-trees\)"),
    ],
)
def test_trees_without_a_place_are_refused(site: ImportKit, trees: list[object], why: str) -> None:
    _refused(site, why, file_trees=trees)


def test_owners_are_mapped_or_refused(kit: Kit, cluster: Cluster, clean_second: Cluster, tmp_path: Path) -> None:
    root = tmp_path / "source" / "output"
    root.mkdir(parents=True)
    (root / "a").write_text("a")
    (root / "suid").write_text("a")
    os.chown(root / "suid", 1, 2)
    (root / "suid").chmod(0o6755)
    (root / "link").symlink_to("/etc/passwd")
    os.chown(root / "link", 1, 2, follow_symlinks=False)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    cluster.execute("postgres", "CREATE DATABASE empty_source")
    try:
        bag = unpacked(kit, bundle, cluster.conninfo("empty_source"), [{"name": "output", "path": str(root)}])
    finally:
        cluster.execute("postgres", "DROP DATABASE empty_source")
    site = ImportKit(clean_second, tmp_path, bag, ("output",))
    _refused(
        site,
        r"belong to the user no-such-user, which does not exist.*\(import-owners\)",
        owners={"daemon": "no-such-user"},
    )
    before = Path("/etc/passwd").stat()
    site.run("restored", owners={"daemon": "nobody"}, groups={"bin": "nogroup"})
    tree = site.site / f"output_import_{IMPORT}" / "tree"
    assert ((tree / "suid").owner(), (tree / "suid").group(), (tree / "suid").stat().st_mode & 0o7777) == (
        "nobody",
        "nogroup",
        0o6755,
    )
    assert (tree / "link").lstat().st_uid == (tree / "suid").stat().st_uid
    assert Path("/etc/passwd").stat().st_uid == before.st_uid
    assert (tree / "a").owner() == "root"


def test_a_second_import_over_a_running_one_is_refused(site: ImportKit) -> None:
    seen: list[str] = []

    def progress(now: dict[str, object]) -> None:
        if now["step"] == "restore" and not seen:
            for more in ({}, {"check": True}, {"import_id": "acme-i-20260106t000000z"}):
                with pytest.raises(
                    MigrationError, match=r"Another import of acme is at work.*\(import-running\)"
                ) as caught:
                    site.run("restored", **more)
                seen.append(str(caught.value))
            assert site.run("read")["phase"] == "restoring"

    bundle_import.run(site.spec("restored"), progress)
    assert len(seen) == 3


def test_statements_that_no_bundle_of_ours_has_are_refused(site: ImportKit, tmp_path: Path) -> None:
    copy = tmp_path / "bag"
    shutil.copytree(site.bag, copy)
    site.bag = copy
    roles = copy / BASE / "data/database-roles.sql"
    good = roles.read_text()
    for evil in (
        "ALTER ROLE \"postgres\" PASSWORD 'x';\n",
        'CREATE ROLE "evil" SUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS INHERIT LOGIN CONNECTION LIMIT -1;\n',
        "COPY (SELECT 1) TO PROGRAM 'touch /tmp/evil';\n",
        "\\! touch /tmp/evil\n;\n",
        'CREATE ROLE "a',
    ):
        roles.write_text(good + evil)
        _refused(site, r"\(bundle-content\)")
    assert not Path("/tmp/evil").exists()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A place for the trees with less room than they need."""
    disk = tmp_path / "site"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_one_sentence(
    kit: Kit, cluster: Cluster, clean_second: Cluster, tmp_path: Path, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "source" / "output"
    root.mkdir(parents=True)
    (root / "big").write_bytes(os.urandom(3 << 20))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    cluster.execute("postgres", "CREATE DATABASE empty_source")
    try:
        bag = unpacked(kit, bundle, cluster.conninfo("empty_source"), [{"name": "output", "path": str(root)}])
    finally:
        cluster.execute("postgres", "DROP DATABASE empty_source")
    site = ImportKit(clean_second, tmp_path, bag, ("output",))
    _refused(site, r"The import needs about \d+ bytes on the disk of .*site, which has \d+ left \(disk-full\)")
    monkeypatch.setattr("ireporter.import_check._room", lambda *_arguments: None)
    with pytest.raises(MigrationError, match=r"is full \(disk-full\)"):
        site.run("restored")
    monkeypatch.undo()
    subprocess.run(["mount", "-o", "remount,size=20m", tiny_disk], check=True)
    assert site.run("restored")["phase"] == "verified"


def test_a_database_that_appears_between_looking_and_making_is_made_anew(
    site: ImportKit, clean_second: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL finishes a CREATE DATABASE whose client, a killed import, is gone already."""
    real = import_server.Server.drop
    appears = iter([f'CREATE DATABASE "{ASIDE}"'])

    def drop(server: import_server.Server, name: str) -> None:
        real(server, name)
        for statement in appears:
            clean_second.execute("postgres", statement)

    monkeypatch.setattr(import_server.Server, "drop", drop)
    assert site.through()["phase"] == "swapped"


def test_somebody_who_renames_meanwhile_is_noticed(site: ImportKit, clean_second: Cluster) -> None:
    site.through("rewritten")
    clean_second.execute("postgres", f'ALTER DATABASE "{ASIDE}" RENAME TO elsewhere')
    with pytest.raises(MigrationError, match=r"is not the one that was verified.*\(import-moved\)"):
        site.run("swapped")
    clean_second.execute("postgres", f'ALTER DATABASE elsewhere RENAME TO "{ASIDE}"')
    tree = site.site / f"output_import_{IMPORT}" / "tree"
    tree.rename(site.site / "elsewhere")
    tree.mkdir()
    with pytest.raises(MigrationError, match=r"is not the folder that was verified.*\(import-moved\)"):
        site.run("swapped")
    tree.rmdir()
    (site.site / "elsewhere").rename(tree)
    assert site.run("swapped")["phase"] == "swapped"


def test_a_session_of_a_superuser_is_waited_for_and_named(
    site: ImportKit, clean_second: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.through("rewritten")
    monkeypatch.setattr("ireporter.import_server._WAIT_SECONDS", 0.5)
    with (
        clean_second.connect(ASIDE),
        pytest.raises(MigrationError, match=r"A session of postgres .* stays in the database.*\(import-sessions\)"),
    ):
        site.run("swapped")
    # Half swapped, the next run completes it.
    assert site.run("read")["phase"] == "swapping"
    assert site.run("swapped")["phase"] == "swapped"


def test_the_accounts_are_counted(site: ImportKit) -> None:
    assert site.about()["accounts"] == 4
    done = site.run("restored", accounts_query=ACCOUNTS)
    assert done["verified"]["accounts"] == 4  # type: ignore[index]
    site.run("absent")
    site.import_id = "acme-i-20260106t000000z"
    with pytest.raises(MigrationError, match=r"user accounts.*\(import-verification\)"):
        site.run("restored", accounts_query=f"{ACCOUNTS} WHERE item_value IS NOT NULL")
    site.run("absent")
    site.import_id = "acme-i-20260107t000000z"
    for broken in ("SELECT 'x'", "DELETE FROM mst_common RETURNING 1", "SELECT count(*) FROM no_such_table"):
        with pytest.raises(MigrationError, match=r"\(accounts-query\)"):
            site.run("restored", accounts_query=broken)


def test_the_module(site: ImportKit) -> None:
    program = Path(sys.executable).with_name("ansible")

    def ansible(state: str, *options: str, **more: object) -> tuple[int, dict[str, object]]:
        spec = {key: value for key, value in site.spec(state, **more).items() if key != "state_directory"}
        done = subprocess.run(
            [str(program), "--one-line", "localhost", "-m", "ireporter_import", "-a", json.dumps(spec), *options],
            capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
        )  # fmt: skip
        assert "=> {" in done.stdout, done.stdout + done.stderr
        found: dict[str, object] = json.loads(done.stdout[done.stdout.index("=> {") + 3 :])
        return done.returncode, found

    # In check mode: the module writes into the server's own folder, which is not the test's to use.
    status, found = ansible("restored", "--check")
    assert (status, found["changed"], found["phase"]) == (0, True, "none"), found
    status, found = ansible("restored", "--check", tenant="globex")
    assert (status, found["check"]) == (2, "bundle-tenant")
    assert (
        found["msg"]
        == "The bundle is of tenant acme, not of globex (bundle-tenant). Take the bundle that was made for you, and tell the sender."
    )
    status, found = ansible("rewritten", "--check", value_rules=RULES[:1])
    assert (status, [one["rule"] for one in found["rewritten"]]) == (0, ["fonts"])  # type: ignore[attr-defined]
