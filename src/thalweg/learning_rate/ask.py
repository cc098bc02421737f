"""`rates`: one question, asked of least squares, of a training run in JAX, or of a PyTorch module."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from thalweg.errors import InputError
from thalweg.learning_rate import curve
from thalweg.least_squares import LeastSquares
from thalweg.training import Training

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from thalweg.learning_rate.forecast import NetworkRates

_NETWORK_STEPS = 5


@overload
def rates(
    problem: LeastSquares,
    steps: int = ...,
    *,
    start: ArrayLike | None = ...,
    whole: bool = ...,
    progress: Callable[[int], None] | None = ...,
    keep_interrupted: bool = ...,
) -> curve.Rates: ...


@overload
def rates(
    problem: Training,
    steps: int = ...,
    *,
    hyper: Any = ...,
    key: Any = ...,
    batches: int | None = ...,
    progress: Callable[[int], None] | None = ...,
    keep_interrupted: bool = ...,
) -> NetworkRates: ...


@overload
def rates(
    problem: Any,
    steps: int = ...,
    *,
    data: Any,
    loss: Any,
    progress: Callable[[int], None] | None = ...,
    keep_interrupted: bool = ...,
) -> NetworkRates: ...


def rates(problem: Any, steps: int | None = None, **settings: Any) -> Any:
    """Which learning rates are best: for every number of steps, predicted exactly or, for a network, also measured.

    For a `LeastSquares` problem: the exact loss of gradient descent for every learning rate and every number of steps,
    from one run over the data; see `thalweg.learning_rate.curve.rates`. For a network: the best constant rates from
    its first weights, as its linearisation predicts them and as literal gradient steps on the same loss measure them;
    see `thalweg.learning_rate.forecast`.

    >>> import thalweg as tw
    >>> round(tw.rates(tw.LeastSquares([[1.0, 2.0]], [3.0]), steps=2).best_rate(1), 12)
    0.1

    Args:
        problem: a `tw.LeastSquares`, a `tw.Training` with `predict` and `criterion`, or a `torch.nn.Module`, which is
            left as it is.
        steps: the largest number of steps T asked about; 100 for least squares and 5 for networks by default.
        start: of least squares, the first weights, `(d,)`; zeros by default.
        whole: of least squares, whether schedules or momentum will be asked for, which need the run as a whole.
        hyper: of a training, the hyperparameters that its loss reads. Its optimizer plays no part.
        key: of a training, for its start and batches; `jax.random.key(0)` by default.
        batches: of a training, how many of its batches, from the first on, make up the loss; all, but no more than
            ten, by default.
        data: of a module, its inputs (a tensor, a tuple of positional or a dictionary of named arguments) and the
            targets, as a pair.
        loss: of a module, `(outputs, targets) -> scalar`, such as `torch.nn.functional.cross_entropy`.
        progress: called with the number of products done, up to `steps`; for networks with the percentage done.
        keep_interrupted: whether Ctrl-C ends the work early with the answer so far.

    Returns:
        A `Rates`, or a `NetworkRates` for a network.

    Raises:
        InputError: the problem is none of these; see there for what else.
        TypeError: a setting belongs to another kind of problem.
    """
    if steps is not None:
        settings["steps"] = steps
    if isinstance(problem, LeastSquares):
        return curve.rates(problem, **settings)
    if isinstance(problem, Training):
        return _of_training(problem, **settings)
    torch = sys.modules.get("torch")  # whoever passes a module has imported it
    if torch is not None and isinstance(problem, torch.nn.Module):
        return _of_module(problem, **settings)
    raise InputError(
        f"rates needs a LeastSquares problem, a Training or a torch.nn.Module, but got a {type(problem).__name__}; "
        "pass tw.LeastSquares(data.X, data.t), for example."
    )


def _of_training(
    training: Training,
    steps: int = _NETWORK_STEPS,
    *,
    hyper: Any = None,
    key: Any = None,
    batches: int | None = None,
    progress: Callable[[int], None] | None = None,
    keep_interrupted: bool = False,
) -> NetworkRates:
    from thalweg.learning_rate.forecast import forecast
    from thalweg.learning_rate.gauss_newton import network_of

    network = network_of(training, hyper, key, batches)
    return forecast(network, steps, progress=progress, keep_interrupted=keep_interrupted)


def _of_module(
    module: Any,
    steps: int = _NETWORK_STEPS,
    *,
    data: Any = None,
    loss: Any = None,
    progress: Callable[[int], None] | None = None,
    keep_interrupted: bool = False,
) -> NetworkRates:
    from thalweg.learning_rate.forecast import forecast
    from thalweg.learning_rate.torch_module import ModuleNetwork

    return forecast(ModuleNetwork(module, data, loss), steps, progress=progress, keep_interrupted=keep_interrupted)
