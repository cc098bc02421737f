"""What is kept of each kind of operation, beside what PyTorch keeps of the same."""

from __future__ import annotations

import pytest

from thalweg.network.graph import Kind, Operation, Tensor, Weight
from thalweg.network.readers.spec import read_spec
from thalweg.network.saved import kept, needing_gradients, weights_of

SOURCE, OUTPUT = Tensor(0, (4, 4, 6), (0, 1), 2), Tensor(1, (4, 4, 6), (0, 1), 2)


def kept_of(kind, name="it", **fields):
    return kept(Operation(kind, name, (SOURCE,), (OUTPUT,), traced=True, **fields), {0, 1})


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("relu", OUTPUT), ("layer1.0.relu", OUTPUT), ("ReLU", OUTPUT), ("re_lu_3", OUTPUT), ("sigmoid", OUTPUT),
        ("tanh", OUTPUT), ("softmax", OUTPUT), ("log_softmax", OUTPUT),
        ("gelu", SOURCE), ("silu", SOURCE), ("elu", SOURCE), ("selu", SOURCE), ("prelu", SOURCE), ("relu6", SOURCE),
        ("leaky_relu", SOURCE), ("LeakyReLU", SOURCE), ("leaky_re_lu", SOURCE), ("hardtanh", SOURCE),
        ("hard_sigmoid", SOURCE), ("logsigmoid", SOURCE), ("mlp.1", SOURCE),
    ],
)  # fmt: skip
def test_activations_keep_what_their_derivative_needs(name, tensor):
    assert kept_of(Kind.ACTIVATION, name).tensors == (tensor,)


@pytest.mark.parametrize(
    ("name", "from_output"),
    [("relu", True), ("sigmoid", True), ("tanh", True), ("softmax", True), ("gelu", False), ("silu", False),
     ("elu", False), ("selu", False), ("leaky_relu", False), ("relu6", False), ("hardtanh", False),
     ("hardsigmoid", False), ("hardswish", False), ("softplus", False), ("mish", False), ("logsigmoid", False)],
)  # fmt: skip
def test_pytorch_keeps_of_activations_what_the_rule_says(name, from_output):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    x = torch.randn(3, 5, requires_grad=True)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.data_ptr()), lambda t: t):
        arguments = {"dim": -1} if name == "softmax" else {}
        y = getattr(torch.nn.functional, name)(x, **arguments)
    assert (y.data_ptr() in packed, x.data_ptr() in packed) == (from_output, not from_output)
    assert (kept_of(Kind.ACTIVATION, name).tensors == (OUTPUT,)) is from_output


@pytest.mark.parametrize(
    ("kind", "name", "tensors", "numbers"),
    [
        (Kind.ADD, "add", (), (0, 0, 0, 0)),
        (Kind.FLATTEN, "flatten", (), (0, 0, 0, 0)),
        (Kind.REDUCE, "mean", (), (0, 0, 0, 0)),
        (Kind.GLOBAL_POOL, "globalavgpool", (), (0, 0, 0, 0)),
        (Kind.GLOBAL_POOL, "globalmaxpool", (SOURCE, OUTPUT), (0, 0, 0, 0)),
        (Kind.MAX_POOL, "pool", (SOURCE,), (0, 0, 0, 8 * 96)),
        (Kind.AVERAGE_POOL, "pool", (SOURCE,), (0, 0, 0, 0)),
        (Kind.DROPOUT, "dropout", (), (0, 0, 0, 96)),
        (Kind.NORMALISATION, "bn1", (SOURCE,), (0, 0, 12, 0)),
        (Kind.NORMALISATION, "layernorm", (SOURCE,), (0, 32, 0, 0)),
        (Kind.NORMALISATION, "blocks.0.ln_1", (SOURCE,), (0, 32, 0, 0)),
        (Kind.SPATIAL_NORMALISATION, "groupnorm", (SOURCE,), (0, 12, 0, 0)),
        (Kind.EMBEDDING, "embed", (), (0, 0, 0, 8 * 96)),
        (Kind.RECURRENT, "lstm", (SOURCE, OUTPUT), (4 * 96, 0, 0, 0)),
        (Kind.ATTENTION, "attention", (SOURCE, OUTPUT), (0, 16, 0, 0)),
        (Kind.MATMUL, "matmul", (SOURCE,), (0, 0, 0, 0)),
        (Kind.MULTIPLY, "multiply", (SOURCE,), (0, 0, 0, 0)),
        (Kind.UNKNOWN, "warp", (), (0, 0, 0, 0)),
    ],
)
def test_each_kind_keeps_what_the_rule_says(kind, name, tensors, numbers):
    found = kept_of(kind, name)
    assert found.tensors == tensors
    assert (found.numbers, found.statistics, found.common, found.bytes) == numbers


def test_products_keep_inputs_for_the_weights_they_train():
    weight = Weight("w", (6, 6))
    assert kept_of(Kind.LINEAR, weights=(weight,)).tensors == (SOURCE,)
    assert kept_of(Kind.LINEAR, weights=(Weight("w", (6, 6), trainable=False),)).tensors == ()
    untouched = Operation(Kind.LINEAR, "fc", (SOURCE,), (OUTPUT,), weights=(weight,), traced=True)
    assert kept(untouched, set()).tensors == ()


def test_gradients_flow_behind_the_first_trained_weight():
    graph = read_spec("input 8x8x3; conv3-4 frozen; relu; conv3-4; relu; conv3-4 frozen")
    assert needing_gradients(graph) == {3, 4, 5}
    assert [each.trainable for each in weights_of(graph).values()] == [False, False, True, True, False, False]
