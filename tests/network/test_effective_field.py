"""Path counts against literal counting, gradients of all-ones networks, and the law of stacked layers."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from thalweg.errors import InputError
from thalweg.network import effective_field as module
from thalweg.network.effective_field import MOST, Profile
from thalweg.network.graph import Graph, Kind, Operation, Piece, Pieces, Tensor
from thalweg.network.readers.arrays import Slide
from thalweg.network.readers.recorder import Recorder
from thalweg.network.readers.spec import read_spec
from thalweg.network.size import size as size_of_graph
from thalweg.textbook import convolution as textbook


def counts_by_walking(graph):
    """For every tensor an array (its positions..., the input's positions...) of whole numbers: paths, tap by tap."""
    image = graph.inputs[0]
    count = math.prod(image.extents)
    paths = {image.id: np.eye(count, dtype=object).reshape(*image.extents, count)}
    for operation in graph.operations:
        x, output, window = paths[operation.input.id], operation.output, operation.window
        y = np.zeros((*output.extents, count), dtype=object)
        if window is not None:
            axes = range(len(output.extents))
            for taps in itertools.product(*(range(each) for each in window.kernel)):
                # The one end of a tap, and the other: see Window.
                for short in np.ndindex(*(operation.input if window.transposed else output).extents):
                    far = tuple(
                        short[a] * window.stride[a] - window.low[a] + window.dilation[a] * taps[a] for a in axes
                    )
                    long = operation.output if window.transposed else operation.input
                    if all(0 <= place < extent for place, extent in zip(far, long.extents, strict=True)):
                        if window.transposed:
                            y[far] += x[short]
                        else:
                            y[short] += x[far]
        elif operation.pieces is not None:
            begin = 0
            for piece in operation.pieces.parts:
                for number in range(piece.length if piece.source is not None else 0):
                    y[:, begin + number] += paths[operation.inputs[piece.source].id][
                        :, piece.start + piece.step * number
                    ]
                begin += piece.length
        elif operation.kind in (Kind.ADD, Kind.CONCATENATE):
            for source in operation.inputs:
                y += paths[source.id]
        elif operation.kind in (Kind.GLOBAL_POOL, Kind.LINEAR):
            y += x.reshape(-1, count).sum(axis=0)
        else:
            assert operation.kind is Kind.ACTIVATION
            y += x
        paths[output.id] = y
    return {number: values.reshape(*values.shape[:-1], *image.extents) for number, values in paths.items()}


def random_text(seed):
    """A few layers of any kind, with branches that meet."""
    rng = random.Random(seed)
    axes = rng.choice([1, 2, 2])
    most = 16 if axes == 1 else 8

    def size(low, high):
        return "x".join(str(rng.randint(low, high)) for _ in range(axes))

    def layer():
        return rng.choice(
            [
                f"conv{size(1, 4)}-1/{size(1, 2)} {rng.choice(['same', 'pad 1', 'valid'])} dilation {size(1, 2)}",
                f"maxpool{size(1, 3)}/{size(1, 2)} {rng.choice(['', 'ceil', 'pad 1'])}",
                "avgpool",
                f"convt{size(1, 3)}-1/{size(1, 2)} {rng.choice(['valid', 'pad 1'])}",
                f"upsample{size(1, 2)} {rng.choice(['', 'bilinear'])}",
                "crop 1,0",
                "pad 1,2",
                "relu",
            ]
        )

    text = f"input {'x'.join(str(rng.randint(most // 2, most)) for _ in range(axes))}x1\nrelu"
    for number in range(rng.randint(2, 5)):
        longer = f"{text}\n{layer()}"
        if rng.random() < 0.3:
            branch = f"conv{size(1, 3)}-1 same" if rng.random() < 0.7 else "relu"
            longer += f"\na{number}:\n{branch}\n{rng.choice(['add', 'concat'])} a{number}\nconv1-1"
        try:
            if max(read_spec(longer).operations[-1].output.extents) <= most:
                text = longer
        except InputError:
            continue
    return text + rng.choice(["", "", "\nglobalavgpool", "\nFC-3; relu; FC-2"])


@pytest.mark.parametrize("block", range(4))
def test_paths_are_those_that_walking_finds(block):
    units = 0
    for seed in range(block, 120, 4):
        text = random_text(seed)
        graph, answer = read_spec(text), tw.size(text)
        literal = counts_by_walking(graph)
        rng = random.Random(seed)
        for place, operation in enumerate(graph.operations):
            extents = operation.output.extents
            index = tuple(rng.randrange(extent) for extent in extents)
            field, expected = answer.effective(place, index), literal[operation.output.id][index]
            total = expected.sum()
            assert field.paths == total, (text, operation.name)
            if total == 0:
                assert (field.shares, field.why_not) == (None, "No path leads to this unit.")
                continue
            np.testing.assert_allclose(field.shares, (expected / total).astype(float), rtol=1e-14, atol=0)
            assert field.seen == np.count_nonzero(expected)
            units += 1
    assert units > 100


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_paths_into_pieces_are_those_that_walking_finds(data):
    """Along the second axis the last map is put together of pieces of two others, then a window slides over it."""
    before = read_spec("input 5x6x1; conv3-1 same; conv3-1 same")
    sources = tuple(operation.output for operation in before.operations)
    parts = []
    for _ in range(data.draw(st.integers(1, 4))):
        start, step = data.draw(st.integers(0, 5)), data.draw(st.integers(-2, 2))
        room = 6 if step == 0 else (start if step < 0 else 5 - start) // abs(step) + 1
        parts.append(Piece(data.draw(st.integers(1, room)), data.draw(st.sampled_from([0, 1, None])), start, step))
    made = sources[0].with_extents(8, (5, sum(piece.length for piece in parts)), 1)
    kind = data.draw(st.sampled_from([Kind.CONCATENATE, Kind.GATHER]))
    joined = Operation(kind, "pieces", sources, (made,), pieces=Pieces(1, tuple(parts)), traced=True)
    last = replace(before.operations[0], inputs=(made,), outputs=(replace(made, id=9),), name="last")
    graph = Graph(before.inputs, (*before.operations, joined, last))
    answer, literal = tw.size(graph), counts_by_walking(graph)
    for place in (2, 3):
        index = tuple(data.draw(st.integers(0, extent - 1)) for extent in made.extents)
        expected = literal[graph.operations[place].output.id][index]
        field = answer.effective(place, index)
        assert field.paths == expected.sum()
        if expected.sum():
            np.testing.assert_allclose(field.shares, (expected / expected.sum()).astype(float), rtol=1e-14)


def test_paths_lead_through_a_mean_put_before_the_map():
    """The mean has one position of its own, from which a path leads to every position of the map."""
    recorder = Recorder()
    x = recorder.input((1, 2, 20), positions=(2,), channel=1)
    mean = recorder.reduce(x, (2,), keep=True, name="mean")
    recorder.concatenate([mean, x], 2, "concat")
    answer = size_of_graph(recorder.graph())
    assert answer.effective("concat", (0,)).paths == 20
    assert answer.effective("concat", (5,)).profiles[0].seen == (4, 4)
    assert answer.unit("concat", (0,)).clipped == ((0, 19),)


@pytest.mark.parametrize(("place", "seen"), [(0, (0, 2)), (7, (5, 9)), (19, (17, 19))])
def test_paths_lead_through_one_step_that_becomes_a_vector(place, seen):
    """A cut that leaves one position keeps an axis, which what takes it for a vector does not have."""
    recorder = Recorder()
    x = recorder.input((1, 2, 20), positions=(2,), channel=1)
    weights = recorder.constant((4, 4))
    map_ = recorder.slide(
        Kind.CONVOLUTION, x, (2,), Slide((5,), (1,), (1,), (2,), (2,)), channel=1, channels=4, name="conv"
    )
    step = recorder.reshape(recorder.slice(map_, 2, place, place + 1), (1, 4))
    recorder.product(step, weights, ((1,), (0,)), name="head")
    answer = size_of_graph(recorder.graph())
    effective = answer.effective("head", (0,))
    assert effective.profiles[0].seen == answer.unit("head", (0,)).clipped[0] == seen
    assert effective.paths == seen[1] - seen[0] + 1


def test_paths_are_the_gradient_of_the_network_of_ones():
    import jax
    import jax.numpy as jnp

    def conv(x, kernel, stride=1, padding="SAME", dilation=1):
        ones = jnp.ones((kernel, kernel, 1, 1), x.dtype)
        return jax.lax.conv_general_dilated(
            x, ones, (stride, stride), padding, rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def pool(x):
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def network(x):
        x = conv(x, 3)
        skip = x = pool(x)
        x = conv(conv(x, 3, dilation=2), 3)
        x = pool(x + skip)
        return conv(x, 3, 2, ((1, 1), (1, 1)))

    text = """
        input 32x28x1; conv3-1; maxpool
        skip:; conv3-1 dilation 2; conv3-1; add skip
        avgpool; conv3-1/2 pad 1
    """
    answer = tw.size(text)
    with jax.enable_x64(True):
        for index in ((0, 0), (2, 3), (3, 1)):
            gradient = jax.grad(lambda x, at=index: network(x)[0, at[0], at[1], 0])(jnp.ones((1, 32, 28, 1)))
            expected = np.asarray(gradient)[0, :, :, 0]
            field = answer.effective(len(answer.layers) - 1, index)
            assert field.paths == expected.sum()
            np.testing.assert_allclose(field.shares, expected / expected.sum(), rtol=1e-14)


def test_paths_through_running_sums_and_masks_are_the_gradient_of_the_network_of_ones():
    import jax
    import jax.numpy as jnp

    kept = np.random.default_rng(0).random((6, 7)) < 0.6

    def network(x):
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
        x = jax.lax.cumsum(jnp.cumsum(x, 1) * kept[:, :, None], 2, reverse=True)
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 3, 1), (1, 1, 1, 1), "SAME")

    with jax.enable_x64(True):
        answer = tw.size(network, (6, 7, 1))
        for index in ((0, 0), (2, 3), (5, 6)):
            gradient = jax.grad(lambda x, at=index: network(x)[0, at[0], at[1], 0])(jnp.ones((1, 6, 7, 1)))
            expected = np.asarray(gradient)[0, :, :, 0]
            field = answer.effective(-1, index)
            assert field.paths == expected.sum()
            np.testing.assert_allclose(field.shares, expected / expected.sum(), rtol=1e-14)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=40)
def test_stacked_convolutions_spread_with_the_variance_of_their_taps(layers, taps, dilation):
    width = 2 * layers * (taps - 1) * dilation + 3
    answer = tw.size(f"input {width}x1; conv{taps}-1 pad {(taps - 1) * dilation} dilation {dilation} x{layers}; crop 1")
    middle = (width + layers * (taps - 1) * dilation) // 2 - 1  # its field lies well inside
    (profile,) = answer.effective(layers, (middle,)).profiles
    assert profile.deviation**2 == pytest.approx(layers * dilation**2 * (taps**2 - 1) / 12, abs=1e-6)


def test_the_textbook_counts_the_same_paths():
    text = "input 112x1; conv3-1; maxpool; conv3-1; maxpool; conv3-1 x2; maxpool"
    counted = textbook.path_counts(textbook.WINDOWS, 7)
    field = tw.size(text).effective(6, (7,))
    assert field.paths == sum(counted.values())
    (profile,) = field.profiles
    assert profile.deviation == pytest.approx(textbook.effective_width(counted))
    assert profile.seen == (min(counted), max(counted))
    for place, paths in counted.items():
        assert field.shares[place] * field.paths == pytest.approx(paths)


def test_axes_that_do_not_mix_multiply():
    field = tw.size("input 40x30x3; conv3x5-8; conv3-8/2; maxpool").effective(2, (5, 3))
    np.testing.assert_allclose(field.shares, np.outer(*(profile.shares for profile in field.profiles)), rtol=1e-13)


def test_most_of_the_paths_lie_within_the_interval_that_says_so():
    field = tw.size("input 101x101x1; conv3-1 x20").effective(19, (50, 50))
    (profile, _) = field.profiles
    low, high = profile.most
    assert profile.shares[low : high + 1].sum() >= MOST
    assert max(profile.shares[low + 1 : high + 1].sum(), profile.shares[low:high].sum()) < MOST
    assert profile.mean == pytest.approx(50)
    largest = np.sort(field.shares, axis=None)[::-1]
    assert largest[: field.within].sum() >= MOST > largest[: field.within - 1].sum()
    assert field.seen == 41**2
    assert field.paths == pytest.approx(9.0**20)
    assert isinstance(tw.size("input 9x9x1; conv3-1 x3").effective(2, (4, 4)).paths, int)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12).filter(any))
def test_the_shortest_interval_is_found(numbers):
    shares = np.array(numbers) / sum(numbers)
    low, high = Profile.of(shares).most
    shortest = min(
        last - first + 1
        for first in range(len(shares))
        for last in range(first, len(shares))
        if shares[first : last + 1].sum() >= MOST - 1e-12
    )
    assert high - low + 1 == shortest
    assert shares[low : high + 1].sum() >= MOST - 1e-9


def test_a_thousand_layers_do_not_leave_the_range_of_floats():
    field = tw.size("input 60x60x1; (conv3-1; relu) x1000").effective(1999, (30, 30))
    assert field.paths is None
    assert field.shares.sum() == pytest.approx(1)
    # Borders that swallow paths leave the slowest wave of the image: a half period of a sine.
    wave = np.sin(np.pi * np.arange(1, 61) / 61)
    np.testing.assert_allclose(field.profiles[0].shares, wave / wave.sum(), rtol=0.01)


def test_fully_connected_layers_and_global_pools_count_every_position_once():
    for last in ("FC-10", "globalavgpool", "globalavgpool; FC-10; relu"):
        field = tw.size(f"input 6x5x3; {last}").effective(-1, () if last != "globalavgpool" else (0, 0))
        np.testing.assert_allclose(field.shares, np.full((6, 5), 1 / 30))
    flat = tw.size("input 6x5x2; conv3-2; flatten; relu").effective(-1, (2 * (5 * 3 + 2),))
    assert flat.paths == 9
    assert flat.shares[3, 2] == pytest.approx(1 / 9)


def test_what_depends_on_values_is_named():
    image = Tensor(0, (4, 4, 2), (0, 1), 2)
    for kind, word in ((Kind.ATTENTION, "weighs"), (Kind.RECURRENT, "came before")):
        made = Tensor(1, (4, 4, 2), (0, 1), 2)
        graph = Graph((image,), (Operation(kind, "core", (image,), (made,), traced=True),))
        field = tw.size(graph).effective(0, (0, 0))
        assert field.shares is None
        assert field.paths is None
        assert field.why_not.startswith("Paths cannot be counted: core ")
        assert word in field.why_not
        assert field.why_not in field.table().notes
        assert not field.figure().data[:1]
    field = tw.size("input 8x8x1; a:; conv3-1; multiply a").effective(1, (0, 0))
    assert "multiplies what positions hold" in field.why_not


def test_gates_statistics_and_interpolation_are_noted():
    gate = "input 8x8x4; conv3-4; a:; globalavgpool; FC-4; sigmoid; multiply a"
    field = tw.size(gate).effective(-1, (4, 4))
    assert field.paths == 9
    assert "multiplies by what sees the whole image" in " ".join(field.notes)
    field = tw.size("input 8x8x4; conv3-4; instancenorm").effective(-1, (4, 4))
    assert field.paths == 9
    assert "statistics" in " ".join(field.table().notes)
    field = tw.size("input 8x8x1; upsample2 bilinear").effective(-1, (5, 5))
    assert "interpolates" in " ".join(field.notes)


def test_maps_that_are_too_large_are_refused_in_words(monkeypatch):
    monkeypatch.setattr(module, "MAX_STEPS", 100)
    field = tw.size("input 8x8x1; conv3-1").effective(0, (4, 4))
    assert field.shares is None
    assert "is too large" in field.why_not


def test_tables_json_and_pictures():
    field = tw.size("input 20x30x3; conv3-8; maxpool").effective("maxpool", (5, 6))
    table = field.table()
    assert table.rows[0] == ("height", 4, 10.5, pytest.approx(math.sqrt(11 / 12)), 9, 12, 4)
    assert "95% of all paths begin at" in table.notes[0]
    answer = field.to_dict()
    assert set(answer) == {"layer", "index", "axes", "paths", "within", "seen", "why_not"}
    assert answer["axes"][1]["first"] == 11
    np.testing.assert_allclose(answer["axes"][1]["shares"], np.array([1, 2, 2, 1]) / 6)
    bars, _, plane = field.figure().data
    assert [trace.type for trace in field.figure().data] == ["bar", "bar", "heatmap"]
    assert list(bars.x) == list(plane.y) == [9, 10, 11, 12]
    np.testing.assert_allclose(bars.y, np.array([1, 2, 2, 1]) / 6)
    np.testing.assert_allclose(plane.z, np.outer([1, 2, 2, 1], [1, 2, 2, 1]) / 36)
    wide = tw.size("input 41x1; conv3-1 x20").effective(19, (20,))
    (bars,) = wide.figure().data
    inside = [place for place, colour in zip(bars.x, bars.marker.color, strict=True) if colour == "#edae49"]
    assert (inside[0], inside[-1]) == wide.profiles[0].most
    assert [trace.type for trace in tw.size("input 9x1; conv3-1").effective(0, (4,)).figure().data] == ["bar"]


@pytest.mark.parametrize(
    ("layer", "index", "sentence"),
    [("convx", (0, 0), "There is no layer"), (0, (9, 0), "has no unit '9,0'"), (0, ("a", 0), "must be whole numbers")],
)
def test_a_unit_that_is_not_there(layer, index, sentence):
    with pytest.raises(InputError, match=sentence):
        tw.size("input 8x8x1; conv3-1").effective(layer, index)
