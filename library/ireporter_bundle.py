#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_bundle
short_description: Make, verify or unpack the bundle in which a tenant's data travels to a server of the customer
description:
  - A bundle is three files side by side. C(ID.tar.zst.age) is a BagIt bag (RFC 8493) of plainly named files as tar, compressed with zstd,
    encrypted with age. C(ID.tar.zst.age.sha256) is a statement with its digest, tenant and cut-off, which C(sha256sum --check) understands.
    C(ID.tar.zst.age.sha256.sig) is the statement's OpenSSH signature.
  - The bag holds a C(pg_dump) directory that C(pg_restore -j) reads, SQL for the roles that the database names (without passwords) and for
    its settings, a pax tar with a manifest for each file tree, C(migration.json) with versions, counts, digests and what was left out, and
    directions for an import by hand.
  - V(present) makes it from a picture that does not change any more. It is encrypted to O(recipient) and to a key of this run that
    lives in memory only, with which it is read back in full before it is signed. A tar never lies on disk, a table of the dump only
    until it is packed. Beside the bundle, have room for the text form of the largest tables, one for each of O(jobs), and 256 MB.
  - V(verified) checks, where it arrived, the signature against the expected signer, then the ciphertext's digest, then everything inside.
    It changes nothing.
  - V(unpacked) verifies all of it first, then unpacks it into a new folder beside O(target), checks it once more on the way, and
    renames the folder.
  - What a run that was interrupted left is removed by the next one, which begins anew. Nothing half is ever in place.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - age, zstd, tar and OpenSSH's ssh-keygen (8.2 or newer)
  - psycopg >= 3.1, pg_dump of the server's major version and setpriv, for V(present)
  - root, for V(present), and for owners in unpacked file trees
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - For V(unpacked) it verifies. For V(present) it looks for the bundle and checks its options.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
options:
  state:
    description: What is wanted.
    type: str
    choices: [present, verified, unpacked]
    default: present
  tenant:
    description: Name of the tenant whose data the bundle must hold.
    type: str
    required: true
  migration_id:
    description:
      - Id of the migration, which names the files.
      - Required for V(present). For the other states it is optional, then a bundle of another migration is refused.
    type: str
  directory:
    description: Existing folder for the three files. Required for V(present).
    type: path
  picture:
    description:
      - libpq connection string of the frozen picture of the database, as a superuser. Required for V(present).
      - A password in it is refused.
    type: str
  original:
    description:
      - libpq connection string of the tenant's own database, whose owner, grants, settings and roles' settings count. A picture made as a
        template copy has none. Left out, those of O(picture) count.
    type: str
  file_trees:
    description: Staged file trees, which do not change any more.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name within the bundle, of at most 41 small letters, digits, V(-) and V(_).
        type: str
        required: true
      path:
        description: Absolute path of the folder.
        type: path
        required: true
      licence_file:
        description: Path within the tree of the licence, which belongs to a server and is left out.
        type: str
  webdav:
    description: Folders whose files are left out (R09). They are counted, and the count stands in the bundle.
    type: list
    elements: path
    default: []
  cut_off:
    description:
      - Instant of the picture in UTC, like V(2026-01-01T00:00:00Z). What was written later is not in the bundle. Required for V(present).
    type: str
  recipient:
    description:
      - The customer's public key, of age (C(age1...)) or OpenSSH (C(ssh-ed25519 ...)). Required for V(present).
      - It is not shown, because a private key may be given by mistake.
    type: str
  signing_key:
    description:
      - Path of the private OpenSSH key that signs, without a passphrase, on the host the module runs on. Required for V(present).
    type: path
  readme:
    description: Text of the directions for an import by hand (C(docs/import-by-hand.md) of this project). Required for V(present).
    type: str
  versions:
    description: Versions of whatever made the data, for C(migration.json). That of PostgreSQL is added.
    type: dict
    default: {}
  accounts_query:
    description: Statement that counts user accounts, for C(migration.json). An import counts them, too, and compares.
    type: str
  jobs:
    description: Sessions that read the database.
    type: int
    default: 2
  level:
    description: Level of zstd.
    type: int
    default: 1
  path:
    description: Path of C(ID.tar.zst.age), the other two files beside it. Required for V(verified) and V(unpacked).
    type: path
  signer:
    description:
      - Public key or fingerprint (C(SHA256:...)) of the sender, from a source other than the bundle's. Required for V(verified) and V(unpacked).
    type: str
  identity:
    description:
      - Path of the customer's private key, of age or OpenSSH, without a passphrase. Required for V(verified) and V(unpacked).
    type: path
  target:
    description:
      - Folder that will hold the bag as C(ireporter-bundle). It must not exist, or hold exactly this bundle. Required for V(unpacked).
    type: path
  trees:
    description: Also unpack each file tree below C(file-trees) in O(target).
    type: bool
    default: false
  run:
    description: Do the work in a systemd unit of this migration, which outlives the connection of the controller.
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
- name: The bundle of a picture
  ireporter_bundle:
    tenant: acme
    migration_id: acme-s-20260101t000000z
    directory: /var/lib/ireporter-delivery/acme
    picture: host=/var/run/postgresql user=postgres dbname=irepodb_acme_picture
    original: host=/var/run/postgresql user=postgres dbname=irepodb_acme
    file_trees:
      - name: output
        path: /srv/ireporter-staging/acme/output
    cut_off: "2026-01-01T03:00:00Z"
    recipient: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
    signing_key: /etc/ireporter-migration/bundle-signing-key
    readme: "{{ lookup('ansible.builtin.file', 'docs/import-by-hand.md') }}"
    run:
      tenant: acme
      id: acme-s-20260101t000000z

- name: Is it ours, whole, and readable?
  ireporter_bundle:
    state: verified
    tenant: acme
    path: /srv/import/acme-s-20260101t000000z.tar.zst.age
    signer: SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpKZIDTMczCvj3tD2s
    identity: /root/identity.txt

- name: Unpack it
  ireporter_bundle:
    state: unpacked
    tenant: acme
    path: /srv/import/acme-s-20260101t000000z.tar.zst.age
    signer: SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpKZIDTMczCvj3tD2s
    identity: /root/identity.txt
    target: /srv/import/acme
    trees: true
"""

RETURN = r"""
path:
  description: Path of the ciphertext.
  returned: success, but for a bundle that check mode would make
  type: str
statement:
  description: Path of the signed statement.
  returned: as RV(path)
  type: str
signature:
  description: Path of its signature.
  returned: as RV(path)
  type: str
tenant:
  description: Whose data it is.
  returned: as RV(path)
  type: str
migration_id:
  description: Of which migration.
  returned: as RV(path)
  type: str
cut_off:
  description: Instant of the picture, UTC.
  returned: as RV(path)
  type: str
bytes:
  description: Size of the ciphertext.
  returned: as RV(path)
  type: int
unpacked_bytes:
  description: Size of what is inside.
  returned: as RV(path)
  type: int
sha256:
  description: Digest of the ciphertext.
  returned: as RV(path)
  type: str
tables:
  description: Number of tables and filled materialised views.
  returned: when it was made or read through
  type: int
rows:
  description: Number of their rows.
  returned: as RV(tables)
  type: int
files:
  description: Number of files in the file trees.
  returned: as RV(tables)
  type: int
file_bytes:
  description: Their size.
  returned: as RV(tables)
  type: int
entries:
  description: Number of files, folders and links in the file trees.
  returned: when it was read through with the customer's identity
  type: int
members:
  description: Number of files in the bag.
  returned: as RV(tables)
  type: int
left_out:
  description: What is not in the bundle, as C(what), C(reason), C(count), and where it applies C(bytes) or C(names).
  returned: as RV(tables)
  type: list
  elements: dict
versions:
  description: Versions of PostgreSQL and of what else made the data.
  returned: as RV(entries)
  type: dict
unencrypted_bytes_on_disk:
  description: The most bytes of the dump that lay on disk at a time.
  returned: when it was made
  type: int
seconds:
  description: Duration.
  returned: success
  type: float
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.ireporter import bundle
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.recipient_key import recipient
from ansible.module_utils.ireporter.unit import execute

try:
    import psycopg  # noqa: F401 - what makes bundles needs it; where they are only received it may be missing

    PSYCOPG = True
except ImportError:
    PSYCOPG = False

_PRESENT = ("migration_id", "directory", "picture", "cut_off", "recipient", "signing_key", "readme")
_RECEIVED = ("path", "signer", "identity")


def main() -> None:
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "verified", "unpacked"], "default": "present"},
            "tenant": text,
            "migration_id": {"type": "str"},
            "directory": {"type": "path"},
            "picture": {"type": "str"},
            "original": {"type": "str"},
            "file_trees": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": text,
                    "path": {"type": "path", "required": True},
                    "licence_file": {"type": "str"},
                },
            },
            "webdav": {"type": "list", "elements": "path", "default": []},
            "cut_off": {"type": "str"},
            "recipient": {"type": "str", "no_log": True},
            # Paths, not secrets: what is in the files never leaves them.
            "signing_key": {"type": "path", "no_log": False},
            "readme": {"type": "str"},
            "versions": {"type": "dict", "default": {}},
            "accounts_query": {"type": "str"},
            "jobs": {"type": "int", "default": 2},
            "level": {"type": "int", "default": 1},
            "path": {"type": "path"},
            "signer": {"type": "str"},
            "identity": {"type": "path"},
            "target": {"type": "path"},
            "trees": {"type": "bool", "default": False},
            "run": {"type": "dict", "options": {"tenant": text, "id": text}},
        },
        required_if=[
            ("state", "present", _PRESENT),
            ("state", "verified", _RECEIVED),
            ("state", "unpacked", (*_RECEIVED, "target")),
        ],
        supports_check_mode=True,
    )
    options = dict(module.params)
    run = options.pop("run")
    if options["state"] == "present" and not PSYCOPG:
        module.fail_json(msg=missing_required_lib("psycopg (version 3.1 or newer)"))
    try:
        if options["state"] == "present":
            # A private key, given by mistake, must not get into the files of the unit.
            options["recipient"] = recipient(options["recipient"]).text
        # Check mode leaves no trace: no unit, no record.
        spec = {**options, "check": module.check_mode}
        result = execute("bundle", bundle.run, spec, run=None if module.check_mode else run)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result(), **getattr(error, "figures", {}))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
