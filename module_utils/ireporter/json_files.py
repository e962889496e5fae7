"""JSON files, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from .whole_files import write_whole


def write_json(path: Path, content: object, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace ``path`` atomically. ``durable``: on disk, name included, before this returns."""
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
    write_whole(path, f"{text}\n".encode(), mode=mode, durable=durable)


def read_json(path: Path) -> object | None:
    """The content, or ``None`` where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def read_json_if_whole(path: Path) -> object | None:
    """The content, or ``None`` also where it is empty or no JSON: for what is written anew soon, and must never keep anybody away."""
    try:
        return read_json(path)
    except ValueError:
        return None
