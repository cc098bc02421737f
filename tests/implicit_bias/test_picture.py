"""The pictures show what is true: lines where the solutions are, runs where they went, names that do no harm."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import thalweg as tw
from thalweg.implicit_bias.trajectories import OPTIMIZERS, names

ONE_EXAMPLE = tw.LeastSquares([[1.0, 2.0]], [3.0])


def traces(figure):
    return {trace.name: trace for trace in figure.data}


def points(trace):
    return np.column_stack([trace.x, trace.y])


@pytest.mark.parametrize("start", [(0.0, 0.0), (-0.5, 0.8), (3.0, -2.0)])
def test_the_plane_shows_solutions_row_space_and_runs(start):
    answer = tw.limits(ONE_EXAMPLE, ["gd", "adagrad"], start=start, rate=0.03)
    figure = answer.figure()
    shown = traces(figure)
    np.testing.assert_allclose(points(shown["all solutions"]) @ [1, 2], 3, rtol=0, atol=1e-12)
    along = points(shown["row space, through the start"]) - start
    np.testing.assert_allclose(along @ [2, -1], 0, rtol=0, atol=1e-12)
    around = np.linalg.norm(points(shown["equally far from the start"]) - start, axis=1)
    np.testing.assert_allclose(around, np.linalg.norm(answer.nearest - start))
    (gd,) = (trace for name, trace in shown.items() if name.startswith("gd: "))
    np.testing.assert_allclose(points(gd)[0], start)
    np.testing.assert_allclose(points(gd)[-1], answer.nearest, rtol=0, atol=1e-9)
    assert len(gd.x) == len(answer.outcomes[0].trajectory.path)
    assert figure.layout.yaxis.scaleanchor == "x", "right angles must look right"


def test_every_landing_is_labelled_once():
    figure = tw.limits(ONE_EXAMPLE, ["gd", "sgd", "adagrad", "sign"]).figure()
    labels = [annotation.text for annotation in figure.layout.annotations]
    assert labels == ["gd, sgd<br><b>(0.6, 1.2)</b>", "adagrad, sign<br><b>(1, 1)</b>"]


def test_of_many_seeds_one_is_drawn_and_no_line_is_as_wide_as_the_picture():
    problem = tw.LeastSquares([[1.0, 2.0], [2.0, 4.0]], [3.0, 6.0])
    figure = tw.limits(problem, ["sgd", "adam", "gd"], 5, 200, batch=1).figure()
    runs = [trace for trace in figure.data if ": " in trace.name]
    assert [trace.name.split(":")[0] for trace in runs] == ["sgd, 5 seeds", "adam, 5 seeds", "gd"]
    assert [note.text.split("<")[0] for note in figure.layout.annotations] == ["sgd, 5 seeds, gd", "adam, 5 seeds"]
    many = tw.limits(problem, names(), steps=50).figure()
    assert max(trace.line.width or 0 for trace in many.data) < 16


def test_a_run_that_diverges_leaves_the_window_where_it_is():
    figure = tw.limits(ONE_EXAMPLE, ["gd", "adagrad"], rate=0.25).figure()
    low, high = figure.layout.xaxis.range
    assert -3 < low < 0
    assert 1 < high < 3
    assert all(np.all(np.abs(points(trace)) < 100) for trace in figure.data)
    assert len(figure.layout.annotations) == 1


def test_a_plane_with_one_solution_has_no_line_of_them():
    full_rank = traces(tw.limits(tw.LeastSquares([[1.0, 2.0], [0.0, 1.0]], [3.0, 1.0])).figure())
    assert "all solutions" not in full_rank
    assert "row space, through the start" not in full_rank
    ridge = traces(tw.limits(tw.LeastSquares([[1.0, 2.0]], [3.0], l2=0.1)).figure())
    assert "all solutions" not in ridge
    assert "row space, through the start" in ridge


def test_a_start_at_the_solution_is_drawn():
    figure = tw.limits(ONE_EXAMPLE, start=[0.6, 1.2]).figure()
    low, high = figure.layout.xaxis.range
    assert low < 0.6 < high


def test_more_features_show_the_numbers_of_every_run():
    problem = tw.LeastSquares([[1.0, 2.0, 0.5]], [3.0])
    answer = tw.limits(problem)
    left, right = answer.figure().data
    assert list(left.x) == [outcome.norm_ratio for outcome in answer.outcomes]
    assert list(right.x) == [outcome.row_space_ratio for outcome in answer.outcomes]
    unique = tw.limits(tw.LeastSquares(np.eye(3), [1.0, 2.0, 3.0]))
    assert list(unique.figure().data[1].x) == [outcome.distance_to_nearest for outcome in unique.outcomes]


def test_losses_are_drawn_along_the_steps():
    answer = tw.limits(ONE_EXAMPLE, ["gd"], rate=0.02, steps=50)
    trace = answer.figures()[1].data[0]
    run = answer.outcomes[0].trajectory
    assert list(trace.x) == list(range(1, 51))
    assert list(trace.y) == list(run.losses[1:])


def test_hostile_names_are_harmless_everywhere():
    hostile = dataclasses.replace(OPTIMIZERS["gd"], name="<img src=x onerror=alert(1)>")
    for problem in (ONE_EXAMPLE, tw.LeastSquares([[1.0, 2.0, 3.0]], [3.0])):
        for figure in tw.limits(problem, [hostile]).figures():
            texts = [trace.name or "" for trace in figure.data] + [note.text for note in figure.layout.annotations]
            texts += [str(label) for trace in figure.data for label in np.ravel(trace.y)]
            assert any("&lt;img" in text for text in texts)
            assert not any("<img" in text for text in texts)
