"""F2.1 to F2.3 against exact fractions, complex steps, runs of the other textbook room and eigenvalues."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.textbook import implicit_bias, unrolled
from thalweg.textbook.unrolled import Hyper

X = np.array([[1.0, 2, 0, -1], [0, 1, 1, 1], [2, 0, 1, 1]])
T = np.array([3.0, -1, 2])
W0 = np.array([1.0, 0.5, -1, 2])
H = Hyper(eta=0.05, lam=0.1, delta=0.75)


def loss_number_by_number(w, lam):
    residuals = [
        sum(x * v for x, v in zip(row, w, strict=True)) - t for row, t in zip(X.tolist(), T.tolist(), strict=True)
    ]
    return sum(r * r for r in residuals) / 3 + lam * sum(v * v for v in w)


def test_loss_gradient_and_hessian_belong_together():
    """The gradient is the loss's complex-step derivative, and the Hessian the gradient's differences (both exact)."""
    assert unrolled.loss(X, T, 0.1, W0) == pytest.approx(loss_number_by_number(W0.tolist(), 0.1), rel=1e-14)
    derivative = [loss_number_by_number((W0 + 1e-30j * e).tolist(), 0.1).imag / 1e-30 for e in np.eye(4)]
    np.testing.assert_allclose(unrolled.gradient(X, T, 0.1, W0), derivative, rtol=1e-13)
    at_zero = unrolled.gradient(X, T, 0.1, np.zeros(4))
    columns = [unrolled.gradient(X, T, 0.1, e) - at_zero for e in np.eye(4)]
    np.testing.assert_allclose(unrolled.hessian(X, 0.1), columns, rtol=1e-13, atol=1e-14)


# F2.1


def test_graph_of_two_steps_is_the_textbook_picture():
    graph = unrolled.computation_graph(2)
    assert [(node.name, node.parents, node.step) for node in graph] == [
        ("L0", ("w0", "lambda"), 0),
        ("grad_L0", ("L0", "w0", "lambda"), 0),
        ("w1", ("w0", "grad_L0", "eta"), 0),
        ("L1", ("w1", "lambda"), 1),
        ("grad_L1", ("L1", "w1", "lambda"), 1),
        ("w2", ("w1", "grad_L1", "eta"), 1),
        ("L2", ("w2", "lambda"), 2),
    ]
    assert unrolled.edges(graph)[:5] == [
        ("w0", "L0"),
        ("lambda", "L0"),
        ("L0", "grad_L0"),
        ("w0", "grad_L0"),
        ("lambda", "grad_L0"),
    ]


@pytest.mark.parametrize("optimizer", unrolled.OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_graph_uses_only_what_is_given_or_computed_before(optimizer, steps):
    outside = {"w0", "s0", "G0", "m0", "v0", "eta", "lambda", "delta", "eps", "rho", "beta1", "beta2"}
    known = set(outside)
    for node in unrolled.computation_graph(steps, optimizer):
        assert set(node.parents) <= known
        assert node.name not in known
        known.add(node.name)
    assert f"L{steps}" in known
    assert f"L{steps + 1}" not in known


def other_room(optimizer, batches):
    runs = {
        "gd": lambda: implicit_bias.gradient_descent(X, T, W0, 0.05, batches),
        "momentum": lambda: implicit_bias.heavy_ball(X, T, W0, 0.05, batches, 0.75),
        "nesterov": lambda: implicit_bias.nesterov(X, T, W0, 0.05, batches, 0.75),
        "adagrad": lambda: implicit_bias.adagrad(X, T, W0, 0.05, batches, 0.125),
        "rmsprop": lambda: implicit_bias.rmsprop(X, T, W0, 0.05, batches, 0.75, 0.125),
        "adam": lambda: implicit_bias.adam(X, T, W0, 0.05, batches, 0.8, 0.95, 0.125),
    }
    return runs[optimizer]()


@pytest.mark.parametrize("optimizer", unrolled.OPTIMIZERS)
def test_walking_the_graph_is_running_the_optimizer(optimizer):
    zero = np.zeros(4)
    given = {"w0": W0, "s0": zero, "G0": zero, "m0": zero, "v0": zero, "eta": 0.05, "lambda": 0.0, "delta": 0.75}
    given |= {"eps": 0.125, "rho": 0.75, "beta1": 0.8, "beta2": 0.95}
    values = unrolled.walk(unrolled.computation_graph(4, optimizer), X, T, given)
    path = other_room(optimizer, implicit_bias.every_row(X, 4))
    np.testing.assert_allclose([values[f"w{k}"] for k in range(5)], path, rtol=1e-12, atol=1e-12)
    assert values["L4"] == pytest.approx(loss_number_by_number(path[-1].tolist(), 0.0), rel=1e-12)


def test_walking_uses_the_weight_decay():
    values = unrolled.walk(unrolled.computation_graph(1), X, T, {"w0": W0, "eta": 0.05, "lambda": 0.5})
    derivative = [loss_number_by_number((W0 + 1e-30j * e).tolist(), 0.5).imag / 1e-30 for e in np.eye(4)]
    np.testing.assert_allclose(values["w1"], W0 - 0.05 * np.array(derivative), rtol=1e-13)
    assert values["L1"] == pytest.approx(loss_number_by_number(values["w1"].tolist(), 0.5), rel=1e-13)


# F2.2


def heavy_ball_loss(h, steps):
    """L_T with complex hyperparameters allowed."""
    w, s = W0.astype(complex), np.zeros(4, complex)
    for _ in range(steps):
        s = h[2] * s - h[0] * (2 / 3 * X.T @ (X @ w - T) + 2 * h[1] * w)
        w = w + s
    return loss_number_by_number(w.tolist(), h[1])


def derivatives(h, steps):
    return [heavy_ball_loss(np.array(h) + 1e-30j * e, steps).imag / 1e-30 for e in np.eye(3)]


METHODS = {
    "backpropagation": lambda h, T_: unrolled.backpropagation(X, T, W0, h, T_),
    "forward mode": lambda h, T_: unrolled.forward_mode(X, T, W0, h, T_, ["eta", "lam", "delta"]),
    "checkpoints every 3": lambda h, T_: unrolled.checkpointed(X, T, W0, h, T_, 3),
    "recursive halving": lambda h, T_: unrolled.recursive_halving(X, T, W0, h, T_),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("h", [H, Hyper(0.1, 0.0, 0.0), Hyper(0.02, 0.5, 0.9)])
def test_every_method_gives_the_derivatives(method, steps, h):
    gradient, most = METHODS[method](h, steps)
    np.testing.assert_allclose(gradient, derivatives(h, steps), rtol=1e-11, atol=1e-11)
    assert most > 0


def test_forward_mode_gives_the_named_derivatives_only():
    truth = derivatives(H, 5)
    for index, name in enumerate(("eta", "lam", "delta")):
        np.testing.assert_allclose(unrolled.forward_mode(X, T, W0, H, 5, [name])[0], [truth[index]], rtol=1e-12)


def test_forward_run_is_the_loss():
    assert unrolled.forward_run(X, T, W0, H, 6)[0] == pytest.approx(heavy_ball_loss(H, 6).real, rel=1e-13)


@pytest.mark.parametrize("steps", [4, 16, 64, 256])
def test_vectors_held(steps):
    """The counts by hand: a state is w and s; a gradient is one vector; so are w_bar and s_bar."""
    states = {
        # state k, its gradient and state k + 1
        "forward": (unrolled.forward_run(X, T, W0, H, steps)[1], 2 + 1 + 2),
        # T + 1 states, T gradients, the derivatives
        "backpropagation": (unrolled.backpropagation(X, T, W0, H, steps)[1], 2 * (steps + 1) + steps + 2),
        "one": (unrolled.forward_mode(X, T, W0, H, steps, ["eta"])[1], 5 + 2),
        "three": (unrolled.forward_mode(X, T, W0, H, steps, ["eta", "lam", "delta"])[1], 5 + 2 * 3),
        # sqrt(T) + 1 checkpoints, the sqrt(T) - 1 states between the last two and sqrt(T) gradients, the derivatives
        "checkpoints": (
            unrolled.checkpointed(X, T, W0, H, steps, math.isqrt(steps))[1],
            2 * (math.isqrt(steps) + 1) + 2 * (math.isqrt(steps) - 1) + math.isqrt(steps) + 2,
        ),
        # both ends, one middle for each halving, a gradient, the derivatives
        "halving": (unrolled.recursive_halving(X, T, W0, H, steps)[1], 2 * 2 + 2 * round(math.log2(steps)) + 1 + 2),
        "reversible": (unrolled.reversible(X, T, W0, 0.05, 0.1, 3, 4, steps, 2.0**60)[1], 2 + 1 + 2),
    }
    assert {name: counted for name, (counted, _) in states.items()} == {
        name: by_hand for name, (_, by_hand) in states.items()
    }


def test_shelf_remembers_the_most_it_held():
    shelf = unrolled.Shelf()
    assert shelf.most == 0
    shelf["a"], shelf["b"] = W0, W0
    del shelf["a"]
    shelf["c"] = shelf["b"]
    assert (len(shelf), shelf.most) == (2, 2)


@given(st.integers(-(10**20), 10**20), st.integers(0, 10**6), st.integers(1, 50), st.integers(1, 50))
def test_multiplying_by_a_fraction_forgets_nothing(s, lost, p, q):
    """F2.2: exchanging p and q undoes it, and the product is p/q s to within p units."""
    product, after = unrolled.times_fraction(s, p, q, lost)
    assert unrolled.times_fraction(product, q, p, after) == (s, lost)
    assert abs(product - Fraction(p, q) * s) <= p
    assert after >= 0


@pytest.mark.parametrize(("p", "q"), [(9, 10), (1, 2), (3, 4)])
def test_reversible_momentum_is_undone_exactly(p, q):
    """F2.2: the same derivatives, the start found again bit for bit, log2(q/p) bits a number and step."""
    steps = 200
    gradient, _, bits, recovered = unrolled.reversible(X, T, W0, 0.002, 0.1, p, q, steps, 2.0**60)
    assert recovered
    np.testing.assert_allclose(gradient, derivatives((0.002, 0.1, p / q), steps), rtol=1e-11)
    assert bits / (4 * steps) == pytest.approx(math.log2(q / p), rel=0.1)


@pytest.mark.parametrize("scale", [2.0**20, 2.0**30])
def test_reversible_momentum_on_coarse_numbers_is_undone_too(scale):
    """The units only decide how far it is from the run in float64."""
    gradient, _, _, recovered = unrolled.reversible(X, T, W0, 0.02, 0.1, 9, 10, 50, scale)
    assert recovered
    np.testing.assert_allclose(gradient, derivatives((0.02, 0.1, 0.9), 50), rtol=4000 / scale)


def test_recovered_says_so_when_the_way_back_is_lost(monkeypatch):
    """Without the stack of remainders the start is not found again."""
    monkeypatch.setattr(unrolled, "times_fraction", lambda s, p, q, lost: (p * s // q, lost))
    assert not unrolled.reversible(X, T, W0, 0.02, 0.1, 9, 10, 20, 2.0**30)[3]


# F2.3


@pytest.mark.parametrize("h", [H, Hyper(0.2, 0.0, 0.0), Hyper(0.3, 0.5, 0.9)])
def test_jacobian_is_the_derivative_of_the_step(h):
    def step(state):
        w, s = state[:4], state[4:]
        s = h.delta * s - h.eta * (2 / 3 * X.T @ (X @ w - T) + 2 * h.lam * w)
        return np.concatenate([w + s, s])

    state = np.concatenate([W0, [0.5, -1, 2, 0]])
    columns = [step(state + 1e-30j * e).imag / 1e-30 for e in np.eye(8)]
    np.testing.assert_allclose(unrolled.momentum_jacobian(X, h), np.transpose(columns), rtol=1e-12, atol=1e-15)


def test_log10_norms_of_growing_products():
    """Diagonal matrices: the norm of a product is its largest entry; and the order of the factors counts."""
    sizes = unrolled.log10_norms([np.diag([2.0, -3.0]), np.diag([5.0, 0.5]), np.diag([1.0, 100.0])])
    np.testing.assert_allclose(sizes, np.log10([3, 10, 150]), rtol=1e-14)
    np.testing.assert_allclose(unrolled.log10_norms([np.diag([2.0, -3.0])]), [np.log10(3)], rtol=1e-14)
    A, B = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[0.0, 0.0], [0.0, 4.0]])
    np.testing.assert_allclose(unrolled.log10_norms([A, B])[-1], np.log10(np.linalg.norm(B @ A, 2)), rtol=1e-14)
    assert np.linalg.norm(B @ A, 2) != pytest.approx(np.linalg.norm(A @ B, 2))


def test_log10_norms_pass_where_float64_ends():
    """F2.3: 2000 doublings are 10^602, which float64 cannot hold, and are reported all the same."""
    np.testing.assert_allclose(unrolled.log10_norms([2 * np.eye(2)] * 2000)[-1], 2000 * math.log10(2), rtol=1e-12)
    assert unrolled.log10_norms([np.eye(2), np.zeros((2, 2)), np.eye(2)]) == [0.0, -np.inf]


@pytest.mark.parametrize(
    ("sizes", "verdict"),
    [
        ([4.0, 9.0], "explodes: x 3.162e+04 per step, 10^9.0 over 2 steps"),
        ([-4.0, -9.0], "vanishes: x 3.162e-05 per step, 10^-9.0 over 2 steps"),
        ([8.0], "keeps its size: x 1e+08 per step, 10^8.0 over 1 steps"),
        ([-8.0], "keeps its size: x 1e-08 per step, 10^-8.0 over 1 steps"),
        ([8.5], "explodes: x 3.162e+08 per step, 10^8.5 over 1 steps"),
        ([-8.5], "vanishes: x 3.162e-09 per step, 10^-8.5 over 1 steps"),
    ],
)
def test_diagnosis(sizes, verdict):
    assert unrolled.diagnosis(sizes) == verdict


def test_hypergradient_follows_the_jacobians():
    """F2.3: beyond 2 / lambda_max the Jacobians' product and the hypergradient explode; below it they vanish."""
    fastest = np.linalg.eigvalsh(unrolled.hessian(X, 0.3))[-1]
    for share, verdict in ((2.5, "explodes"), (1.0, "vanishes")):
        h = Hyper(share / fastest, 0.3, 0.0)
        assert unrolled.diagnosis(unrolled.log10_norms([unrolled.momentum_jacobian(X, h)] * 300)).startswith(verdict)
    assert abs(unrolled.backpropagation(X, T, W0, Hyper(2.5 / fastest, 0.3, 0.0), 300)[0][0]) > 1e50
    assert abs(unrolled.backpropagation(X, T, W0, Hyper(1 / fastest, 0.3, 0.0), 300)[0][0]) < 1e-10
