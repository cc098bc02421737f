"""Pictures of characters show what they are given, where it is."""

from __future__ import annotations

import numpy as np

from thalweg.cli.drawing import grey_blocks, grey_text, plane


def test_a_bright_corner_is_dense_and_the_rest_is_empty():
    image = np.zeros((40, 40))
    image[:20, 20:] = 1
    assert grey_text(image, 8).split("\n") == ["    @@@@", "    @@@@", "", ""]


def test_blocks_hold_two_pixels_a_character():
    image = np.linspace(0, 1, 16).reshape(4, 4)
    text = grey_blocks(image, 4)
    assert text.plain == "▀▀▀▀\n▀▀▀▀\n"
    assert str(text.spans[0].style) == "rgb(0,0,0) on rgb(68,68,68)"


def test_an_even_image_is_drawn_without_a_division_by_zero():
    assert set(grey_text(np.ones((10, 10)), 4)) <= {" ", "\n"}


def test_points_stand_where_they_are_and_later_ones_cover_earlier_ones():
    picture = plane([(".", [(0, 0), (1, 1)]), ("A", [(1, 1), (5, 5)])], 0.0, 1.0, rows=2).split("\n")
    assert picture == ["    A", "", "."]
