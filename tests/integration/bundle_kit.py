"""Bundles for tests: keys, a bundle of a small tenant, and bundles that are signed but not what they should be."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ireporter import bundle, bundle_signature
from ireporter.bundle_format import BASE, PAYLOAD_MANIFEST, TAG_MANIFEST, TAGS, Paths, Statement, manifest_lines

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "docs/import-by-hand.md").read_text()
MIGRATION = "acme-s-20260101t000000z"
CUT_OFF = "2026-01-01T03:00:00Z"

Members = list[tuple[tarfile.TarInfo, bytes]]


def quiet(_progress: dict[str, object]) -> None:
    """Nobody watches."""


def member(name: str, content: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of an outer tar, in the form bundles have unless ``attributes`` say otherwise."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o600
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


def renewed(members: Members) -> Members:
    """The same bag with manifests and Oxum that fit its members again."""
    contents = {info.name.removeprefix(f"{BASE}/"): content for info, content in members}
    payload = {name: content for name, content in contents.items() if name.startswith("data/")}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in payload.items()}
    contents[PAYLOAD_MANIFEST] = manifest_lines(digests)
    oxum = f"Payload-Oxum: {sum(map(len, payload.values()))}.{len(payload)}\n".encode()
    contents["bag-info.txt"] = b"Bagging-Date: 2026-01-01\n" + oxum
    contents[TAG_MANIFEST] = manifest_lines({name: hashlib.sha256(contents[name]).hexdigest() for name in TAGS})
    return [member(f"{BASE}/{name}", content) for name, content in contents.items()]


def outer_tar(members: Iterable[tuple[tarfile.TarInfo, bytes]], *, pax: bool = False) -> bytes:
    """A tar without tarfile's padding at the end."""
    form = tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    blocks = [
        info.tobuf(form, "utf-8", "surrogateescape") + content + b"\0" * (-len(content) % 512)
        for info, content in members
    ]
    return b"".join(blocks) + b"\0" * 1024


@dataclass
class Kit:
    """Keys of everybody, and where things are."""

    folder: Path
    customer: str
    signer: Path

    @classmethod
    def make(cls, folder: Path) -> Kit:
        for name in ("customer", "stranger"):
            with (folder / name).open("xb") as file:
                subprocess.run(["age-keygen"], stdout=file, stderr=subprocess.DEVNULL, check=True)
        for name in ("signer", "forger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        public = next(line for line in (folder / "customer").read_text().splitlines() if "public key" in line)
        return cls(folder, public.rpartition(" ")[2], folder / "signer")

    @property
    def fingerprint(self) -> str:
        return bundle_signature.fingerprint(self.signer.with_suffix(".pub").read_text())

    def present(
        self, directory: Path, picture: str, trees: list[dict[str, object]], **more: object
    ) -> dict[str, object]:
        """The specification that makes the bundle."""
        return {
            "state": "present", "tenant": "acme", "migration_id": MIGRATION, "directory": str(directory),
            "picture": picture, "file_trees": trees, "cut_off": CUT_OFF, "recipient": self.customer,
            "signing_key": str(self.signer), "readme": README, "versions": {"application": "8.2.26020"}, **more,
        }  # fmt: skip

    def received(self, directory: Path, state: str = "verified", **more: object) -> dict[str, object]:
        """The specification of the customer's side."""
        return {
            "state": state, "tenant": "acme", "path": str(Paths.within(directory, MIGRATION).ciphertext),
            "signer": self.fingerprint, "identity": str(self.folder / "customer"),
            "target": str(directory / "unpacked"), **more,
        }  # fmt: skip

    def run(self, spec: dict[str, object]) -> dict[str, object]:
        return bundle.run(spec, quiet)

    def tar_of(self, directory: Path) -> bytes:
        """What is inside the encryption."""
        path = Paths.within(directory, MIGRATION).ciphertext
        opened = subprocess.run(
            ["age", "--decrypt", "--identity", str(self.folder / "customer"), str(path)],
            capture_output=True,
            check=True,
        )
        return subprocess.run(["zstd", "-dc"], input=opened.stdout, capture_output=True, check=True).stdout

    def members_of(self, directory: Path) -> Members:
        """Every entry of the bundle's outer tar."""
        with tarfile.open(fileobj=io.BytesIO(self.tar_of(directory))) as archive:
            return [(info, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]

    def craft(
        self, directory: Path, tar: bytes, *, recipient: str | None = None, key: str = "signer", **said: object
    ) -> None:
        """A bundle around ``tar``, signed by ``key``; the statement says what is true unless ``said`` says otherwise."""
        packed = subprocess.run(["zstd", "-c"], input=tar, capture_output=True, check=True).stdout
        argv = ["age", "--encrypt", "--recipient", recipient or self.customer]
        ciphertext = subprocess.run(argv, input=packed, capture_output=True, check=True).stdout
        try:
            with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
                contents = {info.name: archive.extractfile(info) for info in archive if info.isreg()}
                tags = contents.get(f"{BASE}/{TAG_MANIFEST}")
                digest = hashlib.sha256(tags.read() if tags else b"").hexdigest()
        except (tarfile.TarError, EOFError):
            digest = "0" * 64
        true = {
            "tenant": "acme", "migration_id": MIGRATION, "cut_off": CUT_OFF, "size": len(ciphertext),
            "unpacked_bytes": 1 << 40, "tag_manifest": digest, "sha256": hashlib.sha256(ciphertext).hexdigest(),
        }  # fmt: skip
        self.put(directory, ciphertext, Statement(**{**true, **said}).render(), key)  # type: ignore[arg-type]

    def put(self, directory: Path, ciphertext: bytes, statement: bytes, key: str = "signer") -> None:
        """The three files."""
        directory.mkdir(exist_ok=True)
        paths = Paths.within(directory, MIGRATION)
        paths.ciphertext.write_bytes(ciphertext)
        paths.statement.write_bytes(statement)
        paths.signature.write_bytes(bundle_signature.sign(self.folder / key, statement))
