"""How long a migration takes, from measured samples: by hand, by properties, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.data_total import DataTotal, TreeData, data_total
from ireporter.errors import MigrationError
from ireporter.estimate_input import EstimateInput, Throughput
from ireporter.estimate_samples import OVERHEAD, PARTS, PIPELINE, Earlier, Sample, read_earlier, read_samples
from ireporter.estimate_time import FLOW, Estimate, estimate
from ireporter.estimate_words import explanation
from ireporter.plan_facts import Facts

MB = 1_000_000
SEQUENCE = tuple((part,) for part in PARTS)


def data(database: int, files: int = 0) -> DataTotal:
    return DataTotal(database, (), (TreeData("output", 1, files),))


def two_of_each(**seconds: tuple[float, float]) -> list[Sample]:
    """Two samples of 100 MB each; a part that is not named takes 1 s."""
    return [
        Sample(part, "all", 100 * MB, Fraction(one), 40 * MB if part == "compress" else None)
        for part in PARTS
        for one in seconds.get(part, (1, 1))
    ]


def test_by_hand() -> None:
    """1 GB becomes 400 MB. Read 10 to 20 s is the slowest of the export; download 4 x 5 s, restore 10 x 3 s; overhead 7 s."""
    samples = [
        *two_of_each(read=(1, 2), download=(5, 5), restore=(3, 3)),
        *[Sample(OVERHEAD, "all", 0, Fraction(7))] * 2,
    ]
    found = estimate(data(1000 * MB), samples)
    assert found.bundle_bytes == 400 * MB
    assert found.total.whole() == {"low": 10 + 20 + 30 + 7, "likely": 15 + 20 + 30 + 7, "high": 20 + 20 + 30 + 7}
    assert found.uncorrected == found.total
    assert {part.name: part.amount for part in found.parts} == {
        "read": 1000 * MB,
        "compress": 1000 * MB,
        "encrypt": 400 * MB,
        "write": 400 * MB,
        "download": 400 * MB,
        "restore": 1000 * MB,
        OVERHEAD: 0,
    }


def test_one_after_the_other_where_the_flow_says_so() -> None:
    found = estimate(data(1000 * MB), two_of_each(), flow=SEQUENCE)
    assert found.total.whole()["likely"] == 10 + 10 + 4 + 4 + 4 + 10
    assert estimate(data(1000 * MB), two_of_each()).total.whole()["likely"] == 10 + 4 + 10


def test_database_and_files_have_samples_of_their_own() -> None:
    samples = [
        *[one for one in two_of_each() if one.part != "read"],
        *[Sample("read", "database", 100 * MB, Fraction(2))] * 2,
        *[Sample("read", "files", 100 * MB, Fraction(10))] * 2,
    ]
    found = estimate(data(100 * MB, 100 * MB), samples)
    assert next(part for part in found.parts if part.name == "read").span.likely == 12
    with pytest.raises(MigrationError, match=r"no sample of read for the files.*\(R03\)"):
        estimate(data(100 * MB, 1), [one for one in samples if one.kind != "files"])
    assert estimate(data(100 * MB, 0), [one for one in samples if one.kind != "files"]).total.likely


def test_the_export_as_a_whole_counts_where_it_was_measured_and_is_slower_than_its_parts() -> None:
    """1 GB: read 10 to 20 s is the slowest part, the whole pipeline takes 30 s. Download 4 x 1 s, restore 10 x 1 s."""
    whole = [Sample(PIPELINE, "all", 100 * MB, Fraction(3))] * 2
    found = estimate(data(1000 * MB), [*two_of_each(read=(1, 2)), *whole])
    assert found.total.whole() == {"low": 44, "likely": 44, "high": 44}
    assert found.flow[0] == (PIPELINE, "read", "compress", "encrypt", "write")
    assert any("run pipeline and read and compress" in sentence for sentence in explanation(found))
    # It may be shorter than a part, where that was measured while others wanted the disk.
    quick = [Sample(PIPELINE, "all", 100 * MB, Fraction(1, 2))] * 2
    assert estimate(data(1000 * MB), [*two_of_each(), *quick]).total == estimate(data(1000 * MB), two_of_each()).total
    # Where the parts run one after the other, it stands beside the first.
    assert estimate(data(1000 * MB), [*two_of_each(), *whole], flow=SEQUENCE).flow[0] == (PIPELINE, "read")
    # It is to be done as long as one of its parts is.
    assert found.window_seconds(["write", "restore"]) == 30 + 10
    assert found.window_seconds(["restore"]) == 10


def test_phases_of_the_overhead_come_one_after_the_other() -> None:
    phases = [Sample(OVERHEAD, "all", 0, Fraction(s), None, p) for p, s in (("a", 1), ("a", 3), ("b", 10), ("b", 20))]
    part = estimate(data(100 * MB), [*two_of_each(), *phases]).parts[-1]
    assert (part.name, part.samples, part.span.whole()) == (OVERHEAD, 4, {"low": 11, "likely": 17, "high": 23})
    with pytest.raises(MigrationError, match=r"There is 1 sample of overhead \(b\)"):
        estimate(data(100 * MB), [*two_of_each(), *phases[:3]])


def test_without_measured_output_no_saving_is_assumed_and_it_is_said() -> None:
    samples = [Sample(one.part, one.kind, one.amount, one.seconds) for one in two_of_each()]
    found = estimate(data(1000 * MB), samples)
    assert found.bundle_bytes == 1000 * MB
    assert any("No saving by compression is assumed" in said for said in explanation(found))


def test_the_next_estimate_learns_of_each_phase_what_is_known_of_it() -> None:
    """Three exports took 1.5, 2 and 4 times what samples said: likely is multiplied by 2, low by 1.5, high by 4. The import took half."""
    earlier = [
        Earlier("export", Fraction(10), Fraction(20)),
        Earlier("export", Fraction(10), Fraction(15)),
        Earlier("export", Fraction(1), Fraction(4)),
        Earlier("import", Fraction(8), Fraction(4)),
    ]
    overhead = [Sample(OVERHEAD, "all", 0, Fraction(s), None, p) for p in ("export", "import", "") for s in (6, 6)]
    samples = [*two_of_each(read=(1, 2)), *overhead]
    before, after = (estimate(data(1000 * MB), samples, learned) for learned in ([], earlier))
    assert after.uncorrected == before.total
    exported, imported = before.of_phase("export"), before.of_phase("import")
    rest = before.total.likely - exported.likely - imported.likely  # the download, and overhead of neither
    assert rest > 6
    assert after.total.likely == exported.likely * 2 + rest + imported.likely / 2
    assert after.total.high - before.total.high == exported.high * 3 - imported.high / 2
    assert after.total.low - before.total.low == exported.low / 2 - imported.low / 2
    assert after.as_result()["earlier_migrations"] == {"export": 3, "import": 1}
    said = explanation(after)
    assert any("3 earlier exports took 1.50 to 4.00 times" in one for one in said)
    assert any("1 earlier import took 0.50 to 0.50 times" in one for one in said)
    assert any("overhead (export)" in one for one in said)


def test_the_explanation_names_every_part_and_what_stays() -> None:
    total = DataTotal(
        2_000 * MB, (("report", 1_500 * MB),), (TreeData("output", 1, 500 * MB),), (TreeData("webdav", 1, 70 * MB),)
    )
    said = explanation(estimate(total, two_of_each()))
    assert said[0].startswith("2.50 GB are to be moved: 2.00 GB of database and 0.50 GB in 1 file trees (R03)")
    assert any("webdav (0.07 GB)" in sentence and "R09" in sentence for sentence in said)
    assert [part for part in PARTS if not any(sentence.startswith(f"{part}: ") for sentence in said)] == []


def test_results_are_plain_whole_numbers() -> None:
    def no_floats(value: object) -> None:
        assert not isinstance(value, float)
        for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            no_floats(member)

    no_floats(estimate(data(999_999_937), two_of_each(read=(0.1, 0.3))).as_result())


SECONDS = st.integers(1, 10_000).map(lambda number: Fraction(number, 7))
ALL_PARTS = st.fixed_dictionaries(
    {part: st.lists(st.tuples(st.integers(1, 10**9), SECONDS), min_size=2, max_size=5) for part in PARTS}
)


def samples_from(drawn: dict[str, list[tuple[int, Fraction]]]) -> list[Sample]:
    return [
        Sample(part, "all", amount, seconds, amount // 3 if part == "compress" else None)
        for part, members in drawn.items()
        for amount, seconds in members
    ]


def at(size: int, samples: list[Sample], **more: Any) -> Estimate:
    return estimate(data(size), samples, **more)


@given(ALL_PARTS, st.integers(1, 10**13), st.randoms(use_true_random=False))
def test_low_likely_high_in_order_and_whatever_the_order_of_samples(drawn: Any, size: int, chance: Any) -> None:
    samples = samples_from(drawn)
    found = at(size, samples)
    assert 0 < found.total.low <= found.total.likely <= found.total.high
    for part in found.parts:
        assert part.span.low <= part.span.likely <= part.span.high
    chance.shuffle(samples)
    assert at(size, samples).total == found.total


@given(ALL_PARTS, st.integers(1, 10**12), st.integers(2, 9))
def test_twice_the_data_takes_twice_as_long(drawn: Any, size: int, times: int) -> None:
    samples = samples_from(drawn)
    one, many = at(size, samples).total, at(size * times, samples).total
    assert (many.low, many.likely, many.high) == (one.low * times, one.likely * times, one.high * times)


@given(ALL_PARTS, st.integers(1, 10**12), st.sampled_from(PARTS))
def test_a_slower_sample_never_makes_it_faster(drawn: Any, size: int, part: str) -> None:
    samples = samples_from(drawn)
    slowest = max(one.seconds / one.amount for one in samples if one.part == part)
    worse = at(size, [*samples, Sample(part, "all", 1000, slowest * 2000, 333 if part == "compress" else None)])
    before = at(size, samples).total
    assert worse.total.high >= before.high
    assert worse.total.low >= before.low or part == "compress"  # the new sample may have been compressed better


@given(ALL_PARTS, st.integers(1, 10**12))
def test_at_the_same_time_is_never_longer_than_one_after_the_other(drawn: Any, size: int) -> None:
    samples = samples_from(drawn)
    together, sequence = at(size, samples, flow=FLOW), at(size, samples, flow=SEQUENCE)
    assert together.total.likely <= sequence.total.likely
    assert together.total.likely >= max(part.span.likely for part in sequence.parts)


@given(
    ALL_PARTS,
    st.integers(1, 10**12),
    st.lists(st.tuples(st.sampled_from(("export", "import")), SECONDS, SECONDS), min_size=1, max_size=7),
)
def test_a_correction_stays_within_what_was_seen(drawn: Any, size: int, earlier_ones: Any) -> None:
    samples, earlier = samples_from(drawn), [Earlier(*one) for one in earlier_ones]
    found = at(size, samples, earlier=earlier)
    ratios = [Fraction(1), *(one.ratio for one in earlier)]  # of what nothing is known of, nothing is changed
    assert min(ratios) <= found.total.likely / found.uncorrected.likely <= max(ratios)
    assert found.total.low <= found.total.likely <= found.total.high
    same = at(size, samples, earlier=[Earlier(one.phase, one.estimated, one.estimated) for one in earlier])
    assert same.total == same.uncorrected


@given(ALL_PARTS, st.integers(1, 10**12))
def test_seconds_are_rounded_up_to_whole_ones(drawn: Any, size: int) -> None:
    found = at(size, samples_from(drawn))
    assert found.total.whole()["likely"] == ceil(found.total.likely) >= found.total.likely


GOOD = [{"part": part, "bytes": 100, "seconds": 1.5} for part in PARTS for _ in range(2)]


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([], "There are no samples"),
        (None, "There are no samples"),
        (GOOD[2:], "no sample of read"),
        (GOOD[1:], "There is 1 sample of read"),
        ([*GOOD, {"part": "raed", "bytes": 1, "seconds": 1}], "'raed', which is no part"),
        ([*GOOD, {"part": "read", "bytes": 0, "seconds": 1}], "does not say bytes and seconds"),
        ([*GOOD, {"part": "read", "bytes": 1, "seconds": 0}], "does not say bytes and seconds"),
        ([*GOOD, {"part": "read", "bytes": 1, "seconds": -1}], "does not say bytes and seconds"),
        ([*GOOD, {"part": "read", "bytes": True, "seconds": 1}], "does not say bytes and seconds"),
        ([*GOOD, {"part": "read", "bytes": 1, "seconds": float("nan")}], "does not say bytes and seconds"),
        ([*GOOD, {"part": "read", "bytes": 1, "seconds": float("inf")}], "does not say bytes and seconds"),
        ([*GOOD, {"part": "read", "bytes": "1", "seconds": "1"}], "does not say bytes and seconds"),
        ([*GOOD, {"part": "read", "of": "tables", "bytes": 1, "seconds": 1}], "is of 'tables'"),
        ([*GOOD, {"part": "read", "of": "files", "bytes": 1, "seconds": 1}], "of one kind only"),
        ([*GOOD, "read"], "which is no part"),
        ([*GOOD, {"part": "overhead", "seconds": 5}], "There is 1 sample of overhead"),
        ([*GOOD, {"part": "pipeline", "bytes": 1, "seconds": 1}], "There is 1 sample of pipeline"),
    ],
)
def test_what_is_no_measurement_is_refused(samples: object, words: str) -> None:
    with pytest.raises(MigrationError, match=rf"{words}.*\(R03\)"):
        estimate(data(100), read_samples(samples))


@pytest.mark.parametrize(
    "earlier",
    [
        None,
        [{}],
        [{"phase": "export", "uncorrected_seconds": 0, "actual_seconds": 1}],
        [{"phase": "download", "uncorrected_seconds": 1, "actual_seconds": 1}],
        [{"uncorrected_seconds": 1, "actual_seconds": 1}],
        ["x"],
    ],
)
def test_an_earlier_migration_without_its_figures_is_refused(earlier: object) -> None:
    with pytest.raises(MigrationError, match="R03"):
        read_earlier(earlier)


@pytest.mark.parametrize(
    "flow",
    [
        [["read"]],
        [],
        [*SEQUENCE, ("read",)],
        [*SEQUENCE[1:], ("reed",)],
        "read",
        {"read": 1},
        [1],
        [*SEQUENCE[1:], "read"],
    ],
)
def test_a_flow_has_each_part_once(flow: Any) -> None:
    with pytest.raises(MigrationError, match="does not name each part once"):
        estimate(data(100), two_of_each(), flow=flow)


def test_nothing_to_move_takes_the_overhead_and_without_that_is_unknown() -> None:
    with pytest.raises(MigrationError, match=r"0 bytes to move and no overhead.*\(R03\)"):
        estimate(data(0), two_of_each())
    overhead = [Sample(OVERHEAD, "all", 0, Fraction(90))] * 2
    assert estimate(data(0), [*two_of_each(), *overhead]).total.whole()["likely"] == 90


def assessed_tree(name: str, size: object) -> dict[str, object]:
    return {"name": name, "files": 1, "bytes": size, "exists": True}


ASSESSED = {
    "database": {"bytes": 10, "groups": {"b": 4, "a": 6, "unknown": None}},
    "file_trees": [assessed_tree("output", 3), assessed_tree("dav", 2)],
}


def test_the_total_leaves_webdav_behind() -> None:
    found = EstimateInput(Facts(ASSESSED), "dav", Throughput(GOOD)).estimate().data
    assert (found.data_bytes, found.files, found.groups) == (13, 1, (("a", 6), ("b", 4)))
    assert found.as_result()["left_behind"] == [{"name": "dav", "bytes": 2}]
    assert EstimateInput(Facts(ASSESSED), "none", Throughput(GOOD)).estimate().data.data_bytes == 15


@given(st.lists(st.integers(0, 10**12), max_size=6), st.integers(0, 7))
def test_what_moves_and_what_does_not_is_all_there_is(sizes: list[int], stays: int) -> None:
    trees = [assessed_tree(str(number), size) for number, size in enumerate(sizes)]
    found = data_total(Facts({"database": {"bytes": 7}, "file_trees": trees})).without(str(stays))
    assert found.data_bytes + sum(tree.size for tree in found.left_behind) == 7 + sum(sizes)
    assert [tree.name for tree in found.left_behind] == ([str(stays)] if stays < len(sizes) else [])


@pytest.mark.parametrize(
    ("assessment", "webdav", "rule"),
    [
        ({}, "none", "R03"),
        ({}, None, "R03"),
        ({"database": {"bytes": 10}}, "none", "R03"),
        ({"database": None, "file_trees": []}, "none", "R03"),
        ({"database": {"bytes": 10}, "file_trees": [{"name": "output", "files": 1}]}, "none", "R03"),
        ({"database": {"bytes": 10}, "file_trees": [{"name": "output", "bytes": 1}]}, "none", "R03"),
        ({"database": {"bytes": -1}, "file_trees": []}, "none", "R03"),
        (ASSESSED, "webdav", "R09"),
        (ASSESSED, "", "R09"),
        (ASSESSED, None, "R09"),
        (ASSESSED, ["dav"], "R09"),
    ],
)
def test_without_the_total_there_is_no_estimate(assessment: object, webdav: object, rule: str) -> None:
    with pytest.raises(MigrationError, match=rf"\({rule}\)"):
        EstimateInput(Facts(assessment), webdav, Throughput(GOOD)).estimate()


def test_the_window_holds_the_slow_end_and_what_is_done_needs_no_time() -> None:
    """The figures of test_by_hand; compressing is no longer the slowest of the export where reading is done."""
    samples = [
        *two_of_each(read=(1, 2), download=(5, 5), restore=(3, 3)),
        *[Sample(OVERHEAD, "all", 0, Fraction(7))] * 2,
    ]
    twice = [Earlier(phase, Fraction(1), Fraction(2)) for phase in ("export", "import")]
    found = estimate(data(1000 * MB), samples, twice)
    assert found.window_seconds() == found.total.whole()["high"] == 2 * (20 + 30) + 20 + 7
    assert found.window_seconds([part for part in PARTS if part != "read"]) == 2 * (10 + 30) + 20
    assert found.window_seconds(["restore"]) == 2 * 30
    assert found.window_seconds([]) == 0
