"""What listens while a PyTorch module runs without data."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.torch_numbers import value_of

if TYPE_CHECKING:
    from thalweg.network.readers.torch_run import Run


@contextlib.contextmanager
def listening(run: Run) -> Iterator[None]:
    """While this lasts, a run hears of every operation, and of numbers that a network writes as lists."""
    with _literal_class()(run), run.mode:
        yield


@contextlib.contextmanager
def building() -> Iterator[None]:
    """While this lasts, modules are built without weights; whole numbers that are written down keep their values."""
    with torch.device("meta"), _written_class()():
        yield


def run_mode(run: Run) -> Any:
    """A dispatch mode that tells a run of every operation."""
    return _mode_class()(run)


@functools.cache
def _mode_class() -> Any:
    """The class of dispatch modes, which needs PyTorch to be defined."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):  # type: ignore[misc]
        """Tells a run of every operation."""

        def __init__(self, run: Run) -> None:
            super().__init__()
            self.run = run

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            """Leave PyTorch's compiler out: only to switch it off here would import all of it."""
            return False

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return self.run.dispatch(func, args, kwargs or {})

    return Mode


@functools.cache
def _literal_class() -> Any:
    """The class of function modes, which needs PyTorch to be defined."""
    from torch.overrides import TorchFunctionMode

    indexed, copied = torch.Tensor.__getitem__, torch.Tensor.__deepcopy__
    told = (torch.Tensor.__format__, torch.Tensor.tolist, torch.Tensor.numpy)

    class Literal(TorchFunctionMode):  # type: ignore[misc]
        """Keeps numbers that are written as lists, which PyTorch drops before any operation where there is no data.

        So it does what else would ask tensors for their bytes before any operation: numbers in names or lists, copies.
        """

        def __init__(self, run: Run) -> None:
            super().__init__()
            self.run = run

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is indexed:
                if isinstance(args[1], str):  # PyTorch reads it as a sequence, and warns of that besides
                    raise TypeError(
                        f"it asks for {args[1]!r} as of a dictionary and gets a tensor (wrap it in a module of tensors)"
                    )
                return func(args[0], self._index(args[1]))
            if func in told and (value := value_of(args[0])) is not None:
                return func(value, *args[1:], **kwargs)
            if func is copied:  # which would copy bytes, and there are none
                return args[0].clone()
            if _writes_down(func, args, kwargs) and _is_meta(kwargs.get("device")):
                return self.run.without_data(func(*args, **{**kwargs, "device": "cpu"}))
            return func(*args, **kwargs)

        def _index(self, index: Any) -> Any:
            if type(index) is tuple:
                return tuple([self._index(each) if type(each) is list else each for each in index])
            if type(index) is list and {type(each) for each in index} in ({int}, {bool}):
                return self.run.without_data(torch.tensor(index))
            return index

    return Literal


@functools.cache
def _written_class() -> Any:
    """The class of function modes for what is built, which needs PyTorch to be defined."""
    from torch.overrides import TorchFunctionMode

    class Written(TorchFunctionMode):  # type: ignore[misc]
        """Makes whole numbers that are written down with their values."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if _writes_down(func, args, kwargs) and kwargs.get("device") is None:
                made = func(*args, **{**kwargs, "device": "cpu"})
                if not made.is_floating_point():
                    return made
            return func(*args, **kwargs)

    return Written


def _writes_down(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call makes a tensor of numbers that are written down."""
    return func in (torch.tensor, torch.as_tensor) and not isinstance(kwargs.get("data", *args[:1]), torch.Tensor)


def _is_meta(device: Any) -> bool:
    return device is not None and torch.device(device).type == "meta"
