"""Which tensors are parameters, by what PyTorch's newer exporter writes beside them."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

from onnx import helper, numpy_helper  # noqa: E402

from thalweg.network.readers.onnx.parameters import Parameters  # noqa: E402


def test_the_largest_tensor_that_a_module_takes_stands_for_its_missing_parameter(tmp_path):
    """The exporter turns a weight around under a new name; a scale that it works out beside that is no parameter."""
    nodes = [helper.make_node("MatMul", ["x", "val_9"], ["y"]), helper.make_node("Mul", ["y", "val_1"], ["z"])]
    for node in nodes:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'layer', 'attention']")
    shapes = {"val_9": (4, 4), "val_1": (1,)}
    tensors = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "network", [], [], tensors)
    graph.metadata_props.add(
        key="pkg.torch.export.ExportedProgram.graph_signature",
        value="p_layer_weight: PARAMETER target='layer.weight'",
    )
    assert Parameters(graph, tmp_path).not_learned == {"val_1"}
