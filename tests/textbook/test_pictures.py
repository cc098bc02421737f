"""The pictures show what the textbook's functions compute."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.textbook import convolution, unrolled
from thalweg.textbook.facts import FACTS, facts
from thalweg.textbook.ledger import fact
from thalweg.textbook.pictures import PICTURES, errors


@pytest.mark.parametrize("number", PICTURES)
def test_pictures_can_be_drawn_and_belong_to_a_fact(number):
    figure = PICTURES[number]()
    assert number in FACTS
    assert figure.layout.title.text
    assert figure.to_json()


def end_of(figure, name):
    trace = next(trace for trace in figure.data if trace.name == name)
    return trace.x[-1], trace.y[-1]


def test_plane_of_the_worked_example_ends_where_the_fact_says():
    """F1.5 and F1.5w: (0.6, 1.2), (1, 1) and (-3, 3)."""
    np.testing.assert_allclose(end_of(PICTURES["F1.5"](), "GD"), [0.6, 1.2], atol=1e-6)
    np.testing.assert_allclose(end_of(PICTURES["F1.5"](), "AdaGrad"), [1, 1], atol=1e-6)
    np.testing.assert_allclose(end_of(PICTURES["F1.5w"](), "worked recursion"), [-3, 3], atol=1e-6)


def test_graph_has_every_node_and_arrow():
    figure = PICTURES["F2.1"]()
    graph = unrolled.computation_graph(2)
    assert set(figure.data[-1].text) == {"w0", "eta", "lambda", *(node.name.replace("_", " ") for node in graph)}
    assert len(figure.data) - 1 == len(unrolled.edges(graph))


def test_memory_grows_as_it_should():
    """F2.2: from T to 2T back-propagation doubles, halving adds the same, forward stays."""
    held = {trace.name: np.array(trace.y) for trace in PICTURES["F2.2"]().data}
    assert set(np.diff(held["recursive halving"])) == {2}
    assert set(np.diff(held["running forward"])) == {0}
    np.testing.assert_array_equal(held["back-propagation"], 3 * np.array([4, 8, 16, 32, 64, 128]) + 4)


def test_filtered_images_stand_beside_the_image():
    figure = PICTURES["F3.1"]()
    np.testing.assert_array_equal(figure.data[1].z, convolution.convolve(convolution.IMAGE, convolution.LAPLACIAN))


def test_errors_that_are_not_finite_stand_far_right():
    figure = errors([fact("F0", "claim", "nothing", np.nan), fact("F1", "claim", "zero", 0.0)])
    assert list(figure.data[0].x) == [1e3, 1e-18]
    assert figure.data[0].text[0].startswith("WRONG")


def test_a_fact_without_a_picture_of_its_own_shows_its_error():
    assert list(facts("F2.4").figure().data[0].y) == ["F2.4"]
    assert facts("F3.1").figure().data[0].type == "heatmap"
