"""X as a Dask array: each step is one task for each block of rows, wherever Dask runs them.

The blocks are asked for anew in every step, so that X may be larger than all memory; `X.persist()` keeps them. What a
cluster sends back is the residual and, once summed over the blocks on the workers, one vector of d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.arrays import check_magnitude, empty, not_finite
from thalweg.errors import InputError
from thalweg.operators.base import Operator, Vector

_SUMMED = 8  # vectors in one task, which makes the sum a tree that is always the same


class DaskRows(Operator):
    """A real, two-dimensional `dask.array.Array` whose chunks have known sizes."""

    kind = "a Dask array"

    def __init__(self, X: Any, name: str = "X") -> None:
        if X.ndim != 2:
            raise InputError(f"{name} must have two dimensions (examples in rows), but has {X.ndim}.")
        if np.isnan(X.shape).any():
            raise InputError(
                f"{name} is a Dask array of unknown size; call {name}.compute_chunk_sizes() first, which reads it once."
            )
        if X.dtype.kind not in "biuf":
            raise InputError(
                f"{name} must hold real numbers, but its type is {X.dtype}; convert it with astype(float)."
            )
        if 0 in X.shape:
            raise empty(name, X.shape)
        self.X, self.shape = X, (int(X.shape[0]), int(X.shape[1]))
        by_rows = X.rechunk({1: -1})
        heights = by_rows.chunks[0]
        ends = np.cumsum(heights).tolist()
        used = [place for place, height in enumerate(heights) if height]
        delayed = by_rows.to_delayed().ravel()
        self._blocks = [delayed[place] for place in used]
        self._parts = [slice(ends[place] - heights[place], ends[place]) for place in used]
        self._check(name)

    def _forth(self, v: Vector) -> Vector:
        return np.concatenate(self._compute(_block_forth, [_sent(v)] * len(self._parts)))

    def _back(self, u: Vector) -> Vector:
        import dask

        (result,) = dask.compute(_tree(self._tasks(_block_back, [_sent(u[part]) for part in self._parts])))
        return np.array(result)

    def _both(self, v: Vector, subtract: Vector) -> tuple[Vector, Vector]:
        import dask

        there = _sent(v)
        both = self._tasks(_block_both, [there] * len(self._parts), [_sent(subtract[part]) for part in self._parts])
        r, Xt_r = dask.compute([pair[0] for pair in both], _tree([pair[1] for pair in both]))
        return np.concatenate(r), np.array(Xt_r)

    def _tasks(self, function: Any, *arguments: Sequence[Any]) -> list[Any]:
        import dask

        task = dask.delayed(function, pure=False)
        return [task(block, *given) for block, *given in zip(self._blocks, *arguments, strict=True)]

    def _compute(self, function: Any, *arguments: Sequence[Any]) -> list[Any]:
        import dask

        return list(dask.compute(*self._tasks(function, *arguments)))

    def _check(self, name: str) -> None:
        found = self._compute(_block_peak)
        for part, (peak, bad, value) in zip(self._parts, found, strict=True):
            if not np.isfinite(peak):
                raise not_finite(value, f"{name}[{part.start + bad[0]}, {bad[1]}]")
        check_magnitude(max(peak for peak, _, _ in found), name)

    def _fetched(self) -> Any:
        from thalweg.arrays import checked_matrix

        return checked_matrix(self.X.compute())


def _of(block: Any) -> Operator:
    """A block as an operator, whatever it is made of."""
    from thalweg.operators import as_operator

    return as_operator(block)


def _block_both(block: Any, v: Vector, subtract: Vector) -> tuple[Vector, Vector]:
    return _of(block).sweep(v, subtract)


def _block_forth(block: Any, v: Vector) -> Vector:
    return _of(block).matvec(v)


def _block_back(block: Any, u: Vector) -> Vector:
    return _of(block).rmatvec(u)


def _block_peak(block: Any) -> tuple[float, tuple[int, int], float]:
    """The largest magnitude of a block; where it is not finite, the place and the value of the first such entry."""
    dense = block.toarray() if hasattr(block, "toarray") else np.asarray(block)
    peak = float(np.abs(dense).max())
    if np.isfinite(peak):
        return peak, (0, 0), peak
    row, column = (int(index) for index in np.argwhere(~np.isfinite(dense))[0])
    return peak, (row, column), float(dense[row, column])


def _tree(parts: list[Any]) -> Any:
    """The sum of delayed vectors, few at a time."""
    import dask

    add = dask.delayed(sum, pure=False)
    while len(parts) > 1:
        parts = [add(parts[first : first + _SUMMED]) for first in range(0, len(parts), _SUMMED)]
    return parts[0]


def _sent(vector: Vector) -> Any:
    """A vector as tasks can take it; on a cluster it goes to the workers directly, not through the scheduler."""
    import dask

    client: Any = getattr(dask.base.get_scheduler(), "__self__", None)
    if hasattr(client, "scatter"):
        return client.scatter(vector)
    return dask.delayed(vector, pure=False)
