"""The lease's units, and what counts as the same boot."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from ireporter.commands import Completed
from ireporter.errors import MigrationError
from ireporter.lease import Deadline, Lease, boot_identity

from tests.unit.tenant_fakes import FakeClock


class Systemctl:
    def __init__(self, sub_state: str = "waiting") -> None:
        self.calls: list[list[str]] = []
        self.sub_state = sub_state

    def __call__(self, argv: Sequence[str], **_options: object) -> Completed:
        self.calls.append(list(argv))
        if argv[1] == "is-enabled":
            return Completed(0, "enabled\n", "")
        return Completed(
            0, f"ActiveState=active\nSubState={self.sub_state}\nUnitFileState=enabled\nLoadState=loaded\n", ""
        )


def proc(folder: Path, boot: str = "b", started: int = 42) -> Path:
    (folder / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
    (folder / "1").mkdir(exist_ok=True)
    (folder / "sys/kernel/random/boot_id").write_text(boot + "\n")
    (folder / "1/stat").write_text("1 (a ) b) S " + " ".join(["0"] * 18) + f" {started} 0 0\n")
    return folder


def test_a_container_that_was_started_anew_is_another_boot(tmp_path: Path) -> None:
    first = boot_identity(proc(tmp_path, started=42))
    assert first == boot_identity(proc(tmp_path, started=42))
    assert first != boot_identity(proc(tmp_path, started=43))
    assert first != boot_identity(proc(tmp_path, boot="c", started=42))


def test_a_deadline_of_another_boot_has_passed() -> None:
    clock = FakeClock()
    deadline = Deadline("x", clock.monotonic() + 50)
    assert deadline.remaining(clock, "x") == 50
    assert deadline.remaining(clock, "y") == 0


def test_armed_units_count_monotonically_and_survive_a_reboot(tmp_path: Path) -> None:
    run = Systemctl()
    lease = Lease("acme", run, FakeClock(), directory=tmp_path, proc=proc(tmp_path / "proc"))
    lease.arm(600)
    timer = (tmp_path / "ireporter-lease-acme.timer").read_text()
    service = (tmp_path / "ireporter-lease-acme.service").read_text()
    assert "OnActiveSec=600s" in timer
    assert "AccuracySec=1s" in timer
    assert "OnCalendar" not in timer
    assert "WantedBy=multi-user.target" in service
    assert "Restart=on-failure" in service
    assert "thaw acme --by-lease" in service
    assert run.calls[-2][:3] == ["systemctl", "restart", "ireporter-lease-acme.timer"]
    assert [
        "systemctl",
        "enable",
        "--no-reload",
        "ireporter-lease-acme.timer",
        "ireporter-lease-acme.service",
    ] in run.calls


def test_a_full_disk_leaves_the_units_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease("acme", Systemctl(), FakeClock(), directory=tmp_path, proc=proc(tmp_path / "proc"))
    lease.arm(600)

    synced: list[int] = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:  # the service and its folder are on the disk, the timer is not
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            lease.arm(900)
    assert caught.value.filename == str(tmp_path / lease.timer)
    assert "OnActiveSec=600s" in (tmp_path / lease.timer).read_text()
    assert "ExecStart=" in (tmp_path / lease.service).read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"proc", lease.timer, lease.service}
    assert (tmp_path / lease.timer).stat().st_mode & 0o777 == 0o644


def test_a_timer_that_does_not_count_is_a_failure(tmp_path: Path) -> None:
    lease = Lease("acme", Systemctl("elapsed"), FakeClock(), directory=tmp_path, proc=proc(tmp_path / "proc"))
    with pytest.raises(MigrationError) as caught:
        lease.arm(600)
    assert caught.value.check == "lease"


def test_too_short_a_lease_is_refused(tmp_path: Path) -> None:
    lease = Lease("acme", Systemctl(), FakeClock(), directory=tmp_path, proc=proc(tmp_path / "proc"))
    with pytest.raises(MigrationError):
        lease.arm(1)
    assert not lease.present()


def test_removal_never_stops_the_service_that_may_be_calling(tmp_path: Path) -> None:
    run = Systemctl()
    lease = Lease("acme", run, FakeClock(), directory=tmp_path, proc=proc(tmp_path / "proc"))
    lease.arm(600)
    lease.hold()
    assert lease.remove()
    assert not lease.present()
    assert lease.held()
    assert lease.release()
    assert not lease.remove()
    assert ["systemctl", "stop", "ireporter-lease-acme.service"] not in run.calls
    assert [path.name for path in tmp_path.iterdir()] == ["proc"]
