"""What a site may set about planning, with the values used where it sets nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from .errors import MigrationError
from .known_names import refuse_unknown


@dataclass(frozen=True)
class PlanSettings:
    """Bytes are bytes, times are seconds, throughputs are per second.

    The throughputs are cautious figures for one server with two cores; a site's own run records have better ones. The factors say how much room
    a dump needs of its database, and a bundle of what is in it (both in bytes per byte): PDFs and photos do not shrink.
    """

    accounts_threshold: int = 100
    clock_skew_seconds: float = 5.0
    ntp_required: bool = True
    certificate_margin_days: float = 30.0
    disk_margin_percent: float = 20.0
    backup_factor: float = 1.0
    database_bytes_per_second: float = 40e6
    file_bytes_per_second: float = 40e6
    files_per_second: float = 2000.0
    verification_bytes_per_second: float = 80e6
    fixed_seconds: float = 60.0
    picture_bytes_per_second: float = 200e6
    dump_factor: float = 1.0
    bundle_factor: float = 1.0
    estimate_factor: float = 1.5

    @classmethod
    def read(cls, given: Mapping[str, object]) -> PlanSettings:
        """From the operator's settings.

        :raises MigrationError: an unknown name (the nearest known one is said), or a value of the wrong kind.
        """
        known = {field.name: field.default for field in fields(cls)}
        refuse_unknown(given, known, what="the plan", check="plan-settings")
        for name, value in given.items():
            if isinstance(known[name], bool):
                fits = isinstance(value, bool)
            else:
                fits = (
                    isinstance(value, int | float)
                    and not isinstance(value, bool)
                    and math.isfinite(value)
                    and value >= 0
                )
                if fits and (name.endswith("_per_second") or name == "estimate_factor"):
                    fits = float(str(value)) > 0
            if not fits:
                raise MigrationError(
                    f"The setting {name} of the plan is {value!r}",
                    check="plan-settings",
                    action=f"Set {name} to a value like {known[name]}",
                )
        return cls(**given)  # type: ignore[arg-type]  # names and kinds were checked just above
