"""SIGKILL in every step of an import, forwards and backwards: the next run completes it, or takes it back, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bundle_kit import Kit
from .conftest import Cluster
from .import_kit import DATABASE, IMPORT, ImportKit, Step

pytestmark = pytest.mark.integration

RESTORE: dict[str, Step] = {
    "checked": ("ireporter.import_check", "refuse", 1, "after"),
    "journal begun": ("ireporter.import_journal", "write_json", 1, "after"),
    "roles made": ("ireporter.import_restore", "make_roles", 1, "after"),
    "database made": ("ireporter.import_restore", "_restore_archive", 1, "before"),
    "restored, without statistics": ("ireporter.import_restore", "analyse", 1, "before"),
    "restored, without settings": ("ireporter.import_bag", "Bag.database_statements", 1, "before"),
    "database complete": ("ireporter.import_restore", "restore", 1, "after"),
    "tree half unpacked": ("ireporter.import_trees", "extract", 1, "after"),
    "all trees unpacked": ("ireporter.import_journal", "write_json", 2, "before"),
    "restored, not verified": ("ireporter.bundle_import", "verify", 1, "before"),
    "verified, not noted": ("ireporter.import_journal", "write_json", 3, "before"),
    "verified": ("ireporter.import_journal", "write_json", 3, "after"),
}
REWRITE: dict[str, Step] = {
    "counted": ("ireporter.import_journal", "write_json", 1, "before"),
    "noted": ("ireporter.import_journal", "write_json", 1, "after"),
    "values rewritten": ("ireporter.import_rewrite", "values", 1, "after"),
    "file half placed": ("ireporter.import_rewrite", "shutil.copyfileobj", 1, "after"),
    "files rewritten": ("ireporter.import_journal", "write_json", 2, "before"),
}
SWAP: dict[str, Step] = {
    "noted": ("ireporter.import_journal", "write_json", 1, "after"),
    "tree away": ("ireporter.import_swap", "sync_folder", 1, "before"),
    "first tree away, on disk": ("ireporter.import_swap", "_rename", 1, "after"),
    "first tree in place": ("ireporter.import_swap", "_rename", 2, "after"),
    "second tree away": ("ireporter.import_swap", "_rename", 3, "after"),
    "trees swapped": ("ireporter.import_swap", "_databases", 1, "before"),
    "within the transaction": ("ireporter.import_server", "Server.run", 3, "after"),
    "databases swapped": ("ireporter.import_swap", "_databases", 1, "after"),
    "marks half written": ("ireporter.import_swap", "write_json", 1, "after"),
    "all but noted": ("ireporter.import_journal", "write_json", 2, "before"),
}
RETURN: dict[str, Step] = {
    "noted": ("ireporter.import_journal", "write_json", 1, "after"),
    "databases back": ("ireporter.import_swap", "_databases", 1, "after"),
    "first tree away": ("ireporter.import_swap", "_rename", 1, "after"),
    "first tree back": ("ireporter.import_swap", "_rename", 2, "after"),
    "second tree away": ("ireporter.import_swap", "_rename", 3, "after"),
    "all but noted": ("ireporter.import_journal", "write_json", 2, "before"),
}
REMOVE: dict[str, Step] = {
    "noted": ("ireporter.import_journal", "write_json", 1, "after"),
    "database gone": ("ireporter.import_server", "Server.drop", 1, "after"),
    "folders gone": ("ireporter.import_kept", "remove_folder", 2, "after"),
}
QUICK = {
    "restored, not verified",
    "all trees unpacked",
    "values rewritten",
    "first tree away, on disk",
    "databases swapped",
    "first tree back",
}


def steps(table: dict[str, Step]) -> list[object]:
    return [
        pytest.param(step, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, step in table.items()
    ]


@pytest.fixture(scope="module")
def bag(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    kit = Kit.make(tmp_path_factory.mktemp("keys"))
    folder = tmp_path_factory.mktemp("bundle")
    cluster.execute("postgres", "CREATE DATABASE killed_source; CREATE ROLE killed_app LOGIN")
    cluster.execute(
        "killed_source",
        "CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 9) AS a FROM generate_series(1, 2000) g; ALTER TABLE t OWNER TO killed_app",
    )
    trees: list[dict[str, object]] = []
    for name in ("output", "settings"):
        root = tmp_path_factory.mktemp("tree") / name
        root.mkdir()
        (root / "imported").write_text(name)
        trees.append({"name": name, "path": str(root)})
    kit.run(kit.present(folder, cluster.conninfo("killed_source"), trees))
    kit.run(kit.received(folder, "unpacked", target=str(folder / "unpacked")))
    yield folder / "unpacked"
    cluster.execute("postgres", "DROP DATABASE killed_source WITH (FORCE)")
    cluster.execute("postgres", "DROP ROLE killed_app")


@pytest.fixture
def site(bag: Path, clean_second: Cluster, tmp_path: Path) -> ImportKit:
    """A server on which the tenant was installed before, with data of its own."""
    licence = tmp_path / "License.xml"
    licence.write_text("ours")
    rules: dict[str, object] = {
        "replace": True,
        "value_rules": [
            # Not idempotent: carried out twice, it would show.
            {
                "name": "twice",
                "reason": "a test",
                "table": "t",
                "column": "a",
                "when": [{"column": "id", "equals": "7"}],
                "part": "a",
                "by": "aa",
            }
        ],
        "file_rules": [
            {"name": "licence", "reason": "a test", "tree": "settings", "path": "License.xml", "source": str(licence)}
        ],
    }
    found = ImportKit(clean_second, tmp_path, bag, ("output", "settings"), more=rules)
    clean_second.execute("postgres", f"CREATE DATABASE {DATABASE} CONNECTION LIMIT 0")
    clean_second.execute(DATABASE, "CREATE TABLE before (a int)")
    for name in ("output", "settings"):
        (found.spec("read"), (found.site / name).mkdir())
        (found.site / name / "before").write_text(name)
    return found


def session_of_the_dead_has_ended(site: ImportKit) -> None:
    """The server notices within a moment."""
    deadline = time.monotonic() + 10
    while site.cluster.value(
        "postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'ireporter|pg_'"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_before(site: ImportKit) -> bool:
    """The tenant's names are those of what was there before."""
    answers = {
        site.cluster.value(DATABASE, "SELECT to_regclass('before') IS NOT NULL"),
        *((site.site / name / "before").exists() for name in ("output", "settings")),
    }
    assert len(answers) == 1, "half of it is swapped"
    return bool(answers.pop())


def is_imported_once(site: ImportKit, database: str = DATABASE) -> None:
    """All of it, and the rule that would show was carried out once."""
    wanted = site.cluster.value("postgres", "SELECT replace(repeat(md5('7'), 9), 'a', 'aa')")
    assert site.cluster.value(database, "SELECT a FROM t WHERE id = 7") == wanted
    assert site.cluster.value(database, "SELECT count(*) FROM t") == 2000


@pytest.mark.parametrize("step", steps(RESTORE))
def test_killed_while_it_is_restored(site: ImportKit, step: Step) -> None:
    site.kill("restored", step)
    assert is_before(site)
    # Twice in a row, too.
    if site.run("read")["phase"] not in ("none", "restored", "verified"):
        site.kill("restored", step)
    done = site.run("restored")
    assert done["phase"] == "verified"
    assert done["changed"] is (step != RESTORE["verified"])
    site.through()
    is_imported_once(site)
    assert site.run("read")["roles"] == ["killed_app"]


@pytest.mark.parametrize("step", steps(RESTORE))
def test_killed_while_it_is_restored_and_taken_away(site: ImportKit, step: Step) -> None:
    site.kill("restored", step)
    session_of_the_dead_has_ended(site)
    site.run("returned")
    site.run("absent")
    assert is_before(site)
    assert site.databases() == {DATABASE}
    assert site.site_names() == {"output", "settings"}
    site.import_id = "acme-i-20260104t000000z"
    assert site.run("restored")["phase"] == "verified"


@pytest.mark.parametrize("step", steps(REWRITE))
def test_killed_while_it_is_rewritten(site: ImportKit, step: Step) -> None:
    site.run("restored")
    site.kill("rewritten", step)
    assert is_before(site)
    done = site.run("rewritten")
    assert [one.get("rows", one.get("files")) for one in done["rewritten"]] == [1, 1]  # type: ignore[attr-defined]
    site.run("swapped")
    is_imported_once(site)
    assert (site.site / "settings" / "License.xml").read_text() == "ours"
    assert {path.name for path in (site.site / "settings").iterdir()} == {"imported", "License.xml"}


@pytest.mark.parametrize("step", steps(SWAP))
def test_killed_while_it_is_swapped_and_completed(site: ImportKit, step: Step) -> None:
    site.through("rewritten")
    site.kill("swapped", step)
    session_of_the_dead_has_ended(site)
    assert site.run("swapped")["phase"] == "swapped"
    assert not is_before(site)
    is_imported_once(site)
    assert site.databases() == {DATABASE, f"{DATABASE}_before_{IMPORT}"}
    assert site.site_names() == {"output", "settings", f"output_before_{IMPORT}", f"settings_before_{IMPORT}"}
    assert site.run("swapped")["changed"] is False


@pytest.mark.parametrize("step", steps(SWAP))
def test_killed_while_it_is_swapped_and_taken_back(site: ImportKit, step: Step) -> None:
    site.through("rewritten")
    site.kill("swapped", step)
    session_of_the_dead_has_ended(site)
    assert site.run("returned")["phase"] == "returned"
    assert is_before(site)
    is_imported_once(site, f"{DATABASE}_returned_{IMPORT}")
    site.run("absent")
    assert site.databases() == {DATABASE}
    assert site.site_names() == {"output", "settings"}


@pytest.mark.parametrize("step", steps(RETURN))
def test_killed_while_it_is_swapped_back(site: ImportKit, step: Step) -> None:
    site.through()
    site.kill("returned", step)
    session_of_the_dead_has_ended(site)
    assert site.run("returned")["phase"] == "returned"
    assert is_before(site)
    assert site.site_names() == {"output", "settings", f"output_returned_{IMPORT}", f"settings_returned_{IMPORT}"}
    is_imported_once(site, f"{DATABASE}_returned_{IMPORT}")


@pytest.mark.parametrize("step", steps(REMOVE))
def test_killed_while_what_was_kept_is_removed(site: ImportKit, step: Step) -> None:
    site.through()
    site.kill("forgotten", step, kept_days=0)
    session_of_the_dead_has_ended(site)
    # What was begun is completed, whatever days are set now.
    site.run("forgotten", kept_days=1000)
    assert site.databases() == {DATABASE}
    assert site.site_names() == {"output", "settings"}
    is_imported_once(site)
