#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_throughput_info
short_description: Measure how fast an export, its download and its import really are, on the hosts that will do the work
description:
  - Takes short samples for the estimate of M(ireporter_quote) and M(ireporter_plan), in the shape that their option C(samples) takes.
  - V(source) puts a little of the tenant's own rows and files through the parts of an export, each alone and all together, into a folder
    beside the bundle, as M(ireporter_bundle) does. Rows are read in text form at even distances over all tables from a random start, files
    at random, of each size as many as there are. The tenant's database and files are read only.
  - V(restore) verifies, unpacks, restores and proves a small bundle, on the customer's server or one like it. Its rows and files are made
    up in the O(shape) of the tenant's data, so nothing of the tenant's leaves the source.
  - V(download) fetches a file of the delivery host by its link, on the customer's server, or takes the bandwidth that was agreed.
  - V(earlier) reads from the run records of all tenants on this server what exports really took.
  - All of it is thrown away. What a run left that was killed is removed by the next one.
  - It is made not to be felt. O(sample_bytes) bounds each sample, after each step it rests (O(rest)), O(limit_seconds) ends it, and it
    has the patience of a migration's own units, also because the export will have it.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - psycopg >= 3.1, psql and pg_dump of the server's major version, age, zstd, tar and setpriv, for V(source)
  - the same, pg_restore and OpenSSH's ssh-keygen, and a superuser of PostgreSQL, for V(restore)
  - curl, for V(download) with O(link)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - It measures in check mode, too. What is to stay as it is, it reads only; what it writes is its own, and gone when it ends.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
    details: It never changes anything. Samples differ from run to run, as what they measure does.
options:
  measure:
    description: What is measured on the host this runs on.
    type: str
    choices: [source, restore, download, earlier]
    required: true
  directory:
    description:
      - Existing folder on the disk on which the bundle is made (V(source)), or received and unpacked (V(restore)). Required for both.
      - Six times O(sample_bytes) for each of O(count) samples, and 256 MB, must be free there. Samples lie in a folder C(.ireporter-throughput) there while they are taken.
    type: path
  database:
    description:
      - libpq connection string of the tenant's own database, as a role that may read all rows. Required for V(source).
      - A password in it is refused.
    type: str
  file_trees:
    description: Folders of the tenant's file trees that move, without the WebDAV storage. For V(source).
    type: list
    elements: path
    default: []
  admin:
    description:
      - libpq connection string of a superuser, in any database of the server that is restored into. Required for V(restore).
      - Two databases C(ireporter_throughput_made) and C(ireporter_throughput_restored) are there for the time of the samples.
    type: str
  shape:
    description:
      - RV(shape) of a sample of the source. Left out, rows and files are of usual kinds. For V(restore).
    type: dict
  link:
    description:
      - HTTPS link of a file to fetch, as M(ireporter_delivery) returned it. It is not shown. For V(download), instead of O(bytes_per_second).
    type: str
  ca_file:
    description: Certificates that are trusted for O(link). Left out, those of the system.
    type: path
  bytes_per_second:
    description:
      - Bandwidths of the customer that were agreed, a low and a high one, in bytes per second. For V(download).
    type: list
    elements: float
  state_directory:
    description: Where the run records are. For V(earlier).
    type: path
    default: /var/lib/ireporter-migration
  count:
    description: Samples of each part, at least 2.
    type: int
    default: 3
  sample_bytes:
    description: Bytes of data in each sample, at most.
    type: int
    default: 64000000
  rest:
    description: After each step nothing is done for so many times as long as the step took.
    type: float
    default: 1
  limit_seconds:
    description: All samples and rests together; if they are not complete by then, it is an error.
    type: int
    default: 600
  level:
    description: Level of zstd, as O(ireporter_bundle#module:level).
    type: int
    default: 1
  run:
    description:
      - Do the work in a systemd unit of this migration, as the export is done. Without it, it is done by this module's own process.
        For V(source) and V(restore).
    type: dict
    suboptions:
      tenant:
        description: Name of the tenant.
        type: str
        required: true
      id:
        description: Id of the migration.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: What earlier exports of this server took
  ireporter_throughput_info:
    measure: earlier
  delegate_to: shared01
  become: true
  register: earlier

- name: How fast the source exports
  ireporter_throughput_info:
    measure: source
    directory: /var/lib/ireporter-delivery/acme
    database: host=/var/run/postgresql user=postgres dbname=irepodb_acme
    file_trees:
      - /srv/ireporter/acme/output
  delegate_to: shared01
  become: true
  register: source

- name: How fast a server like the customer's imports
  ireporter_throughput_info:
    measure: restore
    directory: /srv/import
    admin: host=/var/run/postgresql user=postgres dbname=postgres
    shape: "{{ source.shape }}"
  delegate_to: selfhost01
  become: true
  register: restore

- name: How fast the customer downloads
  ireporter_throughput_info:
    measure: download
    bytes_per_second: [1000000, 2500000]
  delegate_to: localhost
  register: download

- name: How long it takes
  ireporter_quote:
    state: estimated
    tenant: acme
    assessment: "{{ assessed }}"
    webdav_tree: webdav
    samples: "{{ source.samples + restore.samples + download.samples + earlier.samples }}"
    earlier: "{{ earlier.earlier }}"
  delegate_to: localhost
"""

RETURN = r"""
samples:
  description:
    - Each with C(part), C(of) (V(database), V(files) or V(all)), C(bytes), C(seconds), and for C(compress) C(output_bytes).
    - C(bytes) of rows are the share of the whole database, with its indexes, for which those that were read stand.
    - C(overhead) has a C(phase) and no bytes. It is the time of an export, or import, of nothing. With O(measure=earlier) it is that of
      freezes, where two or more are known.
  returned: success
  type: list
  elements: dict
notes:
  description: Sentences about what was measured otherwise than usual, or not at all, and why.
  returned: O(measure) is not V(earlier)
  type: list
  elements: str
shape:
  description: Kinds and widths of columns, indexes, number and size of files. It holds no name and no value of the tenant's.
  returned: O(measure=source)
  type: dict
walked:
  description: C(files) and C(bytes) of the file trees that were seen, and whether that was the C(whole).
  returned: O(measure=source)
  type: dict
earlier:
  description: Exports that succeeded, with C(phase) (V(export)), C(uncorrected_seconds), C(actual_seconds) and C(finished_at), oldest first.
  returned: O(measure=earlier)
  type: list
  elements: dict
without_figures:
  description: How many others succeeded, whose records do not tell what they took.
  returned: O(measure=earlier)
  type: int
seconds:
  description: Duration, rests included.
  returned: O(measure) is V(source) or V(restore)
  type: float
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.ireporter import throughput, throughput_download, throughput_earlier
from ansible.module_utils.ireporter.clock import SystemClock
from ansible.module_utils.ireporter.commands import run as run_command
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.unit import execute

try:
    import psycopg  # noqa: F401 - where nothing but a download is measured it may be missing

    PSYCOPG = True
except ImportError:
    PSYCOPG = False

# As units of migrations have it.
_NICE = 5


def main() -> None:
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "measure": {"type": "str", "choices": ["source", "restore", "download", "earlier"], "required": True},
            "directory": {"type": "path"},
            "database": {"type": "str"},
            "file_trees": {"type": "list", "elements": "path", "default": []},
            "admin": {"type": "str"},
            "shape": {"type": "dict"},
            "link": {"type": "str", "no_log": True},
            "ca_file": {"type": "path"},
            "bytes_per_second": {"type": "list", "elements": "float"},
            "state_directory": {"type": "path", "default": "/var/lib/ireporter-migration"},
            "count": {"type": "int", "default": 3},
            "sample_bytes": {"type": "int", "default": 64_000_000},
            "rest": {"type": "float", "default": 1},
            "limit_seconds": {"type": "int", "default": 600},
            "level": {"type": "int", "default": 1},
            "run": {"type": "dict", "options": {"tenant": text, "id": text}},
        },
        required_if=[
            ("measure", "source", ("directory", "database")),
            ("measure", "restore", ("directory", "admin")),
            ("measure", "download", ("link", "bytes_per_second"), True),
        ],
        mutually_exclusive=[("link", "bytes_per_second")],
        supports_check_mode=True,
    )
    try:
        result = _measure(module)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result())
    module.exit_json(**{"changed": False, **result})


def _measure(module: AnsibleModule) -> dict[str, Any]:
    options = module.params
    if options["measure"] == "earlier":
        runs = throughput_earlier.records_of_all_tenants(Path(options["state_directory"]), SystemClock())
        return throughput_earlier.read_runs(runs)
    throughput.must_be_sensible(options["count"], options["sample_bytes"])
    if options["measure"] == "download":
        if options["link"] is None:
            return throughput_download.agreed(options["bytes_per_second"])
        return throughput_download.fetched(
            options["link"],
            run=run_command,
            clock=SystemClock(),
            count=options["count"],
            size=options["sample_bytes"],
            rest=options["rest"],
            limit_seconds=options["limit_seconds"],
            ca_file=Path(options["ca_file"]) if options["ca_file"] else None,
        )
    if not PSYCOPG:
        module.fail_json(msg=missing_required_lib("psycopg (version 3.1 or newer)"))
    names = ("measure", "directory", "count", "sample_bytes", "rest", "limit_seconds", "level")
    own = ("database", "file_trees") if options["measure"] == "source" else ("admin", "shape")
    spec = {name: options[name] for name in (*names, *own)}
    # Check mode leaves no trace: no unit, no record.
    run = None if module.check_mode else options["run"]
    if run is None:
        os.nice(max(0, _NICE - os.nice(0)))
    return execute("throughput", throughput.run, spec, run=run)


if __name__ == "__main__":
    main()
