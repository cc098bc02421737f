"""What a PyTorch module takes, where nobody says: from what the module says of itself, or from its first layer."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from thalweg.errors import InputError
from thalweg.network.graph import written
from thalweg.network.readers import hugging_face_inputs
from thalweg.network.readers.example import Example, Shape
from thalweg.network.readers.lazy_torch import torch

_IMAGE = (3, 224, 224)


def given_input(module: torch.nn.Module, shapes: tuple[Shape, ...]) -> Example:
    """The input of a module where its extents are given."""
    return hugging_face_inputs.named(module, shapes) if _is_hugging_face(module) else Example(shapes)


def found_input(module: torch.nn.Module) -> Example:
    """The input of a module that says what it takes, or whose first layer shows it.

    Raises:
        InputError: it cannot be told.
    """
    if _is_hugging_face(module):
        return hugging_face_inputs.found(module)
    for find in (_of_example, _of_timm, _of_first_layer):
        found = find(module)
        if found is not None:
            return found
    raise InputError(
        "What the network takes is not known; give its input without the batch, as in --input 3x224x224 or "
        "input=(3, 224, 224)."
    )


def _is_hugging_face(module: torch.nn.Module) -> bool:
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(module, transformers.PreTrainedModel)


def _of_example(module: torch.nn.Module) -> Example | None:
    """PyTorch Lightning's `example_input_array`, which has a batch."""
    given = getattr(module, "example_input_array", None)
    tensors = [given] if isinstance(given, torch.Tensor) else list(given) if isinstance(given, tuple | list) else []
    if not tensors or not all(isinstance(each, torch.Tensor) and each.dim() > 0 for each in tensors):
        return None
    return Example(tuple(tuple(each.shape[1:]) for each in tensors), tuple(each.dtype for each in tensors))


def _of_timm(module: torch.nn.Module) -> Example | None:
    """The `input_size` of a configuration as timm keeps it."""
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(module, name, None)
        size = config.get("input_size") if isinstance(config, Mapping) else getattr(config, "input_size", None)
        if isinstance(size, tuple | list) and all(isinstance(each, int) for each in size):
            return Example((tuple(size),))
    return None


def _of_first_layer(module: torch.nn.Module) -> Example | None:
    """A fully connected layer takes vectors of one length; a convolution over three channels is taken for images."""
    first = next((each for each in module.modules() if not list(each.children()) and list(each.parameters())), None)
    if isinstance(first, torch.nn.Linear):
        return Example(((first.in_features,),))
    if isinstance(first, torch.nn.Conv2d) and first.in_channels == _IMAGE[0]:
        note = (
            f"The input {written(_IMAGE)} is a guess, as the first layer takes images of three channels; "
            "give another to change it."
        )
        return Example((_IMAGE,), notes=(note,))
    return None
