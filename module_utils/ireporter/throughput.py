# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of throughput on the host this runs on. Entry point of the unit and the module."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import Any, Final

from .bundle_places import disk_full
from .clock import Clock, SystemClock
from .errors import MigrationError
from .estimate_samples import CHECK, FEWEST
from .file_trees import absolute

Progress = Callable[[dict[str, object]], None]
_LARGEST_SAMPLE: Final = 1 << 30
_SMALLEST_SAMPLE: Final = 1 << 16


def run(spec: dict[str, object], progress: Progress, clock: Clock | None = None) -> dict[str, object]:
    """Measure what ``spec`` asks for; nothing of it stays.

    :param spec: ``measure`` and ``count``, ``sample_bytes``, ``rest``, ``limit_seconds``, ``level``, and

        - ``source``: ``directory``, ``database``, ``file_trees`` (paths);
        - ``restore``: ``directory``, ``admin``, ``shape``.
    :param progress: gets ``{step, number, of}``.
    :returns: ``changed`` (false), ``samples``, ``notes``, ``seconds`` and what :func:`throughput_source.sample_source` or
        :func:`throughput_restore.sample_restore` adds.
    :raises MigrationError: it could not be measured.
    """
    clock = clock or SystemClock()
    began = clock.monotonic()
    count, size = int(str(spec.get("count") or 3)), int(str(spec.get("sample_bytes") or 64_000_000))
    must_be_sensible(count, size)
    try:
        result = _measure(spec, count, size, progress, clock)
    except OSError as error:
        where = error.filename or spec.get("directory")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(absolute(spec["directory"])) from error
        raise MigrationError(
            f"{where!r} cannot be used for a sample: {error.strerror}",
            check="throughput-file",
            action="Mend the cause, then measure again",
        ) from error
    return {"changed": False, **result, "seconds": round(clock.monotonic() - began, 3)}


def _measure(spec: dict[str, Any], count: int, size: int, progress: Progress, clock: Clock) -> dict[str, Any]:
    # Each host has what its own samples need, and no more.
    from .database_connection import Address  # noqa: PLC0415

    common: dict[str, Any] = {
        "directory": absolute(spec["directory"]), "count": count, "size": size, "level": int(spec.get("level") or 1),
        "rest": float(spec.get("rest", 1.0)), "limit_seconds": float(spec.get("limit_seconds") or 600),
    }  # fmt: skip
    chance = Random()  # noqa: S311 - which rows are read is no secret
    if spec["measure"] == "source":
        from .throughput_source import SourceOrder, sample_source  # noqa: PLC0415

        order = SourceOrder(
            **common,
            database=Address.parse(str(spec["database"]), "database"),
            trees=tuple(absolute(path) for path in spec.get("file_trees") or []),
        )
        return sample_source(order, clock, chance, progress)
    from .throughput_restore import RestoreOrder, sample_restore  # noqa: PLC0415
    from .throughput_shape import read_shape  # noqa: PLC0415

    return sample_restore(
        RestoreOrder(**common, admin=Address.parse(str(spec["admin"]), "admin"), shape=read_shape(spec.get("shape"))),
        clock,
        chance,
        progress,
    )


def must_be_sensible(count: int, size: int) -> None:
    """
    :raises MigrationError: so few or so small samples tell nothing, or so large ones disturb (R03).
    """
    if count < FEWEST:
        raise MigrationError(
            f"{count} sample of each part tells no spread", check=CHECK, action=f"Take at least {FEWEST}"
        )
    if not _SMALLEST_SAMPLE <= size <= _LARGEST_SAMPLE:
        raise MigrationError(
            f"A sample of {size} bytes tells nothing, or is felt by whoever else uses the server",
            check=CHECK,
            action=f"Set sample_bytes to at least {_SMALLEST_SAMPLE} and at most {_LARGEST_SAMPLE}",
        )
