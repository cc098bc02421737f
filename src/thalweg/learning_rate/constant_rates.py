"""How long a run must be to know what every constant learning rate does: far less long than what it answers for.

`T` steps of bidiagonalisation integrate every polynomial of degree `2T` exactly. The loss after T steps at a constant
rate is the integral of `(1 - rate h)^(2T)` over the measure, and that power is a tame one: up to `epsilon` of its
largest value it is a polynomial of degree `sqrt(4 T log(2 / epsilon))`. So `sqrt(T log(2 / epsilon))` steps of the run
are enough for an error of `2 epsilon` times the first loss and the largest value, at every rate at once: 62 for 100
steps of gradient descent, 194 for 1,000.

What the surface promises is more, an error small beside the loss itself. Hence the second condition: the run goes on
until a tenth fewer of its steps give the same losses, to rounding, from the smallest rates to those far above the
stability limit. Schedules and momentum are other polynomials, for which only as many steps as they have are enough.

Source: D. J. Newman and T. J. Rivlin, "Approximation of monomials by lower degree polynomials" (1976); in the form used
here S. Sachdeva and N. K. Vishnoi, "Faster Algorithms via Approximation Theory" (2014), theorem 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from thalweg.quadrature import Measure, Run

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_FEWER = 0.9  # of the steps of a run must give the same losses
_MORE = 1.25  # times as many steps, where they do not
_ROUNDING = 1e-14  # of a loss, for each of the steps it is raised to
_SMALLEST = 1e-32  # of the first loss; what is smaller is rounding
_TO_COMPARE = 10_000_000  # entries of X that can be multiplied while two short runs are compared
_MANY = 300  # steps: finding the nodes of a longer run takes more time than comparing shorter ones
_RATES = np.concatenate([-np.geomspace(0.01, 10, 7), np.geomspace(1e-3, 2.4, 40), [3, 10, 100]])
"""In units of the rate that cancels the largest node. Those below 0 are what a penalty added later makes of others."""


def enough_steps(steps: int, epsilon: float = _EPS) -> int:
    """How many steps of a run know what `steps` steps at any constant rate do, up to an absolute error.

    The error is at most `2 epsilon` times the first loss and times the largest `(1 - rate h)^(2 steps)`.
    """
    return min(steps, math.ceil(math.sqrt(steps * math.log(2 / epsilon))))


def for_constant_rates(
    run: Run,
    steps: int,
    entries: int,
    *,
    whole: bool = False,
    progress: Callable[[int], None] | None = None,
    keep_interrupted: bool = False,
) -> Measure:
    """The measure that is exact, to rounding, for every constant rate up to `steps` steps.

    Args:
        run: the run, which goes on as far as it must.
        steps: T, the number of steps of gradient descent.
        entries: of X: with few of them the whole run costs less than finding out that a shorter one is enough.
        whole: whether to make all steps of the run in any case.
        progress: called with the number of steps of the run done, and with `steps` where the rest is not needed.
        keep_interrupted: whether Ctrl-C, once a step is done, ends the run with the measure of the steps done.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, and nothing done was to be kept.
    """
    try:
        length = steps if whole else enough_steps(steps)
        while length < steps and (steps > _MANY or (steps - length) * entries > _TO_COMPARE):
            run.go_on(length, progress)
            if run.exhausted or _settled(run, length, steps):
                if progress is not None:
                    progress(steps)
                return run.measure()._replace(steps=steps)
            length = math.ceil(_MORE * length)
        run.go_on(steps, progress)
    except KeyboardInterrupt:
        if not (keep_interrupted and run.done):
            raise
        return run.measure()
    return run.measure()._replace(steps=steps)


def _settled(run: Run, length: int, steps: int) -> bool:
    """Whether fewer steps of the run give the same losses after `steps` steps and before."""
    longer, shorter = run.measure(length), run.measure(math.ceil(_FEWER * length))
    unit = float(longer.nodes[-1])
    powers = 2 * np.unique(np.geomspace(1, steps, 8).round().astype(np.int64))
    ours, theirs = (_log_sums(each, unit, powers) for each in (longer, shorter))
    told = ours > math.log(_SMALLEST * longer.weights.sum())
    return bool(np.all(np.abs(ours - theirs)[told] <= _ROUNDING * np.broadcast_to(powers, ours.shape)[told]))


def _log_sums(seen: Measure, unit: float, powers: NDArray[np.int64]) -> Array:
    """Logarithms of `sum_k weight_k (1 - rate node_k / unit)^power` over `_RATES` and powers, and of `node_k^power`."""
    x = seen.nodes / unit
    with np.errstate(divide="ignore"):
        bases = np.log(np.abs(np.concatenate([1 - _RATES[:, None] * x, x[None, :]])))
        terms = np.log(seen.weights) + powers[:, None] * bases[:, None, :]
    largest = terms.max(axis=-1)
    with np.errstate(divide="ignore"):
        sums: Array = largest + np.log(np.exp(terms - largest[..., None]).sum(axis=-1))
    return sums
