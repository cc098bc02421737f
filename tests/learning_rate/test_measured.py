"""The search among runs: it finds the best rate of any valley that matters, and none that only luck recommends."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.learning_rate.measured import MOST_RUNS, Runs


def searched(loss, proposed, steps=1):
    """Runs whose loss after every step is a function of the rate; it was 1 before."""
    runs = Runs(lambda rate: np.array([1.0] + [loss(rate)] * steps), steps)
    runs.search(proposed, [1])
    return runs


@pytest.mark.parametrize("proposed", [1e-3, 0.5, 1.0, 700.0])
def test_one_valley_is_found_from_anywhere(proposed):
    runs = searched(lambda rate: 1 - 2 * rate + rate**2 if rate < 3 else np.inf, [proposed])
    best = runs.rates[runs.best(1)]
    assert 2**-0.25 <= best <= 2**0.25
    assert len(runs.rates) < 25


def test_an_exact_proposal_is_kept():
    runs = searched(lambda rate: (rate - 0.731) ** 2, [0.731, 0.4])
    assert runs.rates[runs.best(1)] == 0.731


def test_a_lucky_rate_among_diverging_ones_is_not_recommended():
    def loss(rate):
        return 0.0 if 7.9 < rate < 8.1 else (1 - 0.5 * rate if rate < 1 else 5.0)

    runs = searched(loss, [0.25, 8.0])
    assert 8.0 in runs.rates
    assert runs.rates[runs.best(1)] < 1


def test_a_far_valley_hardly_deeper_than_a_near_one_is_left_alone():
    def loss(rate):
        return 0.10 + (np.log(rate)) ** 2 if rate < 8 else (0.09 if rate < 200 else np.inf)

    near = searched(loss, [1.0])
    assert near.rates[near.best(1)] == 1.0
    far = searched(lambda rate: loss(rate) - (0.05 if 8 <= rate < 200 else 0), [1.0])
    assert far.rates[far.best(1)] >= 8


def test_nan_and_overflow_count_as_diverged():
    runs = Runs(lambda rate: np.array([1.0, np.nan if rate > 1 else 0.5]), 1)
    assert runs.run(2.0).tolist() == [1.0, np.inf]
    runs.search([0.5, 2.0], [1])
    assert runs.rates[runs.best(1)] <= 1


def test_where_nothing_lowers_the_loss_there_is_no_best_and_an_end():
    runs = searched(lambda rate: 1.0, [1.0])
    assert runs.best(1) is None
    assert len(runs.rates) <= MOST_RUNS + 2


def test_every_rate_is_run_once():
    asked = []

    def descend(rate):
        asked.append(rate)
        return np.array([1.0, abs(rate - 1)])

    Runs(descend, 1).search([0.5, 0.5, 1.5], [1, 1])
    assert len(asked) == len(set(asked))
