"""`filters`: the textbook case, tables, JSON, pictures, and names that must not act."""

from __future__ import annotations

import base64
import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import thalweg as tw
from kernel_zoo import zoo
from thalweg.network.correlation import correlate
from thalweg.network.filters import Filters, filters
from thalweg.network.kernels.families import LABELS
from thalweg.textbook import convolution as textbook

LAPLACIAN = "0 -1 0; -1 4 -1; 0 -1 0"
IMAGE = "0 0 0 0 0; 0 0 1 1 1; 1 1 1 1 0; 0 1 1 1 0; 0 0 1 0 0"
ANSWER = [[0, 0, -1, -1, -1], [-1, -2, 2, 1, 3], [3, 1, 0, 1, -2], [-2, 2, 0, 2, -1], [0, -2, 3, -2, 0]]


def test_the_textbook_case():
    answer = filters(LAPLACIAN, IMAGE)
    (only,) = answer
    assert (only.label, only.angle) == ("unoriented edge", None)
    assert only.correlation.tolist() == only.convolution.tolist() == ANSWER
    assert "Laplacian" in answer.table().rows[0][-1]
    first, why, taps, numbers = answer.tables()
    assert first.rows[0][:2] == (LAPLACIAN, "unoriented edge")
    assert "Laplacian" in why.rows[0][-1]
    assert taps.rows[1] == (-1, 4, -1)
    assert [list(row) for row in numbers.rows] == ANSWER
    assert "the same here" in numbers.title


def test_the_two_kinds_of_filtering_are_told_apart():
    answer = filters(textbook.PREWITT, textbook.IMAGE)
    assert (answer[0].label, answer[0].angle) == ("oriented edge", 270)
    np.testing.assert_array_equal(answer[0].correlation, textbook.correlate(textbook.IMAGE, textbook.PREWITT))
    np.testing.assert_array_equal(answer[0].convolution, -answer[0].correlation)
    titles = [table.title for table in answer.tables()]
    assert [title.split(":")[0] for title in titles[3:]] == ["Cross-correlation", "Convolution"]


def test_the_textbook_agrees_about_every_clean_kernel_it_knows():
    # The textbook takes the sharpening kernel of centre 9, whose taps sum to a seventeenth of their size, for balanced.
    for animal in [animal for animal in zoo(3) if animal.name != "sharpen 9"]:
        literal = textbook.detects(animal.kernel)
        ours = filters(animal.kernel)[0]
        assert ours.label == literal.kind, animal.name
        if ours.angle is not None:
            turn = 360 if ours.label == "oriented edge" else 180
            assert abs((ours.angle - literal.direction + turn / 2) % turn - turn / 2) < 0.2, animal.name


def test_json_has_stable_keys():
    answer = json.loads(filters(["sobel", LAPLACIAN], IMAGE).to_json())
    assert set(answer) == {"title", "kernels", "counts", "image"}
    edge, ring = answer["kernels"]
    assert set(edge) == {
        "name", "label", "angle", "scores", "measured", "spread", "reason", "kernel", "channels", "correlation",
        "convolution",
    }  # fmt: skip
    assert edge["angle"] == 0
    assert ring["angle"] is None
    assert set(edge["scores"]) == set(LABELS)
    assert ring["correlation"] == ANSWER
    assert answer["counts"] == {"oriented edge": 1, "unoriented edge": 1}
    large = json.loads(filters("sobel", np.zeros((100, 100))).to_json())
    assert large["kernels"][0]["correlation"] is None


def test_channels_are_told():
    kernel = np.multiply.outer(np.array([1.0, -1.0, 0.0]), textbook.PREWITT)
    answer = filters(kernel[None])
    assert "channels" in answer.table().columns
    assert answer.table().rows[0][4] == "red against green, 100%"
    assert answer.to_dict()["kernels"][0]["channels"].colour == "red against green"
    assert "channels" not in filters("box").table().columns


def test_only_three_channels_are_taken_for_colours():
    generator = np.random.default_rng(0)
    for channels, told in ((3, True), (8, False)):
        notes = " ".join(filters(generator.standard_normal((2, channels, 3, 3))).table().notes)
        assert ("red, green and blue" in notes) == told
        assert "the share of a kernel's energy that is one pattern" in notes


def test_many_kernels_are_told_in_eighty_columns(tmp_path):
    """Which kernel a row is about, and a reason that is read in lines and not word by word."""
    from rich.console import Console

    layer = "backbone.encoder.stages.0.downsampling_layer.convolution.weight"
    np.savez(tmp_path / "net.npz", **{layer: np.random.default_rng(0).standard_normal((12, 3, 3, 3))})
    answer = filters(tmp_path / "net.npz")
    console = Console(width=80, file=io.StringIO())
    console.print(answer)
    shown = console.file.getvalue()
    for number in range(12):
        assert len(re.findall(rf"^ *\[{number}\] ", shown, re.MULTILINE)) == 2
    assert "no identity, blur, sharpening, edge, line or wave is like it" in shown
    assert answer.table().rows[3][0] == f"{layer}[3]", "files keep the whole name"


def test_names_of_several_arrays_stay_whole():
    first, why = filters(["sobel", "laplacian"]).tables()[:2]
    assert [row[0] for row in first.rows] == [row[0] for row in why.rows] == ["sobel", "laplacian"]


def test_zero_and_single_taps_have_a_label():
    assert [each.label for each in filters(["0 0; 0 0", "5", "-5", "0 1 0"])] == [
        "other",
        "identity",
        "other",
        "identity",
    ]
    assert "answers nothing" in filters("0")[0].reason


def test_reasons_name_what_else_it_may_be():
    noisy = np.array([[0, -1, 0], [-1, 4.4, -1], [0, -1, 0.3]])
    (answer,) = filters(noisy)
    other = "sharpen" if answer.label == "unoriented edge" else "unoriented edge"
    assert re.search(rf"may also be {other} \(\d+%\)", answer.reason)


def test_a_measured_angle_is_told_beside_the_likely_one():
    generator = np.random.default_rng(3)
    (answer,) = filters(np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) + 0.3 * generator.standard_normal((3, 3)))
    assert answer.angle == 0
    assert answer.measured != 0
    assert re.search(r"0 deg \(measured [\d.]+ \+- [\d.]+\)", answer.reason)


def test_results_are_sequences():
    answer = filters(["sobel", "box"])
    assert isinstance(answer, Filters)
    assert len(answer) == 2
    assert [each.label for each in answer] == ["oriented edge", "blur"]
    assert answer[-1].name == "box"
    assert tw.filters is filters


def test_one_kernel_is_drawn_with_its_waves_and_its_answer():
    figure = filters("sobel", IMAGE).figure()
    assert [trace.type for trace in figure.data] == ["heatmap", "heatmap", "image", "image"]
    taps, response = figure.data[:2]
    np.testing.assert_array_equal(np.asarray(taps.z)[::-1], [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    # Waves that run across pass, waves along the edge do not; the middle, where both frequencies are 0, is flat areas.
    z, x, y = (np.asarray(part) for part in (response.z, response.x, response.y))
    assert z[np.argmin(np.abs(y)), np.argmin(np.abs(x))] == pytest.approx(0)
    assert z[np.argmin(np.abs(y)), np.argmin(np.abs(x - 0.25))] == pytest.approx(8)
    assert z[np.argmin(np.abs(y - 0.25)), np.argmin(np.abs(x))] == pytest.approx(0, abs=1e-9)


def test_taps_are_drawn_as_they_are_written():
    taps = filters("1 2; 3 4").figure().data[0]
    assert np.asarray(taps.z).tolist() == [[3, 4], [1, 2]], "Plotly draws the first row at the bottom"


def test_the_direction_of_a_wave_is_drawn_as_it_is_told():
    figure = filters("gabor:angle=30,size=15").figure()
    z, x, y = (np.asarray(part) for part in (figure.data[1].z, figure.data[1].x, figure.data[1].y))
    row, column = np.unravel_index(np.argmax(z), z.shape)
    assert (np.degrees(np.arctan2(y[row], x[column])) - 90) % 180 == pytest.approx(30, abs=5)


def test_a_layer_is_drawn_as_a_sheet_in_groups():
    kernels = np.random.default_rng(0).standard_normal((500, 3, 5, 5))
    kernels[:40] = np.multiply.outer(np.ones(3), textbook.PREWITT.repeat(2, 0)[:5].repeat(2, 1)[:, :5])
    answer = filters(kernels)
    (sheet,) = answer.figures()
    assert len(answer.tables()) == 2
    assert 300 < len(sheet.data[1].text) <= 400, "a few hundred are drawn, and it is said"
    assert re.search(r"\(\d+ of 500\)", sheet.layout.title.text)
    assert any(text.startswith("oriented edge: ") for text in sheet.layout.yaxis.ticktext)


def test_an_image_is_answered_by_many_kernels_in_pictures():
    image = np.random.default_rng(0).random((700, 350))
    kernels = np.random.default_rng(1).standard_normal((30, 3, 3))
    sheet, answers = filters(kernels, image).figures()
    assert "(24 of 30 kernels)" in answers.layout.title.text
    assert len(answers.data) == 25, "the image itself comes first"
    encoded = answers.data[3].source.partition(",")[2]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))), float)
    exact = correlate(image, kernels[2])[::3, ::3]
    np.testing.assert_allclose(shown, 255 * (exact - exact.min()) / np.ptp(exact), atol=0.5001)
    assert len(sheet.data) == 2
    assert len(filters(kernels).figures()) == 1


@pytest.mark.parametrize(("kernels", "image"), [("sobel", np.zeros((20, 300))), (np.ones((5, 2, 2)), np.eye(3))])
def test_how_to_see_answers_that_are_not_printed(kernels, image):
    size = f"{image.shape[0]} x {image.shape[1]} pixels"
    note = f"The answers to image, {size}, are pictures: --save page.html (figures()) draws them."
    assert filters(kernels, image).tables()[0].notes[-1] == note
    assert not any("pictures" in note for note in filters("sobel", np.eye(3)).tables()[0].notes)


def test_three_channels_are_drawn_in_colour():
    from thalweg.network.kernels.pictures import _colours

    red = np.zeros((1, 3, 1, 2))
    red[0, 0] = [[1, -1]]
    assert _colours(filters(red)[0]).tolist() == [[[255, 128, 128], [0, 128, 128]]]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "[red]x[/red]", "\x1b[31mred", "<b>bold</b>"])
def test_names_are_shown_literally_everywhere(tmp_path, name, capsys):
    np.savez(tmp_path / "net.npz", **{name.replace("/", "|"): np.random.default_rng(0).standard_normal((2, 3, 3, 3))})
    name = name.replace("/", "|")
    picture = tmp_path / f"{name}.png"
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(picture)
    answer = filters(tmp_path / "net.npz", picture)
    from rich.console import Console

    Console(width=200, force_terminal=True, color_system=None).print(answer)
    shown = capsys.readouterr().out
    assert name.replace("\x1b", "\\x1b") in shown
    assert "\x1b[31m" not in shown
    assert "\x1b" not in answer.table().to_text()
    literal = html.escape(name.replace("\x1b", "\\x1b"))
    (sheet,) = answer.figures()[:1]
    assert literal in sheet.layout.title.text
    assert all(literal in text for text in sheet.data[1].text)
    assert literal in answer.figures()[1].layout.annotations[2].text, "the name of the image"
    answer.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in page
    assert "<b>bold" not in page
    assert "\x1b" not in page
