"""Measured receptive fields of ONNX files: against PyTorch's of the modules they were made of, and by hand."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

from onnx import helper, numpy_helper  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg.errors import InputError  # noqa: E402


def saved(path, nodes, weights, shape, output="y", **options):
    """A file of one input `x` and some weights."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [info("x", 1, shape)], [info(output, 1, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", options.pop("opset", 18))], ir_version=9)
    onnx.save(model, path, **options)
    return str(path)


def chain(path, batch=1, **options):
    """Two convolutions with a rectifier between them, and a product at the end."""
    draw = np.random.default_rng(0)
    weights = {
        "one.weight": draw.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "two.weight": draw.standard_normal((2, 4, 3, 3)).astype(np.float32),
        "head.weight": draw.standard_normal((2 * 10 * 8, 40)).astype(np.float32),
        "flat": np.array([batch, -1]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "one.weight"], ["a"], "one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "two.weight"], ["c"], "two"),
        helper.make_node("Reshape", ["c", "flat"], ["d"], "reshape"),
        helper.make_node("MatMul", ["d", "head.weight"], ["y"], "head"),
    ]
    return saved(path, nodes, weights, [batch, 3, 12, 10], **options), weights


def by_hand(weights, x, unit):
    """The absolute derivatives of a unit of the last layer, tap by tap from the end back."""
    a = np.zeros((4, 14, 12))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    before = np.zeros((4, 12, 10))
    for row in range(12):
        for column in range(10):
            window = padded[:, row : row + 3, column : column + 3]
            before[:, row, column] = (weights["one.weight"] * window).sum((1, 2, 3))
    last = weights["head.weight"][:, unit].reshape(2, 10, 8)
    a = np.zeros((4, 12, 10))
    for row in range(10):
        for column in range(8):
            a[:, row : row + 3, column : column + 3] += np.tensordot(last[:, row, column], weights["two.weight"], 1)
    a *= before > 0
    found = np.zeros((3, 14, 12))
    for row in range(12):
        for column in range(10):
            found[:, row : row + 3, column : column + 3] += np.tensordot(a[:, row, column], weights["one.weight"], 1)
    return np.abs(found[:, 1:-1, 1:-1]).sum(0)


@pytest.mark.parametrize("outside", [False, True])
def test_the_gradient_is_that_of_the_taps(tmp_path, outside):
    beside = {"save_as_external_data": True, "size_threshold": 0, "location": "weights.bin"} if outside else {}
    path, weights = chain(tmp_path / "net.onnx", **beside)
    batch = np.random.default_rng(1).standard_normal((2, 3, 12, 10)).astype(np.float32)
    field = tw.size(path).measured("head", (7,), inputs=batch)
    expected = sum(by_hand(weights, x, 7) for x in batch) / 2
    np.testing.assert_allclose(field.shares * field.gradient, expected, rtol=1e-4, atol=1e-6)
    middle = tw.size(path).measured("two", (4, 4), inputs=batch)
    assert tuple(profile.seen for profile in middle.profiles) == tw.size(path).unit("two", (4, 4)).clipped


def test_a_shape_that_is_made_of_the_input(tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head.weight"], ["y"], "head", transB=1),
    ]
    weights = {
        "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1]),
        "head.weight": np.arange(24, dtype=np.float32).reshape(2, 12),
    }  # fmt: skip
    path = saved(tmp_path / "net.onnx", nodes, weights, ["N", 3, 4])
    field = tw.size(path).measured("head", (1,))
    expected = np.arange(12, 24).reshape(3, 4)
    assert field.gradient == pytest.approx(expected.sum())


def test_what_cannot_be_asked(tmp_path):
    path, _ = chain(tmp_path / "four.onnx", batch=4)
    with pytest.raises(InputError, match="written for a batch of 4, and a gradient is that of one example"):
        tw.size(path).measured("one", (1, 1))
    outside, _ = chain(tmp_path / "outside.onnx", save_as_external_data=True, size_threshold=0, location="weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"The weights of '.*outside\.onnx' cannot be read"):
        tw.size(outside).measured("one", (1, 1))
    node = helper.make_node("DeformConv", ["x", "w", "o"], ["y"], "bent")
    weights = {"w": np.ones((1, 3, 1, 1), np.float32), "o": np.zeros((1, 2, 4, 4), np.float32)}
    after = helper.make_node("Relu", ["y"], ["z"], "after")
    path = saved(tmp_path / "bent.onnx", [node, after], weights, [1, 3, 4, 4], output="z")
    answer = tw.size(path)
    name = answer.layers[-1].name
    with pytest.raises(InputError, match=r"operation 'bent' \(DeformConv\) is none that is differentiated|cannot be"):
        answer.measured(name, (0, 0) if len(answer.layers[-1].output) == 3 else (0,))
    path, _ = chain(tmp_path / "net.onnx")
    with pytest.raises(InputError, match="must be a batch of 3 x 12 x 10 each"):
        tw.size(path).measured("one", (1, 1), np.ones((1, 3, 9, 9)))


def test_on_the_command_line(tmp_path):
    path, _ = chain(tmp_path / "net.onnx")
    command = [
        sys.executable,
        "-c",
        "from thalweg.cli import main; main()",
        "size",
        path,
        "--unit",
        "two:4,4",
        "--weights",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Gradient of unit (4, 4) of two" in done.stdout


def exports():
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    import torch_networks as networks

    nn = torch.nn
    torch.manual_seed(0)
    yield "ResNet-18", networks.resnet(18), (3, 64, 64), ("conv1", "layer2.0.downsample.0", "layer4.1.conv2", "fc")
    vit = networks.VisionTransformer(side=32, patch=8, width=16, depth=1, heads=2, classes=3)
    yield "ViT", vit, (3, 32, 32), ("patch_embed", "blocks.0.mlp.1", "head")
    parts = [nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=2, mode="bilinear"), nn.ConvTranspose2d(4, 4, 3, 2, groups=2)]
    parts += [nn.GELU(), nn.AvgPool2d(3, 2, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 3), nn.Softmax(1)]
    yield "mixed", nn.Sequential(*parts), (3, 12, 12), ("0", "1", "2", "3", "4", "6")


@pytest.mark.parametrize("from_the_graph", [True, False])
def test_exports_measure_what_their_modules_measure(tmp_path, from_the_graph):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    pytest.importorskip("onnxscript", reason="needs onnxscript, which CI installs")
    for name, module, shape, layers in exports():
        module.eval()
        batch = torch.randn(2, *shape)
        path = tmp_path / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (batch[:1],), str(path), dynamo=from_the_graph, verbose=False)
        there, here = tw.size(module, shape), tw.size(str(path))
        named = {each.name: each for each in here.layers}
        for layer in layers:
            index = tuple(extent // 2 for extent in named[layer].output[1:]) if len(named[layer].output) == 3 else (1,)
            expected = there.measured(layer, index, batch)
            found = here.measured(layer, index, batch.numpy())
            assert found.gradient == pytest.approx(expected.gradient, rel=1e-4), (name, layer)
            np.testing.assert_allclose(found.shares, expected.shares, rtol=1e-3, atol=1e-7)
