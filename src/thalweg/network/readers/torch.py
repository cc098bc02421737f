"""A PyTorch module as a `Graph`: any module, with weights or without.

The module is copied to the meta device and run there once, with a batch of one, under a `Run`
(`thalweg.network.readers.torch_run`); its weights are never needed and stay where they are. The run itself shows what
its input must be: whether it is ids that are looked up, which of its axes are positions and which the channels, and
whether the batch comes first; where the first guess was wrong, it starts again.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from thalweg.errors import InputError, ThalwegError
from thalweg.network.graph import Graph, written
from thalweg.network.readers.example import Example
from thalweg.network.readers.hugging_face import read_config
from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.torch_copy import copied
from thalweg.network.readers.torch_entry import Entry, OtherEntryError
from thalweg.network.readers.torch_export import read_program
from thalweg.network.readers.torch_inputs import found_input, given_input
from thalweg.network.readers.torch_modes import building
from thalweg.network.readers.torch_run import DependsOnDataError, Run
from thalweg.network.readers.torch_starts import several, written_down

Shape = tuple[int, ...]


def knows(model: object) -> bool:
    """Whether it is a module, a program that `torch.export` made, or a configuration of Hugging Face."""
    return isinstance(model, torch.nn.Module | torch.export.ExportedProgram) or _is_config(model)


def read(model: Any, shape: Sequence[Any] | None = None) -> Graph:
    """The network that a module is.

    Args:
        model: the module, an exported program, or a configuration of Hugging Face.
        shape: the extents of its input without the batch, as the module takes it: `(3, 224, 224)`; several of them for
            several inputs; None to find them.

    Raises:
        InputError: the input is not known, the module does not run on it, or its course depends on data; the message
            names the module.
    """
    if _is_config(model):
        return read_config(model, shape)
    if isinstance(model, torch.export.ExportedProgram):
        return read_program(model, shape)
    module = unwrapped(model)
    example = found_input(module) if shape is None else given_input(module, several(shape))
    entries = tuple(_entry(each, dtype, example.in_a_row) for each, dtype in example.each(_dtype(module)))
    try:
        return _of_module(module, entries, example, whole=bool(example.mask))
    except DependsOnDataError:
        if not example.mask:
            raise
        return _of_module(module, entries, example, masked=True)


def without_weights() -> AbstractContextManager[object]:
    """Where modules are built, they have no weights."""
    return building()


def _is_config(model: object) -> bool:
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(model, transformers.PretrainedConfig)


def _of_module(
    original: torch.nn.Module,
    entries: tuple[Entry, ...],
    example: Example,
    masked: bool = False,
    whole: bool = False,
) -> Graph:
    def call(run: Run, module: torch.nn.Module, tensors: Sequence[torch.Tensor]) -> None:
        hooks = [hook for path, each in module.named_modules() for hook in run.watch(each, path)]
        try:
            others = {example.mask: torch.ones(tensors[example.masked].shape, dtype=torch.int64)} if masked else {}
            example.run(module, tensors, **others)
        except (ThalwegError, OtherEntryError):
            raise
        except Exception as error:
            asked = next((what for words, what in _ASKED.items() if words in str(error)), None)
            if asked is not None:
                raise DependsOnDataError(run.about_data(asked)) from error
            raise _failed(run, module, tensors, error) from error
        finally:
            for hook in hooks:
                hook.remove()

    return written_down(call, lambda: copied(original), entries, example.notes, whole)


_ASKED = {
    "device='meta'": "str",
    "tolist() shouldn't be called": "tolist",
    "can't convert meta device type tensor to numpy": "numpy",
    "cannot be called on meta tensors": "item",
}
"""What PyTorch says where a network asks for the values of tensors in its own code, and by what."""


def _failed(run: Run, module: torch.nn.Module, tensors: Sequence[torch.Tensor], error: Exception) -> InputError:
    where = f" in {run.path!r}" if run.path else ""
    reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    shapes = " and ".join(written(tuple(each.shape)) for each in tensors)
    if isinstance(error, TypeError) and "forward()" in reason and not run.path:
        wanted = ", ".join(inspect.signature(module.forward).parameters)
        return InputError(
            f"The network takes ({wanted}) and got inputs of {shapes}: {reason}; give one for each, as in "
            "--input 1x8x8,10 or input=((1, 8, 8), (10,))."
        )
    return InputError(
        f"The network does not run on an input of {shapes} (batch included): {reason}{where}; check the input, "
        "or the module."
    )


def unwrapped(model: Any) -> torch.nn.Module:
    """The module inside wrappers for several devices or for compiling."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            inner = model.module
        if inner is None:
            module: torch.nn.Module = model
            return module
        model = inner


def _dtype(module: torch.nn.Module) -> torch.dtype:
    """The kind of numbers that the network works on."""
    return next((each.dtype for each in module.parameters() if each.is_floating_point()), torch.float32)


def _entry(shape: Shape, dtype: torch.dtype, in_a_row: bool) -> Entry:
    if min(shape, default=1) < 1:
        raise InputError(f"The input {written(shape)} is empty; every extent must be at least 1.")
    if in_a_row:
        return Entry((1, *shape), dtype, positions=(1,), channel=2)
    return Entry((1, *shape), dtype)
