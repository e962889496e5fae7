"""Names that NTFS, i-Reporter's usual home, cannot hold: each with a replacement that is free in its folder."""

from __future__ import annotations

import re
from typing import Final

from .file_manifest import Text, to_text

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file: characters, ends, and names of devices (with any ending).
_FORBIDDEN: Final = re.compile(r'[\x00-\x1f<>:"\\|?*%]')
_DEVICES: Final = re.compile(
    r"(?:CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³]|CONIN\$|CONOUT\$) *(?:\..*)?", re.IGNORECASE | re.DOTALL
)
_LONGEST: Final = 255


class Names:
    """Looks at the paths of one tree in their order (:func:`file_manifest.order`) and collects what has to be renamed."""

    def __init__(self) -> None:
        # Of the folders above the present path: which names, without regard to case, are in use.
        self._folders: list[tuple[bytes, str, set[str]]] = []
        self.found: list[dict[str, Text]] = []

    def look(self, path: bytes) -> None:
        """Take note of the next path; a listed replacement includes those of the folders above."""
        if path == b".":
            return
        above, _, name = path.rpartition(b"/")
        while self._folders and self._folders[-1][0] != above:
            self._folders.pop()
        if not self._folders:
            # The root, or a folder whose own line is still to come: it has none here.
            self._folders.append((above, above.decode(errors="replace"), set()))
        _path, replaced_above, used = self._folders[-1]
        replacement = _free(_allowed(name), used)
        used.add(replacement.casefold())
        whole = f"{replaced_above}/{replacement}" if replaced_above else replacement
        if os_name(name) != replacement:
            self.found.append({"path": to_text(path), "replacement": whole})
        self._folders.append((path, whole, set()))


def os_name(name: bytes) -> str | None:
    """The name as NTFS would hold it, or ``None`` where it is no text at all."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None


def _allowed(name: bytes) -> str:
    """``name`` where NTFS can hold it; else what it cannot is written as %XX of its bytes."""
    text = name.decode(errors="surrogateescape")
    unfit = (
        os_name(name) is None
        or any(character != "%" for character in _FORBIDDEN.findall(text))
        or text.endswith((" ", "."))
        or _DEVICES.fullmatch(text)
    )
    if unfit:
        text = _FORBIDDEN.sub(lambda found: f"%{ord(found[0]):02X}", text)
        text = "".join(
            f"%{ord(character) - 0xDC00:02X}" if 0xDC80 <= ord(character) <= 0xDCFF else character for character in text
        )
        if text.endswith((" ", ".")):
            text = f"{text[:-1]}%{ord(text[-1]):02X}"
        if _DEVICES.fullmatch(text):
            text = f"_{text}"
    return _cut(text, _LONGEST)


def _free(text: str, used: set[str]) -> str:
    """``text``, or with a number where another name of the folder differs in case only."""
    candidate, number = text, 1
    while candidate.casefold() in used:
        number += 1
        stem, dot, ending = text.rpartition(".")
        if not stem:
            stem, dot, ending = text, "", ""
        candidate = f"{_cut(stem, _LONGEST - 12)}~{number}{dot}{_cut(ending, 8)}"
    return candidate


def _cut(text: str, units: int) -> str:
    """At most ``units`` UTF-16 code units, which NTFS counts."""
    return text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", errors="ignore")
