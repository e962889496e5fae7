# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this checkout's lab lives: its folder, its names, what went wrong with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
STATE = CHECKOUT / "build" / "lab"
"""Keys, certificates, passwords. Git ignores it; without it the lab is made anew."""

PREFIX = "irlab-" + hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:6]
"""Begins the name of every container, network and volume, so that two clones do not fight over them."""

DOMAIN = "ireporter.example"


class LabError(Exception):
    """The lab cannot go on; the message says why and what to do."""
