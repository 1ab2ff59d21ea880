"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples every time, so that a change is blamed for what it broke and for nothing else.
settings.register_profile("steady", derandomize=True, deadline=None)
# New ones, and more of them: HYPOTHESIS_PROFILE=explore make unit
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
