"""`thalweg filters`: numbers, JSON, files, pictures, and one sentence for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from thalweg.cli import main

LAPLACIAN = "0 -1 0; -1 4 -1; 0 -1 0"
IMAGE = "0 0 0 0 0; 0 0 1 1 1; 1 1 1 1 0; 0 1 1 1 0; 0 0 1 0 0"


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(["filters", *arguments])
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def test_the_textbook_case_prints_its_numbers(capsys):
    code, out, err = call(capsys, LAPLACIAN, "--image", IMAGE)
    assert (code, err) == (0, "")
    assert "unoriented edge" in out
    lines = [line.split() for line in out.splitlines()]
    start = lines.index(["0", "0", "-1", "-1", "-1"])
    assert lines[start : start + 5] == [
        row.split() for row in ("0 0 -1 -1 -1", "-1 -2 2 1 3", "3 1 0 1 -2", "-2 2 0 2 -1", "0 -2 3 -2 0")
    ]


def test_numbers_may_begin_with_a_minus_sign(capsys):
    code, out, _ = call(capsys, "-1 -1 -1; 0 0 0; 1 1 1", "--image", "-1 2; 3 4", "--json")
    assert code == 0
    (kernel,) = json.loads(out)["kernels"]
    assert (kernel["label"], kernel["angle"]) == ("oriented edge", 270)
    assert kernel["correlation"] == [[7, 7], [-1, -1]]
    assert kernel["convolution"] == [[-7, -7], [1, 1]]


def test_names_and_files(capsys, tmp_path):
    code, out, _ = call(capsys, "sobel:angle=30", "--json")
    assert code == 0
    assert json.loads(out)["kernels"][0]["angle"] == pytest.approx(30)
    np.savez(tmp_path / "net.npz", a=np.zeros((2, 3, 3, 3)), b=np.ones((5, 1, 3, 3)))
    code, out, _ = call(capsys, str(tmp_path / "net.npz"), "--json")
    assert (code, len(json.loads(out)["kernels"])) == (0, 2)
    code, out, _ = call(capsys, str(tmp_path / "net.npz"), "--layer", "b", "--json")
    assert json.loads(out)["counts"] == {"blur": 5}


def test_a_picture(capsys, tmp_path):
    Image.fromarray(np.full((3, 2), 255, np.uint8)).save(tmp_path / "p.png")
    code, out, _ = call(capsys, "box", "--image", str(tmp_path / "p.png"), "--json")
    assert code == 0
    np.testing.assert_allclose(json.loads(out)["kernels"][0]["correlation"], np.array([[4, 4], [6, 6], [4, 4]]) / 9)


def test_saving(capsys, tmp_path):
    code, _, err = call(capsys, "gabor", "--save", str(tmp_path / "page.html"))
    assert code == 0
    assert "Saved to" in err
    assert "waves passed" in (tmp_path / "page.html").read_text()
    call(capsys, "gabor", "--save", str(tmp_path / "f.csv"))
    assert (tmp_path / "f.csv").read_text().splitlines()[0] == "kernel,detects,score,angle,why"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sobell",), "did you mean 'sobel'?"),
        (("my_models:net",), "is no filter; where it names a model, save its weights, as with torch.save("),
        (("sobell:angle=3",), "did you mean 'sobel'?"),
        (("1 2; 3",), "The kernel: row 2 has 1 numbers where row 1 has 2"),
        (("-1 2 = 3",), "it has a '='"),
        (("none.npz",), "There is no file 'none.npz'"),
        (("box", "--image", "none.png"), "There is no file 'none.png'"),
        (("box", "--layer", "a"), "Only a file has layers"),
        (("box", "--save", "f.pdf"), "the suffix '.pdf' is not one of"),
        (("\x1b[31mx",), "There is no filter named"),
        (("[red]x[/red].npz",), "There is no file '[red]x[/red].npz'"),
        (("1 " * 65,), "1 x 65 taps; a kernel may have 64 along a side"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_two(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_name_needs_neither_a_compiler_nor_pictures():
    code = (
        "import contextlib, io, sys, thalweg.cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    thalweg.cli.main(['filters', 'sobel'])\n"
        "print({'jax', 'torch', 'plotly', 'onnx', 'scipy', 'PIL'} & {name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_line_is_a_row(capsys):
    """Of a kernel and of an image, with semicolons besides or without, and in the name of the kernel."""
    of_lines = call(capsys, "-1 0 1\n-2 0 2\r\n\n-1 0 1\n", "--image", "0 1;\n1 1\n")
    assert of_lines == call(capsys, "-1 0 1; -2 0 2; -1 0 1", "--image", "0 1; 1 1")
    assert "What -1 0 1; -2 0 2; -1 0 1 detects" in of_lines[1]
