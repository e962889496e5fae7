"""The stream around a bundle's tar: zstd and age, by their programs. A run's own key lives in this process's memory only."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from .bundle_format import content_error
from .bundle_places import create
from .errors import MigrationError

_READ_BYTES: Final = 1 << 20
_WRITE_EVERY_BYTES: Final = 32 << 20
_F_SETPIPE_SZ: Final = 1031
_PACKAGES: Final = {
    "age": "age",
    "age-keygen": "age",
    "curl": "curl",
    "zstd": "zstd",
    "tar": "tar",
    "setpriv": "util-linux",
}


def require_programs(*names: str) -> None:
    """
    :raises MigrationError: one is not installed (check ``server-programs``).
    """
    for name in names:
        if shutil.which(name) is None:
            raise MigrationError(
                f"The program {name} is not installed here",
                check="server-programs",
                action=f"Install the package {_PACKAGES.get(name, name)}",
            )


@dataclass(frozen=True)
class Identity:
    """What opens a bundle: the customer's file, or a key in memory.

    :param secret: handed to age through a pipe, never as an argument, environment variable or file.
    """

    path: Path | None = None
    secret: bytes | None = field(default=None, repr=False)


def make_key() -> tuple[Identity, str]:
    """A key for this run, and its public half."""
    require_programs("age-keygen")
    made = subprocess.run(
        ["age-keygen"], capture_output=True, check=False, stdin=subprocess.DEVNULL, env=_environment()
    )
    public = re.search(rb"^# public key: (age1[a-z0-9]+)$", made.stdout, re.MULTILINE)
    if made.returncode != 0 or public is None:
        raise _failed("age-keygen", f"exit status {made.returncode}")
    return Identity(secret=made.stdout), public[1].decode()


class Encrypted:
    """``write`` goes through zstd and age into ``path``, whose digest and size are known after :meth:`close`.

    :param recipients: public keys, each of which can open it.
    :param level: of zstd.
    """

    def __init__(self, path: Path, recipients: Sequence[str], *, level: int = 1, threads: int = 2) -> None:
        require_programs("zstd", "age")
        self.sha256 = ""
        self.size = 0
        self._path = path
        self._failure: BaseException | None = None
        self._errors = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - closed by _drop()
        options = [word for key in recipients for word in ("--recipient", key)]
        self._zstd = subprocess.Popen(
            ["zstd", "--quiet", f"-{level}", f"--threads={threads}", "--stdout"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors[0],
            env=_environment(),
        )
        self._age = subprocess.Popen(
            ["age", "--encrypt", *options],
            stdin=self._zstd.stdout,
            stdout=subprocess.PIPE,
            stderr=self._errors[1],
            env=_environment(),
        )
        assert self._zstd.stdin is not None and self._zstd.stdout is not None  # noqa: S101 - tells mypy what PIPE means
        widen(self._zstd.stdin, self._zstd.stdout, self._age.stdout)
        self._zstd.stdout.close()
        self._input = self._zstd.stdin
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """
        :raises MigrationError: what comes after failed.
        """
        try:
            self._input.write(data)
        except BrokenPipeError:
            self._give_up()

    def close(self) -> None:
        """Wait until everything is on disk.

        :raises OSError: it is not.
        :raises MigrationError: a program failed.
        """
        try:
            self._input.close()
        except BrokenPipeError:
            self._give_up()
        self._thread.join()
        if self._failure is not None or self._zstd.wait() != 0 or self._age.wait() != 0:
            self._give_up()
        self._drop()

    def abort(self) -> None:
        """End the programs; what was written is worth nothing."""
        for process in (self._zstd, self._age):
            process.kill()
            process.wait()
        self._thread.join()
        with suppress(BrokenPipeError):
            self._input.close()
        self._drop()

    def _keep(self) -> None:
        try:
            assert self._age.stdout is not None  # noqa: S101
            digest = hashlib.sha256()
            with create(self._path, buffering=0) as file:
                begun = 0
                while chunk := self._age.stdout.read(_READ_BYTES):
                    digest.update(chunk)
                    left = memoryview(chunk)
                    while left:
                        left = left[file.write(left) :]
                    self.size += len(chunk)
                    # On its way to the disk meanwhile, instead of all of it at the end. Linux begins to write what is not needed; to
                    # sync a part would make neighbours wait, because it commits the file system's journal.
                    if self.size - begun >= _WRITE_EVERY_BYTES:
                        os.posix_fadvise(file.fileno(), begun, self.size - begun, os.POSIX_FADV_DONTNEED)
                        begun = self.size
                os.fsync(file.fileno())
            self.sha256 = digest.hexdigest()
        except BaseException as error:  # raised again by the thread that writes
            self._failure = error
            self._age.kill()
            self._zstd.kill()

    def _give_up(self) -> None:
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        for name, process, errors in zip(("zstd", "age"), (self._zstd, self._age), self._errors, strict=True):
            if process.wait() > 0:
                raise _failed(name, said(errors))
        raise _failed("zstd or age", "it was ended from outside")

    def _drop(self) -> None:
        assert self._age.stdout is not None  # noqa: S101
        self._age.stdout.close()
        for errors in self._errors:
            errors.close()


@contextmanager
def decrypted(source: IO[bytes], identity: Identity) -> Iterator[IO[bytes]]:
    """What :class:`Encrypted` was given, out of ``source`` (read from where it stands).

    Both programs must have ended well when the block is left, or what was read is not whole.

    :raises MigrationError: it cannot be opened with this identity (check ``bundle-recipient``), or is damaged (``bundle-content``).
    """
    require_programs("zstd", "age")
    if identity.path is not None and not os.access(identity.path, os.R_OK):
        raise _useless_identity(f"{identity.path} cannot be read")
    with (
        tempfile.TemporaryFile() as age_errors,
        tempfile.TemporaryFile() as zstd_errors,
        _handed(identity) as (path, files),
    ):
        age = subprocess.Popen(
            ["age", "--decrypt", "--identity", path],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=age_errors,
            pass_fds=files,
            # Without a terminal, a passphrase is an error instead of a question nobody sees.
            start_new_session=True,
            env=_environment(),
        )
        zstd = subprocess.Popen(
            ["zstd", "--quiet", "--decompress", "--stdout"],
            stdin=age.stdout,
            stdout=subprocess.PIPE,
            stderr=zstd_errors,
            env=_environment(),
        )
        assert age.stdout is not None and zstd.stdout is not None  # noqa: S101
        widen(age.stdout, zstd.stdout)
        age.stdout.close()
        try:
            with zstd.stdout:
                yield zstd.stdout
        except MigrationError:
            # What the reader met first is often the consequence of what age or zstd say.
            for process in (age, zstd):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
            _judge(age, zstd, age_errors, zstd_errors)
            raise
        finally:
            for process in (age, zstd):
                if process.poll() is None:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=5)
                if process.poll() is None:
                    process.kill()
                process.wait()
        _judge(age, zstd, age_errors, zstd_errors)
        if age.returncode or zstd.returncode:
            raise _ended_from_outside()


def _judge(
    age: subprocess.Popen[bytes], zstd: subprocess.Popen[bytes], age_errors: IO[bytes], zstd_errors: IO[bytes]
) -> None:
    if age.poll() is not None and (age.returncode or 0) > 0:
        complaint = said(age_errors)
        if "no identity matched" in complaint or "incorrect" in complaint:
            raise MigrationError(
                "The bundle is encrypted to another recipient: this identity does not open it",
                check="bundle-recipient",
                action="Use the private key that belongs to the public key given for the export",
            )
        if "identit" in complaint or "passphrase" in complaint:
            raise _useless_identity(complaint)
        raise content_error(f"The bundle cannot be decrypted: {complaint}")
    # SIGPIPE is what they get when we stop reading.
    if any((process.poll() or 0) < 0 and process.returncode != -signal.SIGPIPE for process in (age, zstd)):
        raise _ended_from_outside()
    if zstd.poll() is not None and (zstd.returncode or 0) > 0:
        raise content_error(f"The bundle cannot be decompressed: {said(zstd_errors)}")


def _ended_from_outside() -> MigrationError:
    """No word about the bundle: it may be good."""
    return MigrationError(
        "age or zstd was ended from outside while the bundle was read",
        check="bundle-incomplete",
        action="Look for the cause (too little memory, for instance), then run again",
    )


def _useless_identity(why: str) -> MigrationError:
    return MigrationError(
        f"The identity cannot be used: {why}",
        check="bundle-identity",
        action="Name the file with your private key, of age or OpenSSH, without a passphrase",
    )


@contextmanager
def _handed(identity: Identity) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A path under which age finds the identity, and the descriptors it has to inherit for that."""
    if identity.secret is None:
        yield str(identity.path), ()
        return
    reading, writing = os.pipe()
    try:
        os.write(writing, identity.secret)
        os.close(writing)
        yield f"/dev/fd/{reading}", (reading,)
    finally:
        os.close(reading)


def widen(*pipes: IO[bytes] | None) -> None:
    """Larger pipes, fewer switches between the programs; the system may not allow it."""
    import fcntl  # noqa: PLC0415 - Unix only, as everything that runs programs here

    for pipe in pipes:
        with suppress(OSError):
            assert pipe is not None  # noqa: S101
            fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, 1 << 20)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def said(errors: IO[bytes]) -> str:
    """What a program wrote to standard error, as one line."""
    errors.seek(0)
    lines = errors.read(4000).decode(errors="backslashreplace").splitlines()
    return "; ".join(line.strip() for line in lines if line.strip() and "report unexpected" not in line) or "nothing"


def _failed(name: str, why: str) -> MigrationError:
    return MigrationError(
        f"{name} failed while the bundle was made: {why}",
        check="bundle-incomplete",
        action="Mend the cause and run again: the bundle is made anew",
    )
