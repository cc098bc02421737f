"""Where does the optimizer end up? Runs, and a verdict on each with the number that proves it.

>>> from thalweg.least_squares import LeastSquares
>>> answer = limits(LeastSquares([[1.0, 2.0]], [3.0]), ["gd", "adagrad"])
>>> for outcome in answer.outcomes:
...     print(outcome.w.round(6).tolist(), outcome.verdict)
[0.6, 1.2] minimum-norm solution
[1.0, 1.0] left the row space
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from thalweg.arrays import checked_count
from thalweg.errors import InputError
from thalweg.implicit_bias.closed_form import has_one_minimiser
from thalweg.implicit_bias.outcome import Outcome, Verdict, judged
from thalweg.implicit_bias.rules import OptaxTransformation
from thalweg.implicit_bias.trajectories import Optimizer, Precision, interpolates, prepared, run
from thalweg.least_squares import LeastSquares, Vector
from thalweg.report import Cell, Result, Table, counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

DEFAULT_OPTIMIZERS = ("gd", "sgd", "momentum", "adagrad")
DEFAULT_STEPS = 20_000

Pair: TypeAlias = tuple[Any, Any]
Asked: TypeAlias = Sequence[str | Optimizer | tuple[str, Any]] | Mapping[str, Any]

_MOST_WEIGHTS_PRINTED = 1000
_MOST_SEEDS_APART = 3  # more of them share a row in a terminal
_PATIENCE = 10.0  # seconds that literal runs may take at most before compiling, which takes some too, is worth it


def limits(
    problem: LeastSquares,
    optimizers: Asked | None = None,
    seeds: int = 1,
    steps: int = DEFAULT_STEPS,
    *,
    batch: int | None = None,
    start: ArrayLike | None = None,
    rate: float | None = None,
    seed: int = 0,
    momentum: float | None = None,
    precision: Precision = "float64",
    test: Pair | None = None,
    progress: Callable[[float], None] | None = None,
) -> Limits:
    """Run optimizers and say where each ends up.

    For a consistent X w = t, gradient descent and its kin stay in w0 + the row space of X, and so end at the solution
    nearest to w0, `w0 + X^+ (t - X w0)`; methods that scale coordinates by their own history leave it and end at
    another (facts F1.1 to F1.6). Little work is done literally, one step after the other in NumPy; much of it, and
    Optax transformations, go through one loop that JAX compiles, with the same results up to rounding.

    Args:
        problem: what to minimise.
        optimizers: names, as `trajectories.names()` lists them, `Optimizer`s with settings of their own, and Optax
            transformations as pairs `("mine", optax.adam(1e-2))`; or a dict of the latter two by name; None for gd,
            sgd, momentum and adagrad.
        seeds: how many runs of each optimizer that draws batches at random.
        steps: the budget of steps for each run; runs that have arrived end earlier.
        batch: the number of examples in a step, for all optimizers but `gd`, `sgd` and `Optimizer`s; None for all.
        start: the first weights w0, `(d,)`; zeros for None.
        rate: the learning rate of all named optimizers; None for a default that does not diverge: half the stability
            limit for the kin of gradient descent, and the way to the nearest solution, spread over the coordinates,
            for the others.
        seed: of the first run's random batches; the next runs count on from it.
        momentum: that of `momentum` and `nesterov`; None for 0.9.
        precision: the arithmetic of the runs, `"float64"` or `"float32"`.
        test: examples and targets `(X, t)` that the weights are tried on, such as `load_test` gives.
        progress: called with the share of the work done, 0 to 1.

    Raises:
        InputError: an optimizer is unknown or cannot take a step, or a number or w0 is out of its range; X is a Dask
            array or an operator of too many entries to fetch.
    """
    found = list(
        outcomes(
            problem,
            optimizers,
            seeds,
            steps,
            batch=batch,
            start=start,
            rate=rate,
            seed=seed,
            momentum=momentum,
            precision=precision,
            progress=progress,
        )
    )
    return Limits(problem.stored("limits"), problem.start(start), tuple(found), checked_test(problem, test))


def outcomes(
    problem: LeastSquares,
    optimizers: Asked | None = None,
    seeds: int = 1,
    steps: int = DEFAULT_STEPS,
    *,
    batch: int | None = None,
    start: ArrayLike | None = None,
    rate: float | None = None,
    seed: int = 0,
    momentum: float | None = None,
    precision: Precision = "float64",
    progress: Callable[[float], None] | None = None,
) -> Iterator[Outcome]:
    """The outcomes of `limits`, so that a caller whom Ctrl-C interrupts keeps what is done.

    Literal runs come one after the other, each when it has ended; compiled ones all at once, as far as they came.
    """
    if not isinstance(problem, LeastSquares):
        kind = type(problem).__name__
        raise InputError(
            f"limits needs a LeastSquares problem, but got a {kind}; pass tw.LeastSquares(data.X, data.t)."
        )
    problem = problem.stored("limits")
    steps, seeds = checked_count(steps, "steps"), checked_count(seeds, "seeds")
    seed = checked_count(seed, "seed", least=0)
    optimizers = [optimizers] if isinstance(optimizers, str) else optimizers
    if precision not in ("float64", "float32"):
        raise InputError(f"precision must be 'float64' or 'float32', but it is {precision!r}.")
    chosen = DEFAULT_OPTIMIZERS if optimizers is None else optimizers
    if not chosen:
        raise InputError("There is no optimizer to run; name at least one.")
    ready = [
        prepared(problem, one, start=start, rate=rate, batch=batch, momentum=momentum) for one in _asked(chosen, batch)
    ]
    runs = [(one, seed + k) for one in ready for k in range(seeds if one.batch is not None else 1)]
    compiles = any(isinstance(one.rule, OptaxTransformation) for one in ready)
    compiles = compiles or steps * sum(_literal_seconds(problem, one) for one, _ in runs) > _PATIENCE

    if compiles:
        from thalweg.implicit_bias.compiled import run_together

        def report_together(step: int) -> None:
            if progress is not None:
                progress(step / steps)

        together = run_together(
            problem,
            ready,
            range(seed, seed + seeds),
            steps=steps,
            start=start,
            precision=precision,
            progress=report_together,
        )
        yield from (judged(problem, trajectory) for trajectory in together)
        return
    for position, (optimizer, its_seed) in enumerate(runs):

        def report(step: int, before: int = position) -> None:
            if progress is not None:
                progress((before + step / steps) / len(runs))

        literal = run(problem, optimizer, steps=steps, start=start, seed=its_seed, precision=precision, progress=report)
        yield judged(problem, literal)
        report(steps)


def checked_test(problem: LeastSquares, test: Pair | None) -> LeastSquares | None:
    """The test examples, once they fit the problem.

    Raises:
        InputError: they cannot be used, or have another number of features.
    """
    if test is None:
        return None
    tried = LeastSquares(*test).stored("a test error")
    if tried.d != problem.d:
        raise InputError(f"The test examples must have {problem.d} features, as X has, but they have {tried.d}.")
    return tried


def _asked(optimizers: Asked, batch: int | None) -> Iterator[str | Optimizer]:
    """The optimizers that a caller asked for in any of the ways of `limits`."""
    for one in optimizers.items() if isinstance(optimizers, Mapping) else optimizers:
        if isinstance(one, str | Optimizer):
            yield one
            continue
        # An Optax transformation is itself a tuple, of two functions.
        name, what = one if isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str) else (None, one)
        if isinstance(what, Optimizer):
            yield replace(what, name=name or what.name)
        elif name is not None and hasattr(what, "init") and hasattr(what, "update"):
            yield Optimizer(name, OptaxTransformation(what), batch=batch)
        else:
            raise InputError(
                "An optimizer must be a name, an Optimizer, or a pair of a name and an Optax transformation, as in "
                f"('mine', optax.adam(1e-2)), but one is {type(what).__name__}."
            )


def _literal_seconds(problem: LeastSquares, optimizer: Optimizer) -> float:
    """About what one literal step takes: the calls of NumPy, and two products with the batch."""
    return 2e-5 + 2e-9 * (optimizer.batch or problem.n) * problem.d


@dataclass(frozen=True, eq=False, repr=False)
class Limits(Result):
    """Where each optimizer ended up.

    Attributes:
        problem: what was minimised.
        start: the first weights w0, `(d,)`.
        outcomes: one for each run, in the order asked for.
        test: the examples that the weights are tried on.
    """

    problem: LeastSquares
    start: Vector
    outcomes: tuple[Outcome, ...]
    test: LeastSquares | None = None

    @property
    def error_measure(self) -> str:
        """What a test error is: for targets +1 and -1 the share of wrong signs, for all others the mean square."""
        signs = self.test is not None and bool(np.all(np.abs(self.test.t) == 1))
        return "share of wrong signs" if signs else "mean squared error"

    def test_error(self, w: Vector) -> float | None:
        """The error of weights on the test examples; None without any, and for weights that are not finite."""
        if self.test is None or not np.isfinite(w).all():
            return None
        if self.error_measure == "mean squared error":
            return self.test.loss(w)
        return float(np.mean(np.sign(self.test.X @ w) != self.test.t))

    @cached_property
    def nearest(self) -> Vector:
        """The minimiser nearest to the start, `(d,)`; of least norm where the start is zero."""
        return self.problem.nearest_solution(self.start)

    def table(self) -> Table:
        """One row for each run with everything that is known of it: the table that goes into a file."""
        columns = ["optimizer", "seed", "verdict", "loss", "row-space ratio", "norm ratio", "distance from w*"]
        columns += ["distance from minimum norm", "limit by formula", "distance from it", "steps", "rate"]
        columns += ["stability limit", *["test error"] * (self.test is not None), "settings"]
        rows: list[list[Cell]] = []
        for outcome in self.outcomes:
            run, formula = outcome.trajectory, outcome.closed_form
            row: list[Cell] = [outcome.name, run.seed, outcome.verdict.value, run.loss, outcome.row_space_ratio]
            row += [outcome.norm_ratio, outcome.distance_to_nearest, outcome.distance_to_minimum_norm]
            row += [formula.name if formula else None, outcome.distance_to_closed_form, run.steps, run.optimizer.rate]
            row.append(outcome.stability_limit)
            if self.test is not None:
                row.append(self.test_error(outcome.w))
            rows.append([*row, _settings_text(run.optimizer)])
        return Table(self._title, columns, rows, self._notes())

    def tables(self) -> list[Table]:
        """The same in three tables as wide as a terminal: the verdicts, the way there, and how each run was made.

        Many seeds of an optimizer share a row for each verdict, with the median of their numbers.
        """
        rows = self.rows()
        verdicts: list[list[Cell]] = []
        ways: list[list[Cell]] = []
        settings: list[list[Cell]] = []
        shows_weights = self.problem.d <= 3
        for name, group in rows:
            run, formula = group[0].trajectory, group[0].closed_form
            place = [_point(np.median([one.w for one in group], axis=0))] * shows_weights
            loss = _median([one.trajectory.loss for one in group])
            verdicts.append([name, group[0].verdict.value, *place, loss])
            verdicts[-1].append(_median([one.row_space_ratio for one in group]))
            if self.test is not None:
                verdicts[-1].append(_median([self.test_error(one.w) for one in group]))
            way: list[Cell] = [name, _median([one.norm_ratio for one in group])]
            way += [_median([one.distance_to_nearest for one in group]), formula.name if formula else "none known"]
            ways.append([*way, _median([one.distance_to_closed_form for one in group])])
            steps = _median([one.trajectory.steps for one in group])
            limit = group[0].stability_limit
            settings.append([name, steps, run.optimizer.rate, limit, _settings_text(run.optimizer)])
        head = ("optimizer", "verdict", *["lands at"] * shows_weights, "loss", "row space")
        if self.test is not None:
            head = (*head, "test error")
        return [
            Table(self._title, head, verdicts, self._notes()),
            Table(
                "How far they went",
                ("optimizer", "norm ratio", "from w*", "limit by formula", "from it"),
                ways,
                ("Norm ratio: the length of the way, w - w0, beside that of the shortest one, w* - w0.",),
            ),
            Table("How they were run", ("optimizer", "steps", "rate", "stable below", "settings"), settings),
        ]

    def rows(self) -> list[tuple[str, list[Outcome]]]:
        """What tables and pictures show as one, and its name: a run, or all seeds of an optimizer with one verdict."""
        runs = Counter(outcome.name for outcome in self.outcomes)
        groups: dict[Any, list[Outcome]] = {}
        for position, outcome in enumerate(self.outcomes):
            many = runs[outcome.name] > _MOST_SEEDS_APART and outcome.trajectory.seed is not None
            formula = outcome.closed_form and outcome.closed_form.name
            key = (outcome.name, outcome.verdict, formula) if many else position
            groups.setdefault(key, []).append(outcome)
        rows = []
        for group in groups.values():
            name, seed = group[0].name, group[0].trajectory.seed
            several = f", seed {seed}" if runs[name] > 1 and seed is not None else ""
            rows.append((f"{name}, {len(group)} seeds" if len(group) > 1 else name + several, group))
        return rows

    @property
    def _title(self) -> str:
        size = f"{counted(self.problem.n, 'example')} x {counted(self.problem.d, 'feature')}"
        return f"Where each optimizer ends up: {size}, rank {self.problem.rank:,}"

    def _notes(self) -> list[str]:
        which = "nearest to the start" if self.start.any() else "of least norm"
        if has_one_minimiser(self.problem):
            kind = "the only minimiser of the loss"
        elif interpolates(self.problem):
            kind = f"the solution {which}"
        else:
            kind = f"the minimiser {which}; no weights fit every example"
        place = (
            f" = {_point(self.nearest)}" if self.problem.d <= 3 else f", of norm {np.linalg.norm(self.nearest):.6g},"
        )
        notes = [f"w*{place} is {kind}."]
        if any(len(group) > 1 for _, group in self.rows()):
            notes.append("Where several seeds share a row, its numbers are their medians; --json has every run.")
        if any(outcome.verdict is Verdict.ALREADY for outcome in self.outcomes):
            notes.append("The start is one already, so every optimizer stays there, at every rate.")
        if any(outcome.row_space_ratio is not None for outcome in self.outcomes):
            notes.append(
                "Row space: how far w - w0 lies outside the row space of X, in units of rounding; "
                "below 30 there is only rounding."
            )
        if self.test is not None:
            of_nearest = f"; that of w* is {self.test_error(self.nearest):.6g}"
            notes.append(f"Test error: the {self.error_measure} on {self.test.n:,} examples{of_nearest}.")
        first_of_a_kind = {(outcome.name, outcome.verdict): outcome for outcome in reversed(self.outcomes)}
        remarks = (note for outcome in reversed(first_of_a_kind.values()) for note in self._remarks(outcome))
        return [*notes, *dict.fromkeys(remarks)]

    def _remarks(self, outcome: Outcome) -> Iterator[str]:
        """What a reader of the table could not guess about one run."""
        optimizer, limit = outcome.trajectory.optimizer, outcome.stability_limit
        if limit is not None and optimizer.rate is not None and optimizer.rate > limit:
            consequence = "it diverges in the long run" if optimizer.batch is None else "its steps can move away"
            rate = f"its rate {optimizer.rate:.6g} is above the stability limit {limit:.6g}"
            yield f"{outcome.name}: {rate}: {consequence}."
        elif outcome.verdict is Verdict.DIVERGED:
            stable = f"plain gradient descent is stable below {self.problem.stability_rate:.6g}"
            yield f"{outcome.name}: diverged within {outcome.trajectory.steps:,} steps; {stable}."
        elif outcome.verdict in (Verdict.STILL_INSIDE, Verdict.STILL_OUTSIDE, Verdict.NOT_CONVERGED):
            if optimizer.batch is not None and not interpolates(self.problem):
                yield f"{outcome.name}: no weights fit every example, so small batches at a constant rate keep moving."
            elif outcome.trajectory.ended == "settled":
                reason = f"its steps have fallen below the rounding of {outcome.trajectory.precision}; raise its rate"
                yield f"{outcome.name}: stands still after {outcome.trajectory.steps:,} steps: {reason}."
            else:
                yield f"{outcome.name}: not converged after {outcome.trajectory.steps:,} steps; allow more."
        stayed = outcome.verdict in (Verdict.MINIMUM_NORM, Verdict.NEAREST)
        if stayed and optimizer.rule.keeps_row_space is False:
            yield f"{outcome.name}: scales every coordinate, but stays in the row space here (exception of fact F1.6)."

    def to_dict(self) -> dict[str, Any]:
        """Keys `n`, `d`, `rank`, `start`, `minimum_norm`, `nearest`, `test` and `optimizers`, one entry for each run.

        An entry has `name`, `verdict`, `loss`, `steps`, `norm_ratio`, `row_space_ratio`, `distance_to_minimum_norm`,
        `distance_to_nearest`, `limit` (the last weights), `closed_form` (`name`, `distance` of the run from
        it, and its `residual`, the norm of X w - t there; or null), `stability_limit`, `test_error` and `settings`.
        `test` has `n`, `measure` and `error_of_nearest`, or is null. Weights are null where there are more than 1000.
        """
        problem = self.problem

        def weights(w: Vector) -> Vector | None:
            return w if problem.d <= _MOST_WEIGHTS_PRINTED else None

        entries = []
        for outcome in self.outcomes:
            formula = outcome.closed_form
            settings = outcome.settings()
            if "P" in settings:
                settings["P"] = weights(settings["P"])
            entries.append(
                {
                    "name": outcome.name,
                    "verdict": outcome.verdict.value,
                    "loss": outcome.trajectory.loss,
                    "steps": outcome.trajectory.steps,
                    "norm_ratio": outcome.norm_ratio,
                    "row_space_ratio": outcome.row_space_ratio,
                    "distance_to_minimum_norm": outcome.distance_to_minimum_norm,
                    "distance_to_nearest": outcome.distance_to_nearest,
                    "limit": weights(outcome.w),
                    "closed_form": formula
                    and {
                        "name": formula.name,
                        "distance": outcome.distance_to_closed_form,
                        "residual": float(np.linalg.norm(problem.residual(formula.w))),
                    },
                    "stability_limit": outcome.stability_limit,
                    "test_error": self.test_error(outcome.w),
                    "settings": settings,
                }
            )
        return {
            "n": problem.n,
            "d": problem.d,
            "rank": problem.rank,
            "start": weights(self.start),
            "minimum_norm": weights(problem.minimum_norm_solution()),
            "nearest": weights(self.nearest),
            "test": self.test
            and {
                "n": self.test.n,
                "measure": self.error_measure,
                "error_of_nearest": self.test_error(self.nearest),
            },
            "optimizers": entries,
        }

    def figure(self) -> go.Figure:
        """For two features the plane itself; otherwise how far each run went, and how far out of the row space."""
        from thalweg.implicit_bias.picture import numbers, plane

        return plane(self) if self.problem.d == 2 else numbers(self)

    def figures(self) -> list[go.Figure]:
        """The main figure, and the losses on the way."""
        from thalweg.implicit_bias.picture import losses

        return [self.figure(), losses(self)]


def _median(values: Sequence[float | int | None]) -> float | int | None:
    """The median of those that are there, whole where they are; None where there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    median = float(np.median(known))
    return int(median) if all(isinstance(value, int) for value in known) else median


def _point(w: Vector) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in w) + ")"


def _settings_text(optimizer: Optimizer) -> str:
    settings = optimizer.settings()
    parts = []
    if optimizer.batch is not None:
        order = "drawn from all" if optimizer.replacement else "in a new order each pass"
        parts.append(f"batch {optimizer.batch}, {order}")
    if optimizer.final_rate != 1:
        parts.append(f"rate falls to {optimizer.final_rate:g} of it")
    shared = ("rate", "final_rate", "batch", "replacement", "P", "transformation")
    parts += [f"{name} {value:g}" for name, value in settings.items() if name not in shared]
    if isinstance(optimizer.rule, OptaxTransformation):
        parts.append("an Optax transformation, with a rate of its own")
    return "; ".join(parts)
