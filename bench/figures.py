# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From measured runs to medians, ratios and a table; nothing here measures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

SECONDS = "s"
MEGABYTES = "MB"
COUNT = ""


@dataclass
class Measurement:
    """One thing, measured once a round."""

    unit: str
    command: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of the runs."""
        return statistics.median(self.values)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"unit": self.unit, "command": self.command, "values": self.values, "median": self.median}


@dataclass
class Findings:
    """What one part of the benchmark found."""

    measurements: dict[str, Measurement] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)

    def add(self, name: str, value: float, *, unit: str = SECONDS, command: str = "") -> None:
        """One more run of ``name``."""
        self.measurements.setdefault(name, Measurement(unit, command)).values.append(value)


@dataclass(frozen=True)
class Target:
    """``ours`` is at most ``most`` times ``peer``; without a peer, at most ``most`` of its own unit."""

    ours: str
    most: float
    peer: str | None = None


@dataclass(frozen=True)
class Judgement:
    """A target and what was measured. ``reached`` is ``None`` where a side of it was not measured."""

    target: Target
    ours: float | None = None
    peer: float | None = None
    unit: str = SECONDS
    ratio: float | None = None
    lowest: float | None = None
    highest: float | None = None
    reached: bool | None = None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "ours": self.target.ours,
            "peer": self.target.peer,
            "most": self.target.most,
            "unit": self.unit,
            "median_ours": self.ours,
            "median_peer": self.peer,
            "ratio": self.ratio,
            "lowest_ratio_of_a_round": self.lowest,
            "highest_ratio_of_a_round": self.highest,
            "reached": self.reached,
        }


def judge(measurements: dict[str, Measurement], target: Target) -> Judgement:
    """The ratio is that of the medians; the lowest and the highest are those of single rounds, both sides of one round.

    :raises ValueError: a side has a run more than the other, so that they are no pairs.
    """
    ours = measurements.get(target.ours)
    if ours is None:
        return Judgement(target)
    if target.peer is None:
        return Judgement(target, ours=ours.median, unit=ours.unit, reached=ours.median <= target.most)
    peer = measurements.get(target.peer)
    if peer is None:
        return Judgement(target, ours=ours.median, unit=ours.unit)
    pairs = [mine / theirs for mine, theirs in zip(ours.values, peer.values, strict=True)]
    ratio = ours.median / peer.median
    return Judgement(
        target,
        ours=ours.median,
        peer=peer.median,
        unit=ours.unit,
        ratio=ratio,
        lowest=min(pairs),
        highest=max(pairs),
        reached=ratio <= target.most,
    )


def table(judgements: Sequence[Judgement]) -> str:
    """For people: a line per target."""
    rows = [("", "ours", "peer", "ratio", "rounds", "target", "")]
    for one in judgements:
        target = one.target
        rows.append(
            (
                target.ours if target.peer is None else f"{target.ours} : {target.peer}",
                _shown(one.ours, one.unit),
                _shown(one.peer, one.unit),
                "" if one.ratio is None else f"{one.ratio:.3f}",
                "" if one.lowest is None else f"{one.lowest:.3f}–{one.highest:.3f}",
                f"<= {target.most:g}" + (f" {one.unit}".rstrip() if target.peer is None else ""),
                {True: "reached", False: "MISSED", None: "NOT MEASURED"}[one.reached],
            )
        )
    return _aligned(rows)


def medians(measurements: dict[str, Measurement]) -> str:
    """For people: a line per measurement."""
    rows = [("", "median", "runs")]
    for name, one in measurements.items():
        rows.append((name, _shown(one.median, one.unit), ", ".join(f"{value:.2f}" for value in one.values)))
    return _aligned(rows)


def _shown(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.2f} {unit}".rstrip()


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
