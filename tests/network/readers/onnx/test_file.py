"""The file itself: numbers kept elsewhere, damage, and the package that is not there."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

import thalweg as tw  # noqa: E402
from onnx_files import Writer  # noqa: E402
from thalweg.errors import InputError, MissingPackageError  # noqa: E402


def reshaped(path, location, offset=0, length=None, target=(0, -1)):
    """A network whose reshape target is kept in another file, as its weights are."""
    net = Writer()
    x = net.node("Conv", [net.input("x", [1, 3, 6, 6]), net.absent((4, 3, 3, 3), "conv.weight")], "conv")
    shape = net.absent((len(target),), "target", onnx.TensorProto.INT64)
    tensor = net.tensors[-1]
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value=str(offset))
    if length is not None:
        tensor.external_data.add(key="length", value=str(length))
    x = net.node("Reshape", [x, shape], "flat")
    return net.save(path, net.node("Gemm", [x, net.absent((64, 5), "fc.weight")], "fc"))


def numbers(*values):
    return np.array(values, "<i8").tobytes()


def test_small_tensors_beside_the_weights_are_read(tmp_path):
    path = reshaped(tmp_path / "network.onnx", "more.bin", offset=8, length=16)
    (tmp_path / "more.bin").write_bytes(numbers(99, 0, -1, 77))
    answer = tw.size(path)
    assert answer.complete
    assert [layer.macs for layer in answer.layers] == [4 * 16 * 27, 320]


def test_without_them_what_they_shape_is_unknown_by_name_and_not_free(tmp_path):
    answer = tw.size(reshaped(tmp_path / "network.onnx", "more.bin", length=16))
    assert answer.unknown == ("flat", "fc")
    assert not answer.complete


@pytest.mark.parametrize("where", ["{outside}", "../outside.bin", "link.bin", "folder/outside.bin", "pipe", ".", "\0"])
def test_no_path_leads_out_of_the_folder(tmp_path, where):
    outside, inside = tmp_path / "outside.bin", tmp_path / "inside"
    outside.write_bytes(numbers(0, -1))
    inside.mkdir()
    (inside / "link.bin").symlink_to(outside)
    (inside / "folder").symlink_to(tmp_path)
    os.mkfifo(inside / "pipe")
    answer = tw.size(reshaped(inside / "network.onnx", where.format(outside=outside), length=16))
    assert answer.unknown == ("flat", "fc")


def test_numbers_that_are_cut_short_are_damage(tmp_path):
    path = reshaped(tmp_path / "network.onnx", "more.bin", length=16)
    (tmp_path / "more.bin").write_bytes(b"short")
    with pytest.raises(InputError, match="The tensor 'target' is damaged"):
        tw.size(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; it should hold a network in ONNX format."),
        (b"conv3-64; maxpool", "is damaged, or not an ONNX file."),
        (b"\x08\x09", "holds no network: it is damaged, or not an ONNX file."),
        (b"\x08", "is damaged, or not an ONNX file."),
    ],
)
def test_files_that_are_something_else(tmp_path, content, sentence):
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        tw.size(path)
    assert str(caught.value) == f"{str(path)!r} {sentence}"


def test_a_folder_and_a_file_that_is_not_there(tmp_path):
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    with pytest.raises(InputError, match=r"Cannot read .*: Is a directory"):
        tw.size(folder)
    with pytest.raises(InputError, match=r"There is no file 'absent\.onnx'"):
        tw.size("absent.onnx")


def test_names_that_are_no_text(tmp_path):
    net = Writer()
    path = net.save(tmp_path / "network.onnx", net.node("Relu", [net.input("x", [1, 3])], "a name"))
    path.write_bytes(path.read_bytes().replace(b"a name", b"a n\xff\xfee"))
    with pytest.raises(InputError, match="is damaged: a name in it is not text"):
        tw.size(path)


def test_the_package_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    (tmp_path / "network.onnx").write_bytes(b"\x08\x09")
    with pytest.raises(MissingPackageError) as caught:
        tw.size(tmp_path / "network.onnx")
    assert str(caught.value) == (
        "Reading ONNX files needs the package 'onnx', which is not installed; "
        'install it with: pip install "thalweg[onnx]".'
    )
