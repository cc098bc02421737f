"""Which axes of a program's input are positions: those that its first window moves along.

A convolution says where positions and channels are. A pooling window only says that the axes on which it has several
taps are positions; so the first convolution behind it is asked before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.network.readers.jax_values import POINTWISE

Tags = tuple[int | None, ...]
"""For every axis of a value the axis of the input that it is."""

_BODIES = ("call_jaxpr", "fun_jaxpr", "jaxpr")
_WINDOWS = ("reduce_window_sum", "reduce_window_max", "reduce_window_min")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in an input.

    Args:
        positions: the axes of positions, in order.
        channel: the axis of channels, where there is one.
    """

    positions: tuple[int, ...]
    channel: int | None

    @property
    def channels_first(self) -> bool:
        """Whether the channels come before the positions."""
        return self.channel is not None and bool(self.positions) and self.channel < self.positions[0]


def layout_of(closed: Any, place: int, usual: Layout) -> Layout:
    """The layout of the argument number `place` of a jaxpr.

    Args:
        closed: the jaxpr.
        place: the number of the argument.
        usual: the layout where no window tells another, or what it moves along are not axes of the input.
    """
    argument = closed.jaxpr.invars[place]
    pooled: list[Layout] = []
    found, _ = _follow(closed.jaxpr, {argument: tuple(range(len(argument.aval.shape)))}, pooled)
    if found is None and pooled and not set(pooled[0].positions) <= set(usual.positions):
        return pooled[0]
    return found or usual


def _follow(jaxpr: Any, tags: dict[Any, Tags], pooled: list[Layout]) -> tuple[Layout | None, list[Tags | None]]:
    """The layout that the first convolution tells, and the axes of the results; pooling windows are put aside."""
    for equation in jaxpr.eqns:
        known = [None if hasattr(each, "val") else tags.get(each) for each in equation.invars]
        held = next((each for each in known if each is not None), None)
        if held is None:
            continue
        body: Any = next((equation.params[key] for key in _BODIES if key in equation.params), None)
        if body is not None and equation.primitive.name not in ("scan", "while"):
            inner = getattr(body, "jaxpr", body)
            given = {each: tag for each, tag in zip(inner.invars, known, strict=False) if tag is not None}
            found, results = _follow(inner, given, pooled)
            if found is not None:
                return found, []
            tags |= {each: tag for each, tag in zip(equation.outvars, results, strict=False) if tag is not None}
            continue
        if equation.primitive.name == "conv_general_dilated" and known[0] is not None:
            _, channel, *places = equation.params["dimension_numbers"].lhs_spec
            return _layout(known[0], places, channel), []
        moved = _moved(equation, held)
        if equation.primitive.name in _WINDOWS:
            window, moved = equation.params["window_dimensions"], held
            places = [axis for axis, taps in enumerate(window) if taps > 1]
            rest = [axis for axis in range(1, len(window)) if axis not in places]
            told = _layout(held, places, rest[0] if len(rest) == 1 else None)
            pooled += [] if told is None else [told]
        if moved is not None:
            tags[equation.outvars[0]] = moved
    return None, [None if hasattr(each, "val") else tags.get(each) for each in jaxpr.outvars]


def _layout(tags: Tags, places: Sequence[int], channel: int | None) -> Layout | None:
    positions = [tags[axis] for axis in places]
    known = tuple([axis for axis in positions if axis is not None and axis > 0])
    if len(known) < len(positions) or not known:
        return None
    return Layout(tuple(sorted(known)), None if channel is None else tags[channel])


def _moved(equation: Any, held: Tags) -> Tags | None:
    """The axes of what an equation makes; None where they are not followed."""
    function, parameters, shape = equation.primitive.name, equation.params, equation.outvars[0].aval.shape
    if function == "transpose":
        return tuple([held[axis] for axis in parameters["permutation"]])
    if function == "squeeze":
        return tuple([tag for axis, tag in enumerate(held) if axis not in parameters["dimensions"]])
    if function == "broadcast_in_dim":
        spread: list[int | None] = [None] * len(shape)
        for tag, place in zip(held, parameters["broadcast_dimensions"], strict=False):
            spread[place] = tag
        return tuple(spread)
    if function == "reshape":
        return _reshaped(held, equation.invars[0].aval.shape, shape)
    if function in POINTWISE or function in ("pad", "concatenate", "slice"):
        return held if len(held) == len(shape) else None
    return None


def _reshaped(held: Tags, before: Sequence[int], after: Sequence[int]) -> Tags | None:
    """The axes where a reshape only puts in or takes out axes of extent 1."""
    wide = [(extent, tag) for extent, tag in zip(before, held, strict=True) if extent > 1]
    if [extent for extent, _ in wide] != [extent for extent in after if extent > 1]:
        return None
    left = iter(wide)
    return tuple([next(left)[1] if extent > 1 else None for extent in after])
