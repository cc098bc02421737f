"""The grammar of specs: every mistake in one sentence with its place, and random text that never breaks the reader."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.network.readers.spec import read_spec
from thalweg.network.readers.spec_grammar import (
    ACTIVATIONS,
    ALIASES,
    FORMS,
    MERGING,
    Layer,
    Statement,
    parse,
    parse_shape,
)


def message(text):
    with pytest.raises(InputError) as caught:
        read_spec(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("input 9x9x3; conv3-64; maxpol", "line 1, column 24: 'maxpol' is not a layer; did you mean 'maxpool'?"),
        ("input 9x9x3\n  conv3-64\n  cnov3-64", "line 3, column 3: 'cnov' is not a layer; did you mean 'conv'?"),
        ("inptu 9x9x3; relu", "line 1, column 1: 'inptu' is not a layer; did you mean 'input'?"),
        ("", "line 1, column 1: expected a layer, such as 'conv3-64' or 'maxpool'; the spec has none."),
        ("input 9x9x3 # and nothing", "line 1, column 26: expected a layer, such as 'conv3-64' or 'maxpool'; the spec"),
        ("input; relu", "line 1, column 6: expected the extents of the input, such as '112x112x3', not ';'."),
        ("input 9x9 x; relu", "line 1, column 12: expected one more extent, not ';'."),
        ("input 9x9x3 relu", "line 1, column 13: 'relu' is not understood here; expected ';' or a new line."),
        ("input 9x9x3; input 9x9x3", "line 1, column 14: the input is given once, at the beginning."),
        ("input 0x9x3; relu", "line 1, column 7: '0' is out of range; expected a number from 1 to 1,000,000,000."),
        (f"input {'7' * 5000}; relu", f"line 1, column 7: '{'7' * 37}...' is out of range"),
        ("input 9x9x3; conv3", "column 19: expected '-' and a number of channels, as in 'conv3-64', not the end"),
        ("input 9x9x3; fc\nrelu", "column 16: expected '-' and a number of channels, as in 'FC-100', not the end"),
        ("input 9x9x3; conv-64", "column 18: expected the window of 'conv', as in 'conv3-64', not '-'."),
        ("input 9x9x3; conv3-", "column 20: expected the number of channels, not the end of the spec."),
        ("input 9x9x3; conv3-64x2", "expected the number of channels, one number, not '64x2'; to repeat a layer"),
        ("input 9x9x3; conv3-64/", "column 23: expected a stride, not the end of the spec."),
        ("input 9x9x3; conv3-64 / same", "column 25: expected a stride, not 'same'."),
        ("input 9x9x3; fc100", "column 14: 'fc' has no size; write 'fc-100'."),
        ("input 9x9x3; bn3", "column 14: 'bn' has no size; write 'bn'."),
        ("input 9x9x3; maxpool-3", "column 21: 'maxpool' keeps its channels; expected ';' or a new line."),
        ("input 9x9x3; upsample2/2", "column 23: 'upsample' has no stride; expected ';' or a new line."),
        ("input 9x9x3; upsample bilinear", "column 23: expected the factor of 'upsample', as in 'upsample2', not"),
        ("input 9x9x3; conv3-4 pading 1", "column 22: 'pading' is not an option of 'conv3-4'; did you mean 'pad'?"),
        ("input 9x9x3; conv3-4 stride 2", "'stride' is not an option of 'conv3-4'; a stride is written '/2'"),
        ("input 9x9x3; relu same", "column 19: 'same' is not an option of 'relu'; expected ';' or a new line."),
        ("input 9x9x3; conv3-4 same valid", "column 27: 'conv3-4' has been given its padding twice."),
        ("input 9x9x3; conv3-4 dilation 2 dilation 2", "column 33: 'conv3-4' has been given 'dilation' twice."),
        ("input 9x9x3; conv3-4 same1", "column 22: 'same' takes no number."),
        ("input 9x9x3; conv3-4 pad", "column 25: expected the padding, not the end of the spec."),
        ("input 9x9x3; conv3-4 dilation 0", "column 31: '0' is out of range; expected a number from 1 to"),
        ("input 9x9x3; conv3-4 share", "column 27: expected the label of the layer whose weights are shared"),
        ("input 9x9x3; add", "column 17: expected the label of a branch, as in 'add a', not the end of the spec."),
        ("input 9x9x3; from input input", "column 25: 'from' goes on from one label; expected ';' or a new line."),
        ("input 9x9x3; a: relu; A: relu", "column 23: the label 'A' stands already on line 1, column 14."),
        ("input 9x9x3; input: relu", "column 14: 'input' cannot be a label, because it means something else"),
        ("input 9x9x3; x2: relu", "column 14: 'x2' cannot be a label, because it means something else"),
        ("input 9x9x3; a: b: relu", "column 17: 'b' is not a layer"),
        ("input 9x9x3; relu x", "column 20: expected how often, as in 'x2', not the end of the spec."),
        ("input 9x9x3; relu x0", "column 19: '0' is out of range; expected a number from 1 to 1,000,000,000."),
        ("input 9x9x3; relu x2 same", "column 22: 'same' is not understood here; expected ';' or a new line."),
        ("input 9x9x3; (relu; maxpool", "column 28: expected ')' for the '(' on line 1, column 14."),
        ("input 9x9x3; relu)", "column 18: there is no '(' that this ')' would close."),
        ("input 9x9x3; " + "(" * 51, "column 64: parentheses stand inside each other more than 50 deep."),
        ("input 9x9x3; 3x3", "column 14: expected a layer, such as 'conv3-64' or 'maxpool', not '3x3'."),
        ("input 9x9x3; conv3-[red]", "column 20: '[' has no meaning here; expected a layer such as"),
        ("input 9x9x3; \x1b[31m", "column 14: '\\x1b' has no meaning here"),
        ("relu;" * 50_000, "The spec has 250,000 characters; at most 200,000 are read."),
    ],
)  # fmt: skip
def test_every_mistake_gets_one_sentence_with_its_place(text, sentence):
    assert sentence in message(text)
    assert "\n" not in message(text)


def test_every_known_name_is_read():
    needs = {
        "reshape": "reshape 9x9x4",
        "crop": "crop 1",
        "pad": "pad 1",
        "upsample": "upsample2",
        "groupnorm": "groupnorm 2",
    }
    for name in [*FORMS, *MERGING, "from", *ALIASES]:
        full = ALIASES.get(name, name)
        if full in (*MERGING, "from"):
            statement = f"{name} input"
        else:
            form = FORMS[full]
            statement = (
                needs.get(full) or f"{name}{'3' if form.size == 'window' else ''}{'-4' if form.channels else ''}"
            )
        graph = read_spec(f"input 9x9x4; {'flatten; ' if full == 'reshape' else ''}{statement}; relu")
        assert graph.operations[-1].output.shape
    assert set(ACTIVATIONS) < set(FORMS)


def test_the_tree_of_a_text():
    shape, statements = parse("input 9 x 9 x 3; (a: conv3-4/2x1 pad 0,1 groups 1) x2; b:")
    assert shape == (9, 9, 3)
    group, mark = statements
    assert isinstance(group, Statement)
    assert (group.times, mark.what, mark.label.text) == (2, None, "b")
    (inner,) = group.what
    layer = inner.what
    assert isinstance(layer, Layer)
    assert (layer.name, layer.text, layer.size, layer.channels, layer.stride) == (
        "conv",
        "conv3-4/2x1",
        (3,),
        4,
        (2, 1),
    )
    assert (layer.padding, layer.options) == (((0,), (1,)), {"groups": (1,)})


def test_shapes_by_themselves():
    assert parse_shape("112x112x3") == parse_shape("112 x 112 X 3") == (112, 112, 3)
    for text in ("", "a", "3x", "3x3 relu", "3,3", "0x3"):
        with pytest.raises(InputError):
            parse_shape(text)


WORDS = st.sampled_from(
    [
        *FORMS,
        *MERGING,
        *ALIASES,
        "from",
        "input",
        "x2",
        "x",
        "a",
        "b",
        "same",
        "valid",
        "share",
        "frozen",
        "nobias",
        "ceil",
    ]
)
SIGNS = st.sampled_from([*list("-/:;(),#\n x"), "3", "3x1", "12", "0.5", "0", "1000000000", "99999999999"])
SPEC_LIKE = st.lists(st.one_of(WORDS, SIGNS, SIGNS), max_size=40).map("".join)
SPEC_LIKE_WITH_BLANKS = st.lists(st.one_of(WORDS, SIGNS), max_size=40).map(" ".join)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.text(max_size=60), SPEC_LIKE, SPEC_LIKE_WITH_BLANKS, SPEC_LIKE_WITH_BLANKS.map("input 6x6x4;".__add__))
)
@example("input 3x3x1;a:")
@example("x")
@example(":")
@example("a:b")
@example("input")
@example("\u0663x\u0663")  # digits of another script are letters to no one
def test_random_text_gives_a_network_or_one_sentence(text):
    try:
        read_spec(text)
    except InputError as error:
        sentence = str(error)
    else:
        return
    place = re.match(r"line (\d+), column (\d+): ", sentence)
    assert place or sentence.startswith("The "), sentence
    assert "\n" not in sentence
    if place:
        lines = text.split("\n")
        assert 1 <= int(place[1]) <= len(lines)
        assert 1 <= int(place[2]) <= len(lines[int(place[1]) - 1]) + 1


VALID = (
    "input 24x24x3\n(s: conv3-8/2 pad 1; bn; relu) x2; from s; maxpool3/2 ceil # down\nadd s s; concat input2; FC-10"
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_spec_gives_a_network_or_one_sentence(data):
    text = VALID
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        kind = data.draw(st.sampled_from(["cut", "insert", "replace"]))
        insert = "" if kind == "cut" else data.draw(st.sampled_from([*list("0123x-/:;()#\n,a "), "conv", "\x00", "é"]))
        text = text[:place] + insert + text[place + (kind != "insert") :]
    try:
        read_spec(text)
    except InputError as error:
        sentence = str(error)
    else:
        return
    assert re.match(r"line \d+, column \d+: |The ", sentence)
