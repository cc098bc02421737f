"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine and its other users, not about the code. In CI the same
# examples are tried each time, so that a failure there can be repeated; elsewhere every run tries new ones.
settings.register_profile(
    "thalweg", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("thalweg")
