"""Packs the core into one zip that Python imports from: the same content always gives the same bytes. Prints their digest.

Called as: pack.py FOLDER-OF-THE-PACKAGE [FOLDER-FOR-THE-ZIP]
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path


def main(package: Path, folder: Path | None) -> None:
    """Write ``<folder>/core-<digest>.zip``; without a folder only say the digest."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*.py")):
            member = zipfile.ZipInfo(str(path.relative_to(package.parent)), date_time=(2000, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, path.read_bytes())
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    if folder is not None:
        (folder / f"core-{digest}.zip").write_bytes(content.getvalue())
    print(digest)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
