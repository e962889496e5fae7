"""Samples of throughput, the parts that need no server: what is chosen, what is made up, how time and folders are kept."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter import throughput, throughput_files, throughput_scratch
from ireporter.commands import Completed
from ireporter.database_catalog import Table
from ireporter.errors import MigrationError
from ireporter.estimate_samples import read_earlier, read_samples
from ireporter.run_record import RunRecords
from ireporter.throughput_download import agreed, fetched
from ireporter.throughput_earlier import read_runs, records_of_all_tenants
from ireporter.throughput_meter import Meter, Samples
from ireporter.throughput_portions import PIECES, Portion, choose, with_rows
from ireporter.throughput_rows import create_statements, make_files, row_count, rows
from ireporter.throughput_shape import USUAL, ColumnShape, Shape, TableShape, read_shape

from tests.unit.tenant_fakes import FakeClock

MB = 1_000_000
PAGE = 8192


def table(name: str, pages: int, beside: int = 0, **changes: Any) -> Table:
    """``beside``: bytes in TOAST."""
    values: dict[str, Any] = {
        "schema": "public", "name": name, "kind": "r", "populated": True, "total_bytes": pages * PAGE + beside,
        "pages": pages, "condition": "", "extension_member": False, "columns": (),
    }  # fmt: skip
    return Table(**{**values, **changes})


# Which rows ------------------------------------------------------------------------------------------------------------
TABLES = st.lists(st.tuples(st.integers(1, 50_000), st.integers(0, 10**9)), min_size=1, max_size=8).map(
    lambda drawn: [table(f"t{number}", *sizes) for number, sizes in enumerate(drawn)]
)
STARTS = st.fractions(0, 1).filter(lambda fraction: fraction < 1)


@given(TABLES, st.integers(1, 10**8), STARTS, st.integers(0, 10**9))
def test_portions_lie_in_their_tables_and_stand_for_about_what_was_wanted(
    tables: list[Table], wanted: int, start: Fraction, indexes: int
) -> None:
    total = sum(one.total_bytes for one in tables) + indexes
    chosen = choose(tables, total, wanted, start)
    assert chosen
    for portion in chosen:
        assert 0 <= portion.first < portion.end <= portion.table.pages
        assert 0 < portion.share <= 1
        assert portion.bytes > 0
    together = sum(portion.bytes for portion in chosen)
    if total <= wanted:
        assert together == total
    else:
        assert len(chosen) <= PIECES
        # A page is the least that is read of a table, and its end may cut a piece short.
        assert together <= wanted * Fraction(3, 2) + PIECES * PAGE * Fraction(total, total - indexes)


def test_pieces_are_spread_over_all_tables_by_their_bytes() -> None:
    tables = [table("large", 90_000), table("long values", 10, 300 * MB), table("small", 1)]
    chosen = choose(tables, 2_000 * MB, 64 * MB, Fraction(1, 3))
    names = [portion.table.name for portion in chosen]
    assert (names.count("large"), names.count("long values")) == (12, 4)
    # Beside one page of it lie 30 MB, and 2 MB of rows are wanted: a part of a page.
    assert all(
        portion.share < 1 and portion.end == portion.first + 1 for portion in chosen if portion.table.pages == 10
    )
    assert len({(portion.table.name, portion.first) for portion in chosen}) == len(chosen)


def test_no_two_samples_read_the_same() -> None:
    tables = [table("large", 100_000)]
    pages: set[int] = set()
    for number in range(3):
        for portion in choose(tables, 1_000 * MB, 64 * MB, Fraction(number, 3)):
            read = set(range(portion.first, portion.end))
            assert not read & pages
            pages |= read


def test_what_has_no_rows_of_its_own_is_not_sampled() -> None:
    left_out = [
        table("empty", 0),
        table("not filled", 5, kind="m", populated=False),
        table("an extension's", 5, condition="WHERE id > 1"),
    ]
    assert with_rows([*left_out, table("good", 5)]) == [table("good", 5)]
    assert choose([], 8 * MB, MB, Fraction(0)) == []


def test_rows_are_found_by_ranges_or_where_there_are_none_place_by_place() -> None:
    portion = Portion(table("t", 100), 10, 12, Fraction(1))
    assert portion.condition(150000) == "WHERE ctid >= '(10,0)'::tid AND ctid < '(12,0)'::tid"
    assert portion.condition(150000, 7) == "WHERE ctid >= '(10,0)'::tid AND ctid < '(10,7)'::tid"
    assert "generate_series(10, 11) AS page" in portion.condition(130000)
    assert "generate_series(1, 6) AS place" in portion.condition(130000, 7)
    assert portion.limited(150000).condition == portion.condition(150000)


# Which files -----------------------------------------------------------------------------------------------------------
def trees(tmp_path: Path, sizes: list[int]) -> Path:
    root = tmp_path / "tree"
    (root / "below").mkdir(parents=True)
    for number, size in enumerate(sizes):
        (root / ("below" if number % 2 else ".") / f"f{number}").write_bytes(b"x" * size)
    return root


def test_small_and_large_files_as_the_trees_have_them(tmp_path: Path) -> None:
    root = trees(tmp_path, [100] * 400 + [100_000] * 4)
    seen = throughput_files.look([root], Random(1), lambda: True)
    assert (seen.files, seen.size, seen.whole) == (404, 440_000, True)
    chosen = seen.choose(110_000, Random(2))
    assert sorted(size for _path, size in chosen) == [100] * 100 + [100_000]
    # Of a size of which a whole file would be too much, a part is read.
    assert sorted(size for _path, size in seen.choose(44_000, Random(2)))[-1] == 40_000
    assert sum(size for _path, size in seen.choose(10**9, Random(3))) == 440_000


def test_files_are_copied_as_they_are_and_what_vanished_is_passed_over(tmp_path: Path) -> None:
    root = trees(tmp_path, [10, 2_000_000])
    folder = tmp_path / "copies"
    folder.mkdir()
    chosen = [(bytes(root / "f0"), 10), (bytes(root / "gone"), 5), (bytes(root / "below" / "f1"), 1_500_000)]
    clock = FakeClock()
    read, seconds = throughput_files.copy(chosen, folder, lambda: clock.sleep(0.5) or clock.monotonic())
    assert read == 1_500_010
    assert seconds > 0
    assert sorted(path.stat().st_size for path in folder.rglob("*") if path.is_file()) == [10, 1_500_000]


def test_links_are_neither_followed_nor_taken_for_trees(tmp_path: Path) -> None:
    root = trees(tmp_path, [10])
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * 1000)
    (root / "link").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    assert throughput_files.look([root], Random(1), lambda: True).files == 1
    for wrong in (root / "folder", root / "f0", root / "none"):
        with pytest.raises(MigrationError, match="cannot be read"):
            throughput_files.look([wrong], Random(1), lambda: True)


def test_a_walk_ends_where_its_time_does_and_says_so(tmp_path: Path) -> None:
    root = trees(tmp_path, [1] * 1200)
    seen = throughput_files.look([root], Random(1), lambda: False)
    assert not seen.whole
    assert 0 < seen.files < 1200


# Time and folders ------------------------------------------------------------------------------------------------------
def test_after_each_step_there_is_a_rest_and_in_the_end_no_time() -> None:
    clock = FakeClock()
    meter = Meter(clock, rest=2, limit_seconds=100)
    with meter.step() as step:
        clock.sleep(10)
    assert (step.seconds, clock.monotonic()) == (10, 1030)
    with meter.step() as step:
        clock.sleep(60)
    # A rest is no longer than the time that is left.
    assert (step.seconds, clock.monotonic()) == (60, 1100)
    with pytest.raises(MigrationError, match=r"not complete after 100 s.*\(R03\)"), meter.step():
        pass


def test_samples_are_what_estimates_take() -> None:
    samples = Samples()
    samples.add("compress", "database", 100.4, 0.0, 40)
    samples.add("read", "files", 0, 1)
    samples.add_overhead("export", 0.5)
    assert samples.found == [
        {"part": "compress", "of": "database", "bytes": 100, "seconds": 0.001, "output_bytes": 40},
        {"part": "overhead", "of": "all", "phase": "export", "seconds": 0.5},
    ]
    assert len(read_samples(samples.found)) == 2


def test_the_folder_of_samples_is_emptied_first_and_gone_afterwards(tmp_path: Path) -> None:
    left = tmp_path / throughput_scratch.NAME
    (left / "rows").mkdir(parents=True)
    (left / "rows" / "0.copy").write_text("a killed run's")
    (left / "link").symlink_to(tmp_path)
    with throughput_scratch.scratch(tmp_path, 1) as folder:
        assert list(folder.iterdir()) == []
        assert folder.stat().st_mode & 0o777 == 0o700 or left.exists()
        with pytest.raises(MigrationError, match="Another process") as busy, throughput_scratch.scratch(tmp_path, 1):
            pass
        assert busy.value.check == "throughput-busy"
    assert list(tmp_path.iterdir()) == []


def test_the_folder_goes_on_a_failure_and_a_disk_without_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), throughput_scratch.scratch(tmp_path, 1) as folder:
        (folder / "f").write_text("x")
        raise RuntimeError
    with pytest.raises(MigrationError) as full, throughput_scratch.scratch(tmp_path, 1 << 60):
        pass
    assert full.value.check == "disk-full"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MigrationError) as nowhere, throughput_scratch.scratch(tmp_path / "none", 1):
        pass
    assert nowhere.value.check == "throughput-directory"


@pytest.mark.parametrize(("count", "size"), [(1, 64 * MB), (3, 10), (3, 1 << 40)])
def test_samples_that_tell_nothing_or_disturb_are_refused(count: int, size: int) -> None:
    with pytest.raises(MigrationError, match="R03"):
        throughput.must_be_sensible(count, size)


# Shape and what is made of it ------------------------------------------------------------------------------------------
def test_a_shape_survives_its_way_through_json() -> None:
    assert read_shape(json.loads(json.dumps(USUAL.as_result()))) == USUAL
    assert read_shape(None) == read_shape({}) == USUAL
    assert read_shape({"tables": [], "files": None}) == Shape((), None)


TABLE = {"share": 1, "row_bytes": 10, "columns": [{"type": "bigint", "bytes": 8, "empty": 0}], "indexes": [[0]]}


@pytest.mark.parametrize(
    "given_",
    [
        "shape",
        {"files": None, "x": 1},
        {"tables": [{}]},
        {"tables": [{**TABLE, "share": 2}]},
        {"tables": [{**TABLE, "indexes": [[1]]}]},
        {"tables": [{**TABLE, "indexes": [[]]}]},
        {"tables": [{**TABLE, "indexes": [["c0); DROP TABLE t"]]}]},
        {"tables": [{**TABLE, "columns": [{"type": "text); DROP TABLE t", "bytes": 1}]}]},
        {"tables": [{**TABLE, "columns": [{"type": "text", "bytes": 1 << 40}]}]},
    ],
)
def test_what_is_no_shape_is_refused(given_: object) -> None:
    with pytest.raises(MigrationError) as refused:
        read_shape(given_)
    assert refused.value.check == "throughput-shape"


def test_made_rows_have_the_columns_the_widths_and_the_number_of_the_shape() -> None:
    shape = TableShape(
        0.5,
        100,
        (
            ColumnShape("bigint", 8, 0),
            ColumnShape("text", 40, 0),
            ColumnShape("bytea", 30, 0),
            ColumnShape("date", 4, 1),
        ),
        ((0,), (1, 2), (2,)),
    )
    assert create_statements(shape, "t0") == [
        "CREATE TABLE public.t0 (c0 bigint, c1 text, c2 bytea, c3 date)",
        "CREATE INDEX ON public.t0 (c0)",
        "CREATE INDEX ON public.t0 (c1)",
    ]
    assert row_count(shape, 100_000) == 500
    lines = io.BytesIO(b"".join(rows(shape, 5000, Random(1)))).read().splitlines()
    fields = [line.split(b"\t") for line in lines]
    assert [int(row[0]) for row in fields] == list(range(5000))
    assert all(row[3] == rb"\N" for row in fields)
    assert 35 < sum(len(row[1]) for row in fields) / 5000 < 45
    assert 26 < sum((len(row[2]) - 3) / 2 for row in fields) / 5000 < 34


@given(st.sampled_from(USUAL.tables), st.integers(1, 300))
def test_there_are_as_many_rows_as_wanted(shape: TableShape, count: int) -> None:
    assert b"".join(rows(shape, count, Random(1))).count(b"\n") == count


def test_made_files_have_the_size_of_the_tenants(tmp_path: Path) -> None:
    made = make_files(tmp_path, (1000, 10 * MB), 2 * MB, Random(1))
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert (len(sizes), sum(sizes)) == (200, made)
    assert 1.8 * MB < made < 2.2 * MB
    (tmp_path / "large").mkdir()
    assert make_files(tmp_path / "large", (1, 10**12), MB, Random(1)) == MB


# Download --------------------------------------------------------------------------------------------------------------
LINK = "https://delivery.example.com/a/1/secret-token/sample.bin"


class Curl:
    """Answers like curl; remembers what it was given."""

    def __init__(self, *answers: Completed) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[list[str], str]] = []

    def __call__(self, argv: Any, *, check: bool = True, input_text: str | None = None, **_more: Any) -> Completed:
        self.calls.append((list(argv), input_text or ""))
        return self.answers.pop(0)


def fetch(curl: Curl, link: str = LINK, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"count": 2, "size": MB, "rest": 0, "limit_seconds": 60, **more}
    return fetched(link, run=curl, clock=FakeClock(), **values)


def test_a_download_is_timed_from_its_request_and_its_link_reaches_no_argument() -> None:
    curl = Curl(Completed(0, "206 1000000 0.25 1.75", ""), Completed(0, "200 900000 0.5 1.0", ""))
    assert fetch(curl)["samples"] == [
        {"part": "download", "of": "all", "bytes": 1_000_000, "seconds": 1.5},
        {"part": "download", "of": "all", "bytes": 900_000, "seconds": 0.5},
    ]
    for argv, given_ in curl.calls:
        assert "secret-token" not in " ".join(argv)
        assert f'url = "{LINK}"' in given_
        assert 'range = "0-999999"' in given_
        assert 'proto = "=https"' in given_


def test_what_stands_in_a_link_is_no_option_of_curl() -> None:
    curl = Curl(*[Completed(0, "200 10 0 1", "")] * 2)
    fetch(curl, 'https://delivery.example.com/a"b\\c')
    assert 'url = "https://delivery.example.com/a\\"b\\\\c"' in curl.calls[0][1]


@pytest.mark.parametrize(
    "answer", [Completed(22, "404 0 0.1 0.2", ""), Completed(0, "403 10 0 1", ""), Completed(0, "", "")]
)
def test_a_download_that_fails_says_so_without_its_link(answer: Completed) -> None:
    with pytest.raises(MigrationError) as failed:
        fetch(Curl(answer))
    assert failed.value.check == "throughput-download"
    assert "delivery.example.com" in str(failed.value)
    assert "secret-token" not in str(failed.value)


@pytest.mark.parametrize(
    "link", ["http://delivery.example.com/secret", "secret", "https://d/a\nb = secret", "https://[secret"]
)
def test_what_is_no_https_link_is_refused_and_not_repeated(link: str) -> None:
    with pytest.raises(MigrationError) as refused:
        fetch(Curl(), link)
    assert "secret" not in str(refused.value)


def test_an_agreed_bandwidth_is_two_samples() -> None:
    found = agreed([1_000_000, 2_500_000.0])
    assert [sample["bytes"] for sample in found["samples"]] == [60_000_000, 150_000_000]
    assert len(read_samples(found["samples"])) == 2
    for wrong in ([], [1], [0, 1], [1, -1], [True, 1], ["1", "2"]):
        with pytest.raises(MigrationError, match="bytes per second"):
            agreed(wrong)


# What earlier exports took ----------------------------------------------------------------------------------------------
def record(
    folder: Path,
    tenant: str,
    clock: FakeClock,
    *,
    status: str = "succeeded",
    kind: str = "cloud_export",
    **figures: object,
) -> str:
    clock.sleep(60)
    records = RunRecords(folder, tenant, clock)
    run_id = records.new_id(kind)
    records.start(kind, run_id, "operator", resumed=False, versions={})
    records.record(run_id, step="report", status=status, figures=figures, finish=True)
    return run_id


def figures(estimated: float, bundle: float, freeze: int) -> dict[str, object]:
    """As the role ``cloud_export`` records them."""
    return {
        "estimate_uncorrected_export_seconds": estimated,
        "bundle_seconds": bundle,
        "frozen_at": "2026-01-01T00:00:00.000+00:00",
        "resumed_at": f"2026-01-01T00:00:{freeze:02}Z",
    }


def test_the_next_estimate_learns_from_all_tenants_of_the_server(tmp_path: Path) -> None:
    clock = FakeClock()
    good = figures(100, 90.5, 30)
    record(tmp_path, "acme", clock, **good)
    record(tmp_path, "birch", clock, **figures(50, 25, 20))
    record(tmp_path, "acme", clock, status="failed", **good)
    record(tmp_path, "acme", clock, kind="shared_to_dedicated", **good)
    record(tmp_path, "acme", clock, **figures(0, 9, 1))
    record(tmp_path, "acme", clock, **{**good, "resumed_at": ""})
    record(tmp_path, "acme", clock, bundle_seconds=9)
    (tmp_path / "no file of ours").write_text("x")
    (tmp_path / "Not A Tenant").mkdir()
    found = read_runs(records_of_all_tenants(tmp_path, clock))
    assert [(one["phase"], one["uncorrected_seconds"], one["actual_seconds"]) for one in found["earlier"]] == [
        ("export", 100, 120.5),
        ("export", 50, 45),
    ]
    assert found["without_figures"] == 3
    assert [(one["phase"], one["seconds"]) for one in found["samples"]] == [("freeze", 30), ("freeze", 20)]
    assert [float(one.ratio) for one in read_earlier(found["earlier"])] == [1.205, 0.9]
    # It is used for other tenants' estimates.
    assert "birch" not in json.dumps(found)


def test_one_freeze_alone_is_no_sample_and_no_record_is_no_error(tmp_path: Path) -> None:
    clock = FakeClock()
    assert read_runs(records_of_all_tenants(tmp_path / "none", clock)) == {
        "earlier": [],
        "samples": [],
        "without_figures": 0,
    }
    record(tmp_path, "acme", clock, **figures(1, 1, 5))
    assert read_runs(records_of_all_tenants(tmp_path, clock))["samples"] == []


def test_an_export_that_still_runs_teaches_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    records = RunRecords(tmp_path, "acme", clock)
    run_id = records.new_id("cloud_export")
    assert "-s-" in run_id
    records.start("cloud_export", run_id, "operator", resumed=False, versions={})
    records.record(run_id, step="export", status="succeeded", figures=figures(1, 1, 1))
    assert read_runs(records_of_all_tenants(tmp_path, clock))["earlier"] == []
