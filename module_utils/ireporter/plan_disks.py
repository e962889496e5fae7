"""Gates about room on both servers: copy, database that a way back brings and backup, added up per disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .plan_facts import Facts
from .plan_gate import Gate, failed, passed
from .plan_servers import Servers
from .plan_settings import PlanSettings


@dataclass(frozen=True)
class Need:
    """``size`` bytes for ``what``, on the first of ``disks`` (purposes) that was measured."""

    what: str
    disks: tuple[str, ...]
    size: float


def disk_gates(servers: Servers, settings: PlanSettings) -> list[Gate]:
    """Room for copy, database that a way back brings and backup, added up per disk, on both servers."""
    database = servers.source.number("database", "bytes")
    trees = servers.source.items("file_trees")
    sizes = {tree.text("name"): tree.number("bytes") for tree in trees or []}
    if database is None or trees is None or any(size is None for size in sizes.values()):
        return [
            failed(
                f"disk-{side}",
                f"How much room the {side} needs is unknown",
                "Measure database and file trees of the source first",
                measured=None,
                limit=None,
            )
            for side in ("source", "target")
        ]
    files = {str(name): float(size) for name, size in sizes.items() if size is not None}
    there = {tree.text("name"): tree.number("bytes") or 0.0 for tree in servers.target.items("file_trees") or []}
    copied = servers.target.number("database", "bytes") or 0.0
    backup = (database + sum(files.values())) * settings.backup_factor
    source_needs = [Need("database", ("database",), float(database)), Need("backup", ("backup", "state"), backup)]
    # What already lies on the target needs no room twice.
    target_needs = [Need("database", ("database",), max(0.0, database - copied))]
    target_needs += [
        Need(f"tree:{name}", (f"tree:{name}",), max(0.0, size - there.get(name, 0.0))) for name, size in files.items()
    ]
    return room_gates("source", servers.source, source_needs, settings) + room_gates(
        "target", servers.target, target_needs, settings
    )


def room_gates(side: str, facts: Facts, needs: Sequence[Need], settings: PlanSettings) -> list[Gate]:
    """One gate per disk; what shares a device is added up."""
    place = side.replace(" ", "-")
    gates: list[Gate] = []
    needed: dict[str, float] = {}
    free: dict[str, float] = {}
    purposes: dict[str, list[str]] = {}
    for need in needs:
        purpose, size = need.what, need.size
        disk = next((found for name in need.disks if (found := _disk(facts, name)) is not None), None)
        available = disk.number("free_bytes") if disk is not None else None
        if disk is None or available is None:
            gates.append(
                failed(
                    f"disk-{place}-{purpose}",
                    f"How much room the {side} has for {purpose} is unknown",
                    f"Mend what stands in the way on the {side} and run again",
                    measured=None,
                    limit=_whole(size),
                )
            )
            continue
        device = str(disk.at("device") or disk.text("path") or purpose)
        needed[device] = needed.get(device, 0.0) + size
        free[device] = min(free.get(device, available), available)
        purposes.setdefault(device, []).append(purpose)
    for device, size in needed.items():
        wanted = _whole(size * (1 + settings.disk_margin_percent / 100))
        names = ", ".join(purposes[device])
        gate = f"disk-{place}-{purposes[device][0]}"
        measured = _whole(free[device])
        said = f"The {side} has {_gigabytes(measured)} free for {names}, with margin {_gigabytes(wanted)} are needed"
        if measured < wanted:
            gates.append(
                failed(
                    gate,
                    said,
                    f"Make {_gigabytes(wanted - measured)} more room on the {side}",
                    measured=measured,
                    limit=wanted,
                )
            )
        else:
            gates.append(passed(gate, said, measured=measured, limit=wanted))
    return gates


def _disk(facts: Facts, purpose: str) -> Facts | None:
    for disk in facts.items("server", "disks") or []:
        if disk.text("purpose") == purpose:
            return disk
    return None


def _whole(size: float) -> int:
    return int(size)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
