# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes a definition of a lab tenant, as its designers do in normal operation: linkage tables and a view are made."""

from __future__ import annotations

from lab import hosts

_ADMIN = "/opt/ireporter-standin/bin/ireporter-standin-admin"


def publish(
    tenant: str, *, server: str = "shared01", new_revision_of: int | None = None, definition: int | None = None
) -> int:
    """Publish ``definition``, or a copy of the newest revision of ``new_revision_of``, on the tenant's server.

    :return: id of the published definition: tables ``report_<id>_s_1`` to ``_s_4``.
    :raises LabError: there is no such host, or the stand-in refused.
    """
    which = ("--id", str(definition)) if definition is not None else ("--new-revision-of", str(new_revision_of or 1))
    shown = hosts.execute(
        hosts.host(server),
        *("runuser", "--user", f"ireporter-{tenant}", "--", _ADMIN, "publish-definition"),
        *("--config", f"/etc/ireporter/{tenant}/server.toml", *which),
    )
    return int(str(shown).split()[0])
