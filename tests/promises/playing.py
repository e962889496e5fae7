"""The lab, driven with the commands an engineer types."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = f"{Path(__file__).parent / 'plugins' / 'callback'}:{ROOT / 'plugins' / 'callback'}"
# The lock of a controller that is killed on purpose need not be waited for as long as a real one's.
SHORT_LOCK = ("-e", "shared_to_dedicated_lock_seconds=20")
# Keys, accounts, rules; databases and roles (the tenant's own stay with the copy that the next run replaces); units and timers; mounts;
# temporary files; processes of the copy. A timer is called running for the second in which its service runs: a neighbour's is no trace.
TRACES = r"""
ireporter-migration channel-leftovers | grep --invert-match '"leftovers": \[\]' || true
find /home /root -name authorized_keys -exec sha256sum {} +
getent passwd
psql -XqAtU postgres -c "SELECT 'database', datname, datconnlimit FROM pg_database WHERE datname <> 'irepodb_acme'"
psql -XqAtU postgres -c "SELECT 'role', rolname, rolcanlogin FROM pg_roles WHERE rolname NOT LIKE 'acme%'"
for kind in timer standin migration lease channel; do
  systemctl list-units --all --plain --no-legend --no-pager "ireporter-*$kind*" | while read -r unit _ active state _; do
    # Until it reads its files anew, systemd remembers a unit that is stopped and whose file is gone.
    [ "$active" = inactive ] && [ ! -e "$(systemctl show --value --property=FragmentPath "$unit")" ] && continue
    case "$unit $state" in *.timer\ running) state=waiting ;; esac
    echo "$unit $state"
  done
done
findmnt --raw --noheadings --output TARGET,OPTIONS | grep /srv || true
find /run/ireporter-migration /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private*' ! -name 'ansible*' || true
pgrep --list-name --full '[i]reporter-migration|[r]sync|[p]g_dump' | cut -d' ' -f2 || true
"""
# On either server, as root.
UNTIL_ROWS_FLOW = (
    'until [ "$(psql -XqAtU postgres -c "SELECT count(*) > 0 FROM pg_stat_progress_copy")" = t ]; do sleep 0.05; done'
)
SMALL = ["--gigabytes", "0.02", "--files", "300"]


@dataclass
class Played:
    """An ansible-playbook that ended."""

    returncode: int
    output: str
    seconds: float

    def recap(self, host: str) -> dict[str, int]:
        """The figures of ``host`` in the recap: ok, changed, unreachable, failed …"""
        for line in self.output.splitlines():
            if line.startswith(f"{host} ") and "ok=" in line:
                return {key: int(value) for key, value in (item.split("=") for item in line.split(":")[1].split())}
        raise AssertionError(f"no recap for {host} in:\n{self.output[-3000:]}")


@dataclass
class Lab:
    """The lab, and the commands of the README on it."""

    environment: dict[str, str] = field(default_factory=dict)

    def play(
        self, playbook: str, *arguments: str, tenant: str = "acme", timeout: float = 900, **extra_environment: str
    ) -> Played:
        """Run ``playbooks/<playbook>.yml --limit <tenant>``."""
        began = time.monotonic()
        process = subprocess.run(
            # Started in the background, this process may ignore Ctrl-C, and what it starts would, too.
            [
                "env",
                "--default-signal=INT",
                "ansible-playbook",
                f"playbooks/{playbook}.yml",
                "--limit",
                tenant,
                *arguments,
            ],
            cwd=ROOT,
            # As on a control node in Japan: no role may take its local time for UTC.
            env=os.environ | self.environment | {"ANSIBLE_NOCOLOR": "1", "TZ": "Asia/Tokyo"} | extra_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        print(f"{playbook} exited {process.returncode}: {process.stdout[-6000:]}")  # pytest shows it where a test fails
        return Played(process.returncode, process.stdout, time.monotonic() - began)

    def set_clock(self, host: str, days: int) -> None:
        """Every program that starts on ``host`` from now on lives ``days`` later."""
        subprocess.run(["script/lab", "clock", host, str(days)], cwd=ROOT, check=True, capture_output=True, timeout=120)

    def play_and_at(
        self, task: str, command: str, playbook: str = "shared_to_dedicated", *arguments: str, tenant: str = "acme"
    ) -> Played:
        """As ``play``; when the task whose name ends with ``task`` is about to start, ``command`` runs (or SIGKILL, or SIGINT)."""
        return self.play(
            playbook,
            *arguments,
            tenant=tenant,
            AT_TASK_NAME=task,
            AT_TASK_COMMAND=command,
            ANSIBLE_CALLBACK_PLUGINS=PLUGINS,
            ANSIBLE_CALLBACKS_ENABLED="at_task,undo_when_interrupted",
        )

    def on(self, host: str, command: str, *, check: bool = True, timeout: float = 180) -> str:
        """Output of a shell command run as root on ``host``."""
        process = subprocess.run(
            ["script/lab", "shell", host, "--", "bash", "-c", command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and process.returncode:
            raise AssertionError(f"{host}: {command}\n{process.stdout}{process.stderr}")
        return process.stdout

    def put(self, host: str, path: str, content: str) -> None:
        """A file of root's on ``host``, with its folder."""
        subprocess.run(
            ["script/lab", "shell", host, "--", "bash", "-c", f'mkdir -p "$(dirname {path})" && cat > {path}'],
            cwd=ROOT,
            input=content,
            text=True,
            timeout=60,
            check=True,
        )

    def on_command(self, host: str, command: str) -> str:
        """The same as one shell command line of the control node, for ``play_and_at``."""
        return f"cd {shlex.quote(str(ROOT))} && script/lab shell {host} -- bash -c {shlex.quote(command)} </dev/null"

    def sql(self, host: str, database: str, statement: str) -> str:
        """One statement as superuser; its output, unaligned."""
        return self.on(
            host, f"psql -XqAt -v ON_ERROR_STOP=1 -U postgres -d {database} -c {shlex.quote(statement)}"
        ).strip()

    def reset(self) -> None:
        """Fresh tenants on shared01, a bare dedicated01."""
        subprocess.run(["script/lab", "reset", *SMALL], cwd=ROOT, check=True, timeout=1200)

    def reset_for_export(self) -> None:
        """Fresh tenants, delivery host and customer's server."""
        self.reset()
        subprocess.run(["script/lab", "reset", "delivery01", "selfhost01"], cwd=ROOT, check=True, timeout=600)
        # The customer's word that WebDAV was downloaded has minutes, and must be later than its newest file (R09).
        time.sleep(61 - datetime.now(UTC).second)

    def prepare(self) -> None:
        """``acme`` serves from shared01 and is prepared: what is left is the cut-over. One that was undone there stays so."""
        provisioned = self.on("dedicated01", "test -e /etc/nginx/ireporter/acme.crt && echo yes || true") == "yes\n"
        if provisioned and self.serves("shared01") and not self.serves("dedicated01"):
            return
        self.reset()
        played = self.play("shared_to_dedicated", "--tags", "prepare")
        assert played.returncode == 0, played.output[-5000:]

    def serves(self, host: str, tenant: str = "acme", public_name: str | None = None) -> bool:
        """Whether users of ``tenant`` get an answer other than the maintenance page from ``host``."""
        return self.status_code(host, tenant, public_name) not in (0, 410, 502, 503)

    def status_code(
        self, host: str, tenant: str = "acme", public_name: str | None = None, path: str | None = None
    ) -> int:
        """HTTP status of ``path`` (the tenant's Manager page) on ``host``; 0 when nobody answers."""
        name = public_name or f"{tenant}.ireporter.example"
        path = path or f"/ConMasManager{tenant.upper()}/"
        code = self.on(
            host,
            f"python3 - <<'PY'\n"
            f"import http.client, ssl, socket\n"
            f"c = http.client.HTTPSConnection({name!r}, timeout=10)\n"
            f"c._create_connection = lambda *a, **k: socket.create_connection(('127.0.0.1', 443), 10)\n"
            f"try:\n"
            f"    c.request('GET', {path!r}); print(c.getresponse().status)\n"
            f"except OSError:\n"
            f"    print(0)\n"
            f"PY",
        )
        return int(code.strip())

    def assert_nothing_new(self, before: dict[str, list[str]], *, seconds: float) -> None:
        """Within ``seconds``, there are no traces that were not there before."""
        until = time.monotonic() + seconds
        while any(new := self._new(before)) and time.monotonic() < until:
            time.sleep(1)
        assert not any(new), new

    def _new(self, before: dict[str, list[str]]) -> list[list[str]]:
        """By host."""
        return [[trace for trace in traces if trace not in before[host]] for host, traces in self.traces().items()]

    def wait_until(self, what: str, holds: Callable[[], bool], *, seconds: float) -> float:
        """Seconds until ``holds()``; fails after ``seconds``."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not within {seconds:.0f} s: {what}")
            time.sleep(1)
        return time.monotonic() - began

    def run_record(self, host: str, tenant: str = "acme") -> dict[str, Any]:
        """The newest run.json of the tenant on ``host``."""
        text = self.on(host, f"cat $(ls -t /var/lib/ireporter-migration/{tenant}/*/run.json | head -1)")
        record: dict[str, Any] = json.loads(text)
        return record

    def mails(self) -> str:
        """Every delivered mail, as JSON."""
        return subprocess.run(["script/lab", "mails"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    def leftovers(self) -> str:
        """What a migration left behind on either server; empty when nothing."""
        return "".join(
            self.on(
                host,
                "test ! -x /usr/local/sbin/ireporter-migration || ireporter-migration channel-leftovers | grep -v '\"leftovers\": \\[\\]' || true",
            )
            for host in ("shared01", "dedicated01")
        )

    def traces(self) -> dict[str, list[str]]:
        """By host, everything of the kinds a migration makes on the way: what differs from before is left behind."""
        return {host: sorted(self.on(host, TRACES).splitlines()) for host in ("shared01", "dedicated01")}
