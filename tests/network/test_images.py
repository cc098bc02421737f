"""Images: pictures, numbers, arrays, and those that claim too much."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from thalweg.errors import InputError
from thalweg.network.images import MAX_PIXELS, load_image, table_of_numbers


def test_numbers_written_out_keep_their_scale():
    assert load_image("0 -1; 2.5, 3")[1].tolist() == [[0, -1], [2.5, 3]]
    assert table_of_numbers("1 2; 3 4;", "x").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".tiff", ".webp", ".ppm"])
def test_pictures_are_grey_from_black_to_white(tmp_path, suffix):
    levels = np.array([[0, 51], [255, 102]], np.uint8)
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(levels).convert("RGB").save(tmp_path / f"p{suffix}", **options)
    name, values = load_image(tmp_path / f"p{suffix}")
    assert name == f"p{suffix}"
    np.testing.assert_allclose(values, levels / 255)
    assert load_image(str(tmp_path / f"p{suffix}"))[1].shape == (2, 2)


def test_sixteen_bits_are_kept(tmp_path):
    levels = np.array([[0, 65535, 300]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "p.png")
    np.testing.assert_allclose(load_image(tmp_path / "p.png")[1], levels / 65535)


def test_colours_are_weighed_as_pillow_does(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "p.png")
    np.testing.assert_allclose(load_image(tmp_path / "p.png")[1], load_image(colours / 255)[1], atol=0.003)
    with_alpha = np.concatenate([colours / 255, np.ones((4, 5, 1))], axis=2)
    np.testing.assert_array_equal(load_image(with_alpha)[1], load_image(colours / 255)[1])


def bomb(width, height):
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_a_picture_that_claims_too_much_is_refused(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(bomb(side, side))
    with pytest.raises(InputError, match=r"bomb\.png") as refused:
        load_image(tmp_path / "bomb.png")
    assert "\n" not in str(refused.value)
    assert f"{MAX_PIXELS:,}" in str(refused.value) or "exceeds limit" in str(refused.value)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("none.png", "There is no file 'none.png'"),
        (" ", "The image is an empty text"),
        ("1 2; 3", "The image: row 2 has 1 numbers where row 1 has 2"),
        ("1 1e999", "'1e999' is not a finite number"),
        (np.ones(3), "its shape is (3,)"),
        (np.ones((2, 2, 2)), "its shape is (2, 2, 2)"),
        (np.empty((0, 3)), "its shape is (0, 3)"),
        ([[1, np.inf]], "row 0, column 1 is inf"),
        ([["a"]], "The image must be numbers"),
        ([[1], [1, 2]], "The image must be numbers"),
        (np.broadcast_to(0.0, (10_000, 10_000)), "10,000 x 10,000 pixels"),
    ],
)
def test_what_is_no_image_is_refused(source, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        load_image(source)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n"])
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "p.png").write_bytes(content)
    with pytest.raises(InputError, match="as a picture: no picture that can be decoded"):
        load_image(tmp_path / "p.png")


def test_a_truncated_picture_is_refused(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (50, 50), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "p.png")
    whole = (tmp_path / "p.png").read_bytes()
    (tmp_path / "p.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="Cannot read"):
        load_image(tmp_path / "p.png")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="Cannot read"):
        load_image(tmp_path)
