# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of the customer's download: a file fetched from the delivery host by its link, or a bandwidth that was agreed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .clock import Clock
from .commands import Runner
from .errors import MigrationError
from .estimate_samples import FEWEST
from .throughput_meter import Meter, Samples

CHECK: Final = "throughput-download"
# What a bandwidth in bytes per second says about: any time, for the estimate divides by it.
_AGREED_SECONDS: Final = 60
_GRACE_SECONDS: Final = 10
_FIELDS: Final = 4


def agreed(bytes_per_second: Sequence[object]) -> dict[str, Any]:
    """Two samples or more, from the bandwidths that the customer named (the slow and the fast end).

    :raises MigrationError: they are fewer than two, or none is a positive number (check ``throughput-download``).
    """
    usable = [
        rate for rate in bytes_per_second if isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0
    ]
    if len(usable) < FEWEST or len(usable) != len(bytes_per_second):
        raise MigrationError(
            f"The bandwidth of the customer is {list(bytes_per_second)}, which are not two numbers of bytes per second",
            check=CHECK,
            action="Name a low and a high one, the same twice where nobody knows better",
        )
    samples = Samples()
    for rate in usable:
        samples.add("download", "all", float(rate) * _AGREED_SECONDS, _AGREED_SECONDS)
    return {"samples": samples.found, "notes": ["The bandwidth of the download was agreed, not measured."]}


def fetched(
    link: str,
    *,
    run: Runner,
    clock: Clock,
    count: int,
    size: int,
    rest: float,
    limit_seconds: float,
    ca_file: Path | None = None,
) -> dict[str, Any]:
    """Fetch the first ``size`` bytes of a file ``count`` times; nothing of it is kept.

    Time counts from the request on: name, connection and TLS are no matter of the amount. The link reaches ``curl`` on its
    standard input, so it stands in no list of processes.

    :raises MigrationError: it is no HTTPS link, or the file cannot be fetched (check ``throughput-download``).
    """
    host = _host_of(link)
    meter = Meter(clock, rest=rest, limit_seconds=limit_seconds)
    samples = Samples()
    for _number in range(count):
        seconds = max(1.0, meter.left())
        with meter.step():
            answer = run(
                ["curl", "--disable", "--config", "-"],
                check=False,
                input_text=_configuration(link, size, seconds, ca_file),
                timeout_seconds=seconds + _GRACE_SECONDS,
            )
        status, received, before, total = _numbers(answer.stdout)
        if answer.returncode != 0 or status not in (200, 206) or received <= 0:
            raise MigrationError(
                f"The sample file could not be fetched from {host}: curl exited {answer.returncode}, HTTP status {status:.0f}",
                check=CHECK,
                action="Check the link's expiry, the name server and the way to the delivery host, then measure again",
            )
        samples.add("download", "all", received, total - before)
    return {"samples": samples.found, "notes": []}


def _host_of(link: str) -> str:
    try:
        parts = urlsplit(link)
        host = parts.hostname if parts.scheme == "https" else None
    except ValueError:
        host = None
    if host is None or any(character.isspace() or not character.isprintable() for character in link):
        # Whatever was given may be a secret: it is not repeated.
        raise MigrationError(
            "The link of the sample file is no HTTPS link",
            check=CHECK,
            action="Give the link that ireporter_delivery returned",
        )
    return host


def _configuration(link: str, size: int, seconds: float, ca_file: Path | None) -> str:
    options = {
        "url": link,
        "output": "/dev/null",
        "range": f"0-{size - 1}",
        "proto": "=https",
        "max-time": f"{seconds:.0f}",
        "write-out": "%{http_code} %{size_download} %{time_pretransfer} %{time_total}",
    }
    if ca_file is not None:
        options["cacert"] = str(ca_file)
    lines = [f'{name} = "{_quoted(text)}"' for name, text in options.items()]
    return "\n".join(["silent", "globoff", *lines, ""])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _numbers(output: str) -> tuple[float, float, float, float]:
    words = output.split()
    try:
        if len(words) == _FIELDS:
            return float(words[0]), float(words[1]), float(words[2]), float(words[3])
    except ValueError:
        pass
    return 0.0, 0.0, 0.0, 0.0
