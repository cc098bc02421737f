"""The worked tables hold the textbook's numbers, step by step."""

from __future__ import annotations

import numpy as np
import optax
import pytest

import thalweg as tw
from thalweg.errors import InputError
from thalweg.implicit_bias.rules import AdaGrad, OptaxTransformation
from thalweg.implicit_bias.trajectories import Optimizer, names, prepared, run
from thalweg.implicit_bias.worked import Traces, trace
from thalweg.textbook import implicit_bias as textbook

ONE_EXAMPLE = tw.LeastSquares([[1.0, 2.0]], [3.0])
WIDE = tw.LeastSquares([[1.0, 2.0, 0.5], [0.0, 1.0, -1.0]], [3.0, 1.0])


def test_adagrads_first_steps_are_the_facts():
    """F1.5: the gradients differ by two, the steps are equal, and the row space is left at once."""
    found = trace(ONE_EXAMPLE, Optimizer("adagrad", AdaGrad(epsilon=1e-4), rate=0.5), 5).rows
    X, t = ONE_EXAMPLE.X, ONE_EXAMPLE.t
    path = textbook.adagrad(X, t, np.zeros(2), 0.5, textbook.every_row(X, 5), eps=1e-4)
    G = np.zeros(2)
    for before, after, one in zip(path[:-1], path[1:], found, strict=True):
        gradient = textbook.gradient(X, t, before)
        G = G + gradient**2
        np.testing.assert_allclose(one.gradient, gradient, rtol=1e-12)
        np.testing.assert_allclose(one.state["G"], G, rtol=1e-12)
        np.testing.assert_allclose(one.move, after - before, rtol=1e-9)
        np.testing.assert_allclose(one.weights, after, rtol=1e-12)
        assert one.outside == pytest.approx(textbook.row_space_ratio(X, after), rel=1e-9)
    assert found[0].gradient.tolist() == [-6, -12]
    assert found[0].outside == pytest.approx(1 / np.sqrt(10), rel=1e-4)


@pytest.mark.parametrize("name", names())
def test_every_named_optimizer_can_be_traced(name):
    found = trace(WIDE, name, 4, seed=3)
    assert len(found.rows) == 4
    np.testing.assert_allclose(found.rows[0].weights, run(WIDE, prepared(WIDE, name), steps=1, seed=3).w, rtol=1e-12)
    w = found.start
    for one in found.rows:
        np.testing.assert_allclose(one.gradient, WIDE.gradient(w, one.rows), rtol=1e-12)
        np.testing.assert_allclose(one.weights, w + one.move, rtol=1e-12)
        w = one.weights
    assert len(found.table().rows) == 4
    assert found.to_dict()["steps"][3]["weights"].tolist() == w.tolist()


def test_traces_are_shown_together(tmp_path):
    both = Traces((trace(WIDE, "adam", 2), trace(WIDE, "sgd", 3)))
    assert [len(table.rows) for table in both.tables()] == [2, 3]
    assert len(both.table().rows) == 5
    assert len(both.figures()) == 2
    both.save(tmp_path / "trace.html")
    both.save(tmp_path / "trace.csv")


def test_what_cannot_be_traced_is_refused():
    with pytest.raises(InputError, match="at least 1, but it is 0"):
        trace(WIDE, "gd", 0)
    with pytest.raises(InputError, match="What 'mine' holds is not known"):
        trace(WIDE, Optimizer("mine", OptaxTransformation(optax.sgd(0.1))), 2)
