"""Configuration, licence, passwords and documents of the stand-in."""

from __future__ import annotations

import csv
import datetime
import io
import random
from pathlib import Path

import pytest

from lab import generate
from lab.standin.ireporter_standin import admin, config, documents, passwords
from lab.standin.ireporter_standin.documents import Report, Value
from lab.standin.ireporter_standin.errors import ConfigurationError

TOML = """
suffix = "ACME"
database = "host=127.0.0.1 dbname=x"
licence_file = "/s/xml/License.xml"
listen = "/run/x.sock"
[trees]
output = "/o"
settings = "/s"
webdav = "/w"
"""


def test_a_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text(TOML)
    assert config.load(path).output == Path("/o")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TOML + 'other = "x"\n', "unknown keys: other"),
        (TOML.replace("suffix", "sufix"), "unknown keys: sufix"),
        (TOML.replace('webdav = "/w"', ""), "lacks: trees.webdav"),
        (TOML.replace('"ACME"', '"A/../B"'), "letters and digits"),
        ("= no toml", "is not TOML"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "server.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=said):
        config.load(path)


def test_a_licence_serves_its_own_server_only(tmp_path: Path) -> None:
    path = tmp_path / "License.xml"
    path.write_text(config.licence_text("shared01", 200, "客 <A>"), encoding="utf-8")
    assert config.check_licence(path, "Shared01.ireporter.example") == 200
    with pytest.raises(ConfigurationError, match="belongs to the server 'shared01', this server is 'dedicated01'"):
        config.check_licence(path, "dedicated01")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        config.check_licence(tmp_path / "none", "shared01")
    path.write_text("<License>")
    with pytest.raises(ConfigurationError, match="is not XML"):
        config.check_licence(path, "shared01")


def test_passwords_match_only_themselves() -> None:
    stored = passwords.hashed("pässwörd: '$(x)")
    assert passwords.matches("pässwörd: '$(x)", stored)
    assert not passwords.matches("other", stored)
    assert not passwords.matches("", "")
    assert not passwords.matches("x", "scrypt$zz$zz")
    assert passwords.hashed("a", b"0" * 16) == passwords.hashed("a", b"0" * 16)


def test_a_password_file_is_read_as_libpq_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    path.write_text("# comment\n127.0.0.1:5432:*:acme_app:p\\:w\\\\d:x\n*:*:*:acme_owner:o\nshort:line\n")
    assert admin.passfile_passwords(path) == {"acme_app": "p:w\\d:x", "acme_owner": "o"}


def report(name: str = "日報 №1", values: int = 3) -> Report:
    return Report(
        1234,
        name,
        '点検/日常 "A"',
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "user",
        [Value(1 + n % 2, n, f"項目 {n}", "KeyboardText", 'a,"b"\n𠮷', None) for n in range(values)],
    )


def test_a_pdf_is_a_pdf_with_a_page_per_sheet_and_the_same_bytes_each_time() -> None:
    content = documents.pdf(report())
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert content.count(b"/Type /Page\n") == 2
    assert content == documents.pdf(report())
    assert documents.pdf(report(), page=2).count(b"/Type /Page\n") == 1
    assert documents.pdf(report(values=0)).count(b"/Type /Page\n") == 1


def test_many_values_need_more_pages_and_a_broken_photo_stops_nothing() -> None:
    base = report(values=500)
    broken = Report(
        1, "x", "d", base.updated, "u", [*base.values, Value(1, 999, "写真", "Image", "Image", b"no picture")]
    )
    assert documents.pdf(broken).count(b"/Type /Page\n") > 4


def test_a_picture_that_unpacks_to_too_much_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    image = generate.png(random.Random(1), 20_000)
    shown = Report(1, "x", "d", report().updated, "u", [Value(1, 1, "写真", "Image", "Image", image)])
    printed = documents.pdf(shown)
    monkeypatch.setattr(documents, "MAXIMUM_PIXELS", 100)
    assert b"/Subtype /Image" in printed
    assert b"/Subtype /Image" not in documents.pdf(shown)


def test_both_encodings() -> None:
    rows = list(csv.reader(io.StringIO(documents.csv_bytes(report(), "65001").decode("utf-8-sig"), newline="")))
    assert rows[0][0] == "帳票ID"
    assert rows[1] == ["1234", "日報 №1", '点検/日常 "A"', "1", "0", "項目 0", "KeyboardText", 'a,"b"\n𠮷']
    assert '"a,""b""\n?"' in documents.csv_bytes(report(), "932").decode("cp932")


def test_output_files_are_replaced_and_follow_a_new_name(tmp_path: Path) -> None:
    first = documents.write_output(tmp_path, report("../../etc/passwd\n"), b"%PDF")
    assert all(path.is_relative_to(tmp_path) and ".." not in path.relative_to(tmp_path).parts for path in first)
    documents.write_output(tmp_path, report("新" * 300), b"%PDF 2")
    found = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [path.suffix for path in found] == [".csv", ".pdf"]
    assert found[1].read_bytes() == b"%PDF 2"
    assert found[1].stat().st_mode & 0o777 == 0o640
    assert len(found[1].name.encode()) <= 255
