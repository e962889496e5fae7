"""The two servers of a migration as a plan sees them."""

from __future__ import annotations

from dataclasses import dataclass

from .plan_facts import Facts


@dataclass(frozen=True)
class Servers:
    """What was measured on source and target, and what *provision* will install where nothing is there yet."""

    source: Facts
    target: Facts
    provision: Facts
    tenants: tuple[Facts, ...]
    target_ours: bool | None
