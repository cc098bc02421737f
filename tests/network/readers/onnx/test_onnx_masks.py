"""What units see behind masks in ONNX files: those that PyTorch's exporters write, and nodes that say it themselves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

import thalweg as tw  # noqa: E402
from onnx_files import Writer  # noqa: E402
from thalweg.network.readers.onnx.folding import MAX_WORKED_OUT  # noqa: E402

MICROSOFT = "com.microsoft"
WIDTH = 8


def seen(answer, extent=6):
    """The interval of every unit of the last layer, and whether a mask is not followed there."""
    units = [answer.unit(-1, (unit,)) for unit in range(extent)]
    return [unit.clipped and unit.clipped[0] for unit in units], any(unit.masked for unit in units)


def up_to(extent):
    return [(0, unit) for unit in range(extent)]


def from_on(extent):
    return [(unit, extent - 1) for unit in range(extent)]


def near(extent, before, after=0):
    return [(max(unit - before, 0), min(unit + after, extent - 1)) for unit in range(extent)]


def whole(extent):
    return [(0, extent - 1)] * extent


# Exports of PyTorch.


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize(
    "way", ["fused", "fused, as causal", "float buffer", "low buffer", "chosen", "linear triangle", "filled with 0"]
)
def test_exported_masks(way, dynamo, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    pytest.importorskip("onnxscript", reason="needs onnxscript, which CI installs")
    from torch_attention import Attention, band, blocks, causal

    for mask in (causal(7), band(7, 2, 1), blocks(6, 3)):
        if ("causal" in way or "triangle" in way) and not torch.equal(mask, causal(7)):
            continue
        network = torch.nn.Sequential(torch.nn.Linear(4, 4), Attention(way, mask)).eval()
        path = tmp_path / "attention.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = torch.zeros(1, len(mask), 4)
            torch.onnx.export(network, (x,), str(path), dynamo=dynamo, verbose=False)
        exported, direct = tw.size(path), tw.size(network, (len(mask), 4))
        assert seen(exported, len(mask)) == seen(direct, len(mask))
        assert exported.totals.parameters == direct.totals.parameters


# Nodes.


def attention(**attributes):
    """Attention over its own input, as version 23 of the standard has it."""
    net = Writer(opset=23)
    x = net.input("x", [1, 6, WIDTH])
    return net, x, net.node("Attention", [x, x, x], q_num_heads=2, kv_num_heads=2, **attributes)


def test_attention_says_that_it_is_causal(tmp_path):
    for causal, wanted in ((0, whole(6)), (1, up_to(6))):
        net, _, y = attention(is_causal=causal)
        assert seen(tw.size(net.save(tmp_path / "a.onnx", y))) == (wanted, False)


@pytest.mark.parametrize("kind", ["truth", "low"])
def test_attention_takes_a_mask(kind, tmp_path):
    net = Writer(opset=23)
    x = net.input("x", [1, 6, WIDTH])
    kept = np.tril(np.ones((6, 6), bool)) & ~np.tril(np.ones((6, 6), bool), -3)
    mask = net.tensor(kept if kind == "truth" else np.where(kept, 0, -np.inf).astype(np.float32))
    y = net.node("Attention", [x, x, x, mask], q_num_heads=2, kv_num_heads=2)
    answer = tw.size(net.save(tmp_path / "a.onnx", y))
    assert seen(answer) == (near(6, 2), False)
    assert answer.totals.parameters == 0


def test_a_mask_that_is_given_is_not_followed(tmp_path):
    net = Writer(opset=23)
    x = net.input("x", [1, 6, WIDTH])
    mask = net.input("mask", [6, 6], onnx.TensorProto.BOOL)
    y = net.node("Attention", [x, x, x, mask], q_num_heads=2, kv_num_heads=2)
    assert seen(tw.size(net.save(tmp_path / "a.onnx", y))) == (whole(6), True)


def test_fused_attention_of_onnx_runtime(tmp_path):
    for unidirectional, wanted in ((0, whole(6)), (1, up_to(6))):
        net = Writer()
        x = net.input("x", [1, 6, WIDTH])
        weights = [net.weight((WIDTH, 3 * WIDTH)), net.weight((3 * WIDTH,))]
        y = net.node("Attention", [x, *weights], domain=MICROSOFT, num_heads=2, unidirectional=unidirectional)
        assert seen(tw.size(net.save(tmp_path / "a.onnx", y, domains=[MICROSOFT]))) == (wanted, False)
        net = Writer()
        x = net.input("x", [1, 6, WIDTH])
        y = net.node("MultiHeadAttention", [x, x, x], domain=MICROSOFT, num_heads=2, unidirectional=unidirectional)
        assert seen(tw.size(net.save(tmp_path / "a.onnx", y, domains=[MICROSOFT]))) == (wanted, False)


@pytest.mark.parametrize("window", [-1, 3, 9])
def test_grouped_attention_is_causal(window, tmp_path):
    net = Writer()
    x = net.input("x", [1, 6, WIDTH])
    lengths = [net.tensor(np.array([5], np.int32)), net.tensor(np.array(6, np.int32))]
    y = net.node(
        "GroupQueryAttention", [x, x, x, "", "", *lengths], domain=MICROSOFT, num_heads=2, kv_num_heads=2,
        local_window_size=window,
    )  # fmt: skip
    wanted = near(6, 2) if window == 3 else up_to(6)
    assert seen(tw.size(net.save(tmp_path / "a.onnx", y, domains=[MICROSOFT]))) == (wanted, False)


@pytest.mark.parametrize(
    ("direction", "wanted"), [("forward", up_to(6)), ("reverse", from_on(6)), ("bidirectional", whole(6))]
)
def test_recurrent_layers_have_a_direction(direction, wanted, tmp_path):
    ways = 2 if direction == "bidirectional" else 1
    net = Writer()
    x = net.input("x", [1, 6, WIDTH])
    steps = net.node("Transpose", [x], perm=(1, 0, 2))
    weights = [net.weight((ways, 9, WIDTH)), net.weight((ways, 9, 3))]
    every, last = net.node("GRU", [steps, *weights], outputs=2, hidden_size=3, direction=direction)
    flat = net.node("Reshape", [net.node("Transpose", [every], perm=(2, 0, 1, 3)), net.numbers(1, 6, 3 * ways)])
    y = net.node("Relu", [flat])
    state = net.node("Relu", [last], "state")
    answer = tw.size(net.save(tmp_path / "a.onnx", y, state))
    place = next(place for place, layer in enumerate(answer.layers) if layer.kind == "recurrent")
    assert [answer.unit(place, (unit,)).clipped[0] for unit in range(6)] == wanted
    assert answer.unit("state", (0,)).clipped == ((0, 5),)


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({}, up_to(6)),
        ({"reverse": 1}, from_on(6)),
        ({"exclusive": 1}, [None, *up_to(5)]),
        ({"exclusive": 1, "reverse": 1}, [*[(unit + 1, 5) for unit in range(5)], None]),
    ],
)
def test_running_sums_have_a_direction(attributes, wanted, tmp_path):
    net = Writer()
    x = net.input("x", [1, 6, WIDTH])
    y = net.node("CumSum", [net.node("Relu", [x]), net.tensor(np.array(1))], **attributes)
    assert seen(tw.size(net.save(tmp_path / "a.onnx", y))) == (wanted, False)


def scores_of(net, x):
    return net.node("MatMul", [x, net.node("Transpose", [x], perm=(0, 2, 1))])


@pytest.mark.parametrize("way", ["Add", "Sub", "Sub from", "Mul"])
def test_numbers_that_are_added_subtracted_or_multiplied(way, tmp_path):
    net = Writer()
    x = net.input("x", [1, 6, WIDTH])
    later = np.triu(np.ones((1, 6, 6), bool), 1)
    table = net.node("Cast", [net.tensor(~later if way == "Mul" else later)], to=1)
    factor = {"Add": -1e9, "Sub": 1e9, "Sub from": -1e9, "Mul": 1}[way]
    numbers = net.node("Mul", [table, net.tensor(np.float32(factor))])
    scores = scores_of(net, x)
    scores = net.node(way.split()[0], [numbers, scores] if way == "Sub from" else [scores, numbers])
    weights = scores if way == "Mul" else net.node("Softmax", [scores], axis=-1)
    answer = tw.size(net.save(tmp_path / "a.onnx", net.node("MatMul", [weights, x])))
    assert seen(answer) == (up_to(6), False)


@pytest.mark.parametrize("way", ["Sub", "Div", "ReduceProd", "ReduceSumSquare", "ReduceMax"])
def test_what_makes_something_else_of_what_is_hidden_is_said(way, tmp_path):
    net = Writer()
    x = net.input("x", [1, 6, WIDTH])
    later = np.triu(np.ones((1, 6, 6), bool), 1)
    low, high = net.tensor(np.float32(-1e9)), net.tensor(np.float32(1))
    scores = net.node("Where", [net.tensor(later), low, scores_of(net, x)])
    if way in ("Sub", "Div"):
        scores = net.node(way, [high, scores])
    else:
        scores = net.node(way, [net.node("Unsqueeze", [scores, net.numbers(1)]), net.numbers(1)], keepdims=0)
    shares = net.node("Softmax", [scores], axis=-1)
    answer = tw.size(net.save(tmp_path / "a.onnx", net.node("MatMul", [shares, x])))
    assert seen(answer) == ((up_to(6), False) if way == "ReduceMax" else (whole(6), True))


@pytest.mark.parametrize("upper", [0, 1])
def test_a_triangle_of_scores_that_weigh_as_they_are(upper, tmp_path):
    net = Writer()
    x = net.input("x", [1, 6, WIDTH])
    y = net.node("MatMul", [net.node("Trilu", [scores_of(net, x)], upper=upper), x])
    assert seen(tw.size(net.save(tmp_path / "a.onnx", y))) == (from_on(6) if upper else up_to(6), False)


def test_a_mask_worked_out_from_the_shape(tmp_path):
    """For as many tokens as there are, up to those for which a mask is worked out."""
    net = Writer()
    x = net.input("x", [1, "tokens", WIDTH])
    length = net.node("Gather", [net.node("Shape", [x]), net.numbers(1)])
    square = net.node("Concat", [length, length], axis=0)
    mask = net.node("Trilu", [net.node("Expand", [net.tensor(np.float32(-1e9)), square]), net.tensor(np.int64(1))])
    shares = net.node("Softmax", [net.node("Add", [scores_of(net, x), mask])], axis=-1)
    path = net.save(tmp_path / "a.onnx", net.node("MatMul", [shares, x]))
    assert seen(tw.size(path, (40, WIDTH)), 40) == (up_to(40), False)
    many = int(MAX_WORKED_OUT**0.5) + 1
    unit = tw.size(path, (many, WIDTH)).unit(-1, (3,))
    assert (unit.clipped, unit.masked) == (((0, many - 1),), True)


def test_keys_that_are_hidden_from_all_queries(tmp_path):
    """Of a row of which nothing is left behind a causal mask, all shares are equal."""
    for causal in (False, True):
        net = Writer()
        x = net.input("x", [1, 6, WIDTH])
        hidden = np.where(np.arange(6) < 2, -1e9, 0).astype(np.float32)[None, None]
        scores = net.node("Add", [scores_of(net, x), net.tensor(hidden)])
        if causal:
            later = np.triu(np.full((6, 6), -1e9, np.float32), 1)
            scores = net.node("Add", [scores, net.tensor(later)])
        answer = tw.size(net.save(tmp_path / "a.onnx", net.node("MatMul", [net.node("Softmax", [scores], axis=-1), x])))
        wanted = [(0, 5), (0, 5), *((2, unit) for unit in range(2, 6))] if causal else None
        intervals, masked = seen(answer)
        assert not masked
        assert answer.totals.parameters == 0
        if wanted is not None:
            assert intervals == wanted
        else:
            assert intervals == [(min(unit, 2), 5) for unit in range(6)]


def test_what_is_added_to_scores_may_be_learned(tmp_path):
    """A table for each head is; one that is the same for all, and not in the file, may be a mask."""
    for shape, masked in (((2, 6, 6), False), ((1, 6, 6), True)):
        net = Writer()
        x = net.input("x", [1, 6, WIDTH])
        heads = net.node("Transpose", [net.node("Reshape", [x, net.numbers(6, 2, 4)])], perm=(1, 0, 2))
        scores = net.node("MatMul", [heads, net.node("Transpose", [heads], perm=(0, 2, 1))])
        shares = net.node("Softmax", [net.node("Add", [scores, net.absent(shape, "table")])], axis=-1)
        mixed = net.node("Transpose", [net.node("MatMul", [shares, heads])], perm=(1, 0, 2))
        y = net.node("Reshape", [mixed, net.numbers(1, 6, WIDTH)])
        answer = tw.size(net.save(tmp_path / "a.onnx", net.node("Relu", [y])))
        assert answer.totals.parameters == np.prod(shape)
        assert seen(answer) == (whole(6), masked)


def test_positions_that_a_mask_blanks(tmp_path):
    net = Writer()
    x = net.input("x", [1, WIDTH, 6])
    conv = net.node("Conv", [x, net.weight((WIDTH, WIDTH, 3))], pads=(1, 1))
    kept = net.tensor(np.array([1, 1, 0, 0, 1, 1], np.float32) > 0)
    zero = net.tensor(np.float32(0))
    blanked = net.node("Where", [kept, conv, zero])
    other = net.node("Where", [kept, net.node("Neg", [conv]), net.node("Exp", [x])])
    y = net.node("Conv", [net.node("Add", [blanked, other]), net.weight((WIDTH, WIDTH, 1))])
    answer = tw.size(net.save(tmp_path / "a.onnx", y))
    assert [answer.unit(-1, (unit,)).clipped[0] for unit in range(6)] == [
        (0, 1),
        (0, 2),
        (2, 2),
        (3, 3),
        (3, 5),
        (4, 5),
    ]
    place = next(place for place, layer in enumerate(answer.layers) if "where" in layer.name.lower())
    assert answer.unit(place, (2,)).clipped is None


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_scans_put_their_results_together_in_either_direction(backwards, turned, tmp_path):
    net = Writer()
    x = net.input("x", [1, 6, WIDTH])
    value = onnx.helper.make_tensor_value_info
    step = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["held", "now"], ["sum"]), onnx.helper.make_node("Tanh", ["sum"], ["told"])],
        "step",
        [value(name, 1, None) for name in ("held", "now")],
        [value(name, 1, None) for name in ("sum", "told")],
    )
    made = net.node(
        "Scan", [net.tensor(np.zeros((1, WIDTH), np.float32)), net.node("Relu", [x])], outputs=2, body=step,
        num_scan_inputs=1, scan_input_axes=[1], scan_input_directions=[int(backwards)], scan_output_axes=[1],
        scan_output_directions=[int(turned)],
    )[1]  # fmt: skip
    wanted = from_on(6) if backwards else up_to(6)
    answer = tw.size(net.save(tmp_path / "a.onnx", net.node("Relu", [made])))
    assert seen(answer) == (wanted if backwards == turned else wanted[::-1], False)
