"""A PyTorch module with its data as a `Network`, through `torch.func`; the module itself is not touched.

The module is called in the mode that it is in, with its buffers as they are: in training mode batch normalisation uses
the statistics of the data, and what it would note of them is thrown away. Whatever is drawn at random, such as
dropout's masks, is drawn from the same seed at every call, so that the loss is a function of the weights; call
`module.eval()` for a network without dropout.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError
from thalweg.learning_rate.gauss_newton import Descent

Vector = NDArray[np.float64]

_SEED = 0


class ModuleNetwork:
    """The network of a `torch.nn.Module`.

    Args:
        module: the module; parameters that are floating and require a gradient train.
        data: `(inputs, targets)`; inputs are a tensor, a tuple of positional or a dictionary of named arguments.
        loss: `(outputs, targets) -> scalar`.

    Raises:
        InputError: data or loss is missing or of the wrong kind, nothing trains, the module refuses the inputs, or the
            loss is no real scalar.
    """

    def __init__(self, module: Any, data: Any, loss: Callable[[Any, Any], Any]) -> None:
        import torch

        if not (isinstance(data, tuple | list) and len(data) == 2):
            raise InputError(
                "Learning rates of a torch.nn.Module need data=(inputs, targets), but data is "
                f"{'missing' if data is None else 'a ' + type(data).__name__}."
            )
        if not callable(loss):
            raise InputError(
                "Learning rates of a torch.nn.Module need loss=(outputs, targets) -> scalar, such as "
                f"torch.nn.functional.cross_entropy, but loss is {'missing' if loss is None else 'not a function'}."
            )
        self._module, self._loss_function = module, loss
        inputs, self._targets = data
        self._arguments, self._named = _arguments(inputs)
        self._places = _places(module)
        held = {first: _held(module, first) for first in self._places}
        self._trained = {
            name: value.detach() for name, value in held.items() if value.requires_grad and value.is_floating_point()
        }
        if not self._trained:
            raise InputError("There is nothing to train: no floating parameter of the module requires a gradient.")
        self._fixed = {name: value.detach() for name, value in held.items() if name not in self._trained}
        types = {value.dtype for value in self._trained.values()}
        self.precision = max(float(torch.finfo(dtype).eps) for dtype in types)
        self.kind = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in types))
        self.start = _host(self._trained)
        self.examples = _examples(self._targets, self._arguments, self._named)
        self._check()

    def loss_and_gradient(self, w: Vector) -> tuple[float, Vector]:
        """The loss at w, and its gradient `(d,)`."""

        with _calm():
            gradient, loss = _func().grad_and_value(self._loss)(self._device(w))
        return float(loss), _host(gradient)

    def gauss_newton(self, w: Vector, v: Vector) -> Vector:
        """`G v` at w."""

        with _calm():
            at = self._device(w)
            outputs, Jv = _func().jvp(self._outputs, (at,), (self._device(v),))
            # Q is symmetric, so that reverse mode gives Q (J v) too; forward mode fails on some of PyTorch's losses.
            _, curve = _func().vjp(_func().grad(self._criterion), outputs)
            _, pull = _func().vjp(self._outputs, at)
            (product,) = pull(*curve(Jv))
        return _host(product)

    def hessian(self, w: Vector, v: Vector) -> Vector:
        """`H v` at w."""

        with _calm():
            _, curve = _func().vjp(_func().grad(self._loss), self._device(w))
            (product,) = curve(self._device(v))
        return _host(product)

    def descend(self, w: Vector, rate: float, mix: Vector) -> Descent:
        """Literal gradient steps: see `Network.descend`."""

        at, mixture, losses = self._device(w), np.zeros_like(w), np.empty(len(mix))
        for step, share in enumerate(mix):
            with _calm():
                gradient, loss = _func().grad_and_value(self._loss)(at)
            losses[step] = float(loss)
            if share:
                mixture += share * _host(at)
            if step < len(mix) - 1:
                at = {name: value - rate * gradient[name] for name, value in at.items()}
        return Descent(losses, mixture, _host(at))

    def descend_linearised(self, at: Vector, w: Vector, rate: float, steps: int) -> Vector:
        """The losses of steps on the linearised network: see `Network.descend_linearised`."""

        centre, away, losses = self._device(at), self._device(w - at), np.empty(steps + 1)
        with _calm():
            outputs, pull = _func().vjp(self._outputs, centre)
        for step in range(steps + 1):
            with _calm():
                _, moved = _func().jvp(self._outputs, (centre,), (away,))
                slope, loss = _func().grad_and_value(self._criterion)(_added(outputs, moved))
                (gradient,) = pull(slope, retain_graph=True)
            losses[step] = float(loss)
            away = {name: value - rate * gradient[name] for name, value in away.items()}
        return losses

    def _device(self, w: Vector) -> dict[str, Any]:
        """A vector on the host as parameters, each of its own type and place."""
        import torch

        parts = np.split(w, np.cumsum([value.numel() for value in self._trained.values()])[:-1])
        return {
            name: torch.from_numpy(part).reshape(value.shape).to(value)
            for part, (name, value) in zip(parts, self._trained.items(), strict=True)
        }

    def _outputs(self, trained: dict[str, Any]) -> Any:
        import torch

        # Copies, so that batch normalisation may write into them: the module's own must stay as they are.
        values = {name: value.clone() for name, value in self._fixed.items()} | trained
        everywhere = {place: values[first] for first, places in self._places.items() for place in places}
        torch.manual_seed(_SEED)
        return _func().functional_call(self._module, everywhere, self._arguments, self._named, tie_weights=False)

    def _criterion(self, outputs: Any) -> Any:
        return self._loss_function(outputs, self._targets)

    def _loss(self, trained: dict[str, Any]) -> Any:
        return self._criterion(self._outputs(trained))

    def _check(self) -> None:
        """Refuse a module or a loss that cannot be called on the data, and a loss that is no real scalar."""
        import torch

        with _calm(), torch.no_grad():
            try:
                outputs = self._outputs(self._trained)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                raise InputError(f"The module cannot be called on these inputs: {_first_line(error)}") from error
            try:
                loss = self._criterion(outputs)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                raise InputError(
                    f"The loss cannot be computed from outputs and targets: {_first_line(error)}"
                ) from error
        if not (isinstance(loss, torch.Tensor) and loss.ndim == 0 and loss.is_floating_point()):
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise InputError(f"loss(outputs, targets) must return one real number, but it returned {what}.")


def _places(module: Any) -> dict[str, list[str]]:
    """For the first name of each parameter and buffer, all its names: one for each module that holds it.

    A module that is held twice counts once. PyTorch ties such weights itself, but puts them back wrongly where one
    module has two names: the module would be left with our weights.
    """
    firsts: dict[int, str] = {}
    places: dict[str, list[str]] = {}
    for path, part in module.named_modules():
        for name, value in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            place = f"{path}.{name}" if path else name
            places.setdefault(firsts.setdefault(id(value), place), []).append(place)
    return places


def _held(module: Any, name: str) -> Any:
    """The parameter or buffer of that name."""
    path, _, last = name.rpartition(".")
    return getattr(module.get_submodule(path), last)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments of the module."""
    if isinstance(inputs, dict):
        return (), inputs
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,), {}


def _examples(targets: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> int:
    """How many examples there are: the length of the first tensor; refused where there are none."""
    import torch

    tensors = [value for value in (*arguments, *named.values(), targets) if isinstance(value, torch.Tensor)]
    for tensor in tensors:
        if tensor.numel() == 0:
            raise InputError(f"The data hold no examples: a tensor has shape {tuple(tensor.shape)}.")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            place = [int(index) for index in (~torch.isfinite(tensor)).nonzero()[0]]
            raise InputError(f"The data are not finite at {place} of a tensor of shape {tuple(tensor.shape)}.")
    return next((int(tensor.shape[0]) for tensor in tensors if tensor.ndim), 1)


def _func() -> Any:
    """`torch.func`, whose own annotations of `jvp` and `vjp` leave out what they return."""
    import torch

    return torch.func


def _added(one: Any, other: Any) -> Any:
    """The sum of two outputs of the module, tensors in any nesting."""
    from torch.utils._pytree import tree_map

    return tree_map(lambda a, b: a + b, one, other)


@contextmanager
def _calm() -> Iterator[None]:
    """Random numbers as they were afterwards; attention in the form that has every derivative, meanwhile."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast: Any = torch.backends.mha
    enabled = fast.get_fastpath_enabled()
    fast.set_fastpath_enabled(False)
    try:
        with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            # PyTorch's forward mode calls it itself.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
            yield
    finally:
        fast.set_fastpath_enabled(enabled)


def _host(tensors: dict[str, Any]) -> Vector:
    import torch

    return np.concatenate([value.detach().to("cpu", torch.float64).numpy().ravel() for value in tensors.values()])


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."
