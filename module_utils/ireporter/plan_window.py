"""Gates about time: the agreed window (R10), the estimate and the vendor's maintenance dates (R11)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .calendar_interval import Interval, first_fit
from .calendar_japan import JAPAN, japan_minute
from .errors import MigrationError
from .plan_facts import Facts
from .plan_gate import Gate, failed, passed, refused

_FORM = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class Timing:
    """When the plan is made, whether the cut-over begins now, how long freeze to open takes (None: unknown).

    ``work_seconds``: how long the ``work`` takes that the window must hold, from the freeze on; ``to_know``: what to do where that is unknown.
    """

    now: datetime
    begins_now: bool
    freeze_seconds: float | None
    work_seconds: float | None
    work: str = "Freeze to open"
    to_know: str = "Measure database and file trees of the source first"


def read_window(window: object) -> Interval:
    """``{start, end}`` in Japan time.

    :raises MigrationError: it is missing, not written as agreed, or ends before it starts (R10).
    """
    if not isinstance(window, dict) or not window:
        raise MigrationError(
            "No window is named",
            check="R10",
            action='Agree date and time with the customer and set start and end ("YYYY-MM-DD HH:MM", Japan time)',
        )
    start = japan_minute(window.get("start"), field="window start", check="R10")
    end = japan_minute(window.get("end"), field="window end", check="R10")
    if end <= start:
        raise MigrationError(
            f"The window ends ({say(end)}) before it starts ({say(start)})",
            check="R10",
            action="Correct start and end of the window",
        )
    return Interval(start, end, "window")


def window_gates(window: object, timing: Timing) -> tuple[list[Gate], Interval | None]:
    """R10 and half of R11: a window is named, not over, open where it must be, and long enough for what remains."""
    try:
        span = read_window(window)
    except MigrationError as error:
        given = (
            ", ".join(f"{key} {value}" for key, value in window.items())
            if isinstance(window, dict) and window
            else None
        )
        return [refused("R10-window", error, rule="R10", measured=given, limit="start and end, Japan time")], None
    gates = [
        passed(
            "R10-window",
            f"The window is {say(span.start)} to {say(span.end)} Japan time",
            rule="R10",
            measured=f"{say(span.start)} – {say(span.end)}",
            limit="start and end, Japan time",
        ),
        _not_over(span, timing),
    ]
    if timing.now < span.end:
        gates.append(_long_enough(span, timing))
    return gates, span


def lease_gates(lease_seconds: float | None, timing: Timing) -> list[Gate]:
    """A lease that somebody chose (not None or 0) does not run out under a migration that is well."""
    if not lease_seconds or timing.freeze_seconds is None:
        return []
    gate = "lease"
    said = f"The lease lasts {lease_seconds:.0f} s, freeze to open is estimated at {timing.freeze_seconds:.0f} s"
    if lease_seconds < timing.freeze_seconds:
        action = "Leave shared_to_dedicated_lease_seconds out, or make it longer: when it runs out, the source reopens"
        return [failed(gate, said, action, measured=lease_seconds, limit=timing.freeze_seconds, severity="warn")]
    return [passed(gate, said, measured=lease_seconds, limit=timing.freeze_seconds, severity="warn")]


def maintenance_gate(maintenance: object, window: Interval | None, timing: Timing) -> Gate:
    """R11: from freeze to open no maintenance announced by the vendor. Only that span counts, not the whole window."""
    gate, limit = "R11-maintenance", "no overlap from freeze to open"
    if not isinstance(maintenance, list | tuple):
        return failed(
            gate,
            "The vendor's announced maintenance dates are not given",
            "Set the calendar's maintenance to the list of dates, [] when there are none",
            rule="R11",
            measured=None,
            limit=limit,
        )
    try:
        dates = [_read_date(entry, index) for index, entry in enumerate(maintenance, start=1)]
    except MigrationError as error:
        return refused(gate, error, rule="R11", measured=None, limit=limit)
    if window is None or timing.freeze_seconds is None:
        what = "window" if window is None else "estimate"
        return failed(
            gate,
            f"Whether the freeze meets maintenance is unknown without {'a' if window is None else 'an'} {what}",
            f"Settle the {what} first",
            rule="R11",
            measured=None,
            limit=limit,
        )
    begin = max(timing.now, window.start)
    freeze = Interval(begin, begin + timedelta(seconds=timing.freeze_seconds))
    hits = [date for date in dates if date.overlaps(freeze)]
    if hits:
        free = first_fit(Interval(begin, window.end), timing.freeze_seconds, dates)
        action = f"Begin the cut-over at {say(free.start)}" if free else "Agree another window with the customer"
        return failed(
            gate,
            f"Freeze to open ({say(freeze.start)} to {say(freeze.end)}) meets {hits[0].what} "
            f"({say(hits[0].start)} to {say(hits[0].end)})",
            action,
            rule="R11",
            measured=len(hits),
            limit=limit,
        )
    return passed(
        gate, f"0 of {len(dates)} maintenance dates fall between freeze and open", rule="R11", measured=0, limit=limit
    )


def say(instant: datetime) -> str:
    """The minute in Japan time, as it is written in a window."""
    return instant.astimezone(JAPAN).strftime(_FORM)


def over(span: Interval, now: datetime) -> MigrationError:
    """The refusal of a window that has ended."""
    return MigrationError(
        f"The window ended at {say(span.end)}, it is {say(now)} Japan time",
        check="R10",
        action="Agree another window with the customer",
    )


def _not_over(span: Interval, timing: Timing) -> Gate:
    gate = "R10-now"
    limit = f"{'between ' + say(span.start) + ' and' if timing.begins_now else 'before'} {say(span.end)}"
    now = say(timing.now)
    if timing.now >= span.end:
        return refused(gate, over(span, timing.now), rule="R10", measured=now, limit=limit)
    if timing.begins_now and timing.now < span.start:
        return failed(
            gate,
            f"The window opens at {say(span.start)}, it is {now} Japan time",
            "Begin the cut-over inside the window",
            rule="R10",
            measured=now,
            limit=limit,
        )
    return passed(gate, f"It is {now} Japan time, the window is not over", rule="R10", measured=now, limit=limit)


def _long_enough(span: Interval, timing: Timing) -> Gate:
    gate = "R11-estimate"
    left = (span.end - max(timing.now, span.start)).total_seconds()
    if timing.work_seconds is None:
        return failed(
            gate,
            f"How long this takes is unknown: {timing.work[0].lower()}{timing.work[1:].rstrip(',')}",
            timing.to_know,
            rule="R11",
            measured=None,
            limit=left,
        )
    if timing.work_seconds > left:
        return failed(
            gate,
            f"{timing.work} is estimated at {timing.work_seconds:.0f} s, the window has {left:.0f} s left",
            "Agree a longer window with the customer",
            rule="R11",
            measured=timing.work_seconds,
            limit=left,
        )
    return passed(
        gate,
        f"{timing.work} is estimated at {timing.work_seconds:.0f} s of the {left:.0f} s left in the window",
        rule="R11",
        measured=timing.work_seconds,
        limit=left,
    )


def _read_date(entry: object, number: int) -> Interval:
    facts = Facts(entry)
    what = facts.text("what") or f"maintenance {number}"
    start = japan_minute(facts.at("start"), field=f"start of {what}", check="R11")
    end = japan_minute(facts.at("end"), field=f"end of {what}", check="R11")
    if end <= start:
        raise MigrationError(f"{what} ends before it starts", check="R11", action=f"Correct start and end of {what}")
    return Interval(start, end, what)
