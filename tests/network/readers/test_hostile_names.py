"""Names with markup, ANSI sequences and script tags, from every reader: printed as they are, everywhere."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

import thalweg as tw
from thalweg.errors import InputError

HOSTILE = "[red]<script>alert(1)</script>\x1b[31m&amp;"
WITHOUT_SLASH = HOSTILE.replace("/", "")


def of_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3))
    model.add_module(HOSTILE, torch.nn.Conv2d(2, 2, 3))
    return model, (3, 8, 8), HOSTILE


def of_onnx(tmp_path):
    pytest.importorskip("onnx", reason="needs onnx, which CI installs")
    from onnx_files import Writer

    net = Writer()
    x = net.conv(net.input(HOSTILE, [1, 3, 8, 8]), 3, 2, (3, 3), HOSTILE)
    return net.save(tmp_path / "hostile.onnx", x), None, HOSTILE


def of_keras(tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="needs Keras, which CI installs")
    return (
        keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, name=WITHOUT_SLASH)]),
        None,
        WITHOUT_SLASH,
    )


def conv(x, kernel):
    jax = pytest.importorskip("jax")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def of_jax(tmp_path):
    jax = pytest.importorskip("jax")
    weights = {HOSTILE: jax.numpy.ones((3, 3, 3, 2))}
    return (lambda weights, x: conv(x, weights[HOSTILE]), weights), (8, 8, 3), HOSTILE


def of_equinox(tmp_path):
    eqx = pytest.importorskip("equinox", reason="needs Equinox, which CI installs")
    import jax

    class Model(eqx.Module):
        parts: dict

        def __call__(self, x):
            return self.parts[HOSTILE](x)

    return Model({HOSTILE: eqx.nn.Conv2d(3, 2, 3, key=jax.random.key(0))}), (3, 8, 8), f"parts.{HOSTILE}"


def of_linen(tmp_path):
    linen = pytest.importorskip("flax.linen", reason="needs Flax, which CI installs")

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Conv(2, (3, 3), padding="VALID", name=HOSTILE)(x)

    import jax

    variables = Model().init(jax.random.key(0), jax.numpy.ones((1, 8, 8, 3)))
    return (Model(), variables), (8, 8, 3), HOSTILE


def of_nnx(tmp_path):
    nnx = pytest.importorskip("flax.nnx", reason="needs Flax, which CI installs")

    class Model(nnx.Module):
        def __init__(self):
            setattr(self, HOSTILE, nnx.Conv(3, 2, (3, 3), padding="VALID", rngs=nnx.Rngs(0)))

        def __call__(self, x):
            return getattr(self, HOSTILE)(x)

    return Model(), (8, 8, 3), HOSTILE


READERS = (of_torch, of_onnx, of_keras, of_jax, of_equinox, of_linen, of_nnx)


@pytest.mark.parametrize("reader", READERS)
def test_hostile_names_print_literally(reader, tmp_path):
    model, shape, name = reader(tmp_path)
    answer = tw.size(model, shape)
    assert name in [each.name for each in answer.layers]
    assert name in json.loads(json.dumps([each["name"] for each in answer.to_dict()["layers"]]))
    results = [
        answer,
        answer.in_full(),
        answer.compare(answer),
        answer.unit(name, (1, 1)),
        answer.effective(name, (1, 1)),
        answer.changes(name),
        answer.reach(6, name),
        answer.memory(2),
    ]
    if reader is not of_onnx:
        results.append(answer.measured(name, (1, 1), samples=1))
    shown = name.replace("\x1b", "\\x1b")
    for result in results:
        stream = io.StringIO()
        Console(file=stream, force_terminal=True, width=400).print(result)
        page = tmp_path / "page.html"
        result.save(page)
        written = (stream.getvalue(), result.table().to_text(), result._repr_html_(), page.read_text())
        for each in written:
            assert "\x1b[31m&" not in each
        assert all("<script>alert(1)" not in each for each in written[2:])
        assert "\x1b" not in written[1]
        if name in " ".join(str(cell) for row in result.table().rows for cell in row) + result.table().title:
            assert shown in written[0]
            assert shown in written[1]
    with pytest.raises(InputError) as caught:
        answer.unit(name + "!", (1, 1))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("arguments", [[], ["--input", "2x2x2"], ["--unit", "nothing"]])
def test_hostile_names_on_the_command_line(tmp_path, arguments):
    path, _, _ = of_onnx(tmp_path)
    command = [sys.executable, "-c", "from thalweg.cli import main; main()", "size", str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert HOSTILE.replace("\x1b", "\\x1b") in done.stdout + done.stderr
    assert done.returncode == (2 if arguments else 0)
    assert "Traceback" not in done.stderr
