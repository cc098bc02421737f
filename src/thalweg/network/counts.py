"""How large a network is: neurons, parameters, connections and multiply-accumulates, as exact integers.

Neurons are the output units of layers with weights and of pooling layers; activations, normalisation, dropout,
reshaping, additions and concatenations are not layers of neurons. Connections are the input connections of those
units, without biases: (kernel volume) x (input channels of the group) for each unit of a convolution, the window for
each unit of a pooling layer, the inputs for each unit of a fully connected one. `connections_inside` leaves out those
that fall on zero padding, whether the layer pads by itself or a `pad` stands before it. A transposed convolution has
as many connections as the convolution that it transposes: (kernel volume) x (output channels of the group) for each
INPUT unit; those that reach beyond its output are left out of `connections_inside`. Multiply-accumulates are those of
convolutions and fully connected layers, without biases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thalweg.network.graph import Border, Graph, Kind, Operation, Tensor, Window

POOLS = frozenset({Kind.MAX_POOL, Kind.AVERAGE_POOL, Kind.GLOBAL_POOL})
NEURONS = POOLS | {Kind.CONVOLUTION, Kind.LINEAR, Kind.EMBEDDING, Kind.RECURRENT}
"""The kinds whose output units are neurons."""

_Margin = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """How large one operation is, or several together.

    Args:
        neurons: output units.
        parameters: numbers that are learned or were learned, biases included.
        trainable: those of them that are not frozen.
        connections: input connections of the units, without biases.
        connections_inside: those that do not fall on zero padding.
        macs: multiply-accumulates for one example.
    """

    neurons: int = 0
    parameters: int = 0
    trainable: int = 0
    connections: int = 0
    connections_inside: int = 0
    macs: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.neurons + other.neurons,
            self.parameters + other.parameters,
            self.trainable + other.trainable,
            self.connections + other.connections,
            self.connections_inside + other.connections_inside,
            self.macs + other.macs,
        )


def count(graph: Graph) -> tuple[Counts, ...]:
    """The counts of every operation, in order; of one of unknown kind the parameters alone are known, and in them.

    Shared weights are counted where they are used first, so that the column of parameters adds up to the total.
    """
    margins: dict[int, _Margin] = {}
    seen: set[str] = set()
    return tuple([_count(operation, margins, seen) for operation in graph.operations])


def _count(operation: Operation, margins: dict[int, _Margin], seen: set[str]) -> Counts:
    parameters = trainable = 0
    for weight in operation.weights:
        if weight.identity not in seen:
            seen.add(weight.identity)
            parameters += weight.size
            trainable += weight.size if weight.trainable else 0
    source, output = operation.input, operation.output
    margin = margins.get(source.id, ((0, 0),) * len(source.extents))
    window = operation.window
    if operation.kind in (Kind.PAD, Kind.CROP) and window is not None and window.border is Border.ZEROS:
        margins[output.id] = tuple(
            (max(0, before + low), max(0, after + high))
            for (before, after), low, high in zip(margin, window.low, window.high, strict=True)
        )
        return Counts(parameters=parameters, trainable=trainable)
    if operation.work is not None:
        work, neurons = operation.work, output.size if operation.kind in NEURONS else 0
        return Counts(neurons, parameters, trainable, work.connections, work.inside, work.macs)
    if operation.kind is Kind.CONVOLUTION and operation.window is not None:
        window = operation.window
        across = source.channels // operation.groups * (output.size // math.prod(output.extents))
        positions = math.prod(source.extents if window.transposed else output.extents)
        connections = positions * window.volume * across
        inside = _taps_inside(window, source, output, margin) * across
        return Counts(output.size, parameters, trainable, connections, inside, connections)
    if operation.kind is Kind.LINEAR:
        connections = source.size * output.size
        inside = _units_inside(source, margin) * output.size
        return Counts(output.size, parameters, trainable, connections, inside, connections)
    if operation.kind is Kind.GLOBAL_POOL:
        return Counts(output.size, parameters, trainable, source.size, _units_inside(source, margin))
    if operation.kind in POOLS and operation.window is not None:
        connections = output.size * operation.window.volume
        inside = _taps_inside(operation.window, source, output, margin) * (output.size // math.prod(output.extents))
        return Counts(output.size, parameters, trainable, connections, inside)
    return Counts(parameters=parameters, trainable=trainable)


def _units_inside(tensor: Tensor, margin: _Margin) -> int:
    kept = (extent - before - after for extent, (before, after) in zip(tensor.extents, margin, strict=True))
    return math.prod(max(0, extent) for extent in kept) * tensor.size // math.prod(tensor.extents)


def _taps_inside(window: Window, source: Tensor, output: Tensor, margin: _Margin) -> int:
    """How many pairs of an output position and a tap meet an input position that is not padding."""
    pairs = 1
    for axis, (extent, result, (before, after)) in enumerate(zip(source.extents, output.extents, margin, strict=True)):
        image = (before, max(before, extent - after))
        whole = (0, result)
        units, targets = (image, whole) if window.transposed else (whole, image)
        pairs *= taps_inside(
            units, targets, window.kernel[axis], window.stride[axis], window.dilation[axis], window.low[axis]
        )
    return pairs


def taps_inside(
    units: tuple[int, int], targets: tuple[int, int], kernel: int, stride: int, dilation: int, low: int
) -> int:
    """The number of pairs (i, k), i in units, 0 <= k < kernel, with i * stride - low + dilation * k in targets.

    Both ranges leave out their end. Closed form, in a number of steps that grows with the logarithm of the numbers.

        >>> taps_inside((0, 112), (0, 112), kernel=3, stride=1, dilation=1, low=1)  # 3 * 112 less one at each end
        334
    """
    start, stop = units
    return _pairs_below(start, stop, targets[1] + low, kernel, stride, dilation) - _pairs_below(
        start, stop, targets[0] + low, kernel, stride, dilation
    )


def _pairs_below(start: int, stop: int, bound: int, kernel: int, stride: int, dilation: int) -> int:
    """The number of pairs (i, k), start <= i < stop, 0 <= k < kernel, with i * stride + dilation * k < bound."""
    # Tap k meets min(ceil((bound - dilation k) / stride), stop) - start units, none where this is negative: first all
    # units, then fewer with every tap, then none.
    all_units = _clamp((bound - 1 - (stop - 1) * stride) // dilation + 1, 0, kernel)
    some_units = _clamp((bound - 1 - start * stride) // dilation + 1, 0, kernel)
    if stop <= start or some_units == 0:
        return 0
    pairs = all_units * (stop - start)
    fewer = some_units - all_units
    if fewer:
        # Counted from the last of these taps, whose room is the least, so that every term is positive.
        least = bound - dilation * (some_units - 1) - start * stride
        pairs += floor_sum(fewer, stride, dilation, least + stride - 1)
    return pairs


def _clamp(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


def floor_sum(terms: int, divisor: int, factor: int, offset: int) -> int:
    """The sum of floor((factor * i + offset) / divisor) over 0 <= i < terms, by Euclid's algorithm.

    All arguments are at least 0, the divisor at least 1 (Graham, Knuth and Patashnik, Concrete Mathematics, 3.5).

    >>> floor_sum(4, 3, 2, 1)  # floor of 1/3, 3/3, 5/3, 7/3
    4
    """
    total = 0
    while terms:
        total += terms * (terms - 1) // 2 * (factor // divisor) + terms * (offset // divisor)
        factor, offset = factor % divisor, offset % divisor
        # What is left counts the lattice points under a line; turned on its side it is the same problem, smaller.
        terms, offset = divmod(factor * terms + offset, divisor)
        divisor, factor = factor, divisor
    return total
