"""Receptive fields of random ONNX graphs against the positions that really reach each unit.

All weights are positive, so a unit depends on an input position if and only if some path joins them. The oracle walks
all paths: for every node and axis a matrix says which position is made of which, straight from ONNX's definition of
the operation. It is itself held against ONNX's reference evaluator, to which every impulse is one example of a batch,
where that evaluator knows the operations (its pooling and transposed convolutions are slow, and wrong for some pads).
"""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx, which CI installs")

from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import thalweg as tw
from onnx_files import Writer
from thalweg.network.readers.onnx.run import run
from thalweg.network.size import size

GRAPHS = 240
CHANNELS = 4


class Random:
    """A random network: layers, and branches that meet again."""

    def __init__(self, seed, known=True):
        self.random = random.Random(seed)
        self._known = known  # whether operations are wanted that the reference evaluator cannot do
        self.net = Writer(seed)
        self.axes = self.random.choice([1, 1, 2, 2, 2, 3])
        sides = {1: (9, 20), 2: (6, 9), 3: (3, 5)}[self.axes]
        self.extents = [self.random.randint(*sides) for _ in range(self.axes)]
        x = self.net.input("x", ["batch", 1, *self.extents])
        self.made = self.net.conv(x, 1, CHANNELS, (1,) * self.axes)
        self.sides = list(self.extents)
        self.steps = []
        for _ in range(self.random.randint(2, 4)):
            self.made, self.sides = self._step(self.made, self.sides)
        self.made = self.net.conv(self.made, CHANNELS, 1, (1,) * self.axes)

    def _step(self, x, sides):
        if self.random.random() < 0.3:
            return self._branches(x, sides)
        return self._layer(x, sides)

    def _each(self, low, high):
        return [self.random.randint(low, high) for _ in range(self.axes)]

    def _layer(self, x, sides):
        kinds = [self._conv, self._pad, self._slice, self._resize, self._channels_last]
        kinds += [self._conv, self._pool, self._transposed] if self._known else []
        if self.axes == 2:
            kinds += [self._blocks, self._shuffle]
        for _ in range(20):
            made = self.random.choice(kinds)(x, sides)
            if made is not None and all(2 <= n <= 40 for n in made[1]) and math.prod(made[1]) <= 400:
                return made
        return x, sides

    def _window(self, sides, dilations=True, ceil=False):
        kernel, stride = self._each(1, 3), self._each(1, 2)
        dilation = self._each(1, 2) if dilations else [1] * self.axes
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        automatic = self.random.choice(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
        attributes = {"kernel_shape": kernel, "strides": stride, "dilations": dilation}
        if automatic == "NOTSET":
            low, high = ([self.random.randint(0, span - 1) for span in spans] for _ in "ab")
            attributes["pads"] = [*low, *high]
            room = [n + a + b - span for n, a, b, span in zip(sides, low, high, spans, strict=True)]
            if min(room) < 0:
                return None
            after = [r // s + 1 for r, s in zip(room, stride, strict=True)]
            if ceil:
                attributes["ceil_mode"] = 1
                after = [-(-r // s) + 1 for r, s in zip(room, stride, strict=True)]
                after = [
                    count - ((count - 1) * s >= n + a) for count, s, n, a in zip(after, stride, sides, low, strict=True)
                ]
        elif automatic == "VALID":
            if any(span > n for span, n in zip(spans, sides, strict=True)):
                return None
            after = [(n - span) // s + 1 for n, span, s in zip(sides, spans, stride, strict=True)]
        else:
            after = [-(-n // s) for n, s in zip(sides, stride, strict=True)]
        if automatic != "NOTSET":
            attributes["auto_pad"] = automatic
        return attributes, after

    def _conv(self, x, sides):
        found = self._window(sides)
        if found is None:
            return None
        attributes, after = found
        groups = self.random.choice([1, 2, 4])
        weight = self.net.weight((CHANNELS, CHANNELS // groups, *attributes["kernel_shape"]))
        return self.net.node("Conv", [x, weight], group=groups, **attributes), after

    def _pool(self, x, sides):
        found = self._window(sides, dilations=False, ceil=self.random.random() < 0.4)
        if found is None:
            return None
        attributes, after = found
        operator = self.random.choice(["MaxPool", "AveragePool"])
        if operator == "AveragePool":
            del attributes["dilations"]
        return self.net.node(operator, [x], **attributes), after

    def _transposed(self, x, sides):
        kernel, stride = self._each(1, 3), self._each(1, 2)
        low, high = ([self.random.randint(0, k - 1) for k in kernel] for _ in "ab")
        more = [self.random.randint(0, s - 1) for s in stride]
        after = [
            (n - 1) * s + k - a - b + m for n, s, k, a, b, m in zip(sides, stride, kernel, low, high, more, strict=True)
        ]
        if min(after) < 1:
            return None
        weight = self.net.weight((CHANNELS, CHANNELS, *kernel))
        made = self.net.node(
            "ConvTranspose", [x, weight], kernel_shape=kernel, strides=stride, pads=[*low, *high], output_padding=more
        )
        return made, after

    def _pad(self, x, sides):
        low, high = self._each(0, 2), self._each(0, 2)
        pads = self.net.numbers(0, 0, *low, 0, 0, *high)
        return self.net.node("Pad", [x, pads]), [n + a + b for n, a, b in zip(sides, low, high, strict=True)]

    def _slice(self, x, sides):
        axis = self.random.randrange(self.axes)
        start = self.random.randint(-sides[axis], sides[axis] - 1)
        stop, step = self.random.choice([sides[axis], -1, 1 << 40]), self.random.randint(1, 2)
        count = len(range(*slice(start, stop, step).indices(sides[axis])))
        if not count:
            return None
        where = [self.net.numbers(each) for each in (start, stop, axis + 2, step)]
        return self.net.node("Slice", [x, *where]), [*sides[:axis], count, *sides[axis + 1 :]]

    def _resize(self, x, sides):
        factors = self.random.choice([[2.0] * self.axes, [float(each) for each in self._each(1, 3)]])
        mode, place, rounding = self.random.choice(
            [
                ("nearest", "asymmetric", "floor"),
                ("nearest", "half_pixel", "round_prefer_floor"),
                ("linear", "half_pixel", "floor"),
                ("linear", "asymmetric", "floor"),
            ]
        )
        scales = self.net.tensor(np.array([1.0, 1.0, *factors], np.float32))
        made = self.net.node(
            "Resize", [x, "", scales], mode=mode, coordinate_transformation_mode=place, nearest_mode=rounding
        )
        return made, [n * int(f) for n, f in zip(sides, factors, strict=True)]

    def _channels_last(self, x, sides):
        rank = self.axes + 2
        x = self.net.node("Transpose", [x], perm=(0, *range(2, rank), 1))
        x = self.net.node("MatMul", [x, self.net.weight((CHANNELS, CHANNELS))])
        return self.net.node("Transpose", [x], perm=(0, rank - 1, *range(1, rank - 1))), sides

    def _blocks(self, x, sides):
        if self.random.random() < 0.5 and not any(n % 2 for n in sides):
            x = self.net.node("SpaceToDepth", [x], blocksize=2)
            return self.net.conv(x, 4 * CHANNELS, CHANNELS, (1, 1)), [n // 2 for n in sides]
        mode = self.random.choice(["DCR", "CRD"])
        x = self.net.node("DepthToSpace", [x], blocksize=2, mode=mode)
        return self.net.conv(x, CHANNELS // 4, CHANNELS, (1, 1)), [2 * n for n in sides]

    def _shuffle(self, x, sides):
        x = self.net.node("Reshape", [x, self.net.numbers(0, 2, 2, *sides)])
        x = self.net.node("Transpose", [x], perm=(0, 2, 1, 3, 4))
        return self.net.node("Reshape", [x, self.net.numbers(0, CHANNELS, *sides)]), sides

    def _branches(self, x, sides):
        one, other = self._layer(x, sides), self._layer(x, sides)
        small = [min(pair) for pair in zip(one[1], other[1], strict=True)]
        one, other = (self._cropped(made, sizes, small) for made, sizes in (one, other))
        if self.random.random() < 0.5:
            return self.net.node("Add", [one, other]), small
        joined = self.net.node("Concat", [one, other], axis=1)
        return self.net.conv(joined, 2 * CHANNELS, CHANNELS, (1,) * self.axes), small

    def _cropped(self, x, sides, wanted):
        for axis, (extent, goal) in enumerate(zip(sides, wanted, strict=True)):
            if extent > goal:
                start = self.random.randint(0, extent - goal)
                where = [self.net.numbers(each) for each in (start, start + goal, axis + 2)]
                x = self.net.node("Slice", [x, *where])
        return x


# ------------------------------------------------------------------------------------------------------- the oracle


def attributes_of(node):
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def padding(attributes, extents, kernel, stride, dilation):
    """Pads before and after, from the definitions of `auto_pad`."""
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    if automatic == "NOTSET":
        pads = attributes.get("pads", [0] * 2 * len(extents))
        return pads[: len(extents)], pads[len(extents) :]
    low, high = [], []
    for n, k, s, d in zip(extents, kernel, stride, dilation, strict=True):
        needed = max(0, (math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n) if automatic.startswith("SAME") else 0
        more, less = math.ceil(needed / 2), math.floor(needed / 2)
        low.append(less if automatic == "SAME_UPPER" else more)
        high.append(more if automatic == "SAME_UPPER" else less)
    return low, high


def window(node, extents):
    """For every axis which output position is made of which input position."""
    attributes = attributes_of(node)
    kernel, axes = attributes["kernel_shape"], len(extents)
    stride, dilation = attributes.get("strides", [1] * axes), attributes.get("dilations", [1] * axes)
    low, high = padding(attributes, extents, kernel, stride, dilation)
    more = attributes.get("output_padding", [0] * axes)
    answer = []
    for n, k, s, d, a, b, m in zip(extents, kernel, stride, dilation, low, high, more, strict=True):
        span = d * (k - 1) + 1
        if node.op_type == "ConvTranspose":
            made = np.zeros(((n - 1) * s + span - a - b + m, n))
            for i, tap in itertools.product(range(n), range(k)):
                if 0 <= i * s + tap * d - a < len(made):
                    made[i * s + tap * d - a, i] = 1
        else:
            count = (n + a + b - span) // s + 1
            if attributes.get("ceil_mode") and count * s < n + a and (n + a + b - span) % s:
                count += 1
            made = np.zeros((count, n))
            for o, tap in itertools.product(range(count), range(k)):
                if 0 <= o * s + tap * d - a < n:
                    made[o, o * s + tap * d - a] = 1
        answer.append(made)
    return answer


def enlarged(attributes, factor, extent):
    """Linear and nearest interpolation by a whole factor, from the definition of the coordinates."""
    made = np.zeros((factor * extent, extent))
    half = attributes["coordinate_transformation_mode"] == b"half_pixel"
    for o in range(factor * extent):
        place = (o + 0.5) / factor - 0.5 if half else o / factor
        if attributes["mode"] == b"nearest":
            sources = [math.ceil(place - 0.5) if half else math.floor(place)]
        else:
            sources = [i for i in range(-1, extent + 1) if abs(i - place) < 1 - 1e-9]
        for i in sources:
            made[o, min(max(i, 0), extent - 1)] = 1
    return made


def matrices(node, extents, numbers):
    """What one node does along every axis; None where it keeps all positions."""
    attributes = attributes_of(node)
    if node.op_type in ("Conv", "ConvTranspose", "MaxPool", "AveragePool"):
        return window(node, extents)
    if node.op_type == "Pad":
        pads, axes = numbers[node.input[1]], len(extents)
        shifted = [np.eye(n + b, n) for n, b in zip(extents, pads[axes + 4 :], strict=True)]
        return [
            np.vstack([np.zeros((a, each.shape[1])), each]) for a, each in zip(pads[2 : axes + 2], shifted, strict=True)
        ]
    if node.op_type == "Slice":
        start, stop, axis, *step = (int(numbers[name][0]) for name in node.input[1:])
        return [
            np.eye(n)[slice(start, stop, *(step or [1]))] if place == axis - 2 else np.eye(n)
            for place, n in enumerate(extents)
        ]
    if node.op_type == "Resize":
        factors = numbers[node.input[2]][2:]
        return [enlarged(attributes, int(factor), n) for factor, n in zip(factors, extents, strict=True)]
    if node.op_type == "DepthToSpace":
        return [np.repeat(np.eye(n), 2, axis=0) for n in extents]
    if node.op_type == "SpaceToDepth":
        return [np.repeat(np.eye(n // 2), 2, axis=1) for n in extents]
    assert node.op_type in ("Reshape", "Transpose", "MatMul")
    return None


def depended_on(network):
    """For every unit of the last map, a mask over the positions of the input: `(inputs, *units)`."""
    count, net = math.prod(network.extents), network.net
    numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in net.tensors if len(tensor.dims) == 1}
    seen = {"x": np.eye(count).reshape(count, *network.extents)}
    for node in net.nodes:
        x = seen[node.input[0]]
        if node.op_type in ("Add", "Concat"):
            x = x + seen[node.input[1]]
        else:
            for axis, along in enumerate(matrices(node, x.shape[1:], numbers) or ()):
                x = np.moveaxis(np.tensordot(along, x, (1, axis + 1)), 0, axis + 1)
        seen[node.output[0]] = (x > 0).astype(float)
    return seen[network.made] > 0


@pytest.mark.parametrize("seed", range(60))
def test_the_oracle_agrees_with_the_reference_evaluator(seed):
    network = Random(seed, known=False)
    count = math.prod(network.extents)
    impulses = np.eye(count, dtype=np.float32).reshape(count, 1, *network.extents)
    (values,) = ReferenceEvaluator(network.net.model(network.made)).run(None, {"x": impulses})
    assert np.array_equal(values.max(axis=1) > 0, depended_on(network))


# ------------------------------------------------------------------------------------------------------- every unit


def ends(mask):
    """The first and the last position along every axis; None where there is none."""
    places = np.nonzero(mask)
    return tuple((int(each.min()), int(each.max())) for each in places) if len(places[0]) else None


def units_checked(seed, folder):
    network = Random(seed)
    seen = depended_on(network)
    answer = size(run(network.net.model(network.made), folder, (1, *network.extents)).recorder.graph())
    last = answer.layers[-1]
    assert answer.complete
    assert last.receptive_field is not None, f"seed {seed}: the field of {last.name} is not followed"
    place = len(answer.layers) - 1
    for index in np.ndindex(*seen.shape[1:]):
        mask = seen[(slice(None), *index)].reshape(network.extents)
        assert answer.unit(place, index).clipped == ends(mask), f"seed {seed}, unit {index}"
    return math.prod(seen.shape[1:])


def test_every_unit_of_random_graphs_sees_what_moves_it(tmp_path):
    units = sum(units_checked(seed, tmp_path) for seed in range(GRAPHS))
    assert units >= 10_000


def test_groups_that_are_normalised_as_one_axis_depend_on_the_whole_image(tmp_path):
    """As PyTorch writes its GroupNorm down."""
    net = Writer()
    x = net.conv(net.input("x", [1, 3, 8, 8]), 3, 4, (3, 3), "one", pads=[1, 1, 1, 1])
    flat = net.node("Reshape", [x, net.numbers(1, 2, -1)])
    flat = net.node("InstanceNormalization", [flat, net.weight((2,)), net.weight((2,))], "norm")
    y = net.node("Reshape", [flat, net.numbers(1, 4, 8, 8)])
    answer = tw.size(net.save(tmp_path / "net.onnx", net.conv(y, 4, 2, (3, 3), "two")))
    assert answer.layers[-1].receptive_field == (5, 5)
    assert answer.gated == "norm"


@pytest.mark.parametrize(
    ("operator", "values", "attributes", "places"),
    [
        ("Gather", [3, 0, 6, -1], {"axis": 2}, [3, 0, 6, 8]),
        ("Gather", [5, 4, 3], {"axis": 2}, [5, 4, 3]),
        ("Tile", [1, 1, 2], {}, [*range(9), *range(9)]),
    ],
)
def test_places_in_a_known_order_are_followed(tmp_path, operator, values, attributes, places):
    net = Writer()
    made = net.conv(net.input("x", ["batch", 1, 9]), 1, 2, (1,))
    path = net.save(tmp_path / "net.onnx", net.node(operator, [made, net.numbers(*values)], "moved", **attributes))
    answer = tw.size(path)
    assert [answer.unit(-1, (unit,)).clipped for unit in range(len(places))] == [((each, each),) for each in places]


def test_a_class_token_and_maps_of_two_sizes_in_a_row(tmp_path):
    net = Writer()
    fine = net.conv(net.input("x", ["batch", 2, 6, 8]), 2, 3, (2, 2), "fine", strides=[2, 2])
    coarse = net.node("MaxPool", [fine], kernel_shape=[3, 2], strides=[3, 2])
    flat = [net.node("Reshape", [each, net.numbers(1, 3, -1)]) for each in (fine, coarse)]
    row = net.node("Concat", [net.weight((1, 3, 1)), *flat], "row", axis=2)
    tokens = net.node("Transpose", [row], perm=[0, 2, 1])
    path = net.save(tmp_path / "net.onnx", net.node("MatMul", [tokens, net.weight((3, 5))], "mixed"))
    answer = tw.size(path)
    assert (answer.lost, answer.layers[-1].output) == ((), (1 + 12 + 2, 5))
    assert (answer.layers[-1].receptive_field, answer.layers[-1].stride) == ((6, 4), (None, None))
    assert answer.unit("mixed", (0,)).clipped is None
    for row, column in itertools.product(range(3), range(4)):
        wanted = ((2 * row, 2 * row + 1), (2 * column, 2 * column + 1))
        assert answer.unit("mixed", (1 + 4 * row + column,)).clipped == wanted
    assert answer.unit("mixed", (14,)).clipped == ((0, 5), (4, 7))
    assert answer.effective("mixed", (14,)).paths == 24
