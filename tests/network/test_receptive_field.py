"""Receptive fields against two oracles that know nothing of intervals, on random graphs, and against published rows."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import InputError
from thalweg.network.field_views import AxisView, Misalignment
from thalweg.network.graph import Graph, Kind, Operation, Piece, Pieces, Tensor
from thalweg.network.piecewise import Piecewise
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
        elif operation.pieces is not None:
            y = np.concatenate([piece_of(piece, inputs, operation) for piece in operation.pieces.parts], PIECED)
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


PIECED = 0  # the axis that is put together of pieces


def piece_of(piece, inputs, operation):
    if piece.source is None:
        return np.zeros((piece.length, *operation.output.extents[1:], inputs[0].shape[-1]))
    return inputs[piece.source][[piece.start + piece.step * number for number in range(piece.length)]]


def source_of(pieces, unit):
    """The input and the position that a position of pieces comes from; the outermost go on for ever."""
    held = [number for number, piece in enumerate(pieces) if piece.source is not None]
    begins = [sum(piece.length for piece in pieces[:number]) for number in range(len(pieces))]
    for number, (piece, begin) in enumerate(zip(pieces, begins, strict=True)):
        before, after = unit < begin and number == held[0], unit >= begin + piece.length and number == held[-1]
        if piece.source is not None and (begin <= unit < begin + piece.length or before or after):
            return piece.source, piece.start + piece.step * (unit - begin)
    return None


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
        if operation.pieces is not None:
            found = source_of(operation.pieces.parts, position[PIECED])
            return 0 if found is None else self.of(operation.inputs[found[0]], (found[1], *position[1:]))
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


def random_pieces(rng, graph):
    """The network with its last map put together anew, of pieces of itself and of an earlier one as large around."""
    last = graph.operations[-1].output
    fitting = [each.output for each in graph.operations if each.output.extents[1:] == last.extents[1:]]
    sources = (last, rng.choice(fitting))
    parts = []
    for _ in range(rng.randint(1, 4)):
        source, length = rng.choice([0, 0, 1, None]), rng.randint(1, 6)
        extent = sources[source or 0].extents[PIECED]
        step = rng.choice([1, 1, 1, 2, -1, -2, 0])
        length = min(length, (extent - 1) // max(1, abs(step)) + 1)
        reach = (length - 1) * step
        start = rng.randint(max(0, -reach), extent - 1 - max(0, reach))
        parts.append(Piece(length) if source is None else Piece(length, source, start, step))
    if all(piece.source is None for piece in parts):
        parts.append(Piece(sources[0].extents[PIECED], 0))
    extents = (sum(piece.length for piece in parts), *last.extents[1:])
    made = last.with_extents(last.id + 1, extents, last.channels)
    pieces = Pieces(PIECED, tuple(parts))
    joined = Operation(Kind.CONCATENATE, "pieces", sources, (made,), pieces=pieces, traced=True)
    return Graph(graph.inputs, (*graph.operations, joined))


def continued(rng, graph, layers):
    """The network with more layers, each as random as those before."""
    for _ in range(layers):
        last = graph.operations[-1].output
        extents = "x".join(map(str, last.extents))
        more = read_small(f"input {extents}x1\n{random_layer(rng, len(last.extents))}")
        if more is not None:
            step = more.operations[-1]
            made = replace(step.output, id=last.id + 1)
            graph = Graph(graph.inputs, (*graph.operations, replace(step, inputs=(last,), outputs=(made,))))
    return graph


def random_patchwork(seed):
    """A random network that is put together of pieces twice, with layers behind each time."""
    rng = random.Random(seed)
    axes = rng.choice([1, 1, 1, 2, 2, 3])
    most = {1: 20, 2: 8, 3: 4}[axes]
    shape = "x".join(str(rng.randint(most // 2, most)) for _ in range(axes))
    _, graph = extended(rng, f"input {shape}x1\nrelu", rng.randint(1, 3), axes)
    for _ in range(2):
        graph = continued(rng, random_pieces(rng, graph), rng.randint(0, 3))
        last, made = graph.operations[-1], random_pieces(rng, graph)
        if made.operations[-1].output.extents == last.output.extents and rng.random() < 0.5:  # branches over seams
            both = (last.output, made.operations[-1].output)
            met = replace(last.output, id=both[1].id + 1)
            graph = Graph(graph.inputs, (*made.operations, Operation(Kind.ADD, "add", both, (met,))))
    return graph


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


@pytest.mark.parametrize("block", range(6))
def test_unclipped_intervals_are_those_of_maps_without_borders(block):
    units = 0
    for seed in SEEDS[block::12]:
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


@pytest.mark.parametrize("block", range(4))
def test_maps_put_together_of_pieces_see_what_their_pieces_see(block):
    units = pieced = 0
    for seed in range(block, 240, 4):
        graph = random_patchwork(seed)
        fields, responses, oracle = ReceptiveFields(graph), forward(graph), Unbounded(graph)
        for operation in graph.operations:
            tensor = operation.output
            response = responses[tensor.id].reshape(*tensor.extents, *graph.inputs[0].extents)
            inside, boxes = fields.clipped(tensor), {}
            for position in np.ndindex(*tensor.extents):
                where = (seed, operation, position)
                assert inside.ends(position) == bounding_box(response[position]), where
                with contextlib.suppress(OverflowError):
                    boxes[position] = oracle.box(tensor, position)
                    assert fields.of(tensor).ends(position) == boxes[position], where
            if len(boxes) == math.prod(tensor.extents):
                check_views(fields.view(tensor), boxes, (seed, operation))
            units += len(boxes)
            pieced += any(isinstance(each, Piecewise) for term in fields.of(tensor).terms for each in term)
    assert units > 4_000
    assert pieced > 100


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


# --------------------------------------------------------------------------------------- worked examples, published


def fields_of(text):
    """Views of all layers along the first axis, by name."""
    graph = read_spec(text)
    fields = ReceptiveFields(graph)
    return {operation.name: fields.view(operation.output)[0] for operation in graph.operations}


def size_stride_first(view):
    return view.size, view.stride, view.first


TEXTBOOK = "conv3-64; maxpool; conv3-128; maxpool; conv3-256 x2; {}"


def test_the_worked_example_of_f3_3():
    # Mission F3.3: the last pooling layer sees 30, and with one more pool 60 when it comes first, 38 when last.
    for text, size, stride in (
        ("input 112x112x3;" + TEXTBOOK.format("end: maxpool"), 30, 8),
        ("input 224x224x3; maxpool;" + TEXTBOOK.format("end: maxpool"), 60, 16),
        ("input 224x224x3;" + TEXTBOOK.format("maxpool; end: maxpool"), 38, 16),
    ):
        view = fields_of(text)["end"]
        assert (view.size, view.stride, view.phases) == (size, stride, None)


# TF-Slim's networks as published in google-research/receptive_field, RECEPTIVE_FIELD_TABLE.md at f12ae8e: receptive
# field, effective stride, effective padding (which is minus our `first`).
PUBLISHED = {
    "alexnet_v2": (
        """
        input 224x224x3
        conv1: conv11-64/4 valid; pool1: maxpool3/2; conv2: conv5-192; maxpool3/2
        conv3: conv3-384; conv4: conv3-384; conv5: conv3-256; pool5: maxpool3/2
        """,
        {
            "conv1": (11, 4, 0),
            "pool1": (19, 8, 0),
            "conv2": (51, 8, 16),
            "conv3": (99, 16, 32),
            "conv4": (131, 16, 48),
            "conv5": (163, 16, 64),
            "pool5": (195, 32, 64),
        },
    ),
    "vgg_16": (
        """
        input 224x224x3
        conv3-64 x2; pool1: maxpool; conv3-128 x2; pool2: maxpool; conv3-256 x3; pool3: maxpool
        conv3-512 x3; pool4: maxpool; conv5_1: conv3-512; conv5_2: conv3-512; conv3-512; pool5: maxpool
        """,
        {
            "pool1": (6, 2, 2),
            "pool2": (16, 4, 6),
            "pool3": (44, 8, 18),
            "pool4": (100, 16, 42),
            "conv5_1": (132, 16, 58),
            "conv5_2": (164, 16, 74),
            "pool5": (212, 32, 90),
        },
    ),
    "mobilenet_v1": (
        """
        input 224x224x3
        c0: conv3-32/2; depthwise3; c1: conv1-64; depthwise3/2; c2: conv1-128; depthwise3; c3: conv1-128
        depthwise3/2; c4: conv1-256; depthwise3; c5: conv1-256; depthwise3/2; c6: conv1-512
        (depthwise3; conv1-512) x4; depthwise3; c11: conv1-512
        depthwise3/2; c12: conv1-1024; depthwise3; c13: conv1-1024
        """,
        {
            "c0": (3, 2, 0),
            "c1": (7, 2, 2),
            "c2": (11, 4, 2),
            "c3": (19, 4, 6),
            "c4": (27, 8, 6),
            "c5": (43, 8, 14),
            "c6": (59, 16, 14),
            "c11": (219, 16, 94),
            "c12": (251, 32, 94),
            "c13": (315, 32, 126),
        },
    ),
}


def resnet_v1_50():
    """TF-Slim's: the stride of a block in its last unit, the shortcut subsampled by pooling, fixed padding."""
    lines = ["input 224x224x3; conv7-64/2 pad 3; maxpool3/2 same"]
    for number, (units, width, stride) in enumerate(((3, 64, 2), (4, 128, 2), (6, 256, 2), (3, 512, 1)), start=1):
        for unit in range(1, units + 1):
            step = stride if unit == units else 1
            shortcut = f"conv1-{4 * width}" if unit == 1 else f"maxpool1/{step}"
            start = f"b{number}u{unit}"
            lines.append(f"{start}:; {shortcut}; s{start}:; from {start}; conv1-{width}; conv3-{width}/{step} pad 1")
            end = f"block{number}: " if unit == units else ""
            lines.append(f"conv1-{4 * width}; {end}add s{start}")
    return "\n".join(lines)


PUBLISHED["resnet_v1_50"] = (
    resnet_v1_50(),
    {"block1": (35, 8, 15), "block2": (99, 16, 47), "block3": (291, 32, 143), "block4": (483, 32, 239)},
)


@pytest.mark.parametrize("network", PUBLISHED)
def test_published_receptive_fields(network):
    text, rows = PUBLISHED[network]
    views = fields_of(text)
    for name, (size, stride, padding) in rows.items():
        assert size_stride_first(views[name]) == (size, stride, -padding), name


def test_torchvisions_resnet_50_strides_in_the_first_block():
    # torchvision puts the stride in the first unit's 3x3 convolution: 427 (methods D6), where TF-Slim's has 483.
    lines = ["input 224x224x3; conv7-64/2 pad 3; maxpool3/2 pad 1"]
    for number, units in enumerate((3, 4, 6, 3)):
        width, step = 64 << number, 1 if number == 0 else 2
        lines.append(f"a{number}:; conv1-{4 * width}/{step}; s{number}:")
        lines.append(f"from a{number}; conv1-{width}; conv3-{width}/{step} pad 1; conv1-{4 * width}; add s{number}")
        lines.append(f"(b{number}:; conv1-{width}; conv3-{width}; conv1-{4 * width}; add b{number}) x{units - 1}")
    text = "\n".join([*lines, "end: relu"])
    assert fields_of(text)["end"].size == 427
    assert ReceptiveFields(read_spec(text)).misaligned == []


U_NET = """
input 572x572x1
c1: conv3-64 valid x2; maxpool; c2: conv3-128 valid x2; maxpool; c3: conv3-256 valid x2; maxpool
c4: conv3-512 valid x2; maxpool; middle: conv3-1024 valid x2
convt2-512/2; u4:; from c4; crop 4; concat u4; conv3-512 valid x2
convt2-256/2; u3:; from c3; crop 16; concat u3; conv3-256 valid x2
convt2-128/2; u2:; from c2; crop 40; concat u2; conv3-128 valid x2
convt2-64/2; u1:; from c1; crop 88; concat u1; end: conv3-64 valid x2
"""


def test_the_u_net_sees_188_or_204_by_phase():
    # Ronneberger, Fischer and Brox 2015 with its own crops; a chain of sums would say 2300 (peers.md).
    graph = read_spec(U_NET)
    fields = ReceptiveFields(graph)
    last = graph.operations[-1].output
    assert last.extents == (388, 388)
    view = fields.view(last)[0]
    assert view.size == 204
    assert view.stride is None
    assert view.phases == (188,) * 4 + (204,) * 12
    for unit in range(40):
        ((lo, hi), _) = fields.clipped(last).ends((unit, 100))
        assert hi - lo + 1 == view.phases[unit % 16]
    assert fields.misaligned == []


def test_a_shallow_u_net_by_impulses():
    # The same pattern of crops and phases, small enough for the literal oracle.
    text = (
        "input 24x20x1; a: conv3-1 valid; maxpool; b: conv3-1 valid; maxpool; conv3-1 valid; convt2-1/2; u:; from b; "
        "crop 2; concat u; conv3-1 valid; convt2-1/2; v:; from a; crop 8; concat v; conv1-1"
    )
    graph = read_spec(text.replace("24x20", "30x22"))
    fields, responses = ReceptiveFields(graph), forward(graph)
    tensor = graph.operations[-1].output
    response = responses[tensor.id].reshape(*tensor.extents, 30, 22)
    for position in np.ndindex(*tensor.extents):
        assert fields.clipped(tensor).ends(position) == bounding_box(response[position])


# ------------------------------------------------------------------------------------------- branches, gates, shapes


def test_misaligned_branches_are_reported_with_their_distance():
    crooked = read_spec("input 16x16x1; a: conv3-4 valid; from input; crop 0,2; conv1-4; left: add a")
    assert ReceptiveFields(crooked).misaligned == [Misalignment("left", 0, 1.0), Misalignment("left", 1, 1.0)]
    # TensorFlow's `same` with stride 2 on an even map centres the 3x3 between two positions, the 1x1 on the first.
    residual = "input 16x16x4; a:; conv3-4/2 {}; b:; from a; conv1-4/2; add b"
    assert [each.offset for each in ReceptiveFields(read_spec(residual.format("same"))).misaligned] == [1.0, 1.0]
    assert ReceptiveFields(read_spec(residual.format("pad 1"))).misaligned == []
    paces = read_spec("input 16x1; a: conv1-1/2; from input; crop 4; joined: add a")
    assert ReceptiveFields(paces).misaligned == [Misalignment("joined", 0, None)]
    # Upsampled positions stand half a unit off by turns, but not on the whole.
    assert ReceptiveFields(read_spec("input 16x1; a:; maxpool; upsample2; add a")).misaligned == []


def test_a_union_at_different_paces_is_largest_at_an_end():
    view = fields_of("input 400x1; a: conv1-1/2; from input; crop 100; joined: add a")["joined"]
    # Unit i sees 2 i and i + 100: 101 positions at i = 0, 2 * 199 - 299 + 1 = 100 at the last.
    assert view == AxisView(size=101, stride=None, first=0, phases=None)


def test_fully_connected_layers_and_global_pooling_see_everything():
    views = fields_of("input 20x30x3; conv3-4; globalavgpool; here: conv1-8; upsample4; crop 1; FC-5; relu")
    for name in ("globalavgpool", "here", "upsample4", "crop 1", "FC-5", "relu"):
        assert views[name] == AxisView(size=20, stride=None, first=0, phases=None)


def test_what_a_fully_connected_layer_really_reaches_is_the_clipped_interval():
    graph = read_spec("input 20x31x1; crop 3x0; maxpool; FC-4")
    fields = ReceptiveFields(graph)
    end = graph.operations[-1].output
    assert fields.clipped(end).ends((0, 0)) == ((3, 16), (0, 29))
    assert fields.of(end).ends((0, 0)) == ((0, 19), (0, 30))


def test_a_branch_that_sees_everything_makes_its_partner_see_everything():
    graph = read_spec("input 9x9x2; a: conv3-2; globalavgpool; upsample9; wide: concat a")
    fields = ReceptiveFields(graph)
    wide = graph.operations[-1].output
    assert fields.clipped(wide).ends((4, 0)) == ((0, 8), (0, 8))
    assert fields.view(wide)[0].stride is None


def test_a_gate_is_reported_apart():
    # Squeeze and excitation: the gate sees everything by definition, and would hide what its partner sees.
    graph = read_spec("input 9x9x8; conv3-8; block:; globalavgpool; FC-2; relu; FC-8; sigmoid; multiply block; conv3-8")
    fields = ReceptiveFields(graph)
    *_, gated, after = graph.operations
    assert fields.of(gated.output).gated
    assert fields.of(after.output).gated
    assert not fields.of(graph.operations[0].output).gated
    assert size_stride_first(fields.view(after.output)[0]) == (5, 1, -2)
    assert fields.clipped(after.output).ends((0, 4)) == ((0, 2), (2, 6))
    normalised = read_spec("input 9x9x8; conv3-8; instancenorm; conv3-8")
    assert ReceptiveFields(normalised).of(normalised.operations[-1].output).gated


def test_flattening_keeps_what_every_unit_sees():
    graph = read_spec("input 6x5x2; conv3-2; flatten; relu; reshape 6x5x2; conv3-2; flatten; FC-3; reshape 1x1x3")
    fields = ReceptiveFields(graph)
    first, flat, active, back, second, *_ = (operation.output for operation in graph.operations)
    assert fields.view(flat) == fields.view(active) == fields.view(first)
    assert [(each.shape, each.spatial) for each in flat.flat] == [(first.shape, first.spatial)]
    assert fields.of(flat).parts == (fields.of(first),)
    assert fields.of(back).terms == fields.of(first).terms
    assert fields.view(second)[0].size == 5


def test_flat_maps_that_are_joined_keep_what_every_unit_sees():
    answer = tw.size("input 6x5x2; crop 1; a: flatten; from input; conv3-2; flatten; both: concat a; relu; FC-3")
    assert answer.lost == ()
    relu, full = answer.layers[-2:]
    assert (relu.receptive_field, relu.stride, relu.first) == ((3, 3), (1, 1), (-1, -1))
    for row, column, channel in itertools.product(range(6), range(5), range(2)):
        unit = answer.unit("relu", ((row * 5 + column) * 2 + channel,))
        assert unit.unclipped == ((row - 1, row + 1), (column - 1, column + 1))
        assert unit.clipped == ((max(0, row - 1), min(5, row + 1)), (max(0, column - 1), min(4, column + 1)))
    for row, column in itertools.product(range(4), range(3)):
        unit = answer.unit("relu", (60 + (row * 3 + column) * 2,))
        assert unit.clipped == unit.unclipped == ((row + 1, row + 1), (column + 1, column + 1))
    assert full.receptive_field == (6, 5)
    with pytest.raises(InputError, match=r"its units are 0\.\.83"):
        answer.unit("relu", (84,))


def test_flat_maps_in_another_order_are_not_added():
    answer = tw.size("input 6x5x2; a: flatten; from input; conv3-3; crop 1x0; flatten; add a")
    assert answer.lost == ("add a",)


def test_flat_maps_that_are_centred_on_different_places_are_reported():
    map_ = ReceptiveFields(read_spec("input 8x9x2; a: conv2-2 same; from input; add a"))
    flat = ReceptiveFields(read_spec("input 8x9x2; conv2-2 same; a: flatten; from input; flatten; add a"))
    assert [(each.axis, each.offset) for each in map_.misaligned] == [(0, 0.5), (1, 0.5)]
    assert [(each.axis, each.offset) for each in flat.misaligned] == [(0, 0.5), (1, 0.5)]


def test_several_flat_maps_show_what_they_have_in_common():
    answer = tw.size("input 6x6x2; conv3-2; a: flatten; from input; maxpool; upsample2; conv2-2; flatten; concat a")
    finer = next(layer for layer in answer.layers if layer.phases[0] is not None)
    joined = answer.layers[-1]
    assert (joined.receptive_field, joined.phases) == (finer.receptive_field, (None, None))


def test_flat_maps_seen_in_another_shape_are_not_followed():
    image = Tensor(0, (4, 3), (0,), 1)
    row = Tensor(1, (12,), (), 0, flat=image.as_flat)
    flatten = Operation(Kind.FLATTEN, "flatten", (image,), (row,), flat_pieces=(Piece(12, 0),))
    two = Tensor(2, (24,), (), 0, flat=row.flat * 2)
    pieces = (Piece(12, 0), Piece(12, 1))
    joined = Operation(Kind.CONCATENATE, "join", (row, row), (two,), flat_pieces=pieces)
    again = Operation(
        Kind.CROP,
        "again",
        (Tensor(1, (3, 4), (), None),),
        (replace(row, id=3),),
        flat_pieces=(Piece(12, 0),),
        traced=True,
    )
    mixed = Operation(Kind.ADD, "mixed", (row, Tensor(0, (12,), (0,), None)), (replace(row, id=4),))
    fields = ReceptiveFields(Graph((image,), (flatten, joined, again, mixed)))
    assert fields.of(two).parts == fields.of(row).parts * 2
    assert fields.lost == ["again", "mixed"]


def test_units_of_flat_maps_that_a_network_makes_of_a_vector_see_no_positions():
    answer = tw.size("input 10; FC-48; reshape 4x4x3; conv3-2; flatten")
    assert answer.unit("flatten", (5,)).clipped == ()


def test_a_decoder_from_a_vector_has_no_positions_to_see():
    graph = read_spec("input 100; FC-784; reshape 7x7x16; convt4-8/2 pad 1; conv3-1")
    fields = ReceptiveFields(graph)
    assert fields.view(graph.operations[-1].output) == ()
    assert fields.clipped(graph.operations[-1].output).ends((3, 3)[:0]) == ()


def test_a_unit_of_a_map_made_from_a_vector_sees_no_positions_and_says_so():
    answer = tw.size("input 100; FC-784; reshape 7x7x16; convt4-8/2 pad 1; conv3-1")
    unit = answer.unit("conv3-1", (3, 3))
    assert (unit.clipped, unit.unclipped) == ((), ())
    assert "no positions" in unit.table().to_text()
    with pytest.raises(InputError, match="has no unit"):
        answer.unit("conv3-1", (14, 3))


def test_nothing_is_claimed_behind_an_unknown_operation():
    image = Tensor(0, (8, 8, 4), (0, 1), 2)
    strange = Operation(Kind.UNKNOWN, "warp", (image,), (Tensor(1, (8, 8, 4), (0, 1), 2),))
    after = Operation(Kind.ACTIVATION, "relu", (strange.output,), (Tensor(2, (8, 8, 4), (0, 1), 2),))
    fields = ReceptiveFields(Graph((image,), (strange, after)))
    assert fields.of(after.output) is None
    assert fields.lost == ["warp"]
    assert fields.view(after.output) is None
    assert fields.clipped(after.output) is None


def test_the_channels_may_stand_first():
    image = Tensor(0, (3, 20, 30), (1, 2), 0)
    window = read_spec("input 20x30x3; conv3x5-4/1x2 valid").operations[0].window
    conv = Operation(Kind.CONVOLUTION, "conv", (image,), (image.with_extents(1, (18, 13), 4),), window)
    fields = ReceptiveFields(Graph((image,), (conv,)))
    assert [size_stride_first(view) for view in fields.view(conv.output)] == [(3, 1, 0), (5, 2, 0)]
    assert fields.clipped(conv.output).ends((17, 12)) == ((17, 19), (24, 28))


# ------------------------------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("input 9x1; fine: conv3-1; wide: convt3-1/2000", "wide"),
        ("input 9x1; convt31-1/31; wide: convt37-1/37", "wide"),
        ("input 9x1; (convt2-1/2) x10; narrow: conv3-1; conv1001-1 x5", "conv1001-1"),
    ],
)
def test_patterns_that_are_too_long_are_not_followed_and_named(text, name):
    graph = read_spec(f"{text}; relu; FC-2")
    fields = ReceptiveFields(graph)
    assert fields.lost[0] == name
    *_, active, full = (operation.output for operation in graph.operations)
    assert fields.of(active) is fields.clipped(active) is None
    assert fields.clipped(full).ends((0,)) == ((0, 8),)


def test_clipped_intervals_of_endless_maps_are_refused_and_smaller_ones_stay_at_hand(monkeypatch):
    monkeypatch.setattr("thalweg.network.receptive_field.MAX_POSITIONS", 1000)
    graph = read_spec("input 600x1; small: conv3-1/3; large: convt3-1/3")
    fields = ReceptiveFields(graph)
    small, large = (operation.output for operation in graph.operations)
    with pytest.raises(InputError, match="more than 1,000 of them along their axes; ask with a smaller input"):
        fields.clipped(large)
    assert fields.clipped(small).ends((5,)) == ((15, 17),)
    assert fields.of(large).ends((16,)) == ((15, 17),)


def test_a_window_wider_than_the_image_costs_no_more_than_the_image():
    graph = read_spec("input 300x1; conv1000000000-1; conv999999999-1/1 dilation 7; convt100001-1/3 pad 50000")
    fields = ReceptiveFields(graph)
    for operation in graph.operations:
        assert fields.clipped(operation.output).ends((100,))[0][0] >= 0
    assert fields.clipped(graph.operations[0].output).ends((7,)) == ((0, 299),)
