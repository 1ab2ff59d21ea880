"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# How long it takes to make an example says something of the machine.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples every time, so that a change is blamed for what it broke and for nothing else.
settings.register_profile("steady", _PATIENT, derandomize=True)
# New ones, and more of them: HYPOTHESIS_PROFILE=explore make unit
settings.register_profile("explore", _PATIENT, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
