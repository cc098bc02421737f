"""A model's bytes without its weights: everything else is there, bit for bit, and damage is noticed."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="needs onnx, which CI installs")

from onnx_files import Writer, many_operations  # noqa: E402
from thalweg.network.readers.onnx import wire  # noqa: E402

MODELS = [model for _, model, _ in many_operations()]


def numbers_left_out(model, longest):
    """The same model by protobuf's own means: fields of numbers that are longer than that are cleared."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)

    def clear(tensor):
        for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            only = onnx.TensorProto()
            if getattr(tensor, field):
                value = getattr(tensor, field)
                only.raw_data = value if field == "raw_data" else b""
                if field != "raw_data":
                    getattr(only, field).extend(value)
                if only.ByteSize() - 2 > longest:
                    tensor.ClearField(field)

    def graph(held):
        for tensor in held.initializer:
            clear(tensor)
        nodes(held.node)

    def nodes(held):
        for node in held:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    clear(attribute.t)
                if attribute.HasField("g"):
                    graph(attribute.g)

    graph(copied.graph)
    for function in copied.functions:
        nodes(function.node)
    return copied


def read(content):
    return onnx.ModelProto.FromString(wire.without_weights(io.BytesIO(content), len(content)))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.graph.node[0].op_type)
def test_all_but_long_numbers_stay(model, monkeypatch):
    content = model.SerializeToString()
    assert wire.without_weights(io.BytesIO(content), len(content)) == content
    for longest in (0, 20, 60):
        monkeypatch.setattr(wire, "MAX_KEPT", longest)
        assert read(content) == numbers_left_out(model, longest)


@given(st.data())
def test_damage_is_a_value_error_or_goes_on_to_the_parser(data):
    content = bytearray(data.draw(st.sampled_from(MODELS)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "MAX_KEPT", data.draw(st.sampled_from([0, 30, 1 << 18])))
        try:
            shorter = wire.without_weights(io.BytesIO(bytes(content[:cut])), cut)
        except ValueError:
            return
    assert len(shorter) <= cut


def test_lengths_that_lie_and_messages_that_hold_themselves(monkeypatch):
    nested = b""
    for _ in range(150):
        nested = b"\x32" + wire._written(len(nested)) + nested  # attribute.g
        nested = b"\x2a" + wire._written(len(nested)) + nested  # node.attribute
        nested = b"\x0a" + wire._written(len(nested)) + nested  # graph.node
    deep = b"\x3a" + wire._written(len(nested)) + nested
    monkeypatch.setattr(wire, "MAX_KEPT", -1)
    with pytest.raises(ValueError, match="too deep"):
        wire.without_weights(io.BytesIO(deep), len(deep))
    for content in (b"\x3a\xff\xff\xff\x7f", b"\x3b", b"\xff" * 12, b"\x09123", b"\x3a"):
        with pytest.raises(ValueError, match=r"field|type|number|early"):
            wire.without_weights(io.BytesIO(content), len(content))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to say how much memory was used")
def test_weights_in_the_file_take_no_memory(tmp_path):
    net = Writer()
    big = net.tensor(np.ones((4096, 4096), np.float32), "big.weight")  # 64 MiB
    path = net.save(tmp_path / "big.onnx", net.node("MatMul", [net.input("x", [1, 4096]), big], "big"))
    code = (
        "import pathlib, re, sys, thalweg as tw\n"
        "answer = tw.size(sys.argv[1])\n"
        "most = re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())\n"
        "print(answer.totals.parameters, most[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    parameters, kibibytes = map(int, done.stdout.split())
    assert parameters == 4096 * 4096
    assert kibibytes < 80 << 10  # read whole and parsed, it would be more than 128 MiB
