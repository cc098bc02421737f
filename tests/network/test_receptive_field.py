"""Receptive fields against two oracles that know nothing of intervals, on random graphs, and against published rows."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from thalweg.errors import InputError
from thalweg.network.graph import Kind
from thalweg.network.readers.spec import read_spec
from thalweg.network.receptive_field import ReceptiveFields

# ------------------------------------------------------------------------------------------- what a unit depends on


def taps_1d(operation, axis, unit):
    """The input positions that one output position reads along one axis, whether they exist or not."""
    window = operation.window
    kernel, stride, dilation, low = (each[axis] for each in (window.kernel, window.stride, window.dilation, window.low))
    if operation.kind is Kind.UPSAMPLE:
        if kernel == stride:  # nearest
            return [unit // stride]
        middle = (unit + 0.5) / stride - 0.5
        return [t for t in (math.floor(middle), math.floor(middle) + 1) if abs(t - middle) < 1]
    if not window.transposed:
        return [unit * stride - low + dilation * k for k in range(kernel)]
    starts = [unit + low - dilation * k for k in range(kernel)]
    return [start // stride for start in starts if start % stride == 0]


def taps(operation, position):
    return itertools.product(*(taps_1d(operation, axis, unit) for axis, unit in enumerate(position)))


def forward(graph):
    """Every tensor for a batch of unit impulses, all weights one: which outputs are positive is who depends on what.

    Arrays are (positions..., impulses), the channels added up.
    """
    extents = graph.inputs[0].extents
    count = math.prod(extents)
    values = {graph.inputs[0].id: np.eye(count).reshape(*extents, count)}
    for operation in graph.operations:
        inputs = [values[tensor.id] for tensor in operation.inputs]
        x, output = inputs[0], operation.output
        if operation.window is not None:
            y = np.zeros((*output.extents, count))
            for position in np.ndindex(*output.extents):
                for tap in taps(operation, position):
                    if all(0 <= t < n for t, n in zip(tap, operation.input.extents, strict=True)):
                        y[position] += x[tap]
                    elif operation.kind is Kind.UPSAMPLE:  # interpolation repeats the border
                        y[position] += x[tuple(np.clip(tap, 0, np.array(operation.input.extents) - 1))]
            if operation.kind is Kind.PAD or operation.kind is Kind.CROP:
                assert y.max() <= x.max()
        elif operation.kind in (Kind.ADD, Kind.CONCATENATE):
            y = sum(inputs)
        elif operation.kind is Kind.GLOBAL_POOL:
            y = x.reshape(-1, count).sum(0).reshape(*output.extents, count)
        elif operation.kind is Kind.LINEAR:
            y = x.reshape(-1, count).sum(0)
        else:
            assert operation.kind is Kind.ACTIVATION
            y = x
        values[output.id] = np.minimum(y, 1)
    return values


class Unbounded:
    """The same dependence on maps without borders, as sets of input positions, each an integer used as bits."""

    def __init__(self, graph):
        self.graph = graph
        self.makers = {operation.output.id: operation for operation in graph.operations}
        self.axes = len(graph.inputs[0].spatial)
        self.width = {1: 4096, 2: 256, 3: 64}[self.axes]
        self.sets = {}

    def of(self, tensor, position):
        key = (tensor.id, position)
        if key not in self.sets:
            self.sets[key] = self._union(tensor, position)
        return self.sets[key]

    def _union(self, tensor, position):
        if tensor.id == self.graph.inputs[0].id:
            bit = 0
            for unit in position:
                if abs(unit) >= self.width // 2:
                    raise OverflowError("this field is larger than the oracle can hold")
                bit = bit * self.width + unit + self.width // 2
            return 1 << bit
        operation = self.makers[tensor.id]
        places = taps(operation, position) if operation.window is not None else [position]
        result = 0
        for place in places:
            for source in operation.inputs:
                result |= self.of(source, place)
        return result

    def box(self, tensor, position):
        """The first and last position along every axis, None for nothing."""
        bits = self.of(tensor, position)
        if not bits:
            return None
        size = self.width**self.axes // 8
        rows = np.frombuffer(bits.to_bytes(size, "little"), np.uint8).reshape(-1, self.width // 8)
        last = np.unpackbits(np.bitwise_or.reduce(rows, axis=0), bitorder="little")
        others = rows.any(axis=1).reshape((self.width,) * (self.axes - 1))
        origin = self.width // 2
        return (*(bounding_box(others, origin) if self.axes > 1 else ()), *bounding_box(last, origin))


def bounding_box(mask, origin=0):
    if not mask.any():
        return None
    places = np.nonzero(mask)
    return tuple((int(each.min()) - origin, int(each.max()) - origin) for each in places)


# --------------------------------------------------------------------------------------------------- random networks


def random_layer(rng, axes):
    """One layer that keeps one channel, with anything the notation offers."""

    def size(low, high):
        return "x".join(str(rng.randint(low, high)) for _ in range(axes))

    padding = rng.choice(["", "same", "valid", f"pad {size(0, 3)}", f"pad {size(0, 2)},{size(0, 2)}"])
    window = f"{size(1, 4)}-1/{size(1, 3)} {padding}"
    dilation = f"dilation {size(1, 3)}" if rng.random() < 0.4 else ""
    return rng.choice(
        [
            f"conv{window} {dilation}",
            f"conv{size(1, 3)}-1 {dilation}",
            f"maxpool{size(1, 3)}/{size(1, 3)} {rng.choice(['', 'ceil', 'same', 'pad 1', 'pad 1 ceil'])} {dilation}",
            "avgpool",
            f"convt{size(1, 4)}-1/{size(1, 3)} {rng.choice(['', 'valid', 'pad 1', 'pad 0,1 outpad 1'])} {dilation}",
            f"upsample{size(1, 3)} {rng.choice(['', 'bilinear'])}",
            f"crop {size(0, 2)},{size(0, 2)}",
            f"pad {size(0, 3)},{size(0, 3)}",
            "relu",
        ]
    )


def read_small(text):
    """The graph, or None where the layers do not fit or grow beyond what the oracles can do."""
    try:
        graph = read_spec(text)
    except InputError:
        return None
    axes = len(graph.inputs[0].spatial)
    most = {1: 40, 2: 12, 3: 6}[axes]
    return graph if max(max(each.output.extents, default=1) for each in graph.operations) <= most else None


def extended(rng, text, layers, axes):
    graph = None
    for _ in range(layers):
        longer = f"{text}\n{random_layer(rng, axes)}"
        larger = read_small(longer)
        if larger is not None:
            text, graph = longer, larger
    return text, graph or read_small(text)


def branched(rng, text, name, axes):
    """Two branches from here that are cut or padded to the same extents and joined."""
    text, _ = extended(rng, f"{text}\n{name}:\n", rng.randint(1, 3), axes)
    text, one = extended(rng, f"{text}\nrelu\n{name}1:\nfrom {name}\nrelu", 0, axes)
    extents = one.operations[-2].output.extents
    text, two = extended(rng, text, rng.randint(0, 3), axes)
    before, after = [], []
    for mine, wanted in zip(two.operations[-1].output.extents, extents, strict=True):
        first = rng.randint(min(0, wanted - mine), max(0, wanted - mine))
        before.append(first)
        after.append(wanted - mine - first)
    sides = [
        [f"{'x'.join(str(max(0, sign * width)) for width in side)}" for side in (before, after)] for sign in (1, -1)
    ]
    longer = (
        f"{text}\npad {','.join(sides[0])}\ncrop {','.join(sides[1])}\n{rng.choice(['add', 'concat'])} {name}1\nconv1-1"
    )
    return longer if read_small(longer) else text


def random_network(seed):
    rng = random.Random(seed)
    axes = rng.choice([1, 1, 2, 2, 2, 2, 3])
    most = {1: 30, 2: 10, 3: 5}[axes]
    shape = "x".join(str(rng.randint(most // 2, most)) for _ in range(axes))
    text, _ = extended(rng, f"input {shape}x1\nrelu", rng.randint(1, 4), axes)
    for number in range(rng.randint(0, 2)):
        text = branched(rng, text, f"skip{number}", axes)
        text, _ = extended(rng, text, rng.randint(0, 2), axes)
    if rng.random() < 0.3:
        text += rng.choice(["\nglobalavgpool", "\nFC-3; relu; FC-2"])
    return text, read_spec(text)


SEEDS = range(240)


@pytest.mark.parametrize("block", range(8))
def test_clipped_intervals_are_those_of_the_impulse_responses(block):
    units = 0
    for seed in SEEDS[block::8]:
        text, graph = random_network(seed)
        fields, responses = ReceptiveFields(graph), forward(graph)
        for operation in graph.operations:
            tensor = operation.output
            response = responses[tensor.id].reshape(*tensor.extents, *graph.inputs[0].extents)
            field = fields.clipped(tensor)
            for position in np.ndindex(*tensor.extents):
                index = position or (0,) * len(graph.inputs[0].spatial)
                assert field.ends(index) == bounding_box(response[position]), (seed, text, operation.name, position)
                units += 1
    assert units > 2_000  # more than 10,000 over the eight blocks


@pytest.mark.parametrize("block", range(8))
def test_unclipped_intervals_are_those_of_maps_without_borders(block):
    units = 0
    for seed in SEEDS[block::8]:
        text, graph = random_network(seed)
        fields, oracle = ReceptiveFields(graph), Unbounded(graph)
        for operation in graph.operations:
            if operation.kind in (Kind.LINEAR, Kind.GLOBAL_POOL):
                break
            tensor = operation.output
            try:
                boxes = {position: oracle.box(tensor, position) for position in np.ndindex(*tensor.extents)}
            except OverflowError:
                break
            units += len(boxes)
            for position, box in boxes.items():
                assert fields.of(tensor).ends(position) == box, (seed, text, operation.name, position)
            check_views(fields.view(tensor), boxes, (seed, text, operation.name))
    assert units > 2_000


def check_views(views, boxes, where):
    """Size, stride, first and phases, from the intervals of all units one by one."""
    for axis, view in enumerate(views):
        seen = [(position[axis], box[axis]) for position, box in boxes.items() if box is not None]
        assert view.size == max((hi - lo + 1 for _, (lo, hi) in seen), default=0), where
        assert view.first == min((lo for unit, (lo, _) in seen if unit == 0), default=None), where
        lowest = {}
        for unit, (lo, _) in seen:
            lowest.setdefault(unit, set()).add(lo)
        if view.stride is not None:
            for unit in lowest:
                assert lowest[unit] == {view.first + unit * view.stride}, where
        if view.phases is not None:
            for unit, (lo, hi) in seen:
                assert view.phases[unit % len(view.phases)] == hi - lo + 1, where


def test_the_random_networks_hold_what_makes_fields_hard():
    # Without these the two tests above could pass for the wrong reason.
    found = set()
    for seed in SEEDS[::2]:
        _, graph = random_network(seed)
        fields = ReceptiveFields(graph)
        found.add(f"{len(graph.inputs[0].spatial)} axes")
        found.update(operation.kind for operation in graph.operations)
        for operation in graph.operations:
            field = fields.of(operation.output)
            if len(field.terms) > 1:
                found.add("several terms")
            views = fields.view(operation.output)
            if any(view.phases for view in views):
                found.add("phases")
            if any(view.size > view.stride * 50 for view in views if view.stride):
                found.add("large")
            for interval in field.terms[0] if field.terms else ():
                if None in interval.lo:
                    found.add("gaps")
                known = [lo for lo in interval.lo if lo is not None]
                if known != sorted(known):
                    found.add("not monotone")
            if len(fields.clipped(operation.output).terms) > 1:
                found.add("several clipped terms")
        if fields.misaligned:
            found.add("misaligned")
        if any(found_one.offset is None for found_one in fields.misaligned):
            found.add("different paces")
    expected = {
        "1 axes",
        "2 axes",
        "3 axes",
        "several terms",
        "several clipped terms",
        "phases",
        "gaps",
        "not monotone",
    }
    expected |= {"misaligned", "different paces", Kind.ADD, Kind.CONCATENATE, Kind.CROP, Kind.PAD, Kind.UPSAMPLE}
    expected |= {Kind.CONVOLUTION, Kind.MAX_POOL, Kind.AVERAGE_POOL, Kind.LINEAR, Kind.GLOBAL_POOL}
    assert expected <= found, expected - found
