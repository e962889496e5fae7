"""Takes back what a delivery host has given out: called by its timer every minute, with nobody watching."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from .clock import Clock, SystemClock
from .delivery_record import RECORDS, DeliveryRecords, Record
from .errors import MigrationError

_NOTICE = "<5>"
"""Priority "notice" as sd-daemon(3) has it: the unit keeps what is less out of the journal."""


def remove_link(records: DeliveryRecords, record: Record) -> None:
    """The link is dead; the record goes last, so that whoever is killed here is followed by one who ends it. A download that runs is not cut off."""
    served = Path(record.served)
    served.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        served.parent.rmdir()
    records.forget(record)


def delete_expired(records: DeliveryRecords, clock: Clock) -> list[str]:
    """Delete every file whose link has expired, and the link's remains.

    A file that was replaced since, or that has another link, stays.

    :return: a sentence per link, without the link.
    :raises OSError: something could not be deleted; its record stays, so the next call tries again.
    """
    done: list[str] = []
    with records.alone():
        known = records.all()
        now = clock.now().timestamp()
        for record in (record for record in known if record.expires < now):
            others = [other for other in known if other.path == record.path and other is not record]
            path = Path(record.path)
            try:
                same = record.describes(os.lstat(path))
            except FileNotFoundError:
                same, what = False, "it was gone already"
            else:
                what = "deleted" if same else "kept: it is another file than was published"
            if same and any(other.expires >= now for other in others):
                same, what = False, "kept: it has another link"
            if same:
                path.unlink()
            remove_link(records, record)
            done.append(f"{path}: its link has expired, {what} ({record.bytes} bytes)")
    return done


def main(arguments: list[str]) -> int:
    """``ireporter-migration delete-expired-deliveries``; its lines go to the journal."""
    parser = argparse.ArgumentParser(prog="ireporter-migration delete-expired-deliveries", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        for line in delete_expired(DeliveryRecords(options.records), SystemClock()):
            print(f"{_NOTICE}{line}")
    except MigrationError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        # Not the path: a link's folder is half of the link.
        print(
            f"An expired file could not be deleted: {error.strerror} (delivery-expiry). Mend it; the next minute tries again.",
            file=sys.stderr,
        )
        return 1
    return 0
