"""`thalweg size MODEL`: what does the network cost and see?"""

from __future__ import annotations

from typing import Annotated

import typer

from thalweg.cli.common import Json, Save, check_save, progress_bar, show

_PROGRESS_MARKS = 1000


def size(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A spec, or a text file that holds one.")],
    input: Annotated[  # noqa: A002
        str | None, typer.Option(metavar="112x112x3", help="The extents of the input, channels last.")
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(metavar="LAYER:INDEX", help="What one unit sees: conv3-64:0,5 (second: conv3-64#2:0,5)."),
    ] = None,
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
    """Neurons, parameters, connections and receptive fields of every layer, exactly.

    thalweg size "input 112x112x3; conv3-64; maxpool; conv3-128 x2; maxpool; FC-100"

    A spec lists layers, between semicolons or on lines of their own:

    conv3-64/2 (3x3, 64 channels, stride 2), depthwise3, convt2-64/2 (transposed),
    maxpool, avgpool3/2, globalavgpool, upsample2, FC-100, bn, relu, dropout,
    crop 1, pad 1, flatten, reshape 7x7x64.

    Options: same, valid, pad 1, dilation 2, groups 4, ceil, nobias, frozen.

    x3 repeats a layer, or a group in parentheses; # starts a comment; labels
    name branches: "start:; conv3-64; relu; conv3-64; add start".
    """
    check_save(save)
    from thalweg.errors import InputError
    from thalweg.network.size import size as measure

    answer = measure(model, input)
    if reach is not None or changes:
        with progress_bar("changes", _PROGRESS_MARKS) as advance:

            def progress(share: float) -> None:
                advance(int(share * _PROGRESS_MARKS))

            found = answer.changes(layer, progress) if reach is None else answer.reach(reach, layer, progress)
        show(found, json=json, save=save)
        return
    if unit is None:
        show(answer, json=json, save=save)
        return
    layer, sign, index = unit.rpartition(":")
    numbers = [part.strip() for part in (index if sign else "").split(",") if part.strip()]
    layer = layer if sign else unit
    if not all(number.isdecimal() and len(number) < 20 for number in numbers):
        raise InputError(f"{unit!r} is not a unit; write a layer, a colon and its position, such as 'maxpool:3,4'.")
    show(answer.unit(layer, [int(number) for number in numbers]), json=json, save=save)
