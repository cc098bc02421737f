"""From whatever a person has to kernels with names."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.errors import InputError
from thalweg.network.kernels.sources import MAX_KERNELS, load_kernels_from


def loaded(source, layer=None):
    title, kernels = load_kernels_from(source, layer)
    return title, [(each.name, each.taps.shape) for each in kernels]


def test_every_way_of_giving_kernels():
    assert loaded("1 2 3; 4 5 6") == ("1 2 3; 4 5 6", [("1 2 3; 4 5 6", (2, 3))])
    assert loaded(" -1 0 1") == ("-1 0 1", [("-1 0 1", (1, 3))])
    assert loaded("sobel:size=5") == ("sobel:size=5", [("sobel:size=5", (5, 5))])
    assert loaded(np.ones((3, 4))) == ("kernel", [("kernel", (3, 4))])
    assert loaded([[1, 2], [3, 4]]) == ("kernel", [("kernel", (2, 2))])
    assert loaded(np.ones((2, 3, 4)))[1] == [("kernel[0]", (3, 4)), ("kernel[1]", (3, 4))]
    assert loaded(np.ones((2, 5, 3, 3)))[1] == [("kernel[0]", (3, 3)), ("kernel[1]", (3, 3))]
    assert loaded(["box", np.eye(2), "1 2"])[1] == [("box", (3, 3)), ("kernel 1", (2, 2)), ("1 2", (1, 2))]
    assert loaded([np.eye(3), np.ones((2, 2))])[1] == [("kernel 0", (3, 3)), ("kernel 1", (2, 2))]


def test_files(tmp_path):
    values = np.random.default_rng(0).standard_normal((4, 3, 5, 5))
    np.savez(tmp_path / "net.npz", conv=values)
    for source in (tmp_path / "net.npz", str(tmp_path / "net.npz")):
        title, kernels = load_kernels_from(source, None)
        assert title == "net.npz: conv"
        assert [each.name for each in kernels] == [f"conv[{number}]" for number in range(4)]
        np.testing.assert_array_equal(kernels[2].stored, values[2])
        assert len(kernels[2].mixture.weights) == 3


def test_channels_last_arrays_are_turned():
    values = np.random.default_rng(0).standard_normal((5, 5, 3, 8))
    _, kernels = load_kernels_from(values, None)
    np.testing.assert_array_equal(kernels[6].stored, values[..., 6].transpose(2, 0, 1))


def test_torch_tensors_on_a_graph():
    torch = pytest.importorskip("torch", reason="needs torch, which CI installs")
    layer = torch.nn.Conv2d(3, 4, 3)
    _, kernels = load_kernels_from(layer.weight, None)
    np.testing.assert_array_equal(kernels[1].stored, layer.weight[1].detach().numpy())


@pytest.mark.parametrize(
    ("source", "layer", "sentence"),
    [
        ("", None, "There is no filter named ''"),
        ("sobbel", None, "did you mean 'sobel'?"),
        ("kernel.npz", None, "There is no file 'kernel.npz'"),
        ("kernel.txt", None, "There is no file 'kernel.txt', nor a filter of that name"),
        ("1 2; 3", None, "The kernel: row 2 has 1 numbers where row 1 has 2"),
        ("1 2;; 3 4", None, "row 2 has 0 numbers"),
        ("1 2 = 3", None, "it has a '='"),
        ("1 nan", None, "'nan'"),
        ("1 1e999", None, "'1e999' is not a finite number"),
        ("sobel", "conv1", "Only a file has layers"),
        (np.eye(3), "conv1", "Only a file has layers"),
        ([], None, "its shape is (0,)"),
        (np.ones((0, 3, 3)), None, "There are no kernels"),
        (np.ones((3, 0)), None, "'kernel' is empty: its shape is (3, 0)"),
        (np.ones(3), None, "its shape is (3,)"),
        (np.ones((1, 1, 1, 1, 1)), None, "its shape is (1, 1, 1, 1, 1)"),
        (np.ones((65, 3)), None, "'kernel' has 65 x 3 taps; a kernel may have 64 along a side"),
        ([[1, np.nan]], None, "must hold finite numbers, but it holds nan"),
        ([[1, -np.inf]], None, "must hold finite numbers, but it holds -inf"),
        ([[1j, 2]], None, "no table of real numbers"),
        ([["a", "b"]], None, "no table of real numbers"),
        ([[1, 2], [3]], None, "no table of real numbers"),
        (object(), None, "no table of real numbers"),
        (None, None, "its shape is ()"),
        (np.ones((MAX_KERNELS + 1, 1, 1)), None, "4,097 kernels, more than the 4,096"),
    ],
)
def test_what_is_no_kernel_is_refused_in_one_sentence(source, layer, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        load_kernels_from(source, layer)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "k.txt").write_text("1 2")
    for source in (tmp_path / "k.txt", str(tmp_path / "k.txt")):
        with pytest.raises(InputError, match=r"does not end in one of \.onnx"):
            load_kernels_from(source, None)
