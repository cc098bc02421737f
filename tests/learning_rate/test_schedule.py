"""Schedules run as they are written, in float64 and float32, against LSQR in long double; and the laws they obey."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import thalweg as tw
from oracles import FIVE_DATA_SETS, least_squares_data
from thalweg.learning_rate.schedule import best_schedule

STEPS = (1, 2, 5, 10, 20, 50)


def literal_losses(X, t, rates, momenta=None, l2=0.0, w0=None):
    """The losses `(T + 1,)` of `w <- w - rate grad + momentum (w - w before)`, in the floats of X."""
    n, d = X.shape
    w = np.zeros(d, X.dtype) if w0 is None else w0.astype(X.dtype)
    step = np.zeros(d, X.dtype)
    losses = []
    with np.errstate(all="ignore"):
        for rate, momentum in zip(rates, np.zeros(len(rates)) if momenta is None else momenta, strict=True):
            residual = X @ w - t
            losses.append(float(np.mean(residual.astype(float) ** 2) + l2 * (w @ w)))
            gradient = 2 / n * (X.T @ residual) + 2 * l2 * w
            step = (momentum * step - rate * gradient).astype(X.dtype)
            w = w + step
        losses.append(float(np.mean((X @ w - t).astype(float) ** 2) + l2 * (w @ w)))
    return np.array(losses)


@functools.cache
def ideal_losses(name):
    """What conjugate gradients reach in 80-bit floats with every gradient reorthogonalised: no schedule is better."""
    X, t = (values.astype(np.longdouble) for values in least_squares_data(name))
    w, residual = np.zeros(X.shape[1], np.longdouble), t.copy()
    gradient = X.T @ residual
    direction, square = gradient.copy(), gradient @ gradient
    losses, basis = [residual @ residual], []
    for _ in range(max(STEPS)):
        image = X @ direction
        w, residual = (
            w + square / (image @ image) * direction,
            residual - square / (image @ image) * image,
        )
        basis.append(gradient / np.sqrt(square))
        gradient = X.T @ residual
        for _ in range(2):
            gradient = gradient - np.array(basis).T @ (np.array(basis) @ gradient)
        square, before = gradient @ gradient, square
        direction = gradient + square / before * direction
        losses.append(residual @ residual)
    return np.array(losses, dtype=float) / len(t)


@functools.cache
def curve_of(name, steps):
    return tw.rates(tw.LeastSquares(*least_squares_data(name)), steps)


def assert_as_promised(schedule, literal, ideal, allowed):
    assert literal[-1] <= allowed * ideal
    assert schedule.loss == pytest.approx(literal[-1], rel=0.05)
    assert literal.max() <= literal[0] * (1 + 1e-12)
    assert schedule.peak <= 1


@pytest.mark.parametrize("name", FIVE_DATA_SETS)
@pytest.mark.parametrize("asked", ["as many steps as the curve has", "fewer steps than the curve has"])
def test_literal_runs_reach_the_ideal_without_a_peak(name, asked):
    X, t = least_squares_data(name)
    for steps in STEPS:
        curve = curve_of(name, steps if asked.startswith("as many") else 100)
        schedule = curve.schedule_details(steps)
        ideal = ideal_losses(name)[steps]
        assert_as_promised(schedule, literal_losses(X, t, schedule.rates), ideal, 1.01 if steps <= 20 else 1.25)
        assert schedule.ideal_losses[:11] == pytest.approx(ideal_losses(name)[: min(steps, 10) + 1], rel=1e-5)
        assert schedule.constant_loss == pytest.approx(curve.best_loss(steps), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["condition 1e6", "digits"])
def test_other_rounding_keeps_the_promise_too(name, seed):
    """The rows in another order are the same problem, rounded differently: what held by luck would not hold again."""
    X, t = least_squares_data(name)
    order = np.random.default_rng(seed).permutation(len(t))
    X, t = X[order], t[order]
    curve = tw.rates(tw.LeastSquares(X, t), 100)
    for steps in (20, 50):
        schedule = curve.schedule_details(steps)
        ideal = ideal_losses(name)[steps]
        assert_as_promised(schedule, literal_losses(X, t, schedule.rates), ideal, 1.01 if steps <= 20 else 1.25)


def test_the_best_polynomial_run_as_written_explodes():
    """Why all this is needed: the ideal schedule itself, in exact arithmetic without a peak, is useless in float64."""
    X, t = least_squares_data("digits")
    ritz = curve_of("digits", 20).measure.nodes[1:]  # the node left out is zero and holds the ideal loss
    assert len(ritz) == 20
    for order in (ritz, ritz[::-1]):
        assert literal_losses(X, t, len(t) / 2 / order).max() > 1e20


@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_the_momentum_form_reaches_the_ideal_without_a_peak(name):
    X, t = least_squares_data(name)
    for steps in STEPS:
        schedule = curve_of(name, steps).schedule_details(momentum=True)
        literal = literal_losses(X, t, schedule.rates, schedule.momenta)
        assert_as_promised(schedule, literal, ideal_losses(name)[steps], 1.01 if steps <= 20 else 1.25)
        assert schedule.momenta[0] == 0
        assert steps == 1 or schedule.momenta.any()


@pytest.mark.parametrize("name", FIVE_DATA_SETS)
def test_schedules_for_single_precision_survive_it(name):
    X, t = least_squares_data(name)
    single = X.astype(np.float32), t.astype(np.float32)
    for steps in (5, 20, 50):
        schedule = curve_of(name, steps).schedule_details(precision="float32")
        ideal = ideal_losses(name)[steps]
        if ideal < 1e-8 * ideal_losses(name)[0]:
            continue  # below what single precision can show
        assert_as_promised(schedule, literal_losses(*single, schedule.rates), ideal, 1.05 if steps <= 20 else 1.25)


def test_a_schedule_for_double_precision_does_not_survive_single():
    X, t = least_squares_data("condition 1e6")
    rates = curve_of("condition 1e6", 50).best_schedule()
    assert literal_losses(X, t, rates).max() <= t @ t / len(t) * (1 + 1e-12)
    assert literal_losses(X.astype(np.float32), t.astype(np.float32), rates).max() > 10 * t @ t / len(t)


def test_long_schedules_are_made_of_blocks_and_keep_falling():
    X, t = least_squares_data("digits")
    curve = curve_of("digits", 200)
    last = np.inf
    for steps in (50, 120, 200):
        schedule = curve.schedule_details(steps)
        literal = literal_losses(X, t, schedule.rates)
        assert schedule.loss == pytest.approx(literal[-1], rel=0.05)
        assert literal.max() <= literal[0] * (1 + 1e-12)
        assert literal[-1] < last
        last = literal[-1]
    assert "blocks one after the other" in schedule.how
    floor = np.mean((X @ np.linalg.lstsq(X, t)[0] - t) ** 2)
    assert floor <= last <= 1.01 * floor


def test_the_floor_of_rounding_is_predicted_roughly():
    """The ideal loss is 1e-38 of the first: what is left is rounding alone, which the simulation knows to a digit."""
    X, t = least_squares_data("gaussian")
    schedule = curve_of("gaussian", 100).schedule_details()
    literal = literal_losses(X, t, schedule.rates)[-1]
    assert literal < 1e-25
    assert 0.03 < schedule.loss / literal < 30


def test_a_ridge_term_and_another_start():
    generator = np.random.default_rng(3)
    X, t, w0 = generator.standard_normal((50, 30)), generator.standard_normal(50), generator.standard_normal(30)
    X *= np.logspace(0, -3, 30)
    curve = tw.rates(tw.LeastSquares(X, t, 1e-3), 20, start=100 * w0)
    for momentum in (False, True):
        schedule = curve.schedule_details(momentum=momentum)
        literal = literal_losses(X, t, schedule.rates, schedule.momenta, 1e-3, 100 * w0)
        assert_as_promised(schedule, literal, schedule.ideal_loss, 1.01)


@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("steps", [3, 4, 30, 120])
def test_more_steps_than_there_are_curvatures_stay_at_the_floor(steps, momentum):
    X, t = np.diag([3.0, 2.0, 1.0])[[0, 1, 2, 0]], np.array([1.0, -1.0, 2.0, 5.0])  # residual (2, 0, 0, 2) is left
    schedule = tw.rates(tw.LeastSquares(X, t), steps).schedule_details(momentum=momentum)
    literal = literal_losses(X, t, schedule.rates, schedule.momenta)
    assert schedule.loss == pytest.approx(2, rel=1e-9)
    assert literal[-1] == pytest.approx(2, rel=1e-12)
    assert literal.max() <= literal[0]


small = st.integers(1, 6)


@st.composite
def problems(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(small), draw(small)
    return generator.standard_normal((n, d)), generator.standard_normal(n)


@settings(deadline=None)
@given(problems(), st.integers(1, 8), st.booleans(), st.sampled_from([1.0, 3.0]))
def test_never_worse_than_the_best_constant_rate_and_never_above_the_cap(problem, steps, momentum, peak):
    X, t = problem
    curve = tw.rates(tw.LeastSquares(X, t), steps)
    schedule = curve.schedule_details(peak=peak, momentum=momentum)
    literal = literal_losses(X, t, schedule.rates, schedule.momenta)
    nothing = 1e-12 * literal[0]  # what rounding may leave
    assert literal[-1] <= curve.best_loss(steps) * (1 + 1e-9) + nothing
    assert literal[-1] >= schedule.ideal_loss * (1 - 1e-6) - nothing
    assert literal.max() <= peak * literal[0] * (1 + 1e-12)
    assert schedule.loss == pytest.approx(literal[-1], rel=0.05, abs=nothing)
    assert np.all(schedule.rates > 0)


@settings(deadline=None)
@given(problems())
def test_one_step_has_the_best_rate_for_one_step(problem):
    X, t = problem
    g = X.T @ t
    expected = len(t) / 2 * (g @ g) / ((X @ g) @ (X @ g))  # F2.6
    assert tw.rates(tw.LeastSquares(X, t), 1).best_schedule() == pytest.approx([expected], rel=1e-10)


@settings(deadline=None)
@given(problems(), st.integers(1, 5), st.integers(-20, 20), st.integers(-300, 300))
def test_scaling_the_target_scales_the_loss_and_scaling_the_features_scales_the_rates(problem, steps, target, feature):
    X, t = problem
    assume(steps <= min(X.shape))  # with more steps than directions many schedules are best
    plain = tw.rates(tw.LeastSquares(X, t), steps).schedule_details()
    scaled = tw.rates(tw.LeastSquares(X * 2.0**feature, t * 2.0**target), steps).schedule_details()
    assert scaled.rates == pytest.approx(plain.rates / 4.0**feature, rel=1e-9)
    assert scaled.losses == pytest.approx(plain.losses * 4.0**target, rel=1e-9)


@settings(deadline=None)
@given(problems(), st.integers(1, 5))
def test_the_order_of_the_examples_does_not_matter(problem, steps):
    X, t = problem
    order = np.random.default_rng(1).permutation(len(t))
    plain = tw.rates(tw.LeastSquares(X, t), steps).schedule_details()
    other = tw.rates(tw.LeastSquares(X[order], t[order]), steps).schedule_details()
    assert other.loss == pytest.approx(plain.loss, rel=1e-3, abs=1e-12 * plain.losses[0])


def test_where_nothing_is_better_the_constant_rate_is_the_schedule():
    curve = tw.rates(tw.LeastSquares([[1.0, 2.0]], [3.0]), 4)
    schedule = curve.schedule_details()
    assert schedule.rates.tolist() == [curve.best_rate(4)] * 4
    assert schedule.how.startswith("the best constant rate, because")


def test_functions_of_the_step_stand_still_after_the_last():
    schedule = curve_of("diabetes", 5).schedule_details()
    rate, factor = schedule.as_function(), schedule.to_lambda_lr(0.25)
    assert [rate(step) for step in range(7)] == [*schedule.rates, 0.0, 0.0]
    assert rate(np.int64(2)) == schedule.rates[2]
    assert [0.25 * factor(step) for step in range(7)] == [*schedule.rates, 0.0, 0.0]


def test_a_torch_optimizer_takes_the_schedule():
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    X, t = least_squares_data("diabetes")
    schedule = curve_of("diabetes", 10).schedule_details()
    w = torch.zeros(X.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.to_lambda_lr(0.5))
    for _ in schedule.rates:
        optimizer.zero_grad()
        torch.mean((torch.tensor(X) @ w - torch.tensor(t)) ** 2).backward()
        optimizer.step()
        scheduler.step()
    assert np.mean((X @ w.detach().numpy() - t) ** 2) == pytest.approx(schedule.loss, rel=1e-6)


def test_an_optax_optimizer_takes_the_schedule():
    import jax
    import optax

    X, t = (jax.numpy.asarray(values) for values in least_squares_data("diabetes"))
    schedule = curve_of("diabetes", 10).schedule_details(precision="float32")
    optimizer = optax.sgd(schedule.to_optax())
    gradient = jax.grad(lambda w: jax.numpy.mean((X @ w - t) ** 2))

    def step(_, carried):
        w, state = carried
        updates, state = optimizer.update(gradient(w), state)
        return optax.apply_updates(w, updates), state

    w = jax.numpy.zeros(X.shape[1], dtype=X.dtype)
    w, _ = jax.lax.fori_loop(0, 12, step, (w, optimizer.init(w)))  # two steps more than the schedule has: no harm
    assert np.mean((X @ w - t) ** 2) == pytest.approx(schedule.loss, rel=1e-3)


@pytest.mark.parametrize("export", ["as_function", "to_lambda_lr", "to_optax"])
def test_a_function_for_rates_alone_refuses_a_schedule_with_momentum(export):
    with pytest.raises(tw.InputError, match="has momentum"):
        getattr(curve_of("diabetes", 5).schedule_details(momentum=True), export)()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda curve: curve.best_schedule(0), "Steps run from 1 to 5"),
        (lambda curve: curve.best_schedule(6), "Steps run from 1 to 5"),
        (lambda curve: curve.best_schedule(2.5), "must be an integer"),
        (lambda curve: curve.best_schedule([1, 2]), "for one number of steps"),
        (lambda curve: curve.best_schedule(peak=0.5), "peak must be at least 1, the first loss itself, but it is 0.5"),
        (lambda curve: curve.best_schedule(peak=np.nan), "peak must be at least 1"),
        (lambda curve: curve.schedule_details(precision="flaot32"), "did you mean 'float32'"),
        (lambda curve: curve.schedule_details().to_lambda_lr(0), "base_rate must be a positive number"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(ask, message):
    with pytest.raises(tw.InputError, match=message):
        ask(curve_of("diabetes", 5))


def test_the_answer_as_a_dictionary_table_and_picture():
    curve = curve_of("diabetes", 5)
    schedule = best_schedule(curve, 4)
    answer = schedule.to_dict()
    assert list(answer) == ["schedule", "schedule_loss", "ideal_loss", "constant_loss", "peak", "how"]
    assert answer["schedule"] == curve.best_schedule(4).tolist()
    assert answer["ideal_loss"] <= answer["schedule_loss"] * (1 + 1e-9) < answer["constant_loss"]
    assert [row[0] for row in schedule.table().rows] == [1, 2, 3, 4]
    assert len(schedule.figure().data) == 4
    with_momentum = best_schedule(curve, 4, momentum=True)
    assert with_momentum.to_dict()["momentum"] == with_momentum.momenta.tolist()
    assert "momentum" in with_momentum.table().columns
    assert len(with_momentum.figure().data) == 5
