# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of the export on the source: a little of the tenant's own data through the real parts, alone and together, thrown away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, Final

from .bundle_tar import Writer
from .bundle_trees import content
from .bundle_trees import look as look_at_tree
from .clock import Clock
from .database_connection import Address
from .file_trees import FileTree
from .throughput_database import SESSIONS, Piece, SampledDatabase
from .throughput_files import SampledTrees, copy, look
from .throughput_meter import Meter, Samples
from .throughput_pipeline import TREE, Pipeline, add_file, add_tree, chunks_of
from .throughput_scratch import scratch
from .throughput_shape import measure
from .verification_rows import Seeds

Progress = Callable[[dict[str, object]], None]

# Text of rows, of which bytea doubles; the same compressed, encrypted and written; beside it the copied files.
_ON_DISK: Final = 6
# So much of the time that is left may be spent on walking the trees.
_WALK: Final = 0.25


@dataclass(frozen=True)
class SourceOrder:
    """What is wanted.

    :param directory: where the bundle will be made.
    :param database: the tenant's own, as a role that may read all rows. ``trees``: those that move.
    :param count: samples of each part. ``size``: bytes of data in each, at most.
    """

    directory: Path
    database: Address
    trees: tuple[Path, ...]
    count: int
    size: int
    level: int
    rest: float
    limit_seconds: float


def sample_source(order: SourceOrder, clock: Clock, chance: Random, progress: Progress) -> dict[str, Any]:
    """Measure; nothing of it stays.

    :return: ``samples``, ``shape``, ``notes``, and ``walked`` (files and bytes that the walk of the trees saw).
    :raises MigrationError: something could not be measured.
    """
    meter = Meter(clock, rest=order.rest, limit_seconds=order.limit_seconds)
    with scratch(order.directory, _ON_DISK * order.size * order.count) as folder:
        database = SampledDatabase(order.database)
        ends = meter.left() * (1 - _WALK)
        trees = look(order.trees, chance, lambda: meter.left() > ends)
        sampler = _Sampler(order, clock, meter, Pipeline.start(folder, order.level), database, trees)
        start = Fraction(chance.randrange(1 << 20), 1 << 20)
        pieces: list[Piece] = []
        for number in range(order.count):
            progress({"step": "samples", "number": number + 1, "of": order.count})
            sampler.overhead()
            # Evenly between each other, too, so that no two samples read the same.
            pieces = database.pieces(order.size, (start + Fraction(number, order.count)) % 1)
            sampler.rows(pieces)
            sampler.files(pieces, chance)
        shape = measure(database, pieces, (trees.files, trees.size) if trees.size else None)
    return {
        "samples": sampler.samples.found,
        "notes": sampler.notes(),
        "shape": shape.as_result(),
        "walked": {"files": trees.files, "bytes": trees.size, "whole": trees.whole},
    }


@dataclass
class _Sampler:
    order: SourceOrder
    clock: Clock
    meter: Meter
    pipeline: Pipeline
    database: SampledDatabase
    trees: SampledTrees

    def __post_init__(self) -> None:
        self.samples = Samples()
        self._empty = 0.0
        self._rows = 0.0
        self._places = 0

    def overhead(self) -> None:
        """An export of nothing: what programs, sessions and the schema take. It is no part of the other samples."""
        with self.meter.step() as step:
            schema = self.database.dump_schema()
            self.pipeline.whole(lambda writer: writer.add("data/database/toc.dat", len(schema), [schema]))
        with self.meter.step() as empty:
            self.pipeline.whole(lambda _writer: None)
        self._empty = empty.seconds
        self.samples.add_overhead("export", step.seconds)

    def rows(self, pieces: Sequence[Piece]) -> None:
        """One sample of the database. Without a row, the schema is all there is to read, and stands for all of its bytes."""
        amount = float(sum(piece.bytes for piece in pieces)) or float(self.database.bytes)
        place = self._place()
        with self.meter.step() as step:
            read = self._copied(pieces, place)
        self.samples.add("read", "database", amount, step.seconds)
        self._parts("database", amount, read)
        place = self._place()
        with self.meter.step() as step:
            self.pipeline.whole(lambda writer: self._fill(writer, pieces, place))
        self._rows = step.seconds
        self.samples.add("pipeline", "database", amount, step.seconds - self._empty)

    def _fill(self, writer: Writer, pieces: Sequence[Piece], place: Path) -> None:
        """As a bundle is filled with a database: all rows, then their digests, by two sessions each."""
        for number, path in enumerate(self.database.copy(pieces, place, self.meter.left())):
            add_file(writer, number, path)
        seeds, shares = (
            Seeds.draw(),
            [share for share in (pieces[number::SESSIONS] for number in range(SESSIONS)) if share],
        )
        with ThreadPoolExecutor(SESSIONS) as pool:
            for digest in [pool.submit(self.database.digest, share, seeds, self.meter.left()) for share in shares]:
                digest.result()

    def _copied(self, pieces: Sequence[Piece], place: Path) -> list[Path]:
        if pieces:
            return list(self.database.copy(pieces, place, self.meter.left()))
        path = place / "schema"
        path.write_bytes(self.database.dump_schema())
        return [path]

    def files(self, pieces: Sequence[Piece], chance: Random) -> None:
        """One sample of the file trees; none where they hold no byte.

        As in an export, the tree is looked at beside the rows; what both take longer than rows alone is what the files take.
        """
        if not self.trees.size:
            return
        place = self._place()
        tree = place / "tree"
        tree.mkdir()
        with self.meter.step():
            amount, seconds = copy(self.trees.choose(self.order.size, chance), tree, self.clock.monotonic)
        self.samples.add("read", "files", amount, seconds)
        if not amount:
            return
        source = FileTree(TREE, tree, tree, None)
        packed = look_at_tree(source, place)
        tar = place / "tar"
        with tar.open("xb") as file, closing(content(packed)) as chunks:
            file.writelines(chunks)
        self._parts("files", amount, [tar])
        for path in (packed.manifest, packed.names):
            path.unlink()
        rows = self._place()
        with self.meter.step() as step, ThreadPoolExecutor(1) as pool:

            def fill(writer: Writer) -> None:
                looking = pool.submit(look_at_tree, source, place)
                self._fill(writer, pieces, rows)
                add_tree(writer, looking.result())

            self.pipeline.whole(fill)
        self.samples.add("pipeline", "files", amount, step.seconds - self._rows)

    def _parts(self, kind: str, amount: float, read: list[Path]) -> None:
        """Compress, encrypt, write, each alone."""
        with self.meter.step() as step:
            compressed = self.pipeline.compress(chunks_of(read))
        size = compressed.stat().st_size
        self.samples.add("compress", kind, amount, step.seconds, size)
        with self.meter.step() as step:
            encrypted = self.pipeline.encrypt(compressed)
        self.samples.add("encrypt", kind, size, step.seconds)
        with self.meter.step() as step:
            self.pipeline.write(encrypted)
        self.samples.add("write", kind, encrypted.stat().st_size, step.seconds)
        for path in (compressed, encrypted, self.pipeline.folder / "written"):
            path.unlink()

    def _place(self) -> Path:
        """A new folder. It stays until all samples are taken: a file system that tells its disk of what was deleted (mount option discard)
        is slow for a while after thousands of files, and an export deletes few.
        """
        self._places += 1
        place = self.pipeline.folder / f"place-{self._places}"
        place.mkdir(mode=0o700)
        return place

    def notes(self) -> list[str]:
        """What was measured otherwise than usual."""
        said = []
        if not self.database.tables:
            said.append("The database has no row: the samples of the database are of reading its schema.")
        elif self.database.bytes <= self.order.size:
            said.append("The database is no larger than a sample: each sample read all of its rows.")
        if not self.trees.size:
            said.append("The file trees hold no byte: there are no samples of files.")
        elif self.trees.size <= self.order.size and self.trees.whole:
            said.append("The file trees are no larger than a sample.")
        if not self.trees.whole:
            said.append(
                f"The file trees were walked for as long as there was time: {self.trees.files} files were seen, not all."
            )
        return said
