# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``verify``: our full verification by itself, against our copy and against ``hashtext(row::text)``."""

from __future__ import annotations

from bench.commands import peak_megabytes, seconds
from bench.figures import MEGABYTES, Findings, Target
from bench.pair import Pair

OURS = "our verification"
COPY = "our copy"
HASHTEXT = "hashtext(row::text)"
MEMORY = "peak memory of our verification"
TARGETS = (Target(OURS, 0.4, COPY), Target(OURS, 0.5, HASHTEXT), Target(MEMORY, 300))


def measure(pair: Pair, runs: int) -> Findings:
    """A copy, then both comparisons of it, once a round; then what is not timed: memory."""
    found = Findings()
    typed = pair.typed()
    pair.copy_once()
    for _round in range(runs):
        found.add(COPY, pair.copy(seconds), command=typed["copy"])
        found.add(OURS, pair.verify_settled(seconds), command=typed["verify"])
        found.add(HASHTEXT, pair.hashtext(), command=typed["hashtext"])
    found.add(MEMORY, pair.verify(peak_megabytes), unit=MEGABYTES, command=typed["verify"])
    return found
