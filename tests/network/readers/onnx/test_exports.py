"""Networks that people know, as PyTorch exports them: the same counts as from the modules themselves."""

from __future__ import annotations

import warnings

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
pytest.importorskip("onnxscript", reason="needs onnxscript, which CI installs")

import thalweg as tw  # noqa: E402
import torch_networks as known  # noqa: E402

COUNTS = ("neurons", "parameters", "connections", "connections_inside", "macs")
NETWORKS = {
    "residual": (lambda: known.resnet(18), (3, 64, 64)),
    "U-Net": (lambda: known.UNet(width=8), (3, 64, 64)),
    "shuffled channels": (lambda: known.ShuffleUnit(24, 3), (24, 8, 8)),
    "squeezed and excited": (lambda: known.MobileBlock(8, 16), (8, 16, 16)),
    "generator": (lambda: known.generator(width=8), (100,)),
    "pixel shuffle": (known.super_resolution, (1, 16, 16)),
    "sound": (known.waveform, (1, 400)),
    "vision transformer": (
        lambda: known.VisionTransformer(side=32, patch=8, width=48, depth=2, heads=4, classes=10),
        (3, 32, 32),
    ),
    "windows": (known.Swin, (3, 64, 64)),
    "language": (lambda: known.Llama(words=50, width=32, depth=2, heads=4, hidden=48), (9,)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_counts_of_the_module(tmp_path, name):
    make, shape = NETWORKS[name]
    network = make().eval()
    text = name == "language"
    image = torch.zeros((1, *shape), dtype=torch.long) if text else torch.zeros(1, *shape)
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image,), str(path), dynamo=False, verbose=False,
            do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    ours, truth = tw.size(path), tw.size(network, shape)
    assert ours.complete
    assert {each: getattr(ours.totals, each) for each in COUNTS} == {
        each: getattr(truth.totals, each) for each in COUNTS
    }
    # The two write attention down in other rows; what counts otherwise must see the same.
    seen = [
        [(row.receptive_field, row.stride, row.macs) for row in answer.layers if row.neurons]
        for answer in (ours, truth)
    ]
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", ["language", "vision transformer"])
def test_tables_and_masks_that_the_newer_exporter_works_out_are_no_parameters(tmp_path, name):
    make, shape = NETWORKS[name]
    network = make().eval()
    image = torch.zeros((1, *shape), dtype=torch.long if name == "language" else torch.float)
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (image,), str(path), dynamo=True, verbose=False)
    ours, truth = tw.size(path), tw.size(network, shape)
    assert ours.totals.parameters == truth.totals.parameters == sum(each.numel() for each in network.parameters())
    assert ours.totals.macs == truth.totals.macs


def test_a_layer_of_attention_that_takes_examples_first(tmp_path):
    """It turns its input around, and takes the weights of a layer that it does not call."""
    network = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    with torch.no_grad():
        for each in network.parameters():
            each.uniform_()  # the exporter drops what is all zeros
    path, sequence = tmp_path / "network.onnx", torch.export.Dim("sequence")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.zeros(2, 20, 32),), str(path), dynamo=True, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch"), 1: sequence},),
        )  # fmt: skip
    ours, truth = tw.size(path, (20, 32)), tw.size(network, (20, 32))
    assert {each: getattr(ours.totals, each) for each in COUNTS} == {
        each: getattr(truth.totals, each) for each in COUNTS
    }
    assert ours.layers[-1].receptive_field == truth.layers[-1].receptive_field == (20,)
