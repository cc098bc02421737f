"""`thalweg size MODEL [MODEL]`: what does the network cost and see, will it fit, and how do two compare?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.cli.common import Json, Save, alone, check_save, prints_aside, progress_bar, show

if TYPE_CHECKING:
    from thalweg.network.size import Size
    from thalweg.report import Result

_PROGRESS_MARKS = 1000


def size(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A spec, a file, or module:callable (file.py:callable) of a framework's model."
        ),
    ],
    other: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Another, to compare it with.")] = None,
    input: Annotated[  # noqa: A002
        str | None,
        typer.Option(
            metavar="112x112x3", help="Its extents in the framework's own order of axes; of several one each: 1x8x8,10."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="A row for every operation, not only for layers.")] = False,
    batch: Annotated[int | None, typer.Option(metavar="B", help="Will it fit: the memory for B examples.")] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="TYPE", help="float32, bfloat16, float16, float64, mixed-bfloat16, ...")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(metavar="NAME", help="adam, adamw, sgd, momentum, lion, ...")] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Activations are computed again instead of kept.")
    ] = False,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Where it is trained: cpu or cuda.")] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="24GiB", help="The largest batch that fits into so much memory.")
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(metavar="LAYER:INDEX", help="What one unit sees: conv3-64:0,5 (second: conv3-64#2:0,5)."),
    ] = None,
    weights: Annotated[
        bool,
        typer.Option("--weights", help="With --unit: also its gradient, with the weights that the model holds."),
    ] = False,
    reach: Annotated[
        int | None, typer.Option(metavar="N", help="The cheapest changes with which a unit sees N positions.")
    ] = None,
    changes: Annotated[
        bool, typer.Option("--changes", help="What a larger kernel, stride, one more layer, ... would do.")
    ] = False,
    layer: Annotated[
        str | None, typer.Option(metavar="LAYER", help="The layer that --reach and --changes ask about.")
    ] = None,
    json: Json = False,
    save: Save = None,
) -> None:
    """Neurons, parameters, connections and receptive fields of every layer, exactly; and the memory to train it.

    thalweg size "input 112x112x3; conv3-64; maxpool; conv3-128 x2; maxpool; FC-100"
    thalweg size my_models:resnet --input 3x224x224 --batch 32 --memory 24GiB

    A spec lists layers, between semicolons or on lines of their own:

    conv3-64/2 (3x3, 64 channels, stride 2), depthwise3, convt2-64/2 (transposed),
    maxpool, avgpool3/2, globalavgpool, upsample2, FC-100, bn, relu, dropout,
    crop 1, pad 1, flatten, reshape 7x7x64.

    Options: same, valid, pad 1, dilation 2, groups 4, ceil, nobias, frozen.

    x3 repeats a layer, or a group in parentheses; # starts a comment; labels
    name branches: "start:; conv3-64; relu; conv3-64; add start".
    """
    check_save(save)
    about_memory: dict[str, Any] = {
        "batch": batch, "dtype": dtype, "optimizer": optimizer, "checkpointing": checkpointing or None,
        "device": device,
    }  # fmt: skip
    aside: dict[str, Any] = {"all": every or None, "memory": memory}
    if other is not None:
        alone(
            "A comparison of two networks",
            **aside, unit=unit, weights=weights or None, reach=reach, changes=changes or None, layer=layer,
        )  # fmt: skip
    elif unit is not None:
        alone("--unit", **aside, **about_memory, reach=reach, changes=changes or None, layer=layer)
    elif reach is not None:
        alone("--reach", **aside, **about_memory, changes=changes or None)
    elif changes:
        alone("--changes", **aside, **about_memory)
    from thalweg.errors import InputError
    from thalweg.network.byte_sizes import parse_bytes
    from thalweg.network.readers.reading import opened
    from thalweg.network.size import size as measure
    from thalweg.network.training_step import Setup

    if weights and unit is None:
        raise InputError("The weights are asked for the gradient of one unit; add --unit LAYER:INDEX.")
    if layer is not None and reach is None and not changes:
        raise InputError("--layer says which layer --reach and --changes ask about; add one of them.")
    asked = Setup.of(**{name: value for name, value in about_memory.items() if value is not None})
    room = None if memory is None else parse_bytes(memory)
    found: Result
    with prints_aside():
        answer = measure(opened(model, weights=True) if weights else model, input).trained_with(asked)
        if reach is not None or changes:
            found = _changes(answer, reach, layer)
        elif unit is not None:
            found = _unit(answer, unit, weights)
        elif other is not None:
            found = answer.compare(measure(other, input), (model, other))
        else:
            with_memory = any(value is not None for value in about_memory.values())
            found = _whole(answer.in_full() if every else answer, with_memory, room)
    show(found, json=json, save=save)


def _whole(answer: Size, with_memory: bool, room: int | None) -> Result:
    """All layers, and where asked the memory for the answer's setup and the largest batch in so many bytes."""
    from thalweg.report import Together

    parts: list[tuple[str, Result]] = [("", answer)]
    setup = answer.setup
    if with_memory:
        parts.append(("memory", answer.asked_memory()))
    if room is not None:
        largest = answer.largest_batch(room, setup.dtype, setup.optimizer, setup.checkpointing, setup.device)
        parts.append(("largest_batch", largest))
    return answer if len(parts) == 1 else Together(tuple(parts))


def _changes(answer: Size, reach: int | None, layer: str | None) -> Result:
    """What would let the units of a layer see `reach` positions, or what every change would do."""
    with progress_bar("changes", _PROGRESS_MARKS) as advance:

        def progress(share: float) -> None:
            advance(int(share * _PROGRESS_MARKS))

        return answer.changes(layer, progress) if reach is None else answer.reach(reach, layer, progress)


def _unit(answer: Size, unit: str, weights: bool) -> Result:
    """What the unit of `LAYER:INDEX` sees, how the paths to it are spread, and with weights also its gradient."""
    from thalweg.errors import InputError
    from thalweg.report import Together

    layer, sign, index = unit.rpartition(":")
    numbers = [part.strip() for part in (index if sign else "").split(",") if part.strip()]
    layer = layer if sign else unit
    if not all(number.isdecimal() and len(number) < 20 for number in numbers):
        raise InputError(f"{unit!r} is not a unit; write a layer, a colon and its position, such as 'maxpool:3,4'.")
    position = [int(number) for number in numbers]
    parts: list[tuple[str, Result]] = [
        ("", answer.unit(layer, position)),
        ("effective", answer.effective(layer, position)),
    ]
    if weights:
        parts.append(("measured", answer.measured(layer, position)))
    return Together(tuple(parts))
