"""X as a JAX array or a PyTorch tensor: products happen on the device it lives on, vectors come and go.

Values of lower precision are multiplied in float64, block by block, except on devices that have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from thalweg.arrays import check_magnitude, empty, not_finite
from thalweg.errors import InputError
from thalweg.operators.base import Operator, Vector

_BLOCK_ON_HOST = 1 << 18  # entries of a block of rows: on a CPU what fits a cache,
_BLOCK_ON_DEVICE = 1 << 22  # on an accelerator what keeps it busy


class _Device(Operator):
    """What the two libraries have in common: rows that can be sliced."""

    stored = True

    def __init__(self, X: Any, name: str, on_host: bool) -> None:
        if X.ndim != 2:
            raise InputError(f"{name} must have two dimensions (examples in rows), but has shape {tuple(X.shape)}.")
        if 0 in X.shape:
            raise empty(name, tuple(X.shape))
        self.X, self.shape = X, (int(X.shape[0]), int(X.shape[1]))
        self._rows = max(1, (_BLOCK_ON_HOST if on_host else _BLOCK_ON_DEVICE) // self.shape[1])
        largest = 0.0
        for part in self._parts():
            peak = self._peak(part)
            if not np.isfinite(peak):
                block = self._on_host(part)
                row, column = (int(index) for index in np.argwhere(~np.isfinite(block))[0])
                raise not_finite(block[row, column], f"{name}[{part.start + row}, {column}]")
            largest = max(largest, peak)
        check_magnitude(largest, name)

    def _parts(self) -> Iterator[slice]:
        for first in range(0, self.shape[0], self._rows):
            yield slice(first, min(first + self._rows, self.shape[0]))

    def _peak(self, part: slice) -> float:
        """The largest magnitude in some rows; NaN where one is."""
        raise NotImplementedError

    def _on_host(self, part: slice) -> Any:
        """Some rows as a NumPy array of float32 or float64."""
        raise NotImplementedError

    def _fetched(self) -> Any:
        return self._on_host(slice(0, self.shape[0]))


class TorchTensor(_Device):
    """A dense, real `torch.Tensor` on any device."""

    kind = "a tensor"

    def __init__(self, X: Any, name: str = "X") -> None:
        import torch

        if X.layout != torch.strided or X.is_complex() or X.is_quantized:
            raise InputError(
                f"{name} must be a dense tensor of real numbers, but it is {X.layout} of {X.dtype}; pass a sparse one "
                "as a SciPy sparse matrix."
            )
        if X.device.type == "meta":
            raise InputError(f"{name} is on PyTorch's meta device, so it has no values; move it to a real one.")
        self._torch = torch
        single = X.device.type == "mps"  # which has no float64
        self._dtype = torch.float32 if single else torch.float64
        if single:
            self.epsilon = float(np.finfo(np.float32).eps)
        super().__init__(X.detach(), name, on_host=X.device.type == "cpu")

    def _peak(self, part: slice) -> float:
        return float(self._block(part).abs().max())

    def _on_host(self, part: slice) -> Any:
        keep = self.X.dtype == self._torch.float32
        return self.X[part].to("cpu", self._torch.float32 if keep else self._torch.float64).numpy()

    def _there(self, vector: Vector) -> Any:
        return self._torch.tensor(vector, dtype=self._dtype, device=self.X.device)

    def _forth(self, v: Vector) -> Vector:
        there = self._there(v)
        return self._home(self._torch.cat([self._block(part) @ there for part in self._parts()]))

    def _back(self, u: Vector) -> Vector:
        there = self._there(u)
        return self._home(sum(self._block(part).T @ there[part] for part in self._parts()))

    def _both(self, v: Vector, subtract: Vector) -> tuple[Vector, Vector]:
        there, r = self._there(v), -self._there(subtract)
        Xt_r = self._torch.zeros_like(there)
        for part in self._parts():
            block = self._block(part)
            r[part] += block @ there
            Xt_r += block.T @ r[part]
        return self._home(r), self._home(Xt_r)

    def _block(self, part: slice) -> Any:
        return self.X[part].to(self._dtype)

    @staticmethod
    def _home(vector: Any) -> Vector:
        return np.asarray(vector.cpu().numpy(), dtype=np.float64)


class JaxArray(_Device):
    """A real `jax.Array` on any device, or spread over several."""

    kind = "a JAX array"

    def __init__(self, X: Any, name: str = "X") -> None:
        import jax
        import jax.numpy as jnp

        if isinstance(X, jax.core.Tracer):
            raise InputError(
                f"{name} is being traced by JAX and has no values yet; call thalweg outside of jit and grad."
            )
        if not (jnp.issubdtype(X.dtype, jnp.floating) or jnp.issubdtype(X.dtype, jnp.integer) or X.dtype == bool):
            raise InputError(f"{name} must hold real numbers, but its type is {X.dtype}.")
        if isinstance(X.sharding, jax.sharding.NamedSharding):
            # Where the axes are explicit JAX would ask how each product is to be spread; here it may choose.
            mesh = jax.sharding.Mesh(X.sharding.mesh.devices, X.sharding.mesh.axis_names)
            X = jax.device_put(X, jax.sharding.NamedSharding(mesh, X.sharding.spec))
        devices = list(X.devices())
        super().__init__(X, name, on_host=devices[0].platform == "cpu")
        if len(devices) > 1 or X.dtype == np.float64:  # each device keeps its share; there is nothing to convert
            self._rows = self.shape[0]

    def _peak(self, part: slice) -> float:
        import jax

        with jax.enable_x64(True):
            return float(_compiled().peak(self.X, part.start, part.stop - part.start))

    def _on_host(self, part: slice) -> Any:
        block = np.asarray(self.X[part])
        return block if block.dtype == np.float32 else block.astype(np.float64)

    def _forth(self, v: Vector) -> Vector:
        product, _ = self._over_blocks(lambda run, first, rows: (run.forth(self.X, v, first, rows), 0.0))
        return product

    def _back(self, u: Vector) -> Vector:
        _, product = self._over_blocks(lambda run, first, rows: (u[:0], run.back(self.X, u, first, rows)))
        return product

    def _both(self, v: Vector, subtract: Vector) -> tuple[Vector, Vector]:
        return self._over_blocks(lambda run, first, rows: run.both(self.X, v, subtract, first, rows))

    def _over_blocks(self, step: Callable[[_Compiled, int, int], tuple[Any, Any]]) -> tuple[Vector, Vector]:
        """What blocks of rows give, one after the other, and the sum of what else they give."""
        import jax
        import jax.numpy as jnp

        with jax.enable_x64(True):
            done = [step(_compiled(), part.start, part.stop - part.start) for part in self._parts()]
            rows, sums = zip(*done, strict=True)
            # Copies, because what JAX hands out cannot be written to.
            return np.array(jnp.concatenate(rows)), np.array(sum(sums))


class _Compiled(NamedTuple):
    """Functions of X, `(n, d)`, vectors, and which rows: the first of them and how many."""

    peak: Callable[..., Any]
    forth: Callable[..., Any]
    back: Callable[..., Any]
    both: Callable[..., Any]


@cache
def _compiled() -> _Compiled:
    import jax
    import jax.numpy as jnp

    def part(values: Any, first: Any, rows: int) -> Any:
        if rows == values.shape[0]:
            return values
        return jax.lax.dynamic_slice_in_dim(values, first, rows)

    def block(X: Any, first: Any, rows: int) -> Any:
        return part(X, first, rows).astype(jnp.float64)

    def peak(X: Any, first: Any, rows: int) -> Any:
        return jnp.max(jnp.abs(block(X, first, rows)))

    def forth(X: Any, v: Any, first: Any, rows: int) -> Any:
        return block(X, first, rows) @ v

    def back(X: Any, u: Any, first: Any, rows: int) -> Any:
        return part(u, first, rows) @ block(X, first, rows)

    def both(X: Any, v: Any, subtract: Any, first: Any, rows: int) -> Any:
        values = block(X, first, rows)
        r = values @ v - part(subtract, first, rows)
        return r, r @ values

    return _Compiled(*(jax.jit(function, static_argnames="rows") for function in (peak, forth, back, both)))
