"""What spec text means: every layer and option against its definition, equal ways of writing, branches, limits."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.network.graph import Kind
from thalweg.network.readers.spec import MAX_LAYERS, read_spec


def last(text):
    return read_spec(text).operations[-1]


def shape_of(text):
    return last(text).output.shape


def operations(text):
    """Everything about the operations but their names and what was typed."""
    return [
        (each.kind, each.inputs, each.outputs, each.window, each.groups, each.weights)
        for each in read_spec(text).operations
    ]


SPEC = "input 20x20x3; conv3-8; maxpool; conv3-4 dilation 2; FC-5"


@pytest.mark.parametrize(
    "other",
    [
        "INPUT 20X20X3; Conv3-8; MaxPool; CONV3-4 DILATION 2; fc-5",
        "input 20x20x3\nconv3-8\nmaxpool\nconv3-4 dilation 2\nFC-5\n",
        "  # small\n\n input 20 x 20 x 3 # an image\n conv3-8;;; maxpool # halves it\n\nconv3-4 dilation2;dense-5;",
        "input 20×20×3; conv3×3-8; maxpool2/2; conv3x3-4/1 same dilation 2x2; linear-5",
        "input 20x20x3; conv 3-8; maxpool 2; conv 3 - 4 dilation 2; (FC-5)",
        "input 20x20x3; (conv3-8; (maxpool)); conv3-4 dilation 2; FC-5",
        "input 20x20x3\r\nconv3-8\r\nmaxpool\r\nconv3-4\tdilation 2\r\nFC-5",
    ],
)
def test_ways_of_writing_the_same_network(other):
    assert operations(other) == operations(SPEC)


def test_repeats_are_what_is_written_out():
    once = "conv3-4; relu; conv1-4; maxpool; "
    assert operations("input 32x32x3; (conv3-4; relu; conv1-4; maxpool) x3") == operations(f"input 32x32x3; {3 * once}")
    assert operations("input 32x32x3; ((conv3-4 x2; relu) x2; maxpool) x 2") == operations(
        f"input 32x32x3; {2 * (2 * 'conv3-4; conv3-4; relu; ' + 'maxpool; ')}"
    )


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("input 16000x1; conv80-8/4", (4000, 8)),
        ("input 32x64x64x1; conv3-8; maxpool", (16, 32, 32, 8)),
        ("input 784; FC-10", (10,)),
        ("input 20x30x3; conv3x1-8 valid", (18, 30, 8)),
        ("input 20x30x3; conv3x5-8/2x1 valid", (9, 26, 8)),
        ("input 20x30x3; conv3-8 pad 2", (22, 32, 8)),
        ("input 20x30x3; conv3-8 pad 1x0", (20, 28, 8)),
        ("input 20x30x3; conv3-8 pad 0,1", (19, 29, 8)),
        ("input 20x30x3; conv3-8 pad 0x1,2x1", (20, 30, 8)),
        ("input 20x30x3; conv3-8 valid dilation 2x3", (16, 24, 8)),
        ("input 20x30x3; depthwise3/2", (10, 15, 3)),
        ("input 20x30x3; dwconv3-6", (20, 30, 6)),
        ("input 20x30x3; convt2-8/2", (40, 60, 8)),
        ("input 20x30x3; deconv3-8/2", (40, 60, 8)),
        ("input 20x30x3; upconv2-8/3", (60, 90, 8)),
        ("input 20x30x3; convt3-8/2 valid", (41, 61, 8)),
        ("input 20x30x3; convt3-8/2 pad 1 outpad 1", (40, 60, 8)),
        ("input 21x31x3; maxpool", (10, 15, 3)),
        ("input 21x31x3; maxpool3", (7, 10, 3)),
        ("input 21x31x3; maxpool3/2", (10, 15, 3)),
        ("input 22x32x3; maxpool3/2 ceil", (11, 16, 3)),
        ("input 21x31x3; avgpool2 same", (11, 16, 3)),
        ("input 21x31x3; avgpool3/2 pad 1", (11, 16, 3)),
        ("input 21x31x3; gap", (1, 1, 3)),
        ("input 21x31x3; globalmaxpool; fc-4", (4,)),
        ("input 21x31x3; upsample2", (42, 62, 3)),
        ("input 21x31x3; upsample 2x3 bilinear", (42, 93, 3)),
        ("input 21x31x3; crop 1", (19, 29, 3)),
        ("input 21x31x3; crop 0x1,2x0", (19, 30, 3)),
        ("input 21x31x3; pad 3,0", (24, 34, 3)),
        ("input 21x31x3; flatten", (21 * 31 * 3,)),
        ("input 100; FC-784; reshape 7x7x16; convt2-8/2", (14, 14, 8)),
        ("input 8x8x4; bn; relu; leakyrelu 0.1; dropout 0.5; groupnorm 2; instancenorm; layernorm; lrn 5", (8, 8, 4)),
    ],
)
def test_output_shapes(text, shape):
    assert shape_of(text) == shape


@given(
    n=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 5), dilation=st.integers(1, 3),
    layer=st.sampled_from(["conv{}-2/{} same", "conv{}-2/{}", "maxpool{}/{} same", "depthwise{}/{}"]),
)  # fmt: skip
def test_same_padding_divides_the_positions_by_the_stride(n, kernel, stride, dilation, layer):
    # TensorFlow's definition: as little padding as gives ceil(n / stride) units, the odd zero at the end.
    operation = last(f"input {n}x1; {layer.format(kernel, stride)} dilation {dilation}")
    window = operation.window
    assert operation.output.extents == (math.ceil(n / stride),)
    assert 0 <= window.high[0] - window.low[0] <= 1
    covered = (math.ceil(n / stride) - 1) * stride + dilation * (kernel - 1) + 1
    assert window.low[0] + window.high[0] == max(0, covered - n)


@given(
    n=st.integers(1, 20), kernel=st.integers(1, 7), stride=st.integers(1, 5), dilation=st.integers(1, 3)
)  # fmt: skip
def test_same_padding_multiplies_the_positions_of_a_transposed_convolution(n, kernel, stride, dilation):
    operation = last(f"input {n}x1; convt{kernel}-2/{stride} dilation {dilation}")
    assert operation.output.extents == (n * stride,)
    # It is the transpose of the `same` convolution back.
    back = last(f"input {n * stride}x2; conv{kernel}-1/{stride} dilation {dilation}").window
    assert (operation.window.low, operation.window.kernel) == (back.low, back.kernel)


def test_names_are_labels_or_what_was_typed():
    graph = read_spec("input 8x8x3; Conv3-4/2 pad 1 nobias; first: conv 3 - 4; dropout 0.5; pad 0,1")
    assert [each.name for each in graph.operations] == ["Conv3-4/2", "first", "dropout 0.5", "pad 0,1"]


def test_labels_name_outputs_and_branches_go_on_from_them():
    graph = read_spec(
        """
        input 8x8x3
        stem: conv3-4
        here:
        left: conv1-4; relu
        from HERE; right: conv3-4
        both: add left right stem
        concat both input
        from left
        multiply both
        """
    )
    stem, left, _, right, both, joined, gated = graph.operations
    assert left.input is stem.output
    assert right.input is stem.output
    assert both.inputs == (left.output, right.output, stem.output)
    assert joined.inputs == (both.output, graph.inputs[0])
    assert joined.output.shape == (8, 8, 7)
    assert gated.inputs == (left.output, both.output)
    assert gated.kind is Kind.MULTIPLY


def test_a_label_inside_a_repeat_is_the_one_of_this_round():
    graph = read_spec("input 8x8x4; (start:; conv3-4; add start) x3")
    first, skip, second, again, *_ = graph.operations
    assert skip.inputs == (first.output, graph.inputs[0])
    assert again.inputs == (second.output, skip.output)


def test_weights_options():
    plain, bare, frozen, shared = read_spec(
        "input 8x8x4; a: conv3-4; conv3-4 nobias; conv3-4 frozen; conv3-4 share a"
    ).operations
    assert [weight.shape for weight in plain.weights] == [(4, 4, 3, 3), (4,)]
    assert [weight.shape for weight in bare.weights] == [(4, 4, 3, 3)]
    assert not any(weight.trainable for weight in frozen.weights)
    assert shared.weights == plain.weights
    transposed, grouped, depthwise = read_spec("input 8x8x4; convt2-6/2; conv3-8 groups 2; depthwise3-16").operations
    assert transposed.weights[0].shape == (4, 6, 2, 2)
    assert (grouped.weights[0].shape, grouped.groups) == ((8, 3, 3, 3), 2)
    assert (depthwise.weights[0].shape, depthwise.groups) == ((16, 1, 3, 3), 8)


def test_the_shape_can_come_from_outside():
    assert read_spec("conv3-8", (10, 10, 3)).operations[0].output.shape == (10, 10, 8)
    assert read_spec("input 20x20x3; conv3-8", (10, 10, 1)).inputs[0].shape == (10, 10, 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "conv3-8",
            (
                "line 1, column 1: expected the extents of the input first, such as 'input 112x112x3' "
                "(or give them by themselves: --input 112x112x3)."
            ),
        ),
        (
            "input 1x2x3x4x5; relu",
            "The input 1 x 2 x 3 x 4 x 5 is not 1 to 3 positive extents and a number of channels.",
        ),
        ("input 8x8x3; conv3-4 groups 2", "'conv3-4' has 3 input channels, which do not divide into 2 groups."),
        ("input 8x8x4; conv3-3 groups 2", "'conv3-3' has 3 output channels, which do not divide into 2 groups."),
        ("input 8x8x4; conv3-4 groups 2x2", "expected one number for 'groups' of 'conv3-4', not 2 x 2."),
        ("input 8x8x4; depthwise3-6", "'depthwise3-6' has 6 output channels, which do not divide into 4 groups."),
        ("input 8x8x4; groupnorm 3", "'groupnorm 3' cannot divide 4 channels into 3 groups."),
        (
            "input 8x8x4; conv9-4 valid",
            (
                "'conv9-4' does not fit: its window of 9 x 9 leaves no unit on an input of 8 x 8 positions; "
                "make it smaller, or pad."
            ),
        ),
        (
            "input 8x8x4; crop 4",
            (
                "'crop 4' does not fit: its window of 1 x 1 leaves no unit on an input of 8 x 8 positions; "
                "make it smaller, or pad."
            ),
        ),
        ("input 8x8x4; conv3x3x3-4", "the window 3 x 3 x 3 of 'conv3x3x3-4' has 3 numbers for 2 axes."),
        (
            "input 8x8x4; add b",
            "no label 'b' stands before this; expected one of: input.",
        ),
        ("input 8x8x4; left: relu; add lefd", "no label 'lefd' stands before this; did you mean 'left'?"),
        (
            "input 8x8x4; a: conv3-4/2; add a input",
            (
                "'add a input' joins branches that do not match: 4 x 4 x 4 and 8 x 8 x 4; give them the same shape "
                "(crop, pad, or change a stride)."
            ),
        ),
        (
            "input 8x8x4; a: conv3-4/2; concat a input",
            (
                "'concat a input' joins branches that do not match: 4 x 4 x 4 and 8 x 8 x 4; give them the same shape "
                "(crop, pad, or change a stride)."
            ),
        ),
        (
            "input 8x8x4; FC-3; maxpool",
            (
                "'maxpool' slides over positions, but its input is a vector of 3 units; put it before the layers that "
                "flatten, or 'reshape' the vector first."
            ),
        ),
        ("input 8x8x4; reshape 4x64", "'reshape 4x64' starts from a vector, but its input is 8 x 8 x 4; put 'flatten'"),
        ("input 8; reshape 4x3", "'reshape 4x3' cannot turn the 8 units of 8 into 4 x 3, which has 12."),
        ("input 32; reshape 2x2x2x2x2", "'reshape 2x2x2x2x2' has 4 axes of positions; at most 3 are followed."),
        ("input 8x8x4; conv3-4 share a", "no layer before this has the label 'a', so it cannot lend its weights."),
        (
            "input 8x8x4; a: conv3-4; conv5-4 share a",
            "the weights of 'a' do not fit: they are 4 x 4 x 3 x 3 and 4, 4 x 4 x 5 x 5 and 4 are needed.",
        ),
        ("input 8x8x4; a: relu; conv5-4 share a", "the weights of 'a' do not fit: they are none, 4 x 4 x 5 x 5 and 4"),
        ("input 8x8x4; (convt2-4/1000000) x3", "makes 8000000000000 x 8000000000000 x 4, more than 1,000,000,000."),
        (f"input 8; relu x{MAX_LAYERS + 1}", "The spec has more than 10,000 layers; use fewer repeats."),
    ],
)
def test_layers_that_do_not_fit_are_refused_with_their_place(text, sentence):
    with pytest.raises(InputError) as caught:
        read_spec(text)
    assert sentence in str(caught.value)
    if not str(caught.value).startswith("The "):
        assert str(caught.value).startswith("line 1, column ")


@pytest.mark.parametrize(
    "text",
    [
        "input 8; (((((relu x1000) x1000) x1000) x1000) x1000) x1000",
        "input 8; (a:) x1000000000",
        "input 8; () x1000000000",
        "input 8; a:; (concat input a; b:; from b) x100000",
        "input 8x8x2; (concat input) x9999; " + "(" * 40 + "concat input" + ") x9" * 40,
        "input 1000000000x1000000000x1000000000; conv1000000000-1000000000",
        "input 8x1; " + "convt1000-1/1000; " * 20,
        "input 1000000x1; (a:; upsample7; crop 3000000; upsample11; add a) x100",
        "input " + "9" * 190_000,
        "input 8; " + "(" * 190_000,
        "input 8; " + "relu;" * 39_000,
        "x" * 199_999,
        "relu " * 39_000,
    ],
    ids=range(13),
)
def test_hostile_texts_are_answered_within_seconds(text):
    began, sentence = time.perf_counter(), ""
    try:
        read_spec(text)
    except InputError as error:
        sentence = str(error)
    assert len(sentence) < 1000
    assert time.perf_counter() - began < 10  # a second or so where nothing else runs


@given(
    st.lists(
        st.sampled_from(
            ["conv3-4", "conv3-4/2 valid", "maxpool", "relu", "crop 1", "upsample2", "a:", "b:", "add a", "concat a b"]
        ),
        max_size=8,
    )
)
def test_whatever_is_read_fits_together(statements):
    text = "; ".join(["input 9x9x4", *dict.fromkeys(statements), "relu"])
    try:
        graph = read_spec(text)
    except InputError:
        assume(False)
    made = {graph.inputs[0].id}
    for operation in graph.operations:
        assert {tensor.id for tensor in operation.inputs} <= made
        assert min(operation.output.shape) >= 1
        made.add(operation.output.id)
