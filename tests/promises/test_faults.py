"""Whatever breaks during the cut-over: no acknowledged write is lost, no neighbour notices, the tenant serves again, nothing stays behind."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from load import Load
from playing import ROOT, SHORT_LOCK, UNTIL_ROWS_FLOW, Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.promise(
        "Whatever breaks during the cut-over: no acknowledged write is lost, no neighbour notices, the tenant serves again, nothing stays behind"
    ),
]

LEASE_SECONDS = 60
# With nobody there, the channel stays until its own deadline.
LEASE = (
    *("-e", f"shared_to_dedicated_lease_seconds={LEASE_SECONDS}"),
    *("-e", "shared_to_dedicated_channel_seconds=200"),
)
RESTART = "systemctl restart postgresql@15-main.service"
WORK = "pgrep --oldest --full 'work [d]atabase'"
# What is left of the target's disk once the copy has begun: PostgreSQL's files lie on a file system that is nearly full.
FILL = """
systemctl stop postgresql@15-main.service
cp -a /var/lib/postgresql /var/lib/postgresql.aside
mount -t tmpfs -o size=$(( $(du -s --block-size=1M /var/lib/postgresql | cut -f1) + 12 ))M tmpfs /var/lib/postgresql
cp -a /var/lib/postgresql.aside/. /var/lib/postgresql
rm -r /var/lib/postgresql.aside
systemctl start postgresql@15-main.service
"""
# So that its write-ahead log needs a further segment, for which there is no room: PostgreSQL ends itself, and cannot start again.
FILL_LOG = f"""
systemctl stop postgresql@15-main.service
runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_resetwal /var/lib/postgresql/15/main
systemctl start postgresql@15-main.service
runuser -u postgres -- psql --quiet --output=/dev/null --command="SELECT pg_logical_emit_message(false, 'x', repeat('x', 10000000))"
{FILL}
"""
EMPTY = "systemctl stop postgresql@15-main.service && umount /var/lib/postgresql && systemctl start postgresql@15-main.service"


@dataclass(frozen=True)
class Fault:
    """Something that breaks just before a task begins (or in the middle of it), and how that must end."""

    at: str
    inject: Callable[[Lab], str]
    says: str
    """Stands in the output."""
    mend: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    by_itself: bool = False
    """No controller could undo it: the lease does."""
    tidies_later: bool = False
    """A server that could not be told closes its channel at its deadline, one that could not close it tries again every minute."""
    may_complete: bool = False
    """It may also pass without harm: then the tenant serves from its own server."""
    name_is_put_back_later: bool = False
    """The undoing could not reach the name server and says so; ``rollback.yml`` does that once it answers."""
    shakes_neighbours: bool = False
    """Neighbours notice the fault itself, with or without a migration."""


def on(host: str, command: str) -> Callable[[Lab], str]:
    """Before the task begins."""
    return lambda lab: lab.on_command(host, command)


def while_copying(host: str, command: str) -> Callable[[Lab], str]:
    """As soon as rows flow on ``host``."""
    unit = f"systemd-run --quiet --collect --property=RuntimeMaxSec=60 bash -c {shlex.quote(f'{UNTIL_ROWS_FLOW}; {command}')}"
    return lambda lab: lab.on_command(host, unit)


def cut(*arguments: str) -> Callable[[Lab], str]:
    """No packet passes any more, from before the task begins."""
    return lambda lab: f"cd {shlex.quote(str(ROOT))} && script/lab cut {shlex.join(arguments)}"


def clock(host: str, days: int) -> Callable[[Lab], str]:
    """What starts on ``host`` from now on lives ``days`` later."""
    return lambda lab: f"cd {shlex.quote(str(ROOT))} && script/lab clock {host} {days}"


def cut_while_copying(*arguments: str) -> Callable[[Lab], str]:
    """No packet passes any more, as soon as rows flow."""

    def command(lab: Lab) -> str:
        return f"({lab.on_command('shared01', UNTIL_ROWS_FLOW)} && {cut(*arguments)(lab)}) >/dev/null 2>&1 &"

    return command


FREEZE = "Freeze | No write can happen on the source, and it is proved"
COPY, FILES, SWITCH = "Copy | Database", "Copy | Files, last pass", "Switch | Disarm the lease"
PROVE = "Prove | The target's application runs, for the smoke client only"
FAULTS = {
    "SSH cut mid-copy for 30 s": Fault(
        COPY, cut_while_copying("shared01", "dedicated01", "--seconds", "30"), "", may_complete=True
    ),
    "source PostgreSQL restarted mid-copy": Fault(
        COPY, while_copying("shared01", RESTART), "copy-failed", shakes_neighbours=True
    ),
    "clock of the source jumps by a day": Fault(
        FREEZE, clock("shared01", 1), "", (("shared01", "rm /etc/ld.so.preload"),), may_complete=True
    ),
    "target PostgreSQL restarted mid-copy": Fault(COPY, while_copying("dedicated01", RESTART), "copy-failed"),
    "target disk full": Fault(
        COPY, on("dedicated01", FILL), "copy-failed", (("dedicated01", EMPTY),), tidies_later=True
    ),
    "target PostgreSQL killed by a full disk": Fault(
        COPY, on("dedicated01", FILL_LOG), "Is the server running locally", (("dedicated01", EMPTY),), tidies_later=True
    ),
    "copy killed by the kernel": Fault(COPY, while_copying("shared01", f"kill -KILL $({WORK})"), "unit-result"),
    "copy out of memory": Fault(
        COPY, while_copying("shared01", f"prlimit --as=1000000 --pid $({WORK})"), "copy-failed"
    ),
    "target unreachable in the freeze": Fault(
        FILES, cut("dedicated01", "--seconds", "100"), "serves from shared01", arguments=LEASE, tidies_later=True
    ),
    "source unreachable in the freeze": Fault(
        FILES,
        cut("shared01", "--port", "22", "--seconds", "100"),
        "UNREACHABLE",
        arguments=LEASE,
        by_itself=True,
        tidies_later=True,
    ),
    # Nothing is left then that would undo by itself but the run.
    "target unreachable after the lease was disarmed": Fault(
        PROVE, cut("dedicated01", "--seconds", "100"), "target-reach", arguments=LEASE, tidies_later=True
    ),
    "primary name server down": Fault(
        SWITCH,
        on("ns1", "systemctl stop named.service"),
        "could not be put back",
        (("ns1", "systemctl start named.service"),),
        name_is_put_back_later=True,
    ),
    "secondary name server stale": Fault(
        SWITCH, cut("ns2", "ns1", "--seconds", "60"), "dns-stale", arguments=("-e", "ireporter_dns_deadline_seconds=10")
    ),
    "TSIG key wrong": Fault(
        SWITCH,
        on("ns1", "sed -i.right 's/secret \"..../secret \"AAAA/' /etc/bind/private-keys.conf && rndc reconfig"),
        "dns-update",
        (("ns1", "mv /etc/bind/private-keys.conf.right /etc/bind/private-keys.conf && rndc reconfig"),),
    ),
}

# One of each mechanism; the others only with --all.
IN_EVERY_RUN = {"copy out of memory", "TSIG key wrong"}


@pytest.fixture(scope="module")
def without_a_migration(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many of the neighbours' requests fail when the shared PostgreSQL is restarted and nothing else happens: the worst of three."""
    lab.prepare()
    failed = []
    for number in range(3):
        with Load(tmp_path_factory.mktemp(f"control-{number}")) as load:
            lab.on("shared01", RESTART)
            load.works_again()
            load.stop()
            failed.append(load.neighbours_failed())
    return max(failed)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in IN_EVERY_RUN else pytest.mark.slow) for name in FAULTS],
)
def test_the_tenant_serves_again(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest, name: str) -> None:
    fault = FAULTS[name]
    may_fail = request.getfixturevalue("without_a_migration") if fault.shakes_neighbours else 0
    lab.prepare()
    before = lab.traces()
    with Load(tmp_path) as load:
        try:
            played = lab.play_and_at(
                fault.at, fault.inject(lab), "shared_to_dedicated", "--tags", "cut_over", *fault.arguments, *SHORT_LOCK
            )
        finally:
            for host, command in fault.mend:
                lab.on(host, command)
        undone = not (fault.may_complete and lab.serves("dedicated01"))
        assert played.returncode != 0 or not undone, played.output[-6000:]
        assert fault.says in played.output, played.output[-6000:]
        if fault.by_itself:
            lab.wait_until("the lease reopens acme", lambda: lab.serves("shared01"), seconds=LEASE_SECONDS + 120)
        assert lab.serves("shared01") == undone, played.output[-6000:]
        assert lab.serves("dedicated01") != undone
        if not undone and played.returncode != 0:  # what follows open is done by the next run
            again = lab.play("shared_to_dedicated", *SHORT_LOCK)
            assert again.returncode == 0, again.output[-6000:]
        if fault.name_is_put_back_later:
            assert lab.run_record("shared01")["status"] == "failed"
            back = lab.play("rollback", *SHORT_LOCK)
            assert back.returncode == 0, back.output[-6000:]
            assert lab.run_record("shared01")["status"] == "undone"
        load.works_again()
        load.stop()
        assert load.lost() == []
        # A request more or less is chance: it is sent a quarter of a second earlier or later.
        assert load.neighbours_failed() <= may_fail * 1.5
    if undone:
        lab.assert_nothing_new(before, seconds=240 if fault.tidies_later else 5)
    else:
        assert lab.leftovers() == ""
