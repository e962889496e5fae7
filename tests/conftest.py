"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# In CI the same examples every time: a change must not fail for an example another change would have met.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
