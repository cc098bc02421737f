"""The ledger's facts F2.1 to F2.3: computed by the textbook, checked by something else."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from thalweg.textbook import implicit_bias, unrolled
from thalweg.textbook.ledger import Array, Fact, fact, largest_difference
from thalweg.textbook.unrolled import Hyper

X = np.array([[1.0, 2, 0, -1], [0, 1, 1, 2], [2, 0, 1, 1]])
T = np.array([3.0, -1, 2])
W0 = np.array([1.0, 0, -1, 2])
H = Hyper(eta=0.002, lam=0.1, delta=0.9)  # slow enough that 256 steps do not converge


def _values_given(optimizer: str) -> dict[str, object]:
    zero = np.zeros(4)
    numbers = {"eta": 0.05, "lambda": 0.0, "delta": 0.9, "eps": 1e-8, "rho": 0.9, "beta1": 0.8, "beta2": 0.95}
    return {"w0": W0, "s0": zero, "G0": zero, "m0": zero, "v0": zero, **numbers}


def _run_by_the_other_room(optimizer: str, steps: int) -> Array:
    """The last weights of the same run with lambda = 0, by the textbook of implicit bias."""
    full = implicit_bias.every_row(X, steps)
    paths = {
        "gd": lambda: implicit_bias.gradient_descent(X, T, W0, 0.05, full),
        "momentum": lambda: implicit_bias.heavy_ball(X, T, W0, 0.05, full, 0.9),
        "nesterov": lambda: implicit_bias.nesterov(X, T, W0, 0.05, full, 0.9),
        "adagrad": lambda: implicit_bias.adagrad(X, T, W0, 0.05, full, 1e-8),
        "rmsprop": lambda: implicit_bias.rmsprop(X, T, W0, 0.05, full, 0.9, 1e-8),
        "adam": lambda: implicit_bias.adam(X, T, W0, 0.05, full, 0.8, 0.95, 1e-8),
    }
    last: Array = paths[optimizer]()[-1]
    return last


def f2_1() -> Fact:
    """F2.1: the computation graph."""
    graph = unrolled.computation_graph(2)
    arrows = unrolled.edges(graph)
    eta, lam = 0.05, 0.1
    given = {"w0": W0, "eta": eta, "lambda": lam}
    values = unrolled.walk(graph, X, T, given)
    pairs = []
    for optimizer in unrolled.OPTIMIZERS:
        walked = unrolled.walk(unrolled.computation_graph(5, optimizer), X, T, _values_given(optimizer))
        pairs.append((walked["w5"], _run_by_the_other_room(optimizer, 5)))
    # With weight decay the same run is plain least squares on d more rows, sqrt(n lam) e_j with target 0.
    more_X = np.vstack([X, np.sqrt(3 * lam) * np.eye(4)])
    more_T = np.concatenate([T, np.zeros(4)])
    rate = eta * 7 / 3  # the mean is now over 7 rows, not 3
    twin = implicit_bias.gradient_descent(more_X, more_T, W0, rate, implicit_bias.every_row(more_X, 2))[-1]
    pairs += [(values["w2"], twin), (values["L2"], implicit_bias.loss(more_X, more_T, twin) * 7 / 3)]
    # A step of GD has three nodes and eight arrows; the last loss adds one node and two arrows.
    sizes = [
        abs(len(unrolled.computation_graph(steps)) - (3 * steps + 1))
        + abs(len(unrolled.edges(unrolled.computation_graph(steps))) - (8 * steps + 2))
        for steps in (1, 2, 10)
    ]
    return fact(
        "F2.1",
        "The computation graph of T steps: w0 -> L0 -> grad L0 -> w1 -> ... -> wT -> LT, with eta and lambda feeding "
        "every step",
        f"T = 2: {len(graph)} nodes, {len(arrows)} arrows; walked, L2 = {values['L2']:.6f}",
        largest_difference(*pairs) + sum(sizes),
        comparisons=[
            {("w0", "L0"), ("L0", "grad_L0"), ("grad_L0", "w1"), ("w1", "L1"), ("w2", "L2")} <= set(arrows),
            all({("eta", f"w{k + 1}"), ("lambda", f"grad_L{k}")} <= set(arrows) for k in range(2)),
        ],
        steps=[(f"{node.name} from {', '.join(node.parents)}", values[node.name]) for node in graph],
    )


def _derivatives_by_complex_steps(h: Hyper, steps: int) -> Array:
    """dL_T / d(eta, lam, delta) of heavy ball: the imaginary part after a step of 1e-30 i, free of rounding."""

    def loss_after(eta: complex, lam: complex, delta: complex) -> complex:
        w, s = W0.astype(complex), np.zeros(4, dtype=complex)
        for _ in range(steps):
            s = delta * s - eta * (2 / 3 * X.T @ (X @ w - T) + 2 * lam * w)
            w = w + s
        return complex(np.sum((X @ w - T) ** 2) / 3 + lam * np.sum(w**2))

    return np.array([loss_after(*(np.array(h) + 1e-30j * axis)).imag / 1e-30 for axis in np.eye(3)])


def f2_2() -> Fact:
    """F2.2: memory in units of one weight vector, measured."""
    names = ("eta", "lam", "delta")
    lengths = (4, 16, 64, 256)
    vectors: dict[str, list[int]] = {}
    pairs, steps_shown, exactly_back = [], [], []
    for steps in lengths:
        truth = _derivatives_by_complex_steps(H, steps)
        answers = {
            "back-propagation": unrolled.backpropagation(X, T, W0, H, steps),
            "forward mode, 1 hyperparameter": unrolled.forward_mode(X, T, W0, H, steps, names[:1]),
            "forward mode, 3 hyperparameters": unrolled.forward_mode(X, T, W0, H, steps, names),
            "checkpoints every sqrt(T) steps": unrolled.checkpointed(X, T, W0, H, steps, math.isqrt(steps)),
            "recursive halving": unrolled.recursive_halving(X, T, W0, H, steps),
        }
        gradient, held, bits, recovered = unrolled.reversible(X, T, W0, H.eta, H.lam, 9, 10, steps, 2.0**60)
        answers["exactly reversible momentum"] = (gradient, held)
        exactly_back.append(recovered)
        pairs += [(gradient, truth[: len(gradient)]) for gradient, _ in answers.values()]
        vectors.setdefault("running forward", []).append(unrolled.forward_run(X, T, W0, H, steps)[1])
        for method, (_, most) in answers.items():
            vectors.setdefault(method, []).append(most)
        steps_shown.append((f"bits that reversible momentum would have lost, T = {steps}", str(bits)))
    growth = {method: np.diff(counts) for method, counts in vectors.items()}
    keeping_all = sum(
        abs(count - (3 * steps + 4)) for count, steps in zip(vectors["back-propagation"], lengths, strict=True)
    )
    shown = "T = " + ", ".join(map(str, lengths))
    return fact(
        "F2.2",
        "Vectors held while T grows: running forward O(1), back-propagation O(T), forward mode O(hyperparameters), "
        "checkpoints O(sqrt T) or O(log T), reversible momentum O(1) plus the bits lost; all give the same derivatives",
        f"T = 256: back-propagation {vectors['back-propagation'][-1]}, checkpoints "
        f"{vectors['checkpoints every sqrt(T) steps'][-1]}, halving {vectors['recursive halving'][-1]}, "
        f"reversible {vectors['exactly reversible momentum'][-1]}",
        largest_difference(*pairs) + keeping_all,
        comparisons=[
            *exactly_back,
            *(
                not growth[method].any()
                for method in ("running forward", "exactly reversible momentum", "forward mode, 3 hyperparameters")
            ),
            # sqrt(T) doubles and log2 T grows by two from each T to the next.
            np.array_equal(
                growth["checkpoints every sqrt(T) steps"][1:], 2 * growth["checkpoints every sqrt(T) steps"][:-1]
            ),
            len(set(growth["recursive halving"])) == 1,
            np.array_equal(
                np.subtract(vectors["forward mode, 3 hyperparameters"], vectors["forward mode, 1 hyperparameter"]),
                [4] * 4,
            ),
        ],
        steps=[
            *((f"vectors held, {method}, {shown}", counts) for method, counts in vectors.items()),
            *steps_shown,
            ("dL/d(eta, lam, delta), T = 256", _derivatives_by_complex_steps(H, 256)),
        ],
    )


def _log10_norm_by_eigenvalues(h: Hyper, steps: int) -> float:
    """log10 of the norm of T equal Jacobians' product: in the Hessian's eigenvectors it falls into 2 x 2 blocks."""
    curvatures = np.linalg.eigvalsh(2 * X.T @ X / 3 + 2 * h.lam * np.eye(4))
    blocks = [np.array([[1 - h.eta * c, h.delta], [-h.eta * c, h.delta]]) for c in curvatures]
    return float(np.log10(max(np.linalg.norm(np.linalg.matrix_power(block, steps), 2) for block in blocks)))


def f2_3() -> Fact:
    """F2.3: hypergradients that vanish or explode."""
    fastest = float(np.linalg.eigvalsh(unrolled.hessian(X, 0.1))[-1])
    cases = {
        "rate 3 / lambda_max": (Hyper(3 / fastest, 0.3, 0.0), "explodes"),
        "rate 1 / lambda_max": (Hyper(1 / fastest, 0.3, 0.0), "vanishes"),
        "the same without weight decay, d > n": (Hyper(1 / fastest, 0.0, 0.0), "keeps its size"),
        "momentum 0.9, rate 5 / lambda_max": (Hyper(5 / fastest, 0.3, 0.9), "explodes"),
        "momentum 0.9, rate 1 / lambda_max": (Hyper(1 / fastest, 0.3, 0.9), "vanishes"),
    }
    pairs, verdicts = [], {}
    for name, (h, _) in cases.items():
        sizes = unrolled.log10_norms([unrolled.momentum_jacobian(X, h)] * 400)
        pairs.append((sizes[-1], _log10_norm_by_eigenvalues(h, 400)))
        verdicts[name] = unrolled.diagnosis(sizes)
    long = unrolled.log10_norms([unrolled.momentum_jacobian(X, cases["rate 3 / lambda_max"][0])] * 2000)
    overflow = next(step for step, size in enumerate(long, start=1) if size > math.log10(np.finfo(float).max))
    return fact(
        "F2.3",
        "In long runs the product of the T Jacobians, and with it the hypergradient, vanishes or explodes",
        f"rate 3 / lambda_max: past float64's largest number at step {overflow}",
        largest_difference(*pairs),
        comparisons=[verdicts[name].startswith(expected) for name, (_, expected) in cases.items()],
        steps=[(f"400 Jacobians, {name}", verdict) for name, verdict in verdicts.items()],
    )


FACTS: dict[str, Callable[[], Fact]] = {"F2.1": f2_1, "F2.2": f2_2, "F2.3": f2_3}
