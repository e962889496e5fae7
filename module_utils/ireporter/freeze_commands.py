"""Commands of ``ireporter-migration`` about one tenant on this server: what is recorded of it, its freeze, its reopening."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import freeze as freezing
from .clock import SystemClock
from .freeze_record import Records
from .run_record import RunRecords
from .tenant_model import parse, tenant_name
from .tenant_server import Server, this_server
from .tenant_state import observe


def run(options: argparse.Namespace, state: Path) -> int:
    """Do ``options.command`` (``runs``, ``freeze-status``, ``thaw``, ``hold``) for ``options.tenant``.

    :param state: the state directory.
    :return: exit status.
    :raises MigrationError: it could not be done.
    """
    if options.command == "runs":
        _print(RunRecords(state, options.tenant, SystemClock()).list())
        return 0
    server = _remembered(state, options.tenant)
    if server is None:
        if options.command == "freeze-status":
            _print({"tenant": options.tenant, "frozen_or_closed": False})
        else:
            print(f"Tenant {options.tenant} is neither frozen nor closed on this server: nothing to do")
        return 0
    if options.command == "thaw":
        outcome = freezing.thaw(server, by_lease=options.by_lease, even_disarmed=options.disarmed)
        print(f"Tenant {options.tenant}: {', '.join(outcome.undone) or f'nothing to undo ({outcome.state_before})'}")
    elif options.command == "hold":
        freezing.hold(server)
    else:
        seen = observe(server)
        _print(
            {
                "tenant": options.tenant,
                "frozen_or_closed": True,
                "state": seen.state,
                "disagreements": seen.disagreements,
                "lease": seen.lease_as_dict(),
                "run_id": seen.record.run_id if seen.record else None,
                "frozen_at": seen.record.frozen_at if seen.record else None,
            }
        )
    return 0


def _remembered(state: Path, name: str) -> Server | None:
    """The tenant as freeze.json on this server remembers it, or ``None``."""
    record = Records(state, tenant_name(name), SystemClock()).read()
    return None if record is None else this_server(parse(record.tenant), state_directory=state)


def _print(content: object) -> None:
    print(json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True))
