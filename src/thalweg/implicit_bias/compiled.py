"""Many optimizers and many seeds in one compiled run: the literal rules, traced by JAX.

The rules are those of `rules`, and the batches those that the literal runs draw from the same seeds, so that a
compiled run is the literal one up to rounding. All seeds of an optimizer step together; optimizers take turns on the
cores, or share one product with a batch where that is large.

    >>> from thalweg.implicit_bias.trajectories import prepared
    >>> problem = LeastSquares([[1.0, 2.0]], [3.0])
    >>> runs = [prepared(problem, name) for name in ("gd", "adagrad")]
    >>> [trajectory.w.round(6).tolist() for trajectory in run_together(problem, runs)]
    [[0.6, 1.2], [1.0, 1.0]]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import InputError
from thalweg.implicit_bias.rules import OptaxTransformation
from thalweg.implicit_bias.trajectories import End, Optimizer, Precision, Settled, Trajectory, drawn_batches
from thalweg.least_squares import LeastSquares, Vector

_LONGEST_CHUNK = 1000  # steps between two looks, where the machine can be interrupted
_ROWS_AT_ONCE = 1 << 22  # of batches held in memory
_IN_CACHE = 1 << 16  # numbers that a core keeps at hand


def run_together(
    problem: LeastSquares,
    optimizers: Sequence[Optimizer],
    seeds: Sequence[int] = (0,),
    *,
    steps: int = 20_000,
    start: ArrayLike | None = None,
    precision: Precision = "float64",
    progress: Callable[[int], None] | None = None,
) -> Iterator[Trajectory]:
    """Run optimizers until each has arrived, or the budget of steps ends, all of them in one compiled loop.

    Runs are looked at, and their losses noted, at every step at first and every hundredth part of the way later, so
    that one may go on for a while after it has arrived.

    Args:
        problem: what to minimise; X is held densely.
        optimizers: prepared ones, with rates.
        seeds: of the random batches; an optimizer that sees all examples at every step runs once.
        steps: the budget, at least 1.
        start: the first weights, `(d,)`; zeros for None.
        precision: of weights, data and states in the loop.
        progress: called with the number of steps done, from time to time.

    Yields:
        the runs, the seeds of one optimizer after the other.

    Raises:
        InputError: an Optax transformation cannot take a step on these weights.
        KeyboardInterrupt: after the runs have been yielded as far as they came, where Ctrl-C was pressed meanwhile.
    """
    groups = _groups(problem, optimizers, seeds, problem.start(start), precision)
    interrupted = _run(problem, groups, steps, precision, progress)
    for optimizer in optimizers:
        if interrupted and len(groups[0].steps) == 1:
            break  # nothing has been done yet
        group, place = next(
            (group, place) for group in groups for place, member in enumerate(group.optimizers) if member is optimizer
        )
        yield from group.trajectories(place)
    if interrupted:
        raise KeyboardInterrupt


def _groups(
    problem: LeastSquares, optimizers: Sequence[Optimizer], seeds: Sequence[int], w0: Vector, precision: Precision
) -> list[_Group]:
    """The optimizers by the batches that they see."""
    members: dict[tuple[int | None, bool], list[Optimizer]] = {}
    for optimizer in optimizers:
        members.setdefault((optimizer.batch, optimizer.replacement and optimizer.batch is not None), []).append(
            optimizer
        )
    return [
        _Group(problem, together, seeds if batch is not None else (None,), w0, precision)
        for (batch, _), together in members.items()
    ]


class _Group:
    """Optimizers that share their batches, each with all seeds, and what has been noted of their runs.

    Args:
        problem: what they minimise.
        optimizers: with the same size and kind of batches.
        seeds: of their batches; `(None,)` where every step sees all examples.
        w0: the first weights, `(d,)`.
        precision: their arithmetic.
    """

    def __init__(
        self,
        problem: LeastSquares,
        optimizers: Sequence[Optimizer],
        seeds: Sequence[int | None],
        w0: Vector,
        precision: Precision,
    ) -> None:
        self.problem, self.optimizers, self.seeds, self.w0, self.precision = problem, optimizers, seeds, w0, precision
        first = optimizers[0]
        shape = (len(seeds), len(optimizers))
        self.W = np.broadcast_to(w0, (*shape, problem.d))
        self.ends_W = np.array(self.W)
        self.running = np.ones(shape, dtype=bool)
        self.ended = np.full(shape, "budget", dtype=object)
        self.last_note = np.zeros(shape, dtype=int)
        self.steps: list[int] = []
        self.losses: list[NDArray[np.float64]] = []
        self.path: list[NDArray[np.float64]] = []
        self.looked = -problem.n
        self.looks_every = 1 if first.batch is None else -(-problem.n // first.batch)
        self.settled = [Settled(problem, optimizer, float(np.finfo(precision).eps)) for optimizer in optimizers]
        self.size = problem.n if first.batch is None else first.batch
        at_once = max(1, min(_LONGEST_CHUNK, _ROWS_AT_ONCE // (len(seeds) * self.size)))
        self.sources = [
            drawn_batches(problem.n, first.batch, first.replacement, np.random.default_rng(seed), at_once)
            for seed in seeds
            if first.batch is not None
        ]
        self.drawn = np.empty((0, len(seeds), self.size), dtype=np.intp)

    def batches(self, count: int) -> NDArray[np.intp] | None:
        """The rows of the next steps, `(count, seeds, size)`, -1 for none; None where every step sees all."""
        if not self.sources:
            return None
        while len(self.drawn) < count:
            self.drawn = np.concatenate([self.drawn, np.stack([next(source) for source in self.sources], axis=1)])
        taken, self.drawn = self.drawn[:count], self.drawn[count:]
        return taken

    def rates(self, first: int, count: int, steps: int) -> NDArray[np.float64]:
        """The rates of the next steps, `(count, optimizers)`."""
        at = np.arange(first, first + count)[:, None]
        start = np.array([optimizer.rate or 1.0 for optimizer in self.optimizers])
        decay = np.array([optimizer.final_rate ** (1 / steps) for optimizer in self.optimizers])
        rates: NDArray[np.float64] = start * decay**at
        return rates

    def look(self, W: NDArray[np.float64], step: int) -> None:
        """Note the losses at the weights `(seeds, optimizers, d)` after a step, and which of the runs have ended."""
        X, t, n, l2 = self.problem.X, self.problem.t, self.problem.n, self.problem.l2
        self.W = W
        with np.errstate(over="ignore", invalid="ignore"):
            residual = np.asarray(W.reshape(-1, self.problem.d) @ X.T).reshape(*W.shape[:-1], n) - t
            squares = np.vecdot(residual, residual)
            overflown = ~np.isfinite(squares)
            self.losses.append(np.where(overflown, np.inf, squares / n + l2 * np.vecdot(W, W)))
            arrived = np.zeros_like(overflown)
            if step - self.looked >= self.looks_every:
                self.looked = step
                for place, settled in enumerate(self.settled):
                    arrived[:, place] = settled(W[:, place], residual[:, place])
        self.steps.append(step)
        if self.problem.d == 2:
            self.path.append(W)
        self.ended[self.running & arrived] = "settled"
        self.ended[self.running & overflown] = "overflow"
        self.ends_W[self.running] = W[self.running]
        self.last_note[self.running] = len(self.steps)
        self.running &= ~(arrived | overflown)

    def interrupt(self) -> None:
        """End what is still running where it is."""
        self.ended[self.running] = "interrupted"

    def trajectories(self, place: int) -> Iterator[Trajectory]:
        """The runs of one optimizer, one for each seed."""
        for row, seed in enumerate(self.seeds):
            notes = slice(self.last_note[row, place])
            steps = np.array(self.steps[notes])
            end: End = self.ended[row, place]
            yield Trajectory(
                optimizer=self.optimizers[place],
                seed=seed,
                w0=self.w0,
                w=self.ends_W[row, place],
                steps=int(steps[-1]),
                ended=end,
                loss_steps=steps,
                losses=np.array([noted[row, place] for noted in self.losses[notes]]),
                path=np.array([W[row, place] for W in self.path[notes]]) if self.path else None,
                precision=self.precision,
            )


def _run(
    problem: LeastSquares,
    groups: Sequence[_Group],
    steps: int,
    precision: Precision,
    progress: Callable[[int], None] | None,
) -> bool:
    """Run all groups to their ends, or until somebody presses Ctrl-C; whether somebody did."""
    import jax

    # The local context, and never the global configuration: other JAX code of the caller keeps its own precision.
    with jax.enable_x64(precision == "float64"), ThreadPoolExecutor(_cores()) as threads:
        step = 0
        try:
            for group in groups:
                group.look(np.array(group.W), 0)
            loop = _Loop(problem, groups, steps, precision)
            while True:
                if progress is not None:
                    progress(step)
                if step == steps or not any(group.running.any() for group in groups):
                    return False
                count = min(max(1, step // 100), loop.longest, steps - step)
                W = loop.advance(step, count, threads)
                step += count
                for group, weights in zip(groups, W, strict=True):
                    if group.running.any():
                        group.look(weights, step)
        except KeyboardInterrupt:
            for group in groups:
                group.interrupt()
            return True


class _Loop:
    """The compiled loops: some steps of all groups in one call, spread over the cores."""

    def __init__(self, problem: LeastSquares, groups: Sequence[_Group], steps: int, precision: Precision) -> None:
        import jax
        import jax.numpy as jnp

        self.groups, self.steps, self.precision = groups, steps, precision
        drawn = sum(len(group.seeds) * group.size for group in groups if group.sources) or 1
        self.longest = max(1, min(-(-steps // 100), _LONGEST_CHUNK, _ROWS_AT_ONCE // drawn))
        dense = np.asarray(problem.X.toarray() if hasattr(problem.X, "toarray") else problem.X)
        # The last row, of zeros, stands for the examples that the last batch of a pass lacks.
        self.X = jnp.asarray(np.vstack([dense, np.zeros(problem.d, dense.dtype)]), precision)
        self.t = jnp.asarray(np.append(problem.t, 0.0), precision)
        on_cores = jax.default_backend() == "cpu"
        lanes = [
            _Lane(problem, group, number, places, precision)
            for number, group in enumerate(groups)
            for places in (_apart(group) if on_cores else [list(range(len(group.optimizers)))])
        ]
        cores = _cores() if on_cores else 1
        self.shares = [_Share(lanes[first::cores], precision) for first in range(min(cores, len(lanes)))]

    def advance(self, first: int, count: int, threads: ThreadPoolExecutor) -> list[NDArray[np.float64]]:
        """Take steps in everything that is still running; the weights after them, `(seeds, optimizers, d)` each."""
        batches: list[Any] = []
        rates = []
        for group in self.groups:
            rates.append(_padded(group.rates(first, count, self.steps), self.longest).astype(self.precision))
            rows = group.batches(count) if group.running.any() else group.drawn[:0]
            if rows is None or not group.sources:
                batches.append(None)
                continue
            weights = 2 / np.maximum(1, np.sum(rows[:, 0] >= 0, axis=-1))  # passes are as long for every seed
            rows = np.where(rows >= 0, rows, len(self.X) - 1).astype(np.int32)
            batches.append((_padded(rows, self.longest), _padded(weights, self.longest).astype(self.precision)))
        list(threads.map(lambda share: share.advance(self.X, self.t, batches, rates, count), self.shares))
        found = [np.empty(group.W.shape) for group in self.groups]
        for share in self.shares:
            for lane in share.lanes:
                found[lane.number][:, lane.places] = lane.W
        return found


class _Share:
    """What one core does of a loop: some of the lanes, compiled together.

    Args:
        lanes: whose turn comes in this order.
        precision: their arithmetic.
    """

    def __init__(self, lanes: Sequence[_Lane], precision: Precision) -> None:
        import jax

        self.lanes, self.precision = lanes, precision

        @jax.jit
        def advance(carries: Any, X: Any, t: Any, batches: Any, rates: Any, counts: Any) -> Any:
            return [
                lane.run(carry, X, t, batches[lane.number], rates[lane.number], counts[place])
                for place, (lane, carry) in enumerate(zip(lanes, carries, strict=True))
            ]

        self._advance = advance

    def advance(self, X: Any, t: Any, batches: Any, rates: Any, count: int) -> None:
        """Take steps in every lane that is still running, in the thread that calls."""
        import jax

        counts = [count * lane.runs for lane in self.lanes]
        if not any(counts):
            return
        with jax.enable_x64(self.precision == "float64"):  # which is the calling thread's own
            carries = self._advance([lane.carry for lane in self.lanes], X, t, batches, rates, counts)
        for lane, carry in zip(self.lanes, carries, strict=True):
            lane.carry, lane.W = carry, np.asarray(carry[0], dtype=np.float64)  # which waits for them


class _Lane:
    """Optimizers of one group that share one product with each batch, in a loop of their own.

    Args:
        problem: what they minimise.
        group: whose optimizers they are.
        number: of the group.
        places: of the optimizers in the group.
        precision: their arithmetic.
    """

    def __init__(
        self, problem: LeastSquares, group: _Group, number: int, places: list[int], precision: Precision
    ) -> None:
        import jax.numpy as jnp

        self.group, self.number, self.places = group, number, places
        self.n, self.l2 = problem.n, problem.l2
        optimizers = [group.optimizers[place] for place in places]
        self.steps = [_step(optimizer) for optimizer in optimizers]
        states = [_first_state(optimizer, len(group.seeds), problem.d) for optimizer in optimizers]
        self.W = group.W[:, places]
        self.carry: Any = (jnp.asarray(self.W, precision), states)

    @property
    def runs(self) -> bool:
        """Whether any of its runs has not ended."""
        return bool(self.group.running[:, self.places].any())

    def run(self, carry: Any, X: Any, t: Any, batches: Any, rates: Any, count: Any) -> Any:
        """The weights `(seeds, optimizers, d)` and the states after some steps; traced by JAX."""
        import jax
        import jax.numpy as jnp

        whole = X[None, :-1], t[None, :-1], 2 / self.n
        rates = rates[:, np.array(self.places)]

        def step(i: Any, carry: Any) -> Any:
            W, states = carry
            X_B, t_B, weight = whole if batches is None else (X[batches[0][i]], t[batches[0][i]], batches[1][i])
            residual = jnp.einsum("sod,sbd->sob", W, X_B) - t_B[:, None]
            gradient: Any = weight * jnp.einsum("sob,sbd->sod", residual, X_B)
            if self.l2:
                gradient = gradient + 2 * self.l2 * W

            def loss(residual: Any, w: Any) -> Any:
                return weight / 2 * (residual @ residual) + self.l2 * (w @ w)

            taken = [
                one(W[:, place], gradient[:, place], state, rates[i, place], X_B, t_B, loss)
                for place, (one, state) in enumerate(zip(self.steps, states, strict=True))
            ]
            return jnp.stack([after for after, _ in taken], axis=1), [state for _, state in taken]

        return jax.lax.fori_loop(0, count, step, carry)


def _step(optimizer: Optimizer) -> Callable[..., Any]:
    """One step of all seeds of an optimizer, from weights, gradients, states, rate, batches and a residual's loss."""
    import jax

    rule = optimizer.rule
    if not isinstance(rule, OptaxTransformation):
        own = jax.vmap(rule.step, in_axes=(0, 0, 0, None))
        return lambda W, gradient, state, rate, X_B, t_B, loss: own(W, gradient, state, rate)

    def foreign(W: Any, gradient: Any, state: Any, rate: Any, X_B: Any, t_B: Any, loss: Any) -> Any:
        def one(w: Any, g: Any, s: Any, X_b: Any, t_b: Any) -> Any:
            change, after = rule.change_on(w, g, s, lambda at: loss(X_b @ at - t_b, at))
            return w + change, after

        return jax.vmap(one)(W, gradient, state, X_B, t_B)

    return foreign


def _apart(group: _Group) -> list[list[int]]:
    """The optimizers of a group by the loop that they are in: one for each, or one for all.

    Many seeds of small batches are fastest in loops of their own, whose weights stay where they are in the cache and
    which can run on several cores. One product for all is better for a single seed, whose steps cost little but their
    calls, and for batches too large for the cache.
    """
    places = list(range(len(group.optimizers)))
    if len(group.seeds) > 1 and len(group.seeds) * group.size * group.problem.d <= _IN_CACHE:
        return [[place] for place in places]
    return [places]


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _padded(values: NDArray[Any], length: int) -> NDArray[Any]:
    """The values with zeros after them, so that every call has the same shapes and one compilation serves all."""
    return np.concatenate([values, np.zeros((length - len(values), *values.shape[1:]), values.dtype)])


def _first_state(optimizer: Optimizer, seeds: int, d: int) -> Any:
    """The state before the first step, for every seed; a foreign transformation is tried out on the way."""
    import jax
    import jax.numpy as jnp

    rule = optimizer.rule

    def begin(_: Any) -> Any:
        return jax.tree.map(jnp.asarray, rule.begin(d))

    if isinstance(rule, OptaxTransformation):
        w: Any = jnp.zeros(d)
        try:
            change: Any = jax.eval_shape(lambda: rule.change_on(w, w, rule.begin(d), lambda at: at @ at))[0]
        except Exception as error:
            raise InputError(f"The Optax transformation {optimizer.name!r} cannot take a step: {error}") from error
        if change.shape != (d,):
            raise InputError(
                f"The Optax transformation {optimizer.name!r} must return updates of shape ({d},), but it returns "
                f"{change.shape}."
            )
    return jax.vmap(begin)(jnp.arange(seeds))
