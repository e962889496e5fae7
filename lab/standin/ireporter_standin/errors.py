# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The refusals an API client sees. The numbers are the stand-in's own: only 0 and "not 0" are public facts."""

from __future__ import annotations

OK = 0
LOGIN_REFUSED = 1
NOT_LOGGED_IN = 2
UNKNOWN_COMMAND = 3
BAD_PARAMETER = 4
NOT_FOUND = 5
TOO_LARGE = 6
SERVER_ERROR = 9


class RefusedError(Exception):
    """A request the server answers with a code other than 0 and a remark."""

    def __init__(self, code: int, remark: str) -> None:
        self.code = code
        self.remark = remark
        super().__init__(f"{code}: {remark}")


class ConfigurationError(Exception):
    """The server cannot start as it is configured; one sentence says why."""
