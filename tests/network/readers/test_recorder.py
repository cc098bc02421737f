"""What is written down of a run over arrays: the same counts and fields whatever the layout."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from thalweg.errors import InputError
from thalweg.network.edits import DoesNotFitError, edited
from thalweg.network.graph import Border, Kind, Weight
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Slide
from thalweg.network.readers.recorder import Recorder
from thalweg.network.receptive_field import ReceptiveFields
from thalweg.network.size import size

SAME = Slide((3, 3), low=(1, 1), high=(1, 1))
POOL = Slide((2, 2), (2, 2))
COUNTED = ("neurons", "parameters", "connections", "connections_inside", "macs")


def image(recorder, side=8, channels=4):
    return recorder.input((1, channels, side, side), positions=(2, 3), channel=1)


def conv(recorder, x, channels, name="conv", slide=SAME):
    weights = [
        recorder.weight(f"{name}.w", (channels, x.shape[1], *slide.kernel)),
        recorder.weight(f"{name}.b", (channels,)),
    ]
    return recorder.slide(Kind.CONVOLUTION, x, (2, 3), slide, channels=channels, weights=weights, name=name)


def linear(recorder, x, units, name="fc", axis=-1):
    axis %= len(x.shape)
    weight = recorder.weight(f"{name}.w", (x.shape[axis], units))
    out = recorder.product(x, weight, ((axis,), (0,)), name=name)
    return recorder.elementwise([out, recorder.weight(f"{name}.b", (units,))], Kind.ADD)


def last(recorder):
    return size(recorder.graph()).layers[-1]


def test_a_plain_network_is_counted_like_its_spec():
    recorder = Recorder()
    x = recorder.elementwise([conv(recorder, image(recorder, 12, 3), 8)], name="relu")
    x = recorder.slide(Kind.MAX_POOL, x, (2, 3), POOL, name="maxpool")
    x = linear(recorder, recorder.reshape(x, (1, 8 * 6 * 6)), 10)
    ours, spec = size(recorder.graph()), tw.size("input 12x12x3; conv3-8; relu; maxpool; FC-10")
    assert x.shape == (1, 10)
    for mine, theirs in zip(ours.layers, spec.layers, strict=True):
        assert [getattr(mine, each) for each in COUNTED] == [getattr(theirs, each) for each in COUNTED]
        assert (mine.receptive_field, mine.stride, mine.first) == (theirs.receptive_field, theirs.stride, theirs.first)
    assert ours.totals == spec.totals


def test_a_bias_added_later_belongs_to_its_layer():
    recorder = Recorder()
    linear(recorder, recorder.input((1, 5)), 3)
    (layer,) = size(recorder.graph()).layers
    assert (layer.parameters, layer.connections) == (18, 15)


def test_a_linear_layer_on_channels_sees_what_its_position_sees():
    recorder = Recorder()
    x = conv(recorder, image(recorder), 6)
    x = recorder.permute(x, (0, 2, 3, 1))
    linear(recorder, x, 5)
    layer = last(recorder)
    assert (layer.receptive_field, layer.stride) == ((3, 3), (1, 1))
    assert (layer.neurons, layer.connections) == (8 * 8 * 5, 8 * 8 * 5 * 6)


def test_tokens_are_positions_until_attention_joins_them():
    recorder = Recorder()
    x = conv(recorder, image(recorder), 6, slide=Slide((4, 4), (4, 4)))
    x = recorder.permute(recorder.reshape(x, (1, 6, 4)), (0, 2, 1))
    x = linear(recorder, x, 6)
    assert last(recorder).receptive_field == (4, 4)
    heads = recorder.permute(recorder.reshape(x, (1, 4, 2, 3)), (0, 2, 1, 3))
    recorder.attention(heads, heads, heads)
    layer = last(recorder)
    assert (layer.receptive_field, layer.stride) == ((8, 8), (None, None))
    assert (layer.neurons, layer.connections, layer.macs) == (0, 2 * 4 * 4 * 6, 2 * 4 * 4 * 6)


def test_a_bias_of_heads_belongs_to_its_layer_and_positions_do_not():
    recorder = Recorder()
    x = recorder.input((1, 5, 8), positions=(1,), channel=2)
    x = recorder.product(x, recorder.weight("query.w", (8, 2, 3)), ((2,), (0,)), name="query")
    x = recorder.elementwise([x, recorder.weight("query.b", (2, 3))], Kind.ADD)
    x = recorder.product(x, recorder.weight("out.w", (2, 3, 6)), ((2, 3), (0, 1)), name="out")
    recorder.elementwise([x, recorder.weight("positions", (5, 6))], Kind.ADD, name="positions")
    assert [(each.name, each.parameters) for each in size(recorder.graph()).layers] == [
        ("query", 8 * 6 + 6),
        ("out", 36),
        ("positions", 30),
    ]


def test_attention_written_out_sees_the_same():
    recorder = Recorder()
    x = recorder.permute(recorder.reshape(conv(recorder, image(recorder, 6), 6), (1, 6, 36)), (0, 2, 1))
    scores = recorder.product(x, x, ((2,), (2,)), ((0,), (0,)), name="scores")
    assert scores.shape == (1, 36, 36)
    out = recorder.product(recorder.softmax(scores, 2), x, ((2,), (1,)), ((0,), (0,)), name="mixed")
    answer = size(recorder.graph())
    assert [each.receptive_field for each in answer.layers[1:]] == [(6, 6)] * 3
    assert [each.macs for each in answer.layers[1:]] == [36 * 36 * 6, 0, 36 * 36 * 6]
    # What comes out is a map again: a layer after it has as many positions as before.
    linear(recorder, out, 2)
    assert last(recorder).output == (36, 2)


def test_attention_in_windows_sees_its_window():
    recorder = Recorder()
    x = conv(recorder, image(recorder, 8), 6, slide=Slide((1, 1)))
    x = recorder.reshape(recorder.permute(x, (0, 2, 3, 1)), (1, 2, 4, 2, 4, 6))
    x = recorder.reshape(recorder.permute(x, (0, 1, 3, 2, 4, 5)), (4, 16, 6))
    scores = recorder.product(x, x, ((2,), (2,)), ((0,), (0,)))
    x = recorder.product(recorder.softmax(scores, 2), x, ((2,), (1,)), ((0,), (0,)))
    x = recorder.permute(recorder.reshape(x, (1, 2, 2, 4, 4, 6)), (0, 1, 3, 2, 4, 5))
    x = recorder.permute(recorder.reshape(x, (1, 8, 8, 6)), (0, 3, 1, 2))
    conv(recorder, x, 3, "after", Slide((1, 1)))
    answer = size(recorder.graph())
    for row, column in itertools.product(range(8), repeat=2):
        seen = answer.unit("after", (row, column)).clipped
        assert seen == ((row // 4 * 4, row // 4 * 4 + 3), (column // 4 * 4, column // 4 * 4 + 3))


def test_space_to_depth_and_back():
    recorder = Recorder()
    x = recorder.reshape(image(recorder, 8, 4), (1, 4, 4, 2, 4, 2))
    x = recorder.reshape(recorder.permute(x, (0, 1, 3, 5, 2, 4)), (1, 16, 4, 4))
    x = conv(recorder, x, 12, "deep")
    assert (last(recorder).receptive_field, last(recorder).stride, last(recorder).first) == ((6, 6), (2, 2), (-2, -2))
    x = recorder.permute(recorder.reshape(x, (1, 3, 2, 2, 4, 4)), (0, 1, 4, 2, 5, 3))
    conv(recorder, recorder.reshape(x, (1, 3, 8, 8)), 2, "shuffled", Slide((1, 1)))
    layer = last(recorder)
    assert (layer.receptive_field, layer.connections) == ((6, 6), 8 * 8 * 3 * 2)
    assert size(recorder.graph()).unit("shuffled", (5, 0)).unclipped == ((2, 7), (-2, 3))


@pytest.mark.parametrize("meet", ["add", "concatenate"])
def test_a_pixel_shuffle_meets_a_larger_map(meet):
    recorder = Recorder()
    x = conv(recorder, image(recorder, 4, 8), 8)
    shuffled = recorder.permute(recorder.reshape(x, (1, 2, 2, 2, 4, 4)), (0, 1, 4, 2, 5, 3))
    shuffled = recorder.reshape(shuffled, (1, 2, 8, 8))
    up = Slide((2, 2), (2, 2), transposed=True)
    weights = [recorder.weight("up", (8, 2, 2, 2))]
    larger = recorder.slide(Kind.CONVOLUTION, x, (2, 3), up, channels=2, weights=weights)
    if meet == "add":
        recorder.elementwise([shuffled, larger], Kind.ADD, name="meet")
    else:
        recorder.concatenate([shuffled, larger], 1, name="meet")
    assert last(recorder).receptive_field == (3, 3)
    assert size(recorder.graph()).unit("meet", (5, 0)).clipped == ((1, 3), (0, 1))


def test_numbers_that_depend_on_no_input_cost_nothing():
    recorder = Recorder()
    image(recorder)
    mixture = recorder.weight("mixture", (4,))
    for made in (recorder.softmax(mixture, 0), recorder.normalise(mixture, (0,), [recorder.weight("scale", (4,))])):
        assert made.is_constant
        assert mixture.weights[0] in made.weights
    assert recorder.graph().operations == ()


def test_padding_before_positions_that_lie_in_several_axes():
    recorder = Recorder()
    x = recorder.pad(image(recorder, 6), (0, 0, 1, 1), (0, 0, 1, 1))
    blocks = recorder.permute(recorder.reshape(x, (1, 4, 2, 4, 2, 4)), (0, 2, 4, 1, 3, 5))
    recorder.reduce(blocks, (1, 2, 3, 4, 5), name="sum")
    assert last(recorder).receptive_field == (6, 6)
    recorder.reduce(blocks, (1, 2, 4, 5), pool=True, name="mean")
    assert last(recorder).connections == 4 * 8 * 8


def test_a_channel_shuffle_moves_no_position():
    recorder = Recorder()
    x = recorder.reshape(conv(recorder, image(recorder), 6), (1, 2, 3, 8, 8))
    x = recorder.reshape(recorder.permute(x, (0, 2, 1, 3, 4)), (1, 6, 8, 8))
    conv(recorder, x, 5, "next")
    assert (last(recorder).receptive_field, last(recorder).connections) == ((5, 5), 64 * 9 * 6 * 5)


def test_slices_pads_and_flips_of_positions():
    recorder = Recorder()
    x = image(recorder)
    even = recorder.slice(x, 2, 0, 8, 2)
    odd = recorder.slice(x, 2, 1, 8, 2)
    joined = recorder.concatenate([even, odd], 1)
    assert joined.shape == (1, 8, 4, 8)
    conv(recorder, recorder.pad(joined, (0, 0, 1, 1), (0, 0, 1, 1)), 3, "after", Slide((3, 3)))
    layer = last(recorder)
    assert (layer.receptive_field, layer.stride, layer.first) == ((6, 3), (2, 1), (-2, -1))
    assert layer.connections_inside == (4 * 3 - 2) * (8 * 3 - 2) * 8 * 3
    flipped = recorder.gather([joined], joined.shape, lost=(2,))
    conv(recorder, flipped, 2, "lost")
    answer = size(recorder.graph())
    assert answer.layers[-1].receptive_field is None
    assert answer.complete


def test_a_map_of_copies_meets_a_finer_one():
    def doubled(recorder, x):
        x = recorder.expand(recorder.reshape(x, (1, 6, 4, 1, 4, 1)), (1, 6, 4, 2, 4, 2))
        return recorder.reshape(x, (1, 6, 8, 8))

    for join in ("add", "concat", "pad"):
        recorder = Recorder()
        fine = conv(recorder, image(recorder), 6, "fine")
        coarse = doubled(recorder, conv(recorder, recorder.slide(Kind.MAX_POOL, fine, (2, 3), POOL), 6, "coarse"))
        if join == "pad":
            x = recorder.pad(recorder.slice(coarse, 2, 1, 7), (0, 0, 2, 0), (0, 0, 0, 0))
        else:
            x = (
                recorder.elementwise([coarse, fine], Kind.ADD)
                if join == "add"
                else recorder.concatenate([fine, coarse], 1)
            )
        conv(recorder, x, 2, "after", Slide((1, 1)))
        spec = {"add": "add fine", "concat": "concat fine", "pad": "crop 1x0; pad 2x0,0x0"}[join]
        told = tw.size(f"input 8x8x4; fine: conv3-6; maxpool; conv3-6; upsample2; {spec}; conv1-2")
        mine = size(recorder.graph())
        assert mine.layers[-1].receptive_field == told.layers[-1].receptive_field
        for unit in itertools.product(range(8), repeat=2):
            assert mine.unit("after", unit).clipped == told.unit("conv1-2", unit).clipped


def test_a_mean_over_one_axis_sees_all_of_it():
    recorder = Recorder()
    x = conv(recorder, image(recorder), 6)
    recorder.reduce(x, (3,), pool=True, name="mean")
    layer = last(recorder)
    assert (layer.output, layer.receptive_field, layer.stride) == ((6, 8), (3, 8), (1, None))
    assert (layer.kind, layer.neurons, layer.connections) == ("global pool", 48, 384)


def test_gates_and_class_tokens():
    recorder = Recorder()
    x = conv(recorder, image(recorder), 6)
    gate = linear(recorder, recorder.reduce(x, (2, 3), pool=True), 6, "gate")
    x = recorder.elementwise([x, recorder.reshape(gate, (1, 6, 1, 1))], Kind.MULTIPLY, name="scale")
    assert last(recorder).receptive_field == (3, 3)
    tokens = recorder.permute(recorder.reshape(x, (1, 6, 64)), (0, 2, 1))
    token = recorder.expand(recorder.weight("token", (1, 1, 6)), (1, 1, 6))
    tokens = recorder.concatenate([token, tokens], 1, name="with token")
    tokens = linear(recorder, tokens, 6, "qkv")
    assert (last(recorder).receptive_field, last(recorder).output) == ((3, 3), (65, 6))
    mixed = recorder.attention(tokens, tokens, tokens)
    assert last(recorder).receptive_field == (8, 8)
    answer = size(recorder.graph())
    assert answer.layers[-3].parameters == 6
    assert answer.complete
    linear(recorder, recorder.elementwise([tokens, mixed], Kind.ADD), 6, "after")
    assert last(recorder).receptive_field == (9, 9), "the image, and at its border one more"
    # Tokens in an order that is not followed, added to what sees the whole image.
    mixed = recorder.slice(mixed, 1, 1, 65)
    assert size(recorder.graph()).unit(-1, (5, 7)).clipped == ((0, 7), (0, 7))
    shuffled = recorder.gather([recorder.slice(tokens, 1, 1, 65)], (1, 64, 6), lost=(1,))
    linear(recorder, recorder.elementwise([shuffled, mixed], Kind.ADD), 6, "behind")
    assert last(recorder).receptive_field == (8, 8)


def test_statistics_over_tokens_are_a_gate():
    recorder = Recorder()
    tokens = recorder.reshape(image(recorder), (1, 4, 64))
    token = recorder.weight("token", (1, 4, 1))
    tokens = recorder.elementwise([recorder.concatenate([token, tokens], 2)], name="active")
    assert size(recorder.graph()).gated is None
    recorder.elementwise([recorder.normalise(tokens, (2,), name="over tokens")], name="behind")
    answer = size(recorder.graph())
    assert answer.gated == "over tokens"
    assert answer.unit("behind", (10,)).clipped == ((1, 1), (1, 1))
    gate = recorder.elementwise([recorder.reduce(tokens, (2,), keep=True)], name="gate")
    recorder.elementwise([tokens, gate], Kind.MULTIPLY, name="scaled")
    assert size(recorder.graph()).unit("scaled", (10,)).clipped == ((1, 1), (1, 1))


def test_a_generator_makes_its_own_positions():
    recorder = Recorder()
    x = linear(recorder, recorder.input((1, 10)), 4 * 4 * 8)
    x = recorder.reshape(x, (1, 8, 4, 4))
    weights = [recorder.weight("up", (8, 3, 4, 4))]
    slide = Slide((4, 4), (2, 2), low=(1, 1), high=(1, 1), transposed=True)
    recorder.slide(Kind.CONVOLUTION, x, (2, 3), slide, channels=3, weights=weights, name="up")
    spec = tw.size("input 10; FC-128; reshape 4x4x8; convt4-3/2 pad 1 nobias")
    mine = last(recorder)
    assert [getattr(mine, each) for each in COUNTED] == [getattr(spec.layers[-1], each) for each in COUNTED]


def test_windows_over_channels_are_counted_and_not_followed():
    recorder = Recorder()
    x = recorder.reduce(image(recorder, 8, 16), (2, 3), pool=True)
    x = recorder.reshape(x, (1, 1, 16))
    weights = [recorder.weight("eca", (1, 1, 3))]
    recorder.slide(Kind.CONVOLUTION, x, (2,), Slide((3,), low=(1,), high=(1,)), channels=1, weights=weights)
    layer = last(recorder)
    assert (layer.connections, layer.connections_inside, layer.receptive_field) == (48, 46, (8, 8))
    assert layer.kind == "convolution"


def test_shared_and_unused_weights_are_told_apart_from_units():
    recorder = Recorder()
    table = recorder.weight("table", (50, 8))
    x = recorder.embedding(recorder.input((1, 7), positions=(1,)), table)
    recorder.product(x, recorder.permute(table, (1, 0)), ((2,), (0,)), name="head")
    answer = size(recorder.graph())
    assert answer.totals.parameters == 400
    assert [each.neurons for each in answer.layers] == [56, 350]
    assert [each.receptive_field for each in answer.layers] == [(1,), (1,)]
    assert recorder.elementwise([table, recorder.constant((8,))]).is_constant


def test_what_is_unknown_is_named_and_incomplete():
    recorder = Recorder()
    recorder.unknown([image(recorder)], (1, 4, 8, 8), "warp")
    answer = size(recorder.graph())
    assert (answer.complete, answer.unknown) == (False, ("warp",))


def test_a_window_that_does_not_fit_is_refused_by_name():
    recorder = Recorder()
    with pytest.raises(
        InputError, match="'conv' does not fit: its window of 3 x 3 leaves no unit on an input of 2 x 2"
    ):
        conv(recorder, image(recorder, 2), 4, slide=Slide((3, 3)))
    with pytest.raises(InputError, match="no input"):
        Recorder().graph()


def test_layers_on_constants_are_counted_and_see_nothing():
    recorder = Recorder()
    x = image(recorder)
    table = recorder.source(recorder.constant((1, 5, 2)))
    linear(recorder, table, 3, "bias")
    answer = size(recorder.graph())
    assert (answer.totals.macs, answer.totals.neurons, answer.totals.parameters) == (30, 15, 9)
    assert answer.layers[0].receptive_field == (0, 0)
    assert [tensor.id for tensor in recorder.graph().given] == [x.id]
    queries = recorder.source(recorder.weight("queries", (1, 4, 2)), "queries")
    assert not queries.is_constant
    assert last(recorder).parameters == 8
    assert recorder.source(x) is x


def test_weights_that_the_run_did_not_use_have_rows_of_their_own():
    recorder = Recorder()
    conv(recorder, image(recorder), 6)
    spare = [Weight("aux.w", (3, 4)), Weight("aux.b", (3,), trainable=False)]
    recorder.unused(("aux", "", each) for each in spare)
    answer = size(recorder.graph())
    layer = answer.layers[-1]
    assert (layer.name, layer.kind, layer.parameters, layer.neurons, layer.macs) == ("aux", "not used", 15, 0, 0)
    assert layer.receptive_field is None
    assert not answer.lost
    assert answer.complete
    assert answer.totals.trainable == answer.totals.parameters - 3


def test_a_bag_of_rows_and_a_bias_on_scores():
    recorder = Recorder()
    ids = recorder.input((1, 7), positions=(1,))
    recorder.embedding_bag(ids, recorder.weight("table", (50, 8)), (1, 8))
    layer = last(recorder)
    assert (layer.neurons, layer.connections, layer.macs, layer.receptive_field) == (8, 56, 0, (7,))
    heads = recorder.input((1, 2, 5, 4))
    recorder.attention(heads, heads, heads, bias=recorder.weight("near", (2, 5, 5)))
    assert last(recorder).parameters == 50


def test_what_was_written_down_is_forgotten_from_a_mark_on():
    recorder = Recorder()
    x = conv(recorder, image(recorder), 6)
    mark = recorder.mark()
    conv(recorder, x, 5, "wrong")
    recorder.forget(mark)
    conv(recorder, x, 4, "right")
    assert [step.name for step in recorder.graph().operations] == ["conv", "right"]
    assert recorder.identities() == {"conv.w", "conv.b", "right.w", "right.b"}


@pytest.mark.parametrize(
    ("border", "seen"),
    [(Border.ZEROS, (0, 1)), (Border.MIRRORED, (0, 3)), (Border.REPEATED, (0, 1)), (Border.WRAPPED, (0, 7))],
)
def test_padding_with_a_maps_own_values(border, seen):
    recorder = Recorder()
    x = recorder.pad(image(recorder), (0, 0, 3, 0), (0, 0, 3, 0), border=border)
    conv(recorder, x, 3, slide=Slide((5, 1)))
    answer = size(recorder.graph())
    assert (answer.layers[-1].output, answer.layers[-1].first) == ((3, 10, 8), (-3, 0))
    assert answer.unit("conv", (0, 0)).clipped == (seen, (0, 0))
    zeros = 12 * 8 * 3 * 4 if border is Border.ZEROS else 0  # 3 + 2 + 1 taps at either end
    assert answer.layers[-1].connections - answer.layers[-1].connections_inside == zeros


@settings(deadline=None)
@given(st.integers(1, 7), st.sampled_from([2, 3]))
def test_a_roll_written_as_two_slices_is_a_roll(shift, axis):
    """`roll(x, s) = concatenate(x[-s:], x[:-s])`, which is what exporters and `jax.numpy.roll` write."""
    written, called = Recorder(), Recorder()
    x = image(written)
    parts = [written.slice(x, axis, 8 - shift, 8), written.slice(x, axis, 0, 8 - shift)]
    conv(written, written.concatenate(parts, axis), 2)
    conv(called, called.roll(image(called), axis, shift), 2)
    assert last(written) == last(called)
    one, other = size(written.graph()), size(called.graph())
    assert all(one.unit("conv", (i, i)).clipped == other.unit("conv", (i, i)).clipped for i in range(8))
    # The unit at 3 + shift reads around position 3, wherever the roll has put it.
    place = [5, 5]
    place[axis - 2] = (3 + shift) % 8
    if 1 <= place[axis - 2] <= 6 and (2 + shift) % 8 < (3 + shift) % 8 < (4 + shift) % 8:
        assert one.unit("conv", place).clipped[axis - 2] == (2, 4)


def test_slices_that_are_no_roll_are_pieces_of_their_own():
    recorder = Recorder()
    x, y = image(recorder), image(recorder)
    cuts = {
        "in their order": [(x, 0, 3), (x, 3, 8)],
        "with a gap": [(x, 4, 8), (x, 0, 3)],
        "one twice": [(x, 3, 8), (x, 3, 8)],
        "of two arrays": [(x, 3, 8), (y, 0, 3)],
        "every other": [(x, 4, 8), (x, 0, 4)],
    }
    for name, ((a, start, stop), (b, first, after)) in cuts.items():
        step = 2 if name == "every other" else 1
        parts = [recorder.slice(a, 2, start, stop, step), recorder.slice(b, 2, first, after, step)]
        recorder.concatenate(parts, 2, name)
        assert recorder.graph().operations[-1].kind is Kind.CONCATENATE, name
        answer = size(recorder.graph())
        places = [*range(start, stop, step)], [*range(first, after, step)]
        seen = [answer.unit(name, (unit, 0)).clipped for unit in range(sum(map(len, places)))]
        wanted = [((place, place), (0, 0)) for place in places[0]]
        wanted += [None if b is y else ((place, place), (0, 0)) for place in places[1]]
        assert seen == wanted, name


def test_pieces_from_different_places_are_not_misaligned_branches_and_keep_their_gate():
    recorder = Recorder()
    x = image(recorder)
    gate = recorder.elementwise([recorder.reduce(x, (2, 3), keep=True, name="mean")], name="gate")
    gated = recorder.elementwise([x, gate], Kind.MULTIPLY, name="gated")
    recorder.concatenate([recorder.slice(gated, 2, 0, 3), recorder.slice(x, 2, 5, 8)], 2, "pieces")
    graph = recorder.graph()
    fields = ReceptiveFields(graph)
    assert fields.misaligned == []
    assert fields.of(graph.operations[-1].output).gated


def test_pieces_are_cut_for_one_size_of_the_image():
    recorder = Recorder()
    x = image(recorder)
    recorder.concatenate([recorder.slice(x, 2, 0, 3), recorder.slice(x, 2, 5, 8)], 2, "pieces")
    graph = recorder.graph()
    with pytest.raises(DoesNotFitError):
        edited(graph, [], (16, 16))


def test_the_first_position_several_times_before_the_map_pads_it():
    """What moving averages write: `concatenate(repeat(x[:1], 3), x)`."""
    recorder = Recorder()
    x = image(recorder)
    first = recorder.slice(x, 2, 0, 1)
    front = recorder.expand(first, (*first.shape[:2], 3, first.shape[3]))
    recorder.concatenate([front, x], 2, "padded")
    answer = size(recorder.graph())
    assert answer.layers[-1].output == (4, 11, 8)
    seen = [answer.unit("padded", (unit, 5)).clipped for unit in range(11)]
    assert seen == [((max(0, unit - 3),) * 2, (5, 5)) for unit in range(11)]


def test_what_stands_across_is_not_followed():
    """A map and its transpose, one after the other: along no axis are they pieces of the same axis."""
    recorder = Recorder()
    x = image(recorder)
    recorder.concatenate([x, recorder.permute(x, (0, 1, 3, 2))], 2)
    assert recorder.graph().operations[-1].kind is Kind.GATHER
    assert recorder.graph().operations[-1].pieces is None


@settings(deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=12), st.sampled_from([2, 3]))
def test_known_places_are_followed(places, axis):
    recorder = Recorder()
    taken = recorder.take(image(recorder), axis, places, "taken")
    assert taken.shape[axis] == len(places)
    assert len(recorder.graph().operations[-1].pieces.parts) <= len(places)
    answer = size(recorder.graph())
    for unit, place in enumerate(places):
        where = (unit, 2) if axis == 2 else (2, unit)
        assert answer.unit("taken", where).clipped[axis - 2] == (place, place)


def test_a_slice_may_go_backwards():
    recorder = Recorder()
    recorder.slice(image(recorder), 2, 7, -1, -3, "back")
    answer = size(recorder.graph())
    assert [answer.unit("back", (unit, 0)).clipped[0] for unit in range(3)] == [(7, 7), (4, 4), (1, 1)]
    assert answer.layers[-1].stride == (-3, 1)


def test_copies_are_followed_unless_they_are_too_many():
    recorder = Recorder()
    recorder.repeat(image(recorder), 3, 3, "copies")
    answer = size(recorder.graph())
    assert [answer.unit("copies", (1, unit)).clipped[1] for unit in range(24)] == [(n % 8, n % 8) for n in range(24)]
    recorder = Recorder()
    recorder.repeat(image(recorder), 3, 10**12, "copies")
    with pytest.raises(InputError, match="cannot be followed"):
        size(recorder.graph()).unit("copies", (1, 0))


def test_an_axis_with_one_position_is_known_when_it_grows_again():
    recorder = Recorder()
    x = recorder.slice(image(recorder), 2, 3, 4)
    x = recorder.pad(x, (0, 0, 1, 0), (0, 0, 1, 0))
    conv(recorder, x, 3, slide=Slide((3, 1)))
    assert size(recorder.graph()).unit("conv", (0, 2)).clipped == ((3, 3), (2, 2))


# Axes against NumPy: an index array carries along where each value came from.


@st.composite
def moves(draw):
    """A map's extents, and reshapes and permutations that keep its number of values."""
    extents = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=3, max_size=3))
    steps, shape = [], tuple(extents)
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            order = draw(st.permutations(range(len(shape))))
            shape = tuple(shape[axis] for axis in order)
            steps.append(("permute", order))
        else:
            left, new = int(np.prod(shape)), []
            while left > 1 and len(new) < 5:
                factor = draw(st.sampled_from([each for each in range(1, left + 1) if left % each == 0]))
                new.append(factor)
                left //= factor
            shape = (*new, left)
            steps.append(("reshape", shape))
    return extents, steps


@given(moves())
def test_atoms_know_where_every_value_came_from(case):
    (channels, height, width), steps = case
    rows, columns = np.indices((channels, height, width))[1:]
    recorder = Recorder()
    x = recorder.input((channels, height, width), positions=(1, 2), channel=0)
    for what, how in steps:
        if what == "permute":
            x, rows, columns = recorder.permute(x, how), rows.transpose(how), columns.transpose(how)
        else:
            x, rows, columns = recorder.reshape(x, how), rows.reshape(how), columns.reshape(how)
    assert x.shape == rows.shape
    if any(step.kind is Kind.GATHER for step in recorder.graph().operations):
        assert all(atom.axis == ax.LOST for atom in ax.atoms_of(x.axes)), "an atom was cut: never told wrong"
        return
    # Where positions times copies fell apart elsewhere than between them, these are positions of a finer map.
    finer = [now // before for now, before in zip(ax.grid(x.axes, 2), (height, width), strict=True)]
    for axis, truth in enumerate((rows, columns)):
        told = np.zeros(x.shape, dtype=int)
        for place, held in enumerate(x.axes):
            along = np.zeros(x.shape[place], dtype=int)
            inner = 1
            for atom in reversed(held):
                if atom.axis == axis:
                    along += np.arange(x.shape[place]) // inner % atom.extent * atom.step
                inner *= atom.extent
            told += along.reshape([-1 if other == place else 1 for other in range(len(x.shape))])
        assert np.array_equal(told // finer[axis], truth)


def test_a_product_of_maps_that_share_one_spatial_axis_sees_the_whole_of_the_other():
    recorder = Recorder()
    x = recorder.input((1, 4, 6, 8), positions=(1, 2), channel=3)
    rows = recorder.reduce(x, (1,))
    tokens = recorder.reshape(x, (1, 24, 8))
    recorder.product(rows, tokens, ((2,), (2,)), ((0,), (0,)), name="scores")
    scores = last(recorder)
    assert (scores.output, scores.macs) == ((6, 24), 6 * 24 * 8)
    assert scores.receptive_field == (4, 6)


def test_pieces_of_unknown_origin_beside_pieces_that_see_everything_stay_unknown():
    recorder = Recorder()
    x = recorder.input((1, 9, 3), positions=(1,), channel=2)
    unknown = recorder.elementwise([recorder.gather([x], (1, 9, 3), lost=(1,)), x], Kind.ADD)
    assert last(recorder).receptive_field is None
    everything = recorder.attention(x, x, x)
    assert last(recorder).receptive_field == (9,)
    recorder.concatenate([unknown, everything], 1)
    assert last(recorder).receptive_field is None
    recorder.elementwise([unknown, everything], Kind.ADD)
    assert last(recorder).receptive_field == (9,)


def test_values_from_unknown_places_see_what_all_of_them_do():
    recorder = Recorder()
    x = recorder.slice(image(recorder), 3, 1, 6)
    together = recorder.reduce(x, (2, 3))
    recorder.gather([together], (1, 4), name="shuffled")
    assert size(recorder.graph()).unit("shuffled", (0,)).clipped == ((0, 7), (1, 5))
    recorder.gather([x], tuple(x.shape), name="anywhere")
    assert last(recorder).receptive_field is None
