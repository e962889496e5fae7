"""``ireporter-migration``: what units and people call on a server."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Final

from .clock import SystemClock
from .errors import MigrationError
from .json_files import unusable
from .tenant_model import STATE_DIRECTORY

# Commands that belong to other parts of the core: module, function, help. Loaded only when called.
_ELSEWHERE: Final = {
    "manifest": ("file_manifest_command", "main", "write the manifest of file trees to standard output"),
    "open-channel": ("channel", "open_main", "make this server's end of a migration's channel (JSON in, JSON out)"),
    "close-channel": ("channel", "close_main", "remove what a migration's channel left on this server"),
    "delete-expired-deliveries": ("delivery_expiry", "main", "delete delivered files whose link has expired"),
    "drop-picture": ("picture", "drop_main", "drop the picture of a tenant (called at its deadline)"),
    "channel-leftovers": ("channel", "leftovers_main", "list what channels have left on this server"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, 1 with one sentence on standard error otherwise."""
    parser = argparse.ArgumentParser(
        prog="ireporter-migration", description="Moves i-Reporter tenants between servers."
    )
    parser.add_argument("--state-directory", type=Path, default=STATE_DIRECTORY, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    work = commands.add_parser("work", help="do one piece of long work (called by its systemd unit)")
    work.add_argument("work")
    work.add_argument("directory", type=Path)
    thaw = commands.add_parser("thaw", help="reopen a frozen tenant on this server")
    thaw.add_argument("tenant")
    thaw.add_argument(
        "--by-lease", action="store_true", help="only when its lease has ended (called by its systemd unit)"
    )
    thaw.add_argument(
        "--disarmed", action="store_true", help="even when it was frozen for good: the target must not be open"
    )
    status = commands.add_parser("freeze-status", help="say what a frozen or closed tenant is on this server, as JSON")
    status.add_argument("tenant")
    hold = commands.add_parser(
        "hold", help="mount the file trees of a tenant frozen for good read-only again (called at boot)"
    )
    hold.add_argument("tenant")
    runs = commands.add_parser("runs", help="list the migrations of a tenant recorded on this server, as JSON")
    runs.add_argument("tenant")
    for name, (_module, _function, help_text) in _ELSEWHERE.items():
        # Their arguments are read by the part that does the work.
        commands.add_parser(name, help=help_text, add_help=False)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in _ELSEWHERE:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return _run(options, rest)
    except MigrationError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(unusable(error), file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    # Each command loads what it needs: work waits for its worker, and a freeze for its commands.
    state: Path = options.state_directory
    if options.command == "work":
        from . import work  # noqa: PLC0415

        return work.do(options.work, options.directory, SystemClock(), work.table())
    if options.command in _ELSEWHERE:
        module, function, _help = _ELSEWHERE[options.command]
        return int(getattr(importlib.import_module(f".{module}", __package__), function)(rest))
    from . import freeze_commands  # noqa: PLC0415

    return freeze_commands.run(options, state)


if __name__ == "__main__":
    sys.exit(main())
