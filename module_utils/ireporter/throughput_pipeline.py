# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of an export, each alone and all together, on files that lie there: the same programs and classes that make bundles."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from .bundle_encryption import Encrypted, Identity, make_key, require_programs, said
from .bundle_format import tree_members
from .bundle_places import create, sync_folder
from .bundle_read_back import read_back
from .bundle_tar import READ_BYTES, Writer, members
from .bundle_tree_check import check_tree
from .bundle_trees import Packed, content
from .errors import MigrationError
from .estimate_samples import CHECK

ZSTD_THREADS: Final = 2
TREE: Final = "sample"


@dataclass(frozen=True)
class Pipeline:
    """
    :param folder: ours, on the disk of the bundle.
    :param key: to which samples are encrypted, in this process only. ``public``: its other half.
    :param level: of zstd.
    """

    folder: Path
    key: Identity
    public: str
    level: int = 1

    @classmethod
    def start(cls, folder: Path, level: int) -> Pipeline:
        """With a key of its own.

        :raises MigrationError: a program is missing (check ``server-programs``).
        """
        require_programs("age", "age-keygen", "zstd", "tar", "setpriv")
        key, public = make_key()
        return cls(folder, key, public, level)

    def compress(self, chunks: Iterable[bytes]) -> Path:
        """By zstd alone, into a file."""
        target = self.folder / "compressed"
        with target.open("xb") as output, tempfile.TemporaryFile() as errors:
            argv = ["zstd", "--quiet", f"-{self.level}", f"--threads={ZSTD_THREADS}", "--stdout"]
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=output, stderr=errors, env=_environment(), bufsize=0
            )
            assert process.stdin is not None  # noqa: S101 - tells mypy what PIPE means
            try:
                with process.stdin:
                    for chunk in chunks:
                        left = memoryview(chunk)
                        while left:
                            left = left[process.stdin.write(left) or 0 :]
            except BrokenPipeError as error:
                raise _failed("zstd", said(errors)) from error
            finally:
                process.wait()
            if process.returncode != 0:
                raise _failed("zstd", said(errors))
        return target

    def encrypt(self, source: Path) -> Path:
        """By age alone, into a file."""
        target = self.folder / "encrypted"
        with source.open("rb") as given, target.open("xb") as output, tempfile.TemporaryFile() as errors:
            argv = ["age", "--encrypt", "--recipient", self.public]
            status = subprocess.run(
                argv, stdin=given, stdout=output, stderr=errors, env=_environment(), check=False
            ).returncode
            if status != 0:
                raise _failed("age", said(errors))
        return target

    def write(self, source: Path) -> None:
        """As a bundle is written: into a new file, on disk before it counts."""
        target = self.folder / "written"
        with source.open("rb") as given, create(target, buffering=0) as output:
            while chunk := given.read(READ_BYTES):
                left = memoryview(chunk)
                while left:
                    left = left[output.write(left) :]
            os.fsync(output.fileno())
        sync_folder(self.folder)

    def whole(self, fill: Callable[[Writer], None]) -> int:
        """A tar of what ``fill`` adds, through all parts at once, then read back in full; bytes of the ciphertext."""
        path = self.folder / "bundle"
        pipeline = Encrypted(path, (self.public, self.public), level=self.level, threads=ZSTD_THREADS)
        try:
            writer = Writer(pipeline, 0, _nobody)
            fill(writer)
            writer.end()
            pipeline.close()
        except BaseException:
            pipeline.abort()
            raise
        found = read_back(path, self.key, (pipeline.sha256, pipeline.size), self._look_into)
        if found != writer.digests:
            raise _failed("The pipeline", "what was read back is not what was written")
        path.unlink()
        return pipeline.size

    def _look_into(self, stream: IO[bytes]) -> dict[str, str]:
        digests = {}
        with tempfile.TemporaryFile(dir=self.folder) as manifest:
            for member in members(stream, None):
                if member.name.endswith(".jsonl"):
                    for chunk in member.chunks():
                        manifest.write(chunk)
                elif member.name.endswith(".tar"):
                    manifest.seek(0)
                    check_tree(TREE, member, manifest)
                digests[member.name] = member.sha256()
        return digests


def add_file(writer: Writer, number: int, path: Path) -> None:
    """A table's file, as it goes into a bundle and disappears."""
    writer.add(f"data/database/{number}.dat", path.stat().st_size, chunks_of([path]))
    path.unlink()


def add_tree(writer: Writer, packed: Packed) -> None:
    """A file tree, as it goes into a bundle."""
    manifest, tar = tree_members(packed.tree.name)
    writer.add(manifest, packed.manifest.stat().st_size, chunks_of([packed.manifest]))
    with closing(content(packed)) as chunks:
        writer.add(tar, packed.tar_bytes, chunks)


def chunks_of(paths: Iterable[Path]) -> Iterator[bytes]:
    """The content of files, one after the other."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(READ_BYTES):
                yield chunk


def _nobody(_size: int) -> None:
    """Nobody watches the bytes of a sample."""


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _failed(name: str, why: str) -> MigrationError:
    return MigrationError(
        f"{name} failed while a sample was taken: {why}", check=CHECK, action="Mend the cause, then measure again"
    )
