"""The surface on one's own learning rates is that of literal runs, and bad grids are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import thalweg as tw
from oracles import least_squares_data, long_double_losses
from thalweg.learning_rate.grid import spaced

X, T = least_squares_data("diabetes")
RATES = spaced("0.01:0.3:7")


@pytest.fixture(scope="module")
def grid():
    return tw.rates(tw.LeastSquares(X, T), 120).on_grid(RATES)


def test_the_losses_are_those_of_literal_runs(grid):
    truth = long_double_losses(X, T, RATES, 120).astype(float)
    answer = json.loads(grid.to_json())
    assert answer["rates"] == RATES.tolist()
    assert answer["steps"] == [1, 10, 100, 120]
    np.testing.assert_allclose(np.array(answer["loss"], dtype=float), truth[:, answer["steps"]], rtol=1e-11)
    assert list(answer["best_rate"]) == [str(step) for step in range(1, 121)]
    for step in (1, 2, 17, 120):
        assert answer["best_rate"][str(step)] == RATES[truth[:, step].argmin()] == grid.best_rate(step)
        assert answer["best_loss"][str(step)] == pytest.approx(truth[:, step].min(), rel=1e-11)


def test_the_table_and_pictures_show_the_grid(grid):
    table = grid.table()
    assert [row[0] for row in table.rows] == RATES.tolist()
    assert table.columns[2:] == ("loss after 1", "loss after 10", "loss after 100", "loss after 120")
    surface, courses = grid.figures()
    np.testing.assert_allclose(surface.data[0].x, RATES / grid.curve.stability_rate)
    assert np.asarray(surface.data[0].z).shape == (120, 7)
    assert [line.name for line in surface.data[1:]] == ["best rate for each step", "stability limit"]
    assert len(courses.data) == 5
    long = grid.curve.on_grid(spaced("0.001:0.1:400"))
    assert len(long.table().rows) == 25
    assert "25 of the 400 rates" in long.table().notes[-1]
    assert [line.name for line in long.figure().data[1:]] == ["best rate for each step"]


def test_one_rate_is_a_grid_and_divergent_ones_are_infinite_not_wrong():
    curve = tw.rates(tw.LeastSquares(X, T), 1000)
    alone = curve.on_grid([0.1])
    assert alone.best_rate([1, 1000]).tolist() == [0.1, 0.1]
    assert alone.figures()
    diverging = json.loads(curve.on_grid([10.0, 20.0]).to_json())
    assert diverging["loss"][0][-1] is None
    assert diverging["best_rate"]["1000"] == 10.0


def test_rates_are_spaced_by_a_factor():
    assert spaced("0.01:1:3") == pytest.approx([0.01, 0.1, 1.0])
    assert spaced(" 2:2:1 ").tolist() == [2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1:1", "must be LO:HI:N, as in 0.001:1:50, but it is '0.1:1'"),
        ("0.1:1:2:3", "must be LO:HI:N"),
        ("", "must be LO:HI:N"),
        ("a:1:2", "LO of --rates: 'a' is not a number"),
        ("0.1::2", "HI of --rates must be one number, but it is ''"),
        ("0.1:inf:2", "'inf' is not a finite number"),
        ("0.1:1:0", "N of --rates must be at least 1, but it is 0"),
        ("0.1:1:-3", "N of --rates must be at least 1, but it is -3"),
        ("0.1:1:2.5", "N of --rates must be a whole number, but it is 2.5"),
        ("0.1:1:1e9", "N of --rates must be at most 10,000"),
        ("0:1:5", "must begin above 0"),
        ("-1:1:5", "must begin above 0"),
        ("1:0.1:5", "must ascend from LO to HI, but 0.1 is not above 1"),
        ("1:1:5", "must ascend from LO to HI"),
    ],
)
def test_texts_that_are_no_grid_are_refused(text, message):
    with pytest.raises(tw.InputError, match=message):
        spaced(text)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ([], "The grid of learning rates is empty"),
        ([0.1, 0.3, 0.2], "must ascend, but 0.2 follows 0.3; sort it"),
        ([0.1, 0.1], "must ascend, but 0.1 follows 0.1"),
        ([-0.1, 0.1], "at least 0, but got -0.1"),
        ([0.1, np.nan], "is nan"),
        ([[0.1]], "one dimension"),
        (["a"], "real numbers"),
    ],
)
def test_grids_that_cannot_be_used_are_refused(grid, rates, message):
    with pytest.raises(tw.InputError, match=message):
        grid.curve.on_grid(rates)


def test_steps_beyond_the_grid_are_refused():
    exhausted = tw.rates(tw.LeastSquares([[1.0, 2.0]], [3.0]), 5).on_grid([0.1])
    for step, message in ((0, "from 1 to 5"), (6, "from 1 to 5"), (1.5, "integer")):
        with pytest.raises(tw.InputError, match=message):
            exhausted.best_loss(step)
