"""What changes to a network do to what its units see: against specs in which the change is written down."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from thalweg.errors import InputError
from thalweg.network.graph import Kind
from thalweg.network.reach import changes, reach
from thalweg.network.readers.arrays import Slide
from thalweg.network.readers.masks import of_product
from thalweg.network.readers.recorder import Recorder
from thalweg.network.readers.spec import read_spec

TEXTBOOK = "input 112x112x3; {}conv3-64; maxpool; conv3-128; maxpool; conv3-256 x2; maxpool; {}FC-1024; FC-100"
PLAIN = TEXTBOOK.format("", "")


def by_words(found):
    return {change.what: change for change in found.changes}


def differences(before, after, place):
    """What a changed spec has more of, and what its layer at a place sees."""
    one, other = tw.size(before).totals, tw.size(after)
    costs = [getattr(other.totals, each) - getattr(one, each) for each in ("parameters", "connections", "macs")]
    return (*costs, other.layers[place].receptive_field)


def as_tuple(change):
    return change.parameters, change.connections, change.macs, change.receptive_field


def test_one_more_pool_of_the_textbook():
    found = changes(read_spec(PLAIN))
    assert (found.layer, found.receptive_field) == ("maxpool#3", (30, 30))
    first = by_words(found)["one more 2x2 pool before conv3-64"]
    last = by_words(found)["one more 2x2 pool behind maxpool#3"]
    assert (first.receptive_field, last.receptive_field) == ((60, 60), (38, 38))  # fact F3.3
    assert first.accepts == last.accepts == (224, 224)
    assert first.positions == last.positions == (7, 7)
    assert as_tuple(first) == differences(PLAIN, TEXTBOOK.format("maxpool; ", ""), 7)
    assert as_tuple(last) == differences(PLAIN, TEXTBOOK.format("", "maxpool; "), 7)
    larger = tw.size(TEXTBOOK.format("maxpool; ", ""), "224x224x3")
    assert larger.layers[-1].output == (100,)
    assert larger.totals.parameters == tw.size(PLAIN).totals.parameters


@pytest.mark.parametrize(
    ("words", "old", "new"),
    [
        ("conv3-64 with kernel 5 instead of 3", "conv3-64", "conv5-64"),
        ("conv3-128 with dilation 2 instead of 1", "conv3-128", "conv3-128 dilation 2"),
        ("conv3-128 with stride 2 instead of 1", "conv3-128", "conv3-128/2 pad 1"),
        ("maxpool#2 with stride 4 instead of 2", "maxpool; conv3-256", "maxpool2/4; conv3-256"),
        ("maxpool#1 with kernel 4 instead of 2", "conv3-64; maxpool", "conv3-64; maxpool4/2 pad 1"),
        ("one more 3x3 convolution before conv3-128", "conv3-128", "conv3-64; conv3-128"),
    ],
)
def test_every_change_is_what_the_changed_spec_says(words, old, new):
    place = 7 if "one more" in words else 6
    change = by_words(changes(read_spec(PLAIN)))[words]
    assert as_tuple(change) == differences(PLAIN, PLAIN.replace(old, new, 1), place)


def test_a_kernel_changes_only_its_own_layer_and_keeps_every_map():
    for change in changes(read_spec(PLAIN)).changes:
        if change.kind in ("kernel", "dilation", "convolution"):
            assert change.keeps_size
            assert change.positions == (14, 14)
            assert change.parameters >= 0


def test_branches_that_would_no_longer_match_are_refused():
    found = changes(read_spec("input 32x32x3; conv3-8; start:; conv3-8; relu; conv3-8; add start; relu; gap; FC-2"))
    words = by_words(found)
    assert "conv3-8#2 with kernel 5 instead of 3" in words
    assert "conv3-8#2 with stride 2 instead of 1" not in words
    assert "one more 2x2 pool before conv3-8#3" not in words
    assert "one more 2x2 pool before conv3-8#1" in words
    assert found.refused > 0


@pytest.mark.parametrize("wanted", [31, 40, 100, 500])
def test_the_least_change_is_enough_and_one_less_is_not(wanted):
    graph = read_spec(PLAIN)
    found = reach(graph, wanted)
    assert [change.macs for change in found.changes] == sorted(change.macs for change in found.changes)
    assert all(change.sees(wanted) for change in found.changes)
    assert found.cheapest is found.changes[0]
    assert found.cheapest_of_same_size.keeps_size
    # conv3-64, first of all, has stride 1 on the input: its kernel adds as many positions as it grows.
    more = (wanted - 30 + 1) // 2
    assert f"conv3-64 with kernel {3 + 2 * more} instead of 3" in by_words(found)
    assert f"conv3-64 with dilation {1 + more} instead of 1" in by_words(found)


def test_what_sees_enough_already_needs_nothing():
    found = reach(read_spec(PLAIN), 30)
    assert found.changes == ()
    assert found.cheapest is None
    assert "sees 30 positions already" in found.table().to_text()


@pytest.mark.parametrize(("text", "size"), [("100x3", "3"), ("20x20x3", "3x3"), ("9x9x9x3", "3x3x3")])
def test_layers_are_added_in_as_many_axes_as_the_input_has(text, size):
    words = by_words(changes(read_spec(f"input {text}; conv3-8; conv3-8")))
    assert f"one more {size} convolution behind conv3-8#2" in words
    assert f"one more {size.replace('3', '2')} pool before conv3-8#2" in words


def test_more_than_the_input_has_is_said():
    graph = read_spec("input 20x30x3; conv3-8; conv3-8")
    assert "The input has 20x30 positions" in reach(graph, 31).table().to_text()
    assert "The input has" not in reach(graph, 30).table().to_text()


def test_an_earlier_layer_can_be_asked_about():
    found = changes(read_spec(PLAIN), 1)
    assert (found.layer, found.receptive_field) == ("maxpool#1", (4, 4))
    assert not any("conv3-128" in what for what in by_words(found))


def test_shared_weights_are_left_alone():
    found = changes(read_spec("input 9x9x4; a: conv3-4; conv3-4 share a; conv3-4"))
    assert not any(change.kind == "kernel" and not change.what.startswith("conv3-4#2") for change in found.changes)


def test_what_is_hidden_by_place_allows_no_map_of_another_size():
    def network(kept):
        recorder = Recorder()
        x = recorder.input((1, 9, 2), (1,), 2)
        weight, slide = recorder.weight("weight", (3, 2, 2)), Slide((3,), low=(1,), high=(1,))
        x = recorder.slide(Kind.CONVOLUTION, x, (1,), slide, channel=2, weights=[weight], name="conv")
        recorder.elementwise([x], Kind.MULTIPLY, "mask", mask=of_product(kept[:, None]))
        return recorder.graph()

    whole, masked = (by_words(changes(network(kept), 0)) for kept in (np.ones(9), np.arange(9) % 4))
    kinds = [{change.kind for change in found.values()} for found in (whole, masked)]
    assert kinds == [{"kernel", "dilation", "convolution", "stride", "pool"}, {"kernel", "dilation", "convolution"}]
    assert all(as_tuple(change) == as_tuple(whole[what]) for what, change in masked.items())


def test_networks_and_layers_that_cannot_be_asked():
    with pytest.raises(InputError, match="No layer of this network sees only a part"):
        changes(read_spec("input 9; FC-3"))
    with pytest.raises(InputError, match="'FC-100' sees everything"):
        changes(read_spec(PLAIN), 8)
    for wanted in (0, 2.5, "x"):
        with pytest.raises(InputError, match="positions to see must be"):
            reach(read_spec(PLAIN), wanted)


def test_table_json_and_figure():
    found = reach(read_spec(PLAIN), 40)
    text = found.table().to_text()
    assert "maxpool#3 sees 30; what would make it see 40" in text
    assert "Cheapest: " in text
    answer = json.loads(found.to_json())
    assert answer["cheapest"] == answer["changes"][0]["what"]
    assert answer["changes"][0]["receptive_field"][0] >= 40
    assert found.figure().layout.title.text == "maxpool#3 sees 30; what would make it see 40"


LAYERS = st.sampled_from(["conv3-4", "conv5-2", "conv3-4/2 pad 1", "conv3-4 dilation 2", "maxpool", "avgpool3/2 pad 1"])


@settings(max_examples=30)
@given(st.lists(LAYERS, min_size=1, max_size=4), st.integers(1, 2))
def test_seeing_grows_with_every_change_but_what_is_behind(layers, axes):
    """A larger kernel, dilation, one more layer: each sees more; a stride enlarges only what comes after it."""
    text = f"input {'x'.join(['64'] * axes)}x3; " + "; ".join(layers)
    found = changes(read_spec(text))
    for change in found.changes:
        assert min(change.receptive_field) >= min(found.receptive_field), change.what
        last = change.kind == "stride" and change.what.startswith(found.layer) and len(layers) == 1
        if not last and change.kind != "stride":
            assert max(change.receptive_field) > max(found.receptive_field), change.what


def test_flattened_maps():
    spec = "input 32x32x1; conv3-4; maxpool; flatten; {}FC-10"
    found = reach(read_spec(spec.format("relu; dropout 0.5; ")), 30)
    alone = reach(read_spec("input 32x32x1; conv3-4; maxpool; FC-10"), 30)
    assert found.layer == "dropout 0.5"
    assert found.changes, "but no layer behind the flat map"
    # Behind a flat map no layer is put, and a map of one position is nothing that flat maps are made of.
    left_out = {change.what for change in alone.changes if "behind" in change.what or change.positions == (1, 1)}
    assert {change.what for change in found.changes} == {change.what for change in alone.changes} - left_out
    for change in found.changes:
        (same,) = [each for each in alone.changes if each.what == change.what]
        assert as_tuple(change) == as_tuple(same)
        assert change.accepts == same.accepts
    joined = reach(read_spec("input 8x8x1; a: conv3-4; maxpool; flatten; b:; from a; flatten; concat b; FC-10"), 8)
    assert {change.kind for change in joined.changes} == {"kernel", "dilation", "convolution"}
