"""Every rule takes the textbook's steps; their limits and defaults are those of the formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.implicit_bias.rules import (
    AdaGrad,
    Adam,
    AdamW,
    Exponentiated,
    Gradient,
    HeavyBall,
    Lion,
    Nesterov,
    Normalised,
    OptaxAdaGrad,
    Preconditioned,
    RMSProp,
    Scale,
    Sign,
)
from thalweg.textbook import implicit_bias as textbook

STEPS = 40
RATE = 0.03


def problem_data(seed):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((4, 6)), generator.standard_normal(4), generator.standard_normal(6)


def steps_along(rule, X, t, path, batches, rate=RATE):
    """Where the rule steps from each point of a given path, its state carried along; chaos has no time to grow."""
    state, reached = rule.begin(len(path[0])), [path[0]]
    for w, rows in zip(path[:-1], batches, strict=True):
        direction, state = rule.direction(textbook.gradient(X[rows], t[rows], w), state)
        reached.append(w - rate * direction)
    return np.array(reached)


def literal_path(rule, X, t, w0, batches, rate=RATE):
    """The iterates of a rule, with gradients by the textbook."""
    path, state = [w0], rule.begin(len(w0))
    for rows in batches:
        direction, state = rule.direction(textbook.gradient(X[rows], t[rows], path[-1]), state)
        path.append(path[-1] - rate * direction)
    return np.array(path)


P = np.diag([1.0, 2, 3, 4, 5, 6]) + 0.5
IN_THE_TEXTBOOK = {
    "gradient": (Gradient(), lambda *run: textbook.gradient_descent(*run)),
    "momentum": (HeavyBall(0.8), lambda *run: textbook.heavy_ball(*run, delta=0.8)),
    "adagrad": (AdaGrad(epsilon=1e-3), lambda *run: textbook.adagrad(*run, eps=1e-3)),
    "adagrad with a start": (AdaGrad(1e-3, 0.1), lambda *run: textbook.adagrad(*run, eps=1e-3, G0=0.1)),
    "rmsprop": (RMSProp(0.8, 1e-3), lambda *run: textbook.rmsprop(*run, rho=0.8, eps=1e-3)),
    "adam": (Adam(0.8, 0.95, 1e-3), lambda *run: textbook.adam(*run, beta1=0.8, beta2=0.95, eps=1e-3)),
    "preconditioned": (Preconditioned(P), lambda *run: textbook.preconditioned(*run, P=P)),
    "by a diagonal": (
        Preconditioned(np.arange(1, 7)),
        lambda *run: textbook.preconditioned(*run, P=np.diag(range(1, 7))),
    ),
}


@pytest.mark.parametrize("name", IN_THE_TEXTBOOK)
@given(seed=st.integers(0, 1000), random_batches=st.booleans())
@settings(max_examples=20, deadline=None)
def test_rules_take_the_textbooks_steps(name, seed, random_batches):
    rule, textbook_run = IN_THE_TEXTBOOK[name]
    X, t, w0 = problem_data(seed)
    batches = textbook.every_row(X, STEPS)
    if random_batches:
        batches = np.random.default_rng(seed).integers(4, size=(STEPS, 2)).tolist()
    expected = textbook_run(X, t, w0, RATE, batches)
    np.testing.assert_allclose(steps_along(rule, X, t, expected, batches), expected, rtol=1e-12, atol=1e-12)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_nesterovs_weights_are_where_the_textbook_takes_its_gradient(seed):
    """The rule's w is w + delta s of the textbook, and s is the textbook's last step."""
    X, t, w0 = problem_data(seed)
    batches = textbook.every_row(X, STEPS)
    path = textbook.nesterov(X, t, w0, RATE, batches, delta=0.8)
    ahead = path[1:] + 0.8 * np.diff(path, axis=0)
    np.testing.assert_allclose(literal_path(Nesterov(0.8), X, t, w0, batches)[1:], ahead, rtol=1e-10, atol=1e-10)


@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 20.0]))
@settings(max_examples=20)
def test_exponentiated_steps_multiply_two_positive_weights(seed, scale):
    """Kivinen and Warmuth's w+ and w-, multiplied by exp(-rate g) and exp(rate g), their difference being w."""
    X, t, w0 = problem_data(seed)
    positive = (w0 + np.sqrt(w0**2 + scale**2)) / 2
    negative, w, rule = positive - w0, w0, Exponentiated(scale)
    for _ in range(STEPS):
        factor = np.exp(-0.003 * textbook.gradient(X, t, positive - negative))
        positive, negative = positive * factor, negative / factor
        w, _ = rule.step(w, textbook.gradient(X, t, w), (), 0.003)
        np.testing.assert_allclose(w, positive - negative, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(positive * negative, scale**2 / 4)
    with pytest.raises(InputError, match="must be a number above 0, but it is 0"):
        Exponentiated(0.0)


TURNS = {"gd": Gradient(), "momentum": HeavyBall(), "nesterov": Nesterov(), "normalised": Normalised()}
DOES_NOT = {"adagrad": AdaGrad(), "optax-adagrad": OptaxAdaGrad(), "rmsprop": RMSProp(), "adam": Adam()}
DOES_NOT |= {"adamw": AdamW(), "sign": Sign(), "lion": Lion(), "preconditioned": Preconditioned(np.arange(1.0, 7))}
DOES_NOT |= {"exponentiated": Exponentiated()}


@pytest.mark.parametrize("name", [*TURNS, *DOES_NOT])
@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_the_reason_why_some_runs_turn_with_the_features_and_others_do_not(name, seed):
    """On X Q at Q^T w every gradient is Q^T g; what counts is whether the step from it is Q^T times the step from g.

    Sums and multiples of gradients turn with them. Squares and signs of coordinates do not: they know the axes.
    """
    rule = (TURNS | DOES_NOT)[name]
    X, t, w0 = problem_data(seed)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))[0]
    w, turned, state, turned_state = w0, Q.T @ w0, rule.begin(6), rule.begin(6)
    apart = 0.0
    for _ in range(5):
        gradient, turned_gradient = textbook.gradient(X, t, w), textbook.gradient(X @ Q, t, Q.T @ w)
        np.testing.assert_allclose(turned_gradient, Q.T @ gradient, rtol=0, atol=1e-10)
        w, state = rule.step(w, gradient, state, 0.01)
        turned, turned_state = rule.step(turned, turned_gradient, turned_state, 0.01)
        apart = max(apart, float(np.linalg.norm(turned - Q.T @ w)))
        turned = Q.T @ w
    assert apart < 1e-10 if name in TURNS else apart > 1e-5


def test_optax_adagrad_is_told_apart():
    """The limit that Optax's own AdaGrad reaches on X = [1 2], t = 3 at rate 0.1 (0.10 of its accumulator stays)."""
    X, t = np.array([[1.0, 2.0]]), np.array([3.0])
    w, G = np.zeros(2), np.full(2, 0.1)
    for _ in range(2000):
        g = 2 * (X[0] @ w - t[0]) * X[0]
        G += g**2
        w = w - 0.1 * g / np.sqrt(G + 1e-7)
    path = literal_path(OptaxAdaGrad(), X, t, np.zeros(2), textbook.every_row(X, 2000), rate=0.1)
    np.testing.assert_allclose(path[-1], w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(path[-1], (0.99981, 1.00010), rtol=0, atol=5e-6)


def test_optax_adds_epsilon_under_the_root():
    """`optax.scale_by_rss`: g rsqrt(accumulator + g^2 + epsilon)."""
    rule = OptaxAdaGrad(epsilon=0.25, accumulator=0.5)
    g = np.array([0.5, -1.0])
    np.testing.assert_allclose(rule.direction(g, rule.begin(2))[0], [0.5, -1 / np.sqrt(1.75)], rtol=1e-15)


def test_sign_and_normalised_steps():
    g = np.array([3.0, 0.0, -4.0])
    assert Sign().direction(g, ())[0].tolist() == [1, 0, -1]
    assert Normalised().direction(g, ())[0].tolist() == [0.6, 0, -0.8]
    assert Normalised().direction(np.zeros(3), ())[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("rule", [Gradient(), HeavyBall(0.9), HeavyBall(0.3), Nesterov(0.9), Nesterov(0.3)])
def test_stability_limits_divide_what_shrinks_from_what_grows(rule):
    """On the loss h w^2 / 2: just below the limit the iterates die out, just above they grow."""
    h = 3.7
    limit = rule.stability_limit(h)
    for factor, shrinks in ((0.999, True), (1.001, False)):
        w, state = np.array([1.0]), rule.begin(1)
        for _ in range(30_000):
            direction, state = rule.direction(h * w, state)
            w = w - factor * limit * direction
            if not 1e-6 < abs(w[0]) < 1e6:
                break
        assert (abs(w[0]) < 1) == shrinks, factor


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_default_rates_change_with_the_units_and_nothing_else(c, s):
    """X -> c X makes gradients c^2 times as steep and the solution 1/c as long; t -> s t makes it s times as long."""
    before, after = Scale(2.0, 5.0, 7, True), Scale(2.0 * c**2, 5.0 * s / c, 7, True)
    for rule in (Gradient(), HeavyBall(), Nesterov()):  # directions scale as the gradient does, by s c
        assert rule.default_rate(after) * s * c == pytest.approx(rule.default_rate(before) * s / c)
    for rule in (AdaGrad(), RMSProp(), Adam(), Sign(), Normalised()):  # directions do not scale at all
        assert rule.default_rate(after) == pytest.approx(rule.default_rate(before) * s / c)


def test_default_rates_are_below_the_stability_limit():
    for rule in (Gradient(), HeavyBall(), Nesterov()):
        assert rule.default_rate(Scale(2.0, 5.0, 7, True)) < rule.stability_limit(2.0)
        assert rule.default_rate(Scale(2.0, 5.0, 7, False)) <= rule.default_rate(Scale(2.0, 5.0, 7, True))


def test_the_factor_of_a_preconditioner():
    for matrix in (P, np.arange(1.0, 7)):
        C = Preconditioned(matrix).factor()
        np.testing.assert_allclose(C @ C.T, matrix if matrix.ndim == 2 else np.diag(matrix), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "matrix", [[[1, 2], [2, 1]], [[1, 1], [0, 1]], [1, 0], [1, np.nan], [[np.inf]], [], 3, [[1, 2]]]
)
def test_preconditioners_that_are_not_positive_definite_are_refused(matrix):
    with pytest.raises(InputError, match="P must be a symmetric positive definite matrix"):
        Preconditioned(np.array(matrix, dtype=float))
