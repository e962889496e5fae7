"""The manifest as another server gets it: whole or not at all, and nothing but what the words allow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ireporter import file_manifest_command
from ireporter.lease import boot_identity


def test_lines_have_a_head_and_an_end(tmp_path: Path) -> None:
    (tmp_path / "new\nline").write_text("x")
    head, *entries, end = [json.loads(line) for line in file_manifest_command.lines(tmp_path)]
    assert head == {"root": str(tmp_path), "format": 1}
    assert end == {"end": str(tmp_path), "entries": len(entries)}
    assert json.loads(next(file_manifest_command.lines(tmp_path, versions=True)))["boot"] == boot_identity()
    assert entries[1]["path"] == "new\nline"
    assert len(entries[1]["sha256"]) == 64


def forced(root: Path, word: str, given: bytes = b"") -> bytes:
    """What the channel's manifest key answers to ``word``, with ``given`` on its standard input."""
    core = Path(file_manifest_command.__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-m", "ireporter", "manifest", root],
        env={**os.environ, "PYTHONPATH": str(core), "SSH_ORIGINAL_COMMAND": word},
        input=given,
        capture_output=True,
        check=True,
    ).stdout


def test_the_forced_command_ignores_all_but_its_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    words = [("without-content", False), ("/etc/shadow", True), ("", True), ("read", True), ("known", True)]
    for word, hashed in [*words, ("remembered", True)]:
        answer = forced(tmp_path, word)
        assert (b"sha256" in answer) is hashed
        assert (b"version" in answer) is (word == "remembered")
        assert b"shadow" not in answer


def test_the_forced_command_reads_what_is_known_only_when_it_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    seen = (tmp_path / "file").stat()
    version = [seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns]
    line = json.dumps(["file", {"sha256": "told"}, None, version])
    known, before = (
        f"{json.dumps({'root': str(tmp_path), 'boot': boot})}\n{line}\n".encode()
        for boot in (boot_identity(), "before")
    )
    assert b'"told"' not in forced(tmp_path, "known", before)
    for word, told in (("known", True), ("remembered", True), ("read", False), ("", False)):
        assert (b'"told"' in forced(tmp_path, word, known)) is told
    (tmp_path / "file").write_text("y")
    assert b'"told"' not in forced(tmp_path, "known", known)


def test_no_folder_is_an_error_not_an_empty_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert file_manifest_command.main([str(tmp_path / "absent")]) == 1
    assert "file-tree" in capsys.readouterr().err
