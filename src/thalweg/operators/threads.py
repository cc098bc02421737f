"""Row blocks on every core: each thread passes over rows of its own and multiplies them by itself.

The threads of BLAS share the work of one product. The products of a block that fits a cache are too small for that, so
that a pass that reads X once, block by block, would run on one core only. On two or three cores this is the quickest
way; on many, two whole products that BLAS shares are, unless X must be converted or comes from a file.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def threads() -> int:
    """How many threads NumPy's products may use now: as many as cores, unless the user has said otherwise."""
    return max((int(pool["num_threads"]) for pool in _blas().info()), default=1)


def in_threads(work: Callable[[T], R], parts: Sequence[T]) -> Iterable[R]:
    """What `work` makes of each part, in their order; the parts run at the same time, each on one core."""
    if len(parts) == 1:
        return [work(parts[0])]
    with _blas().limit(limits=1):
        return list(_pool(len(parts)).map(work, parts))


@functools.cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


@functools.cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="thalweg-rows")


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
