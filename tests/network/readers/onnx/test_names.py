"""What rows are called: as people know the parts of the network; hostile names literally."""

from __future__ import annotations

import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

from onnx_files import Writer  # noqa: E402
from thalweg.network.readers.onnx.run import run  # noqa: E402


def names(net, output, tmp_path):
    graph = run(net.model(output), tmp_path, None).recorder.graph()
    return [(operation.name, operation.module) for operation in graph.operations]


def test_paths_that_pytorch_writes_into_names(tmp_path):
    net = Writer()
    x = net.node("Conv", [net.input("x", [1, 3, 9, 9]), net.weight((4, 3, 3, 3))], "/stem/Conv")
    y = net.node("Conv", [x, net.weight((4, 4, 1, 1), "onnx::Conv_7")], "/layer1/layer1.0/conv1/Conv")
    y = net.node("Relu", [y], "/layer1/layer1.0/relu/Relu")
    y = net.node("Conv", [y, net.weight((4, 4, 1, 1), "layer1.0.conv2.weight")], "whatever")
    x = net.node("Relu", [net.node("Add", [x, y], "/layer1/layer1.0/Add")], "/layer1/layer1.0/relu_1/Relu")
    x = net.node("Softmax", [net.node("Exp", [x], "/head/Exp")], "/head/Softmax")
    x = net.node("GlobalAveragePool", [x], "/GlobalAveragePool")
    assert names(net, x, tmp_path) == [
        ("stem", ""),
        ("layer1.0.conv1", "layer1.0"),
        ("layer1.0.relu", "layer1.0"),
        ("layer1.0.conv2", "layer1.0"),
        ("layer1.0.Add", "layer1.0"),
        ("layer1.0.relu_1", "layer1.0"),
        ("head.Exp", "head"),
        ("head.Softmax", "head"),
        ("GlobalAveragePool", ""),
    ]


def test_scopes_that_pytorch_writes_beside_names(tmp_path):
    net = Writer()
    x = net.node("Relu", [net.input("x", [1, 3])], "node_relu")
    net.nodes[-1].metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value="['', 'body', 'body.0', 'body.0.act', 'relu']"
    )
    assert names(net, x, tmp_path) == [("body.0.act", "body.0")]


def test_other_names_stay_and_the_nameless_are_called_what_they_do(tmp_path):
    net = Writer()
    x = net.node("Relu", [net.input("x", [1, 3])], "model/act/Relu")
    x = net.node("Neg", [x])
    net.nodes[-1].name = ""
    assert names(net, x, tmp_path) == [("model/act/Relu", "model/act"), ("Neg", "")]
