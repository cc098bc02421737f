"""Whole files: subgraphs, functions, quantised and fused operations, shared weights, what is unknown, what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

import thalweg as tw  # noqa: E402
from onnx_files import Writer, many_operations  # noqa: E402
from thalweg.errors import InputError  # noqa: E402

helper = onnx.helper
SMALL = {name: (model, shape) for name, model, shape in many_operations()}


@pytest.fixture
def measure(tmp_path):
    def of(model, shape=None):
        path = tmp_path / "network.onnx"
        path.write_bytes(model.SerializeToString())
        return tw.size(path, shape)

    return of


def macs(answer):
    return {layer.name: layer.macs for layer in answer.layers if layer.macs}


def test_shapes_that_the_file_computes(measure):
    answer = measure(*SMALL["shapes_at_work"])
    assert answer.complete
    assert [layer.output for layer in answer.layers][-3:] == [(5, 160), (160,), (3,)]


def test_quantised_networks_count_like_the_ones_they_were_made_of(measure):
    answer = measure(*SMALL["quantised"])
    assert macs(answer) == {"conv": 4 * 36 * 27, "fc": 144 * 5, "last": 5 * 2}
    # Scales and zero points are no parameters.
    assert answer.totals.parameters == 4 * 27 + 4 + 144 * 5 + 5 * 2
    assert answer.complete


def test_a_loop_counts_as_often_as_it_runs_and_its_weights_once(measure):
    answer = measure(*SMALL["loops"])
    rows = [layer for layer in answer.layers if layer.name == "again"]
    assert [row.macs for row in rows] == [6 * 2 * 2 * 3] * 3
    assert [row.parameters for row in rows] == [12, 0, 0]
    assert [row.receptive_field for row in rows] == [(3,), (5,), (7,)]
    scanned = [layer for layer in answer.layers if layer.output == (6, 2)]
    assert len(scanned) == 1
    assert answer.complete


def loop(count, condition, going="Identity"):
    """A network with a loop over one convolution."""
    net = Writer()
    x = net.input("x", [1, 2, 6])
    weight = net.weight((2, 2, 1))
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Conv", ["h", weight], ["k"])]
    if going == "Identity":
        nodes.append(helper.make_node("Identity", ["g"], ["f"]))
    else:
        nodes += [helper.make_node("ReduceSum", ["k"], ["s"], keepdims=0), helper.make_node("Cast", ["s"], ["f"], to=9)]
    inputs = [value("n", 7, []), value("g", 9, []), value("h", 1, None)]
    body = helper.make_graph(nodes, "body", inputs, [value("f", 9, []), value("k", 1, None)])
    limit = net.tensor(np.int64(count)) if count is not None else ""
    yes = net.tensor(np.array(condition)) if condition is not None else ""
    return net.model(net.node("Loop", [limit, yes, x], "the loop", body=body))


def test_loops_that_the_file_does_not_bound_are_unknown_by_name(measure):
    assert measure(loop(3, True)).totals.macs == 3 * 24
    assert measure(loop(3, None)).totals.macs == 3 * 24
    assert measure(loop(3, False)).totals.macs == 0
    for model in (loop(None, True), loop(3, True, going="ReduceSum"), loop(1 << 40, True), loop(1001, True)):
        answer = measure(model)
        assert (answer.complete, answer.unknown) == (False, ("the loop",))


def test_a_branch_that_the_input_chooses_is_unknown_by_name(measure):
    net = Writer()
    x = net.input("x", [1, 4])
    branches = {
        side: helper.make_graph(
            [helper.make_node("Relu", [x], [side])], side, [], [helper.make_tensor_value_info(side, 1, None)]
        )
        for side in ("then_branch", "else_branch")
    }
    condition = net.node("Cast", [net.node("ReduceSum", [x], keepdims=0)], to=9)
    answer = measure(net.model(net.node("If", [condition], "which", **branches)))
    assert answer.unknown == ("which",)
    # With a condition that is known, one of them runs.
    assert "Relu" in [layer.name for layer in measure(*SMALL["loops"]).layers]


def test_functions_of_the_file_are_done_in_place(measure):
    answer = measure(*SMALL["functions"])
    assert [(layer.name, layer.macs, layer.parameters) for layer in answer.layers if layer.macs] == [
        ("both", 200, 8),
        ("both", 200, 0),
    ]
    assert answer.unknown == ("who knows",)


def test_fused_attention(measure):
    answer = measure(*SMALL["fused"])
    assert answer.complete
    linear, attention = (each for each in answer.layers if each.name == "Attention_8")
    assert (linear.macs, linear.parameters) == (6 * 8 * 24, 8 * 24 + 24)
    assert attention.macs == 2 * 6 * 6 * 8


def test_attention_of_onnx_in_groups_with_a_past(measure):
    net = Writer(opset=23)
    q = net.input("q", ["batch", "length", 24])
    k, v = (net.input(name, ["batch", "length", 8]) for name in "kv")
    past = [net.input(name, ["batch", 2, "past", 4]) for name in ("past_key", "past_value")]
    outputs = net.node("Attention", [q, k, v, "", *past], "mixed", outputs=3, q_num_heads=6, kv_num_heads=2)
    answer = measure(net.model(outputs[0]), (5, 24))
    assert macs(answer) == {"mixed": 2 * 6 * 5 * 5 * 4}
    assert answer.complete


def test_the_same_tensor_is_counted_once_and_a_copy_by_another_name_is_not_new(measure):
    net = Writer()
    x, weight = net.input("x", [1, 4]), net.weight((4, 4), "shared.weight")
    x = net.node("MatMul", [x, weight], "first")
    x = net.node("MatMul", [x, net.node("Identity", [weight])], "second")
    x = net.node("MatMul", [x, net.node("Transpose", [weight])], "third")
    assert measure(net.model(x)).totals.parameters == 16


def test_scales_that_are_only_equal_at_first_are_parameters_of_their_own(measure):
    net = Writer()
    x, ones = net.input("x", [1, 4, 5, 5]), net.tensor(np.ones(4, np.float32), "a.weight")
    zeros = net.tensor(np.zeros(4, np.float32), "a.bias")
    other = [net.node("Identity", [each]) for each in (ones, zeros)]
    net.nodes[-2].output[0], net.nodes[-1].output[0] = "b.weight", "b.bias"
    x = net.node("BatchNormalization", [x, ones, zeros, zeros, ones])
    x = net.node("BatchNormalization", [x, "b.weight", "b.bias", "b.bias", "b.weight"])
    assert len(other) == 2
    assert measure(net.model(x)).totals.parameters == 16


def test_weights_in_constant_nodes_and_plain_numbers(measure):
    net = Writer()
    kernel = helper.make_node(
        "Constant", [], ["kernel"], value=onnx.numpy_helper.from_array(np.ones((2, 3, 1, 1), "f"))
    )
    half = helper.make_node("Constant", [], ["half"], value_float=0.5)
    net.nodes += [kernel, half]
    x = net.node("Mul", [net.node("Conv", [net.input("x", [1, 3, 4, 4]), "kernel"], "conv"), "half"], "halved")
    answer = measure(net.model(x))
    assert [(layer.name, layer.parameters) for layer in answer.layers] == [("conv", 6)]


def test_what_no_output_needs_is_not_done(measure):
    net = Writer()
    x = net.input("x", [1, 3, 8, 8])
    net.conv(x, 3, 50, (3, 3), "unused")
    answer = measure(net.model(net.conv(x, 3, 4, (1, 1), "used")))
    assert [layer.name for layer in answer.layers] == ["used"]


def test_behind_what_is_unknown_everything_that_counts_is_named(measure):
    net = Writer()
    x = net.node("NonMaxSuppression", [net.input("x", [1, 6, 4]), net.weight((1, 1, 6))], "chosen")
    x = net.node("Transpose", [net.node("Cast", [x], to=1)])
    answer = measure(net.model(net.node("MatMul", [x, net.weight((3, 4))], "after")))
    assert answer.unknown == ("chosen", "after")
    assert not answer.complete


def test_a_shape_that_the_file_gives_is_believed_where_nothing_else_is_known(measure):
    net = Writer()
    x = net.node("Mystery", [net.input("x", [1, 3, 8, 8])], "mystery", domain="elsewhere")
    known = [helper.make_tensor_value_info(x, 1, [1, 4, 4, 4])]
    model = net.model(net.conv(x, 4, 2, (3, 3), "conv"), value_info=known, domains=("elsewhere",))
    answer = measure(model)
    assert answer.unknown == ("mystery",)
    assert macs(answer) == {"conv": 4 * 2 * 4 * 9}


def test_a_shape_that_contradicts_the_file_makes_the_operation_unknown(measure):
    net = Writer()
    x = net.conv(net.input("x", [1, 3, 8, 8]), 3, 4, (3, 3), "conv")
    wrong = [helper.make_tensor_value_info(x, 1, [1, 4, 7, 6])]
    right = [helper.make_tensor_value_info(x, 1, ["batch", 4, 6, 6])]
    assert measure(net.model(net.node("Relu", [x]), value_info=right)).complete
    assert measure(net.model(net.node("Relu", [x]), value_info=wrong)).unknown == ("conv", "Relu_5")


def test_values_of_the_map_itself_are_not_zero_padding(measure):
    def after(mode):
        net = Writer()
        x = net.node("Pad", [net.input("x", [1, 1, 6, 6]), net.numbers(0, 0, 1, 1, 0, 0, 1, 1)], mode=mode)
        return measure(net.model(net.conv(x, 1, 1, (3, 3), "conv"))).layers[-1]

    plain = after("constant")
    assert (plain.connections, plain.connections_inside, plain.receptive_field) == (36 * 9, 16 * 16, (3, 3))
    for mode in ("reflect", "edge", "wrap"):
        own = after(mode)
        assert (own.connections, own.connections_inside, own.receptive_field) == (36 * 9, 36 * 9, (3, 3)), mode


def wrong_conv(*weight, bias=None, **attributes):
    def make(net, x):
        names = [x, net.weight(weight)] + ([] if bias is None else [net.weight((bias,))])
        return net.node("Conv", names, "c", **attributes)

    return make


def wrong(operator, *weights, **attributes):
    """An operation named `n` on the image and some weights, given as extents or as whole numbers in a list."""

    def make(net, x):
        more = [net.numbers(*each) if isinstance(each, list) else net.weight(each) for each in weights]
        return net.node(operator, [x, *more], "n", **attributes)

    return make


def emptied(net, x):
    return net.conv(net.node("Slice", [x, net.numbers(5), net.numbers(5), net.numbers(2)]), 3, 2, (1, 1), "c")


def wrong_lstm(net, x):
    x = net.node("Reshape", [x, net.numbers(8, 1, 24)])
    return net.node("LSTM", [x, net.weight((1, 20, 9)), net.weight((1, 20, 5))], "n")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (wrong_conv(4, 2, 3, 3), "'c' has weights for 2 input channels, but its input has 3"),
        (wrong_conv(4, 3, 9, 9), "'c' does not fit: its window of 9 x 9"),
        (wrong_conv(4, 1, 1, 1, group=2), "'c' has 3 input channels, which do not divide into 2 groups"),
        (wrong_conv(4, 3, 1, 1, bias=3), "'c' has a bias 3 for 4 channels"),
        (wrong_conv(4, 3, 1, 1, strides=(0, 1)), "'c' has strides [0, 1]"),
        (wrong_conv(4, 3, 1, 1, pads=(1, 1)), "'c' has pads [1, 1] over 2 axes"),
        (wrong_conv(4, 3, 1, 1, kernel_shape=(3, 3)), "'c' says that its kernel is 3 x 3, but its weights are"),
        (wrong_conv(4, 3, 1, 1, group="two"), "The attribute 'group' of 'c' is not a whole number."),
        (wrong("MaxPool"), "'n' has no window"),
        (wrong("Add", (7,)), "'n' joins shapes that do not match: 1 x 3 x 8 x 8 and 7"),
        (wrong("MatMul", (7, 2)), "'n' cannot multiply 1 x 3 x 8 x 8 with 7 x 2"),
        (wrong("Gemm", (7, 2)), "'n' multiplies matrices, but is given 1 x 3 x 8 x 8 and 7 x 2"),
        (wrong("Reshape", [5, -1]), "'n' cannot turn 1 x 3 x 8 x 8 into [5, -1]"),
        (wrong("Concat", (1, 3, 7, 8), axis=1), "'n' joins shapes that do not match"),
        (wrong("Transpose", perm=(0, 0, 1, 2)), "'n' puts 4 axes into the order [0, 0, 1, 2]"),
        (wrong("Softmax", axis=9), "'n' works along axis 9, but there are 4 axes"),
        (wrong("DepthToSpace", blocksize=2), "'n' has 3 channels, which do not make blocks of 2 x 2"),
        (wrong("BatchNormalization", (4,), (4,), (4,), (4,)), "'n' has weights for 4 channels, but its input has 3"),
        (wrong("Expand", [1 << 60, 1, 1, 1]), "which is out of range"),
        (lambda net, x: net.node("Neg", ["nothing"]), "'nothing' is used, but nothing before makes it"),
        (emptied, "'c' is given 1 x 3 x 0 x 8, which holds nothing"),
        (wrong_lstm, "'n' has weights 1 x 20 x 9 and 1 x 20 x 5, which do not go with its input 8 x 1 x 24"),
    ],
)
def test_layers_that_do_not_fit_are_named(measure, make, sentence):
    net = Writer()
    x = net.input("x", [1, 3, 8, 8])
    with pytest.raises(InputError) as caught:
        measure(net.model(make(net, x)))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_functions_that_call_themselves_and_bombs_of_functions(measure):
    def calling(names):
        net = Writer()
        for name, callees in names.items():
            nodes = [helper.make_node(each, ["a"], [f"b{place}"], domain="own") for place, each in enumerate(callees)]
            nodes = nodes or [helper.make_node("Relu", ["a"], ["b0"])]
            imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
            net.functions.append(helper.make_function("own", name, ["a"], ["b0"], nodes, imports))
        return net.model(net.node("F0", [net.input("x", [1, 3])], domain="own"), domains=("own",))

    with pytest.raises(InputError, match="more than 32 deep"):
        measure(calling({"F0": ["F0"]}))
    bomb = {f"F{level}": [f"F{level + 1}"] * 10 for level in range(8)}
    with pytest.raises(InputError, match="do more than 10,000 operations"):
        measure(calling({**bomb, "F8": []}))


def test_extents_of_any_size_are_counted_exactly(measure):
    net = Writer()
    x = net.input("x", [1, 3, 1 << 40, 1 << 20])
    answer = measure(net.model(net.conv(x, 3, 1, (3, 3), pads=(1, 1, 1, 1))))
    assert answer.totals.macs == 27 << 60


def test_older_files_are_refused_in_a_sentence(measure):
    net = Writer(opset=6)
    with pytest.raises(InputError, match="version 6 of ONNX's operations; those from version 7 on are read"):
        measure(net.model(net.node("Relu", [net.input("x", [1, 3])])))
