"""Networks whose counts are known: the textbook's table cell by cell, and a transformer of seven billion parameters."""

from __future__ import annotations

import json
import warnings

import pytest

import thalweg as tw

pytest.importorskip("onnx", reason="needs onnx, which CI installs")

from onnx_files import Llama, textbook

# Mission F3.2, every cell: units, neurons, parameters, connections.
ROWS = [
    ((64, 112, 112), 802_816, 1_792, 21_676_032),
    ((64, 56, 56), 200_704, 0, 802_816),
    ((128, 56, 56), 401_408, 73_856, 231_211_008),
    ((128, 28, 28), 100_352, 0, 401_408),
    ((256, 28, 28), 200_704, 295_168, 231_211_008),
    ((256, 28, 28), 200_704, 590_080, 462_422_016),
    ((256, 14, 14), 50_176, 0, 200_704),
    ((1024,), 1_024, 51_381_248, 51_380_224),
    ((100,), 100, 102_500, 102_400),
]
TOTALS = (1_957_988, 52_444_644, 999_407_616)
COUNTED = ("neurons", "parameters", "connections", "connections_inside", "macs", "receptive_field", "stride", "first")
SPEC = "input 112x112x3; conv3-64; maxpool; conv3-128; maxpool; conv3-256 x2; maxpool; FC-1024; FC-100"


def check_table(answer):
    spec = tw.size(SPEC)
    for layer, row, written in zip(answer.layers, ROWS, spec.layers, strict=True):
        assert (layer.output, layer.neurons, layer.parameters, layer.connections) == row
        assert [getattr(layer, each) for each in COUNTED] == [getattr(written, each) for each in COUNTED]
        assert layer.kind == written.kind
    assert (answer.totals.neurons, answer.totals.parameters, answer.totals.connections) == TOTALS
    assert answer.totals == spec.totals
    assert answer.complete


def test_the_textbook_table_cell_by_cell(tmp_path):
    answer = tw.size(textbook(tmp_path / "network.onnx"))
    check_table(answer)
    names = ["conv0", "pool0", "conv1", "pool1", "conv2", "conv3", "pool3", "fc1", "fc2"]
    assert [layer.name for layer in answer.layers] == names
    assert json.loads(answer.to_json())["totals"]["macs"] == sum(row[3] for row in ROWS if row[2])


@pytest.mark.parametrize("exporter", ["from the graph", "from a trace"])
def test_the_same_table_from_what_pytorch_exports(tmp_path, exporter):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    pytest.importorskip("onnxscript", reason="needs onnxscript, which CI installs")
    from torch_networks import textbook as module

    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torch.zeros(1, 3, 112, 112)
        network = module().eval()
        torch.onnx.export(network, (image,), str(path), dynamo=exporter == "from the graph", verbose=False)
    answer = tw.size(path)
    check_table(answer)
    assert [layer.name for layer in answer.layers] == ["0", "1", "2", "3", "4", "5", "6", "8", "9"]


def test_seven_billion_parameters_without_their_file(tmp_path):
    path = Llama().save_to(tmp_path / "llama.onnx")
    assert path.stat().st_size < 1_000_000
    answer = tw.size(path, (2048,))
    width, hidden, layers, words, places = 4096, 11008, 32, 32000, 2048
    weights = layers * (4 * width**2 + 3 * width * hidden) + width * words
    scores = layers * 2 * places * places * width  # queries with keys, shares with values
    assert answer.totals.macs == places * weights + scores == 14_630_806_093_824
    # The published number of parameters: the embedding, and a scale for every normalisation.
    assert answer.totals.parameters == weights + words * width + (2 * layers + 1) * width == 6_738_415_616
    assert answer.complete
    named = {layer.name: layer for layer in answer.layers}
    assert named["model.layers.31.mlp.down_proj"].macs == places * width * hidden
    assert named["model.layers.0.self_attn.q_proj"].receptive_field == (1,)
    assert named["model.layers.0.self_attn.o_proj"].receptive_field == (2048,)


def test_a_transformer_asks_for_the_length_of_its_text(tmp_path):
    path = Llama(layers=1, width=8, heads=2, hidden=12, words=10).save_to(tmp_path / "small.onnx")
    with pytest.raises(tw.errors.InputError, match="'input_ids' open: batchxsequence; give them without the batch"):
        tw.size(path)
    assert tw.size(path, "5").totals.macs == 5 * (4 * 64 + 3 * 96 + 80) + 2 * 5 * 5 * 8
