"""What a bundle is made of: the names of its files and members, and the signed statement that vouches for its ciphertext.

A bundle is three files side by side::

    acme-s-20260101t000000z.tar.zst.age              a BagIt bag (RFC 8493): tar, then zstd, then age
    acme-s-20260101t000000z.tar.zst.age.sha256       the statement
    acme-s-20260101t000000z.tar.zst.age.sha256.sig   its OpenSSH signature (ssh-keygen -Y)

The statement is text that ``sha256sum --check`` understands, whose comments say what the ciphertext is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import MigrationError

FORMAT_VERSION: Final = 1
BASE: Final = "ireporter-bundle"
"""The one folder in the tar, which is the bag."""
NAMESPACE: Final = "ireporter-bundle@ireporter-migration"
"""Of the signature: one made for anything else does not count."""

BAGIT: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
PAYLOAD_MANIFEST: Final = "manifest-sha256.txt"
TAG_MANIFEST: Final = "tagmanifest-sha256.txt"
TAGS: Final = ("bagit.txt", "bag-info.txt", PAYLOAD_MANIFEST)
"""What the tag manifest lists."""
ABOUT: Final = "data/migration.json"
ROLES: Final = "data/database-roles.sql"
CREATION: Final = "data/database-create.sql"
SETTINGS: Final = "data/database-settings.sql"
README: Final = "data/README.md"
CONTENTS: Final = "data/database/toc.dat"
REQUIRED: Final = frozenset({*TAGS, TAG_MANIFEST, ABOUT, ROLES, CREATION, SETTINGS, README, CONTENTS})

_TREE: Final = r"[a-z0-9][a-z0-9_-]{0,40}"
_MEMBER: Final = re.compile(
    rf"data/database/(?:toc\.dat|\d{{1,10}}\.dat|blob_\d{{1,10}}\.dat|blobs(?:_\d{{1,10}})?\.toc)|data/files/{_TREE}\.(?:tar|jsonl)",
    re.ASCII,
)
_TREE_NAME: Final = re.compile(_TREE)
_IDENTIFIER: Final = r"[a-z0-9][a-z0-9-]{0,80}"
_STATEMENT: Final = re.compile(
    rf"""# ireporter-bundle (?P<version>\d+)
# tenant: (?P<tenant>{_IDENTIFIER})
# migration: (?P<migration_id>{_IDENTIFIER})
# cut-off: (?P<cut_off>\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ)
# bytes: (?P<size>\d{{1,18}})
# bytes when unpacked: (?P<unpacked_bytes>\d{{1,18}})
# {re.escape(TAG_MANIFEST)}: (?P<tag_manifest>[0-9a-f]{{64}})
(?P<sha256>[0-9a-f]{{64}})  (?P=migration_id)\.tar\.zst\.age
"""
)
_VERSION: Final = re.compile(r"# ireporter-bundle (\d{1,9})\n")


@dataclass(frozen=True)
class Paths:
    """The three files of a bundle."""

    ciphertext: Path
    statement: Path
    signature: Path

    @classmethod
    def within(cls, directory: Path, migration_id: str) -> Paths:
        return cls.beside(directory / f"{migration_id}.tar.zst.age")

    @classmethod
    def beside(cls, ciphertext: Path) -> Paths:
        statement = ciphertext.with_name(f"{ciphertext.name}.sha256")
        return cls(ciphertext, statement, statement.with_name(f"{statement.name}.sig"))


@dataclass(frozen=True)
class Statement:
    """What the signer says about a ciphertext.

    :param cut_off: UTC; cloud data written later is not in the bundle.
    :param size: bytes of the ciphertext.
    :param unpacked_bytes: sum of the sizes of all members.
    :param tag_manifest: SHA-256 of the bag's tag manifest, through which it covers every byte of the bag.
    :param sha256: of the ciphertext.
    """

    tenant: str
    migration_id: str
    cut_off: str
    size: int
    unpacked_bytes: int
    tag_manifest: str
    sha256: str

    def render(self) -> bytes:
        """The statement's only form."""
        return (
            f"# ireporter-bundle {FORMAT_VERSION}\n# tenant: {self.tenant}\n# migration: {self.migration_id}\n"
            f"# cut-off: {self.cut_off}\n# bytes: {self.size}\n# bytes when unpacked: {self.unpacked_bytes}\n"
            f"# {TAG_MANIFEST}: {self.tag_manifest}\n{self.sha256}  {self.migration_id}.tar.zst.age\n"
        ).encode()

    @classmethod
    def parse(cls, raw: bytes) -> Statement:
        """The inverse of :meth:`render`, for statements whose signature was found good.

        :raises MigrationError: of another format version (check ``bundle-format``), or no statement (``bundle-statement``).
        """
        text = raw.decode("ascii", errors="replace")
        refuse_version(_VERSION.match(text))
        found = _STATEMENT.fullmatch(text)
        if found is None:
            raise MigrationError(
                "The signed statement is not one of a bundle",
                check="bundle-statement",
                action="Ask the sender for the three files of the bundle once more",
            )
        return cls(
            found["tenant"],
            found["migration_id"],
            found["cut_off"],
            int(found["size"]),
            int(found["unpacked_bytes"]),
            found["tag_manifest"],
            found["sha256"],
        )


def refuse_version(found: re.Match[str] | None) -> None:
    """
    :raises MigrationError: the match's first group is another format version than ours (check ``bundle-format``).
    """
    if found is None or int(found[1]) == FORMAT_VERSION:
        return
    older = int(found[1]) < FORMAT_VERSION
    raise MigrationError(
        f"The bundle has format {found[1]}, {'older' if older else 'newer'} than the format {FORMAT_VERSION} of these tools",
        check="bundle-format",
        action="Ask the sender for an export made with the present tools" if older else "Install newer migration tools",
    )


def tree_members(tree: str) -> tuple[str, str]:
    """Names of a tree's manifest and of its tar, in the order in which they come."""
    if not _TREE_NAME.fullmatch(tree):
        raise MigrationError(
            f"{tree!r} cannot name a file tree in a bundle",
            check="file-trees",
            action="Use at most 41 small letters, digits, - and _",
        )
    return f"data/files/{tree}.jsonl", f"data/files/{tree}.tar"


def tree_of(member: str) -> str:
    """The inverse of :func:`tree_members`."""
    return member.removeprefix("data/files/").rpartition(".")[0]


def is_member(name: str) -> bool:
    """Whether a bag of ours may have a file of this name (relative to the bag)."""
    return name in REQUIRED or _MEMBER.fullmatch(name) is not None


def manifest_lines(digests: dict[str, str]) -> bytes:
    """A BagIt manifest. Our names need no escaping."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def parse_manifest(raw: bytes, what: str) -> dict[str, str]:
    """The inverse of :func:`manifest_lines`: exactly its form, so that no name can hide.

    :raises MigrationError: anything else (check ``bundle-content``).
    """
    digests: dict[str, str] = {}
    for line in raw.decode("ascii", errors="replace").splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or not re.fullmatch(r"[0-9a-f]{64}", digest) or not is_member(name):
            raise content_error(f"{what} has a line that lists no member of a bundle")
        digests[name] = digest
    if manifest_lines(digests) != raw:
        raise content_error(f"{what} is not in the form in which bundles have it")
    return digests


def content_error(happened: str) -> MigrationError:
    """What is inside the encryption is not what a bundle holds."""
    return MigrationError(
        happened, check="bundle-content", action="Unpack nothing of it and ask the sender for a new export"
    )
