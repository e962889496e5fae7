"""An estimate said in plain words, for the operator who has to answer for it."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from .estimate_samples import ON_BUNDLE, OVERHEAD
from .estimate_time import Estimate, Span


def explanation(found: Estimate) -> list[str]:
    """Sentences, in the order of the thought: data, parts, which run together, what earlier migrations teach, the total."""
    data = found.data
    said = [
        f"{gigabytes(data.data_bytes)} are to be moved: {gigabytes(data.database_bytes)} of database "
        f"and {gigabytes(data.file_bytes)} in {len(data.trees)} file trees (R03)."
    ]
    if data.left_behind:
        named = ", ".join(f"{tree.name} ({gigabytes(tree.size)})" for tree in data.left_behind)
        said.append(f"WebDAV files stay behind and take no time: {named} (R09).")
    said.append(
        f"The bundle is expected to have {gigabytes(found.bundle_bytes)}."
        if found.bundle_bytes != data.data_bytes
        else "No saving by compression is assumed: the bundle is counted as large as the data."
    )
    for part in found.parts:
        what = "of the bundle" if part.name in ON_BUNDLE else "of the data"
        amount = f"{gigabytes(part.amount)} {what}, " if part.amount else ""
        of = f" ({part.phase})" if part.name == OVERHEAD and part.phase else ""
        said.append(f"{part.name}{of}: {amount}{_range(part.span)} from {part.samples} samples.")
    together = [" and ".join(group) for group in found.flow if len(group) > 1]
    if together:
        said.append(f"At the same time run {'; '.join(together)}: only the slowest of them counts.")
    for phase, correction in found.corrections.items():
        low, likely, high = (f"{float(value):.2f}" for value in _values(correction))
        said.append(
            f"{found.earlier[phase]} earlier {phase}{'s' if found.earlier[phase] > 1 else ''} took {low} to {high} times what samples had said, "
            f"{likely} in the middle: {_range(found.of_phase(phase))} become {_range(found.of_phase(phase).times(correction))}."
        )
    if not found.corrections:
        said.append("No earlier migration is known, so the estimate is what the samples say.")
    said.append(f"Together the migration takes {_range(found.total)}.")
    return said


def gigabytes(size: int) -> str:
    """Decimal gigabytes, with enough digits for small ones."""
    return f"{size / 1e9:,.2f} GB" if size >= 10_000_000 or size == 0 else f"{size / 1e9:.6f} GB"


def duration(seconds: int) -> str:
    """``3 h 20 min``; seconds only below ten minutes."""
    if seconds < 600:
        return f"{seconds} s"
    minutes = ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def _range(span: Span) -> str:
    low, likely, high = (duration(ceil(value)) for value in _values(span))
    return f"about {likely} ({low} to {high})"


def _values(span: Span) -> tuple[Fraction, Fraction, Fraction]:
    return span.low, span.likely, span.high
