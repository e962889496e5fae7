"""The table of long work, and the worker that does one of them inside its unit."""

from __future__ import annotations

import contextlib
import importlib
import traceback
from pathlib import Path
from typing import Final

from .clock import Clock
from .errors import MigrationError
from .json_files import read_json, write_json
from .unit import Progress, Work

_BETWEEN_WRITES_SECONDS = 0.5


# Module of each kind of long work; its function is ``run``.
WORKS: Final = {
    "bundle": "bundle",
    "database": "database_copy",
    "files": "file_copy",
    "import": "bundle_import",
    "picture": "picture",
    "throughput": "throughput",
    "verification": "verification",
}


def table() -> dict[str, Work]:
    """Every kind of long work by name. Each loads its module when it is done: a worker does one, and no module carries any."""

    def later(module: str) -> Work:
        def run(spec: dict[str, object], progress: Progress) -> dict[str, object]:
            result: dict[str, object] = importlib.import_module(f".{module}", __package__).run(spec, progress)
            return result

        return run

    return {name: later(module) for name, module in WORKS.items()}


def do(work: str, directory: Path, clock: Clock, works: dict[str, Work]) -> int:
    """Do ``work`` as ``<work>.spec.json`` in ``directory`` says, and leave ``<work>.result.json`` behind.

    :return: exit status: 0 done, 1 failed and said so in the result.
    """
    spec = read_json(directory / f"{work}.spec.json")
    last = float("-inf")

    def progress(now: dict[str, object]) -> None:
        nonlocal last
        if clock.monotonic() - last >= _BETWEEN_WRITES_SECONDS:
            last = clock.monotonic()
            # Progress is a courtesy: a full disk must fail the work itself, not its display.
            with contextlib.suppress(OSError):
                write_json(directory / f"{work}.progress.json", now, durable=False)

    try:
        if work not in works or not isinstance(spec, dict):
            raise MigrationError(  # noqa: TRY301 - becomes the result like any other
                f"There is no work {work} with its input in {directory}",
                check="unit-work",
                action="Start it by its module",
            )
        result: dict[str, object] = {**works[work](spec, progress), "failed": False}
    except MigrationError as error:
        result = {"failed": True, "msg": error.happened, **error.as_result(), "figures": getattr(error, "figures", {})}
    except Exception as error:  # a defect of ours must reach the operator as a sentence too
        traceback.print_exc()
        defect = MigrationError(
            f"The work {work} met a defect of its own: {type(error).__name__}: {error}",
            check="internal-error",
            action="Report it with the unit's journal; nothing was switched",
        )
        result = {"failed": True, "msg": defect.happened, **defect.as_result(), "figures": {}}
    write_json(directory / f"{work}.result.json", result)
    return 1 if result["failed"] else 0
