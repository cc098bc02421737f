"""What goes in: open extents, which axis is what, and inputs beside the first."""

from __future__ import annotations

import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

import thalweg as tw  # noqa: E402
from onnx_files import Writer  # noqa: E402
from thalweg.errors import InputError  # noqa: E402


@pytest.fixture
def measure(tmp_path):
    def of(net, output, shape=None):
        return tw.size(net.save(tmp_path / "network.onnx", output), shape)

    return of


def images(extents):
    net = Writer()
    return net, net.conv(net.input("image", extents), 3, 4, (3, 3), "conv")


@pytest.mark.parametrize("batch", ["batch", None, 1, 16, -1])
def test_the_batch_is_read_as_one_example(measure, batch):
    net, output = images([batch, 3, 10, 8])
    answer = measure(net, output)
    assert (answer.input, answer.layers[0].output) == ((3, 10, 8), (4, 8, 6))


def test_open_extents_are_asked_for_and_given(measure):
    net, output = images(["n", 3, "height", None])
    with pytest.raises(InputError) as caught:
        measure(net, output)
    assert str(caught.value) == (
        "The file leaves extents of the input 'image' open: nx3xheightx?; give them without the batch, as 3xheightx?."
    )
    assert measure(net, output, "3x10x8").layers[0].output == (4, 8, 6)
    assert measure(net, output, (1, 3, 10, 8)).layers[0].output == (4, 8, 6)
    with pytest.raises(InputError, match="give them without the batch, as 3xheightx\\?, not 10x8"):
        measure(net, output, (10, 8))


def test_given_extents_take_the_place_of_those_in_the_file(measure):
    net, output = images([1, 3, 224, 224])
    assert measure(net, output, (3, 32, 20)).layers[0].output == (4, 30, 18)
    with pytest.raises(InputError, match="'conv' has weights for 3 input channels, but its input has 5"):
        measure(net, output, (5, 32, 20))


def test_a_file_written_for_a_batch_that_its_reshapes_repeat(measure):
    net, x = images([16, 3, 10, 8])
    x = net.node("Reshape", [x, net.numbers(16, -1)])
    x = net.node("Reshape", [net.linear(x, 4 * 8 * 6, 20), net.numbers(16, 4, 5)])
    answer = measure(net, net.node("Relu", [x]))
    assert answer.layers[-1].output == (4, 5)
    assert answer.notes == ("The file was written for a batch of 16 and is read with one example.",)
    assert answer.totals.macs == 4 * 48 * 27 + 192 * 20


def test_channels_that_come_last(measure):
    net = Writer()
    x = net.node("Transpose", [net.input("image", ["n", 10, 8, 3])], perm=(0, 3, 1, 2))
    answer = measure(net, net.conv(x, 3, 4, (3, 3), "conv"))
    assert answer.layers[0].receptive_field == (3, 3)
    assert answer.unit("conv", (7, 5)).clipped == ((7, 9), (5, 7))


def test_tokens_and_features(measure):
    net = Writer()
    answer = measure(net, net.node("MatMul", [net.input("x", ["n", 7, 5]), net.weight((5, 3))]))
    assert (answer.layers[0].receptive_field, answer.layers[0].macs) == ((1,), 7 * 5 * 3)


@pytest.mark.parametrize(
    ("extents", "order", "said"),
    [
        (["batch", "steps", 5], (1, 0, 2), (7, 5)),  # PyTorch's attention turns its input around
        (["steps", "batch_size", 5], (0, 1, 2), (7, 5)),
        (["steps", "batch_size", 5], (1, 0, 2), (7, 5)),
        ([1, 7, 5], (1, 0, 2), None),
        ([7, 1, 5], (0, 1, 2), None),
        ([7, 1, 5], (1, 0, 2), None),
        (["a", "b", 5], (1, 0, 2), (7, 5)),
        ([7, "batch", 5], (0, 1, 2), None),
    ],
)
def test_which_axis_holds_the_examples_where_an_operation_treats_both_alike(measure, extents, order, said):
    net = Writer()
    x = net.node("Transpose", [net.input("x", extents)], perm=order)
    made = net.node("MatMul", [x, net.weight((5, 3))], name="dense")
    first = extents.index(next(each for each in extents if each == 1 or "batch" in str(each) or each == "a"))
    along = order.index(1 - first)  # steps
    answer = measure(net, net.node("ReduceSum", [made, net.numbers(along)], name="sum"), said)
    assert answer.input == (7, 5)
    assert answer.layers[0].macs == 7 * 5 * 3
    assert [layer.receptive_field for layer in answer.layers] == [(1,), (7,)]


def test_time_comes_first_in_recurrent_layers(measure):
    net = Writer()
    weights = [net.weight((1, 20, 3)), net.weight((1, 20, 5))]
    answer = measure(net, net.node("LSTM", [net.input("x", [9, "n", 3]), *weights], hidden_size=5))
    assert answer.layers[0].output[0] == 9
    assert answer.totals.macs == 9 * 20 * (3 + 5)
    assert answer.layers[0].receptive_field == (9,)


def test_one_step_and_many_examples(measure):
    net = Writer()
    answer = measure(net, net.node("MatMul", [net.input("x", [1, "batch", 5]), net.weight((5, 3))]))
    assert answer.input == (1, 5)


def test_examples_first_in_front_of_a_recurrent_layer(measure):
    net = Writer()
    weights = [net.weight((1, 20, 3)), net.weight((1, 20, 5))]
    x = net.node("Transpose", [net.input("x", ["n", 9, 3])], perm=(1, 0, 2))
    answer = measure(net, net.node("LSTM", [x, *weights], hidden_size=5))
    assert answer.input == (9, 3)
    assert answer.totals.macs == 9 * 20 * (3 + 5)
    assert answer.layers[0].receptive_field == (9,)


def test_vectors_and_single_numbers(measure):
    net = Writer()
    assert measure(net, net.linear(net.input("x", ["n", 6]), 6, 2)).totals.connections == 12
    net = Writer()
    x = net.node("Mul", [net.input("x", [4]), net.input("scale", [])])
    assert measure(net, net.node("MatMul", [x, net.weight((4, 2))])).totals.connections == 8


def test_what_further_inputs_are_taken_to_be(measure):
    net = Writer()
    ids = net.input("ids", ["batch", "length"], onnx.TensorProto.INT64)
    mask = net.input("mask", ["batch", "past + length"])
    past = net.input("past", ["batch", "past", 4])
    x = net.node("Concat", [past, net.node("Gather", [net.weight((9, 4)), ids])], axis=1)
    scores = net.node("MatMul", [x, net.node("Transpose", [x], perm=(0, 2, 1))], "scores")
    answer = measure(net, net.node("Add", [scores, mask]), (6,))
    assert next(layer.macs for layer in answer.layers if layer.name == "scores") == 6 * 6 * 4
    assert answer.complete
    assert answer.notes == ("Extents that nobody gave are taken to be past = 0.",)
    # Or they are given: as many inputs as are named.
    more = measure(net, net.nodes[-1].output[0], ((6,), (9,), (3, 4)))
    assert next(layer.macs for layer in more.layers if layer.name == "scores") == 9 * 9 * 4
    assert more.notes == ()
    with pytest.raises(InputError, match="The network has 3 inputs; 4 were given"):
        measure(net, net.nodes[-1].output[0], ((6,), (9,), (3, 4), (1,)))


def test_weights_that_are_listed_as_inputs_too(measure):
    net = Writer()
    x = net.input("x", [1, 3, 4, 4])
    output = net.conv(x, 3, 2, (1, 1), "conv")
    net.input("conv.weight", [2, 3, 1, 1])
    assert measure(net, output).totals.parameters == 8


def test_an_empty_input_and_none_at_all(measure):
    net, output = images([1, 3, 0, 8])
    with pytest.raises(InputError, match="The input 1 x 3 x 0 x 8 is empty"):
        measure(net, output)
    net = Writer()
    with pytest.raises(InputError, match="has no input that is an array"):
        measure(net, net.node("Relu", [net.weight((3,))]))
