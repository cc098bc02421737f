"""What a model of Hugging Face takes: the names from its `forward`, the extents from its configuration.

A model of text gets as many tokens as it can take, one of images an image of its size, one of sound a recording of its
length. Where a configuration leaves an extent open, it is guessed, and a note says so. A model that compares texts with
images (CLIP, SigLIP) or sounds (CLAP) gets both. One that reads images among the words of a text gets the text alone,
unless it cannot do without an image: how many words an image becomes depends on the image. Its part that sees gets the
patches of one image in a row, and how many rows and columns of them there are.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

from thalweg.errors import InputError
from thalweg.network.graph import written
from thalweg.network.readers.example import Example, Rows, Shape

TEXT, IMAGE, VIDEO, DECODER = "input_ids", "pixel_values", "pixel_values_videos", "decoder_input_ids"

_TOKENS = (
    "max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len", "model_max_length",
    "max_encoder_position_embeddings", "context_length",
)  # fmt: skip
"""What configurations call the most tokens that a model takes."""

_MOST_TOKENS = 1 << 16
"""Position ids of more tokens would be numbers that a run does not know."""
_GUESSED_TOKENS = 512
_GUESSED_SIDE = 224
_GUESSED_RATE = 16_000
_GUESSED_FRAMES = 1_000

_BINS = ("input_feat_per_channel", "num_mel_bins", "feature_projection_input_dim")
"""What configurations call how many numbers each frame of a spectrogram has."""

_IMAGE_TOKENS = ("image_token_id", "image_token_index", "audio_token_id", "audio_token_index")
"""What a configuration has where images or sounds stand among the words of a text."""

_GRIDS = ("grid_thw", "image_grid_thw")
"""What parts that see call the numbers of frames, and of rows and columns of patches in them, of every image."""
_PATCHES = ("hidden_states", IMAGE)
"""What they call the patches."""

_TOWERS = {"vision_config": IMAGE, "audio_config": "input_features"}
"""The part of a model with two towers that is not for texts, and what it takes."""


def found(module: Any) -> Example:
    """The inputs of a model.

    Raises:
        InputError: its configuration does not tell them.
    """
    names = _wanted(module)
    notes: list[str] = []
    shapes = [_image_in_patches(module, notes)] if _grid(module) else [_shape(name, module, notes) for name in names]
    known = tuple(each for each in shapes if each is not None)
    if not names or len(known) < len(shapes):
        raise InputError(
            f"What {type(module).__name__} takes ({', '.join(names or _takes(module))}) is not told by its "
            "configuration; give the input without the batch, as in --input 80x3000 or input=(80, 3000)."
        )
    if _places_images(module) and IMAGE in _takes(module) and IMAGE not in names:
        notes.append(
            "Only a text goes through the network, without images; ask about the part that sees them by itself, as in "
            "size(config.vision_config)."
        )
    return named(module, known, tuple(dict.fromkeys(notes)))


def named(module: Any, shapes: tuple[Shape, ...], notes: tuple[str, ...] = ()) -> Example:
    """Inputs by name; an encoder's decoder gets as many tokens as the encoder unless its extents are given too."""
    if _grid(module) and len(shapes) == 1:
        return _patches(module, shapes[0], notes)
    takes = _takes(module)
    mask = "attention_mask" if "attention_mask" in takes else ""
    wanted = _wanted(module)
    if getattr(module.config, "is_encoder_decoder", False) and DECODER in takes:
        main = module.main_input_name
        if len(shapes) == 1:
            tokens = shapes[0][:1] if main == TEXT else (1,)
            note = f"The decoder gets tokens of its own, {tokens[0]} of them; give a second input to change that."
            shapes, notes = (*shapes, tokens), (*notes, note)
        return Example(shapes, names=(main, DECODER), mask=mask, notes=notes)
    if len(shapes) == 1:
        names: tuple[str, ...] = (wanted or takes)[:1]
    elif len(shapes) == len(wanted):
        names = wanted
    else:
        names = takes[: len(shapes)]
    masked = names.index(TEXT) if TEXT in names else 0
    numbers = (("lengths", shapes[masked][:1]),) if TEXT in names and "lengths" in takes else ()  # of texts, in tokens
    return Example(shapes, names=names, mask=mask, masked=masked, notes=notes, numbers=numbers)


def _takes(module: Any) -> tuple[str, ...]:
    """The names of what a model takes, in their order."""
    return tuple(each.name for each in _parameters(module))


def _parameters(module: Any) -> list[inspect.Parameter]:
    every = inspect.signature(module.forward).parameters.values()
    return [each for each in every if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]


def _wanted(module: Any) -> tuple[str, ...]:
    """The names of what a model must be given, in their order."""
    takes = _takes(module)
    needed = {each.name for each in _parameters(module) if each.default is each.empty}
    if TEXT in takes and _places_images(module) and IMAGE not in needed:
        return (TEXT,)
    if module.main_input_name in takes:
        needed.add(module.main_input_name)
    if hasattr(module.config, "text_config"):
        for part, name in _TOWERS.items():
            if {TEXT, name} <= set(takes) and hasattr(module.config, part):
                needed |= {TEXT, name}
    if not needed:
        needed.update([name for name in takes if name in _SHAPES][:1])
    return tuple(name for name in takes if name in needed)


def _places_images(module: Any) -> bool:
    return any(isinstance(getattr(module.config, name, None), int) for name in _IMAGE_TOKENS)


def _grid(module: Any) -> str | None:
    """The name of the grid of patches that a part which sees takes beside them."""
    takes = _takes(module)
    return next((name for name in _GRIDS if name in takes), None) if TEXT not in takes else None


def _image_in_patches(module: Any, notes: list[str]) -> Shape | None:
    """The patches of one image of the size in the configuration."""
    patch, side = (_first(module.config, name) for name in ("patch_size", "image_size"))
    values = _values_of_a_patch(module, patch)
    if not isinstance(patch, int) or values is None:
        return None
    if not isinstance(side, int):
        side = _GUESSED_SIDE
        notes.append(f"An image of {side} x {side} pixels is a guess; give another number of patches to change it.")
    block = _block(module.config)
    return ((max(1, side // (patch * block)) * block) ** 2, values)


def _patches(module: Any, shape: Shape, notes: tuple[str, ...]) -> Example:
    """So many patches in a row, as those of an image that is as square as they allow."""
    grid, block, many = _grid(module), _block(module.config), math.prod(shape[:1])
    blocks, left = divmod(many, block**2)
    if left or not blocks:
        raise InputError(
            f"{many} patches make no image for {type(module).__name__}, which takes blocks of {block} x {block} of "
            f"them; give a multiple of {block**2}."
        )
    rows = next(number for number in range(math.isqrt(blocks), 0, -1) if blocks % number == 0)
    numbers: list[tuple[str, Rows]] = [(str(grid), ((1, rows * block, blocks // rows * block),))]
    takes = _takes(module)
    if "merge_sizes" in takes:
        numbers.append(("merge_sizes", (block,)))
    names = tuple(name for name in _PATCHES if name in takes)[:1]
    return Example((shape,), names=names, notes=notes, numbers=tuple(numbers), in_a_row=True)


def _block(config: Any) -> int:
    """How many patches along each side become one behind the part that sees."""
    found = _first(config, "spatial_merge_size", "merge_size")
    return found if isinstance(found, int) else 1


def _values_of_a_patch(module: Any, patch: int) -> int | None:
    """How many numbers the first layer takes of each patch: a window of its size, or else a fully connected one."""
    import torch

    layers = list(module.modules())
    windows = (each for each in layers if isinstance(each, torch.nn.Conv2d | torch.nn.Conv3d))
    window = next((each for each in windows if each.kernel_size[-2:] == (patch, patch)), None)
    if window is not None:
        return int(window.in_channels * math.prod(window.kernel_size))
    return next((int(each.in_features) for each in layers if isinstance(each, torch.nn.Linear)), None)


def _shape(name: str, module: Any, notes: list[str]) -> Shape | None:
    find = _SHAPES.get(name)
    return None if find is None else find(module, notes)


def _parts(config: Any) -> Iterator[Any]:
    """A configuration, then the configurations in it."""
    yield config
    for name in getattr(config, "sub_configs", None) or ():
        part = getattr(config, name, None)
        if part is not None:
            yield from _parts(part)


def _first(config: Any, *names: str) -> Any:
    """What the outermost configuration says that has one of these, None if none has."""
    return next(
        (value for part in _parts(config) for name in names if (value := getattr(part, name, None)) is not None), None
    )


def _tokens(module: Any, notes: list[str]) -> Shape:
    return _tokens_of(module, module.config, notes)


def _questions(module: Any, notes: list[str]) -> Shape:
    """The words that choose what is looked for in an image."""
    return _tokens_of(module, getattr(module.config, "qformer_config", module.config), notes)


def _tokens_of(module: Any, config: Any, notes: list[str]) -> Shape:
    longest = _first(config, *_TOKENS)
    if not isinstance(longest, int) or longest < 1:
        notes.append(f"The length of {_GUESSED_TOKENS} tokens is a guess; give another to change it.")
        return (_GUESSED_TOKENS,)
    if longest > _MOST_TOKENS:
        notes.append(f"It takes {longest:,} tokens; here it gets {_MOST_TOKENS:,}.")
        return (_MOST_TOKENS,)
    return (longest - _positions_before(module),)


def _positions_before(module: Any) -> int:
    """How many positions come before that of the first token: RoBERTa counts from behind that of the padding."""
    for name, each in module.named_modules():
        if name.endswith("position_embeddings") and getattr(each, "padding_idx", None) is not None:
            return int(each.padding_idx) + 1
    return 0


def _boxes(module: Any, notes: list[str]) -> Shape:
    return (*_tokens(module, notes), 4)


def _image(module: Any, notes: list[str]) -> Shape:
    channels = _first(module.config, "num_channels", "in_channels", "in_chans")
    size = _first(module.config, "image_size")
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    whole = (channels if isinstance(channels, int) else 3, *sides)
    if len(sides) != 2 or not all(isinstance(each, int) for each in sides):
        whole = (whole[0], _GUESSED_SIDE, _GUESSED_SIDE)
        notes.append(f"The input {written(whole)} is a guess; give another to change it.")
    frames = _first(module.config, "num_frames", "frames_per_clip")
    return (frames, *whole) if isinstance(frames, int) else whole


def _recording(module: Any, notes: list[str]) -> Shape:
    """A spectrogram of the length in the configuration, or a second of sound."""
    config = module.config
    if hasattr(config, "max_length") and hasattr(config, "num_mel_bins"):
        return (config.max_length, config.num_mel_bins)
    rate = _first(config, "sampling_rate")
    rate = rate if isinstance(rate, int) else _GUESSED_RATE
    notes.append(f"The recording of {rate:,} samples is a guess; give another length to change it.")
    channels = _first(config, "audio_channels")
    if not isinstance(channels, int):
        channels = 1 if hasattr(config, "codebook_size") else None  # codecs take channels, recognisers none
    return (rate,) if channels is None else (channels, rate)


def _spectrogram(module: Any, notes: list[str]) -> Shape | None:
    config = module.config
    if hasattr(config, "num_mel_bins") and hasattr(config, "max_source_positions"):
        return (config.num_mel_bins, 2 * config.max_source_positions)
    bins, side = _first(config, *_BINS), _first(config, "spec_size")
    if not isinstance(bins, int):
        return None
    if isinstance(side, int):  # of an image of so many rows and columns that a recording is folded into
        return (1, side * (side // bins), bins)
    notes.append(f"The recording of {_GUESSED_FRAMES:,} frames is a guess; give another number to change it.")
    return (_GUESSED_FRAMES, bins)


def _series(module: Any, notes: list[str]) -> Shape | None:
    config = module.config
    if hasattr(config, "context_length") and hasattr(config, "num_input_channels"):
        return (config.context_length, config.num_input_channels)
    return None


_SHAPES: dict[str, Callable[[Any, list[str]], Shape | None]] = {
    TEXT: _tokens,
    DECODER: _tokens,
    "qformer_input_ids": _questions,
    "bbox": _boxes,
    IMAGE: _image,
    VIDEO: _image,
    "input_values": _recording,
    "input_features": _spectrogram,
    "past_values": _series,
}
"""The extents of an input by its name, without the batch."""
