"""What an import calls what it makes beside the tenant's database and trees, and what it keeps there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

ASIDE: Final = "import"
BEFORE: Final = "before"
RETURNED: Final = "returned"
_LONGEST_DATABASE: Final = 63
_LONGEST_FILE: Final = 255


def database_name(database: str, kind: str, import_id: str) -> str:
    """``irepodb_before_acme-i-20260101t000000z``, of at most the 63 bytes PostgreSQL keeps of a name."""
    return _fitting(database, f"_{kind}_{import_id}", _LONGEST_DATABASE)


def tree_path(tree: Path, kind: str, import_id: str) -> Path:
    """The same beside the tree, so that a swap is a rename."""
    return tree.with_name(_fitting(tree.name, f"_{kind}_{import_id}", _LONGEST_FILE))


def _fitting(name: str, ending: str, longest: int) -> str:
    whole = name + ending
    if len(whole.encode()) <= longest:
        return whole
    # Cut, it must still be nobody else's.
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    kind = ending.split("_")[1]
    rest = f"_{kind}_{digest}"
    return name.encode()[: longest - len(rest)].decode(errors="ignore") + rest
