"""Interleaved timing: the runs of all contestants take turns, so that a drifting machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved_medians(contestants: Mapping[str, Callable[[], object]], repeats: int = 7) -> dict[str, float]:
    """The median wall-clock seconds of each contestant over `repeats` rounds, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for counted in range(repeats + 1):
        for name, run in contestants.items():
            began = time.perf_counter()
            run()
            if counted:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}
