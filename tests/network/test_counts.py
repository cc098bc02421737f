"""Counts against units and taps enumerated one by one, the published sizes of networks, and the law of lattice sums."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.network.counts import Counts, count, floor_sum, taps_inside
from thalweg.network.graph import Graph, Kind, Operation, Tensor, Weight
from thalweg.network.readers.spec import read_spec


def positions(extents):
    return itertools.product(*(range(extent) for extent in extents))


def enumerate_window(operation, padded):
    """Connections and those inside, unit by unit and tap by tap; `padded` are the widths of zeros at each end."""
    window, source, output = operation.window, operation.input, operation.output
    inner, outer = source.channels, output.channels
    pool = operation.kind in (Kind.MAX_POOL, Kind.AVERAGE_POOL)
    groups = inner if pool else operation.groups
    links = sum(
        1
        for one, other in itertools.product(range(inner), range(outer))
        if one // (inner // groups) == other // (outer // groups)
    )
    connections = inside = 0
    for unit in positions(source.extents if window.transposed else output.extents):
        for tap in positions(window.kernel):
            met = [
                i * stride - low + dilation * k
                for i, k, stride, low, dilation in zip(
                    unit, tap, window.stride, window.low, window.dilation, strict=True
                )
            ]
            place, reached = (unit, met) if window.transposed else (met, unit)
            connections += links
            real = all(
                before <= t < n - after for t, n, (before, after) in zip(place, source.extents, padded, strict=True)
            )
            inside += links * (real and all(0 <= t < n for t, n in zip(reached, output.extents, strict=True)))
    return connections, inside


@st.composite
def single_layers(draw):
    """A spec of one windowed layer with anything the notation offers, sometimes behind a pad or a crop of it."""
    axes = draw(st.integers(1, 3))

    def size(least, most):
        return "x".join(str(draw(st.integers(least, most))) for _ in range(axes))

    channels = draw(st.integers(1, 4))
    extents = size(1, {1: 9, 2: 6, 3: 4}[axes])
    padding = draw(st.sampled_from(["", "same", "valid", f"pad {size(0, 3)}", f"pad {size(0, 2)},{size(0, 2)}"]))
    dilation = f"dilation {size(1, 3)}" if draw(st.booleans()) else ""
    groups = draw(st.sampled_from([each for each in (1, 2, 3, 4) if channels % each == 0]))
    made = groups * draw(st.integers(1, 3))
    sliding = f"{size(1, 3)}-{made}/{size(1, 3)} groups {groups} {padding} {dilation}"
    layer = draw(
        st.sampled_from(
            [
                f"conv{sliding}",
                f"convt{sliding}",
                f"convt{sliding} outpad {size(0, 1)}",
                f"depthwise{size(1, 3)}-{2 * channels}/{size(1, 2)} {padding} {dilation}",
                f"maxpool{size(1, 3)}/{size(1, 3)} {padding} {dilation} {draw(st.sampled_from(['', 'ceil']))}",
                f"avgpool{size(1, 2)}",
            ]
        )
    )
    before = draw(st.sampled_from(["", f"pad {size(0, 2)},{size(0, 2)};", f"pad {size(2, 3)}; crop {size(0, 2)};"]))
    return f"input {extents}x{channels}; {before} {layer}"


@settings(max_examples=250, deadline=None)
@given(single_layers())
def test_windowed_layers_are_counted_unit_by_unit(text):
    try:
        graph = read_spec(text)
    except InputError as error:
        assume("leaves no unit" not in str(error))
        raise
    operation, counts = graph.operations[-1], count(graph)[-1]
    padded = [[0, 0] for _ in operation.input.extents]
    for step in graph.operations[:-1]:
        for axis, (low, high) in enumerate(zip(step.window.low, step.window.high, strict=True)):
            padded[axis] = [max(0, padded[axis][0] + low), max(0, padded[axis][1] + high)]
    connections, inside = enumerate_window(operation, padded)
    assert counts.neurons == operation.output.size
    assert counts.connections == connections
    assert counts.connections_inside == inside
    weighted = operation.kind is Kind.CONVOLUTION
    assert counts.macs == (connections if weighted else 0)
    fan = operation.window.volume * operation.input.channels // operation.groups
    assert counts.parameters == ((fan + 1) * operation.output.channels if weighted else 0)


@given(
    st.tuples(st.integers(-9, 9), st.integers(0, 12)),
    st.tuples(st.integers(-9, 9), st.integers(0, 12)),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(-9, 9),
)
def test_taps_inside_is_the_number_of_pairs(units, targets, kernel, stride, dilation, low):
    (start, many), (first, wide) = units, targets
    pairs = sum(
        first <= i * stride - low + dilation * k < first + wide
        for i in range(start, start + many)
        for k in range(kernel)
    )
    assert taps_inside((start, start + many), (first, first + wide), kernel, stride, dilation, low) == pairs


def test_taps_inside_is_fast_for_numbers_that_no_loop_could_count():
    # With stride and dilation 1 and a window that covers twice the axis, the n^2 pairs are those of a full square.
    n = 10**9
    assert taps_inside((0, n), (0, n), 2 * n, 1, 1, n) == n * n


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 60), st.integers(0, 60))
def test_floor_sum(terms, divisor, factor, offset):
    assert floor_sum(terms, divisor, factor, offset) == sum((factor * i + offset) // divisor for i in range(terms))


def test_fully_connected_layers_and_global_pooling():
    graph = read_spec("input 6x5x3; pad 1x0,0x2; globalavgpool; from input; pad 1; FC-7; FC-4 nobias")
    _, pool, _, first, second = count(graph)
    assert pool == Counts(neurons=3, connections=7 * 7 * 3, connections_inside=6 * 5 * 3)
    units = 8 * 7 * 3
    inside = 6 * 5 * 3 * 7
    assert first == Counts(7, 7 * units + 7, 7 * units + 7, 7 * units, inside, 7 * units)
    assert second == Counts(4, 28, 28, 28, 28, 28)


def test_what_is_not_a_layer_of_neurons_counts_its_parameters_only():
    graph = read_spec(
        "input 8x8x4; a: bn; relu; dropout 0.5; groupnorm 2 frozen; lrn; upsample2; crop 4; add a; concat a; flatten"
    )
    expected = {"a": (8, 8), "groupnorm 2": (8, 0)}
    for operation, counts in zip(graph.operations, count(graph), strict=True):
        parameters, trainable = expected.get(operation.name, (0, 0))
        assert counts == Counts(parameters=parameters, trainable=trainable)


def test_shared_weights_count_once_and_frozen_ones_do_not_train():
    graph = read_spec("input 8x8x4; a: conv3-4; conv3-4 share a; conv3-4 frozen; FC-2")
    first, second, frozen, last = count(graph)
    assert (first.parameters, second.parameters, frozen.parameters) == (148, 0, 148)
    assert second.connections == first.connections
    assert (first.trainable, frozen.trainable, last.trainable) == (148, 0, 514)


def test_of_an_unknown_operation_only_the_parameters_count():
    image = Tensor(0, (8, 8, 4), (0, 1), 2)
    strange = Operation(
        Kind.UNKNOWN, "warp", (image,), (Tensor(1, (8, 8, 4), (0, 1), 2),), weights=(Weight("v", (3, 4)),)
    )
    twice = Operation(Kind.LINEAR, "fc", (strange.output,), (Tensor(2, (5,), (), 0),), weights=(Weight("w", (5, 256)),))
    assert count(Graph((image,), (strange, twice))) == (
        Counts(parameters=12, trainable=12),
        Counts(5, 1280, 1280, 1280, 1280, 1280),
    )


ALEXNET = """
input 224x224x3
conv11-64/4 pad 2; relu; maxpool3/2
conv5-192; relu; maxpool3/2
conv3-384; relu; conv3-256; relu; conv3-256; relu; maxpool3/2
dropout; FC-4096; relu; dropout; FC-4096; relu; FC-1000
"""
VGG_16_BN = "input 224x224x3;" + "; maxpool;".join(
    f"(conv3-{channels}; bn; relu) x{many}" for channels, many in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
) + "; maxpool; (FC-4096; relu; dropout) x2; FC-1000"  # fmt: skip


def inverted_residual(expansion, channels, stride, repeats, source):
    """A stage of MobileNetV2: widen, filter each channel by itself, narrow."""
    blocks = []
    for number in range(repeats):
        here, step = (source, stride) if number == 0 else (channels, 1)
        widen = f"conv1-{expansion * here} nobias; bn; relu; " if expansion > 1 else ""
        narrow = f"depthwise3/{step} pad 1 nobias; bn; relu; conv1-{channels} nobias; bn"
        label = f"b{channels}_{number}_{source}"
        skip = f"; add {label}" if step == 1 and here == channels else ""
        blocks.append(f"{label}:; {widen}{narrow}{skip}")
    return "\n".join(blocks)


def mobilenet_v2():
    lines, source = ["input 224x224x3; conv3-32/2 pad 1 nobias; bn; relu"], 32
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 3), (6, 64, 2, 4), (6, 96, 1, 3), (6, 160, 2, 3), (6, 320, 1, 1)]
    for expansion, channels, stride, repeats in table:
        lines.append(inverted_residual(expansion, channels, stride, repeats, source))
        source = channels
    return "\n".join([*lines, "conv1-1280 nobias; bn; relu; globalavgpool; dropout; FC-1000"])


@pytest.mark.parametrize(
    ("text", "parameters", "gmacs"),
    [(ALEXNET, 61_100_840, 0.714), (VGG_16_BN, 138_365_992, 15.47), (mobilenet_v2(), 3_504_872, 0.301)],
    ids=["AlexNet", "VGG-16 with normalisation", "MobileNetV2"],
)
def test_published_sizes(text, parameters, gmacs):
    # torchvision 0.29, models/*.py: `num_params` and `_ops`, billions of multiply-accumulates.
    total = sum(count(read_spec(text)), Counts())
    assert total.parameters == parameters
    assert round(total.macs / 1e9, len(str(gmacs).split(".")[1])) == gmacs
