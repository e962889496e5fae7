"""A finished bundle once more, from disk: its digest, and at the same time what is inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from .bundle_encryption import Identity, decrypted
from .bundle_format import content_error
from .bundle_verify import digest_of
from .errors import MigrationError

Result = TypeVar("Result")


def read_back(ciphertext: Path, key: Identity, written: tuple[str, int], read: Callable[[IO[bytes]], Result]) -> Result:
    """What ``read`` makes of the content.

    The digest is taken beside the decryption, because one thread keeps one processor busy; a wrong digest counts before whatever
    ``read`` met. (Who receives a bundle does not do so: there nothing is decrypted before the checksum was right.)

    :param written: SHA-256 and size, as they were when it was written.
    :raises MigrationError: it is not what was written (check ``bundle-content``).
    """
    with ciphertext.open("rb") as file, ciphertext.open("rb") as again, ThreadPoolExecutor(1) as pool:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        digest = pool.submit(digest_of, file)
        try:
            with decrypted(again, key) as stream:
                result = read(stream)
        except MigrationError:
            _must_be(digest.result(), written)
            raise
        _must_be(digest.result(), written)
    return result


def _must_be(found: tuple[str, int], written: tuple[str, int]) -> None:
    if found != written:
        raise content_error("The bundle on disk is not what was written")
