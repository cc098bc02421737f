"""What a PyTorch module takes, where nobody says: from what the module says of itself, or from its first layer."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.errors import InputError
from thalweg.network.graph import written
from thalweg.network.readers.lazy_torch import torch

Shape = tuple[int, ...]

_IMAGE = (3, 224, 224)


@dataclass(frozen=True)
class Example:
    """The inputs of a run.

    Args:
        shapes: their extents, without the batch.
        dtypes: the kinds of their elements; None for that of the weights.
        names: of the inputs, where they are not given by their place.
        mask: the name under which the module takes a mask of the tokens that count, where it has one.
        notes: what had to be decided, in sentences.
    """

    shapes: tuple[Shape, ...]
    dtypes: tuple[torch.dtype | None, ...] = ()
    names: tuple[str, ...] = ()
    mask: str = ""
    notes: tuple[str, ...] = ()

    def each(self, dtype: torch.dtype) -> Iterator[tuple[Shape, torch.dtype]]:
        """Every shape and the kind of its elements."""
        for place, shape in enumerate(self.shapes):
            own = self.dtypes[place] if place < len(self.dtypes) else None
            yield shape, own or dtype


def given_input(module: torch.nn.Module, shapes: tuple[Shape, ...]) -> Example:
    """The input of a module where its extents are given."""
    return _named(module, shapes) if _is_hugging_face(module) else Example(shapes)


def found_input(module: torch.nn.Module) -> Example:
    """The input of a module that says what it takes, or whose first layer shows it.

    Raises:
        InputError: it cannot be told.
    """
    for find in (_of_hugging_face, _of_example, _of_timm, _of_first_layer):
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


def _of_hugging_face(module: Any) -> Example | None:
    """As many tokens as the model can take, an image of its size, or a piece of sound of its length."""
    if not _is_hugging_face(module):
        return None
    config = module.config
    shape: Shape | None = None
    if module.main_input_name == "input_ids":
        longest = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        shape = (longest,) if isinstance(longest, int) else None
    elif module.main_input_name == "pixel_values" and isinstance(getattr(config, "image_size", None), int):
        shape = (getattr(config, "num_channels", _IMAGE[0]), config.image_size, config.image_size)
    elif module.main_input_name == "input_features" and hasattr(config, "num_mel_bins"):
        shape = (config.num_mel_bins, 2 * config.max_source_positions)
    return None if shape is None else _named(module, (shape,))


def _named(module: Any, shapes: tuple[Shape, ...]) -> Example:
    """Inputs by name; an encoder's decoder gets as many tokens as the encoder unless its extents are given too."""
    takes = list(inspect.signature(module.forward).parameters)
    mask = "attention_mask" if "attention_mask" in takes else ""
    main: str = module.main_input_name
    if not getattr(module.config, "is_encoder_decoder", False) or "decoder_input_ids" not in takes:
        return Example(shapes, names=(main,) if len(shapes) == 1 else tuple(takes[: len(shapes)]), mask=mask)
    notes: tuple[str, ...] = ()
    if len(shapes) == 1:
        tokens = shapes[0][:1] if main == "input_ids" else (1,)
        notes = (f"The decoder gets tokens of its own, {tokens[0]} of them; give a second input to change that.",)
        shapes = (*shapes, tokens)
    return Example(shapes, names=(main, "decoder_input_ids"), mask=mask, notes=notes)


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
