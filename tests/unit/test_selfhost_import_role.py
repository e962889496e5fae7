"""What role selfhost_import decides from what it sees, and what it tells the customer: without a server."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "selfhost_import"
VARIABLES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
SPECIFICATION = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
TASKS = {path.name: path.read_text(encoding="utf-8") for path in (ROLE / "tasks").glob("*.yml")}
BUNDLE = "acme-s-20260101t000000z"


def template(text: str, **seen: Any) -> Any:
    trusted = {name: trust_as_template(value) for name, value in VARIABLES.items() if isinstance(value, str)}
    variables = {
        **{name: value for name, value in VARIABLES.items() if not isinstance(value, str)},
        **trusted,
        "inventory_hostname": "acme",
        "selfhost_import_directory": "/srv/import",
        "selfhost_import_bundle": "",
        "selfhost_import_links": {"bundle": f"https://delivery.example.com/a/1/b/{BUNDLE}.tar.zst.age"},
        **seen,
    }
    return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(text))


def test_every_variable_is_described_and_every_described_one_is_known() -> None:
    described = set(SPECIFICATION["main"]["options"])
    assert set(DEFAULTS) <= described
    # What has no default has to be said.
    assert {
        name for name, option in SPECIFICATION["main"]["options"].items() if option.get("required")
    } == described - set(DEFAULTS)
    everything = "".join(
        [*TASKS.values(), *(path.read_text() for path in (ROLE / "templates").iterdir()), json.dumps(VARIABLES)]
    )
    used = set(re.findall(r"(?<![A-Za-z_])selfhost_import_[a-z_]+", everything))
    assert used <= described
    assert used | {"selfhost_import_server"} >= described
    for name, entry in SPECIFICATION.items():
        assert entry["options"] == SPECIFICATION["main"]["options"], name
        assert f"{name}.yml" in TASKS


@pytest.mark.parametrize(
    "module", ["ireporter_import", "ireporter_download", "ireporter_bundle", "ireporter_tenant", "ireporter_run"]
)
def test_the_modules_have_every_option_the_role_gives_them(module: str) -> None:
    specification = importlib.util.spec_from_file_location(module, ROOT / "library" / f"{module}.py")
    assert specification is not None
    text = Path(str(specification.origin)).read_text(encoding="utf-8")
    documentation = yaml.safe_load(re.search(r'DOCUMENTATION = r"""\n(.*?)\n"""', text, re.DOTALL)[1])  # type: ignore[index]
    given: set[str] = set()

    def look(tasks: list[dict[str, Any]]) -> None:
        for task in tasks:
            given.update(task.get(module) or {})
            for part in ("block", "rescue", "always"):
                look(task.get(part) or [])

    for text in TASKS.values():
        look(yaml.safe_load(text))
    assert given and given <= set(documentation["options"])


def test_nothing_is_asked_of_the_vendor() -> None:
    for name, text in TASKS.items():
        hosts = set(re.findall(r"delegate_to: (.*)", text)) | set(re.findall(r"_host: (.*)", text))
        assert hosts <= {'"{{ selfhost_import_server }}"'}, name


@pytest.mark.parametrize(
    ("links", "bundle", "path"),
    [
        (None, "", f"/srv/import/{BUNDLE}.tar.zst.age"),
        ({}, "/media/disk/acme-s-1.tar.zst.age", "/media/disk/acme-s-1.tar.zst.age"),
    ],
)
def test_where_the_bundle_lies(links: dict[str, str] | None, bundle: str, path: str) -> None:
    more = {} if links is None else {"selfhost_import_links": links}
    assert template("{{ __selfhost_import_bundle_path }}", selfhost_import_bundle=bundle, **more) == path
    identity = template("{{ __selfhost_import_bundle_id }}", selfhost_import_bundle=bundle, **more)
    assert identity == Path(path).name.removesuffix(".tar.zst.age")


RUN = {"id": "acme-i-1", "finished_at": None}


@pytest.mark.parametrize(
    ("latest", "imported", "content", "opened", "due"),
    [
        (None, None, "absent", False, True),
        (None, None, "own", False, True),
        (RUN, None, "absent", False, True),
        (RUN, BUNDLE, "copy", False, True),
        # Opened, and then the controller died before it had reported.
        (RUN, BUNDLE, "own", True, True),
        ({**RUN, "finished_at": "2026"}, BUNDLE, "own", True, False),
        # Taken back, or another bundle since.
        ({**RUN, "finished_at": "2026"}, "acme-s-older", "own", False, True),
        ({**RUN, "finished_at": "2026"}, None, "own", False, True),
    ],
)
def test_what_is_to_be_done(latest: Any, imported: str | None, content: str, opened: bool, due: bool) -> None:
    mark = {"tenant": "acme", "bundle": imported, "import_id": "acme-i-1"} if imported else None
    seen = {
        "__selfhost_import_runs": {"latest": latest},
        "__selfhost_import_found": {"skipped": True} if content == "absent" else {"imported": mark},
        "__selfhost_import_target": {"state": "open", "database_content": content},
    }
    assert template("{{ __selfhost_import_opened | bool }}", **seen) is opened
    assert template("{{ __selfhost_import_due | bool }}", **seen) is due
    assert template("{{ __selfhost_import_next }}", **seen)


def test_the_licence_of_the_server_comes_along_by_itself() -> None:
    seen = {
        "selfhost_import_keep_licence": True,
        "ireporter_tenant_licence_file": {"tree": "settings", "path": "xml/License.xml"},
        "ireporter_tenant_target_files_root": "/srv/ireporter/acme",
        "selfhost_import_file_rules": [{"name": "mine"}],
    }
    licence, mine = template("{{ __selfhost_import_all_file_rules }}", **seen)
    assert (licence["source"], mine["name"]) == ("/srv/ireporter/acme/settings/xml/License.xml", "mine")
    for more in ({"selfhost_import_keep_licence": False}, {"ireporter_tenant_licence_file": {}}):
        assert template("{{ __selfhost_import_all_file_rules }}", **{**seen, **more}) == [{"name": "mine"}]


REPORTED = {
    "__selfhost_import_done": {
        "import_id": "acme-i-1", "bundle": BUNDLE, "database": "irepodb", "before": "irepodb_before_acme-i-1", "roles": ["acme_report"],
        "file_trees": [{"name": "output", "path": "/srv/output", "before": "/srv/output_before_acme-i-1"}, {"name": "new", "path": "/srv/new", "before": None}],
        "verified": {
            "tables": 3, "rows": 1234, "bytes": 9, "sequences": 2, "large_objects": 0, "objects": 40, "objects_compared": "definitions",
            "entries": 9, "files": 7, "file_bytes": 4096, "accounts": 12, "notes": ["The extension x has version 2 here, 1 in the bundle."],
        },
        "rewritten": [{"rule": "fonts {{ evil }}", "reason": "why", "rows": 2}, {"rule": "licence", "reason": "its server's", "files": 1}],
        "at": {"swapped": "2026-01-03T00:00:00+00:00"},
    },
    "__selfhost_import_about": {
        "cut_off": "2026-01-01T00:00:00Z", "versions": {"postgresql": 150008, "application": "8.2.26020"},
        "left_out": [{"what": "WebDAV files", "reason": "R09", "count": 5}],
    },
    "__selfhost_import_smoke": {"definitions": 4, "reports": 8, "pdf_bytes": 99, "changed": False},
    "__selfhost_import_shut_seconds": 12.5,
    "__selfhost_import_bundle": {"seconds": 20.25, "changed": True},
    "__selfhost_import_restored": {"seconds": 30.5, "changed": True},
    "selfhost_import_server": "selfhost01", "selfhost_import_operator": "operator", "selfhost_import_kept_days": 30,
    "ireporter_tenant_target_public_name": "ireporter.example.com", "ireporter_tenant_suffix": "ACME",
}  # fmt: skip


def test_the_report_for_people() -> None:
    text = template((ROLE / "templates" / "report.txt.j2").read_text(), **REPORTED)
    for expected in (
        "verified      3 tables with 1234 rows",
        "0 differences",
        "accounts      12",
        "shut for      12.5 s",
        "took          50.8 s",
        "note          The extension x",
        "- fonts {{ evil }}: 2 rows (why)",
        "- licence: 1 files",
        "- WebDAV files: 5 (R09)",
        "The database role acme_report has no password",
        "database irepodb_before_acme-i-1, folder /srv/output_before_acme-i-1.",
        "https://ireporter.example.com/ConMasWebACME/Rests/ConMasIReporter.aspx",
    ):
        assert expected in text, text


def test_the_report_of_a_run_that_was_resumed_after_it_had_opened() -> None:
    seen = {
        name: value
        for name, value in REPORTED.items()
        if name in ("__selfhost_import_done", "selfhost_import_server") or not name.startswith("__")
    }
    text = template((ROLE / "templates" / "report.txt.j2").read_text(), **seen)
    assert "data as of    see the bundle" in text
    found = json.loads(template((ROLE / "templates" / "report.json.j2").read_text(), **seen))
    assert found["left_out"] == [] and found["smoke"]["reports"] is None and found["import_seconds"] is None
    assert "took" not in text


def test_the_report_for_programs() -> None:
    found = json.loads(template((ROLE / "templates" / "report.json.j2").read_text(), **REPORTED))
    assert (found["verified"]["rows"], found["differences"], found["shut_seconds"]) == (1234, 0, 12.5)
    assert found["import_seconds"] == 50.8
    assert found["smoke"] == {"definitions": 4, "reports": 8, "pdf_bytes": 99}
    assert found["kept"] == {
        "database": "irepodb_before_acme-i-1",
        "file_trees": REPORTED["__selfhost_import_done"]["file_trees"],
        "days": 30,
    }
    assert found["rewritten"][0]["rule"] == "fonts {{ evil }}"
