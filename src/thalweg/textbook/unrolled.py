"""Differentiating through training: facts F2.1 to F2.3 as one would write them on a board.

L(w) = (1/n) ||X w - t||^2 + lam ||w||^2. The graph of a run can be walked; its hypergradient is computed in six ways,
which agree, by methods that put every vector they keep on a shelf that counts.

    >>> import numpy as np
    >>> X, t, w0 = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([3.0, 2.0]), np.zeros(2)
    >>> h = Hyper(eta=0.1, lam=0.01, delta=0.5)
    >>> for steps in (8, 64):
    ...     print(backpropagation(X, t, w0, h, steps)[1], recursive_halving(X, t, w0, h, steps)[1])
    28 13
    196 19
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

# The loss --------------------------------------------------------------------------------------------------------


def loss(X: Array, t: Array, lam: float, w: Array) -> Any:
    """F2.1: L(w) = (1/n) ||X w - t||^2 + lam ||w||^2."""
    r = X @ w - t
    return r @ r / len(t) + lam * w @ w


def gradient(X: Array, t: Array, lam: float, w: Array) -> Array:
    """F2.1: the gradient of L, (2/n) X^T (X w - t) + 2 lam w."""
    return 2 * X.T @ (X @ w - t) / len(t) + 2 * lam * w


def hessian(X: Array, lam: float) -> Array:
    """F2.3: the Hessian of L, H = 2 (X^T X / n + lam I)."""
    return 2 * (X.T @ X / len(X) + lam * np.eye(X.shape[1]))


# F2.1: the computation graph -------------------------------------------------------------------------------------


class Node(NamedTuple):
    """F2.1: a quantity of a run: its name, the names it is computed from, in which step (from 0), and how."""

    name: str
    parents: tuple[str, ...]
    step: int
    compute: Callable[..., Any]


class At(NamedTuple):
    """F2.1: what a node may use besides its parents: the data and the number of the step."""

    X: Array
    t: Array
    step: int


# What an optimizer computes in step k, next = k + 1: a name, its parents, and the rule.
_LOSS = ("L{k}", "w{k} lambda", lambda at, w, lam: loss(at.X, at.t, lam, w))
_GRADIENT = ("grad_L{k}", "L{k} w{k} lambda", lambda at, _, w, lam: gradient(at.X, at.t, lam, w))
_LOSS_AHEAD = ("L{k}", "y{k} lambda", _LOSS[2])
_GRADIENT_AHEAD = ("grad_L{k}", "L{k} y{k} lambda", _GRADIENT[2])
_VELOCITY = ("s{next}", "s{k} grad_L{k} delta eta", lambda at, s, g, delta, eta: delta * s - eta * g)
_DRIFT = ("w{next}", "w{k} s{next}", lambda at, w, s: w + s)
_SCALED = (
    "w{next}",
    "w{k} grad_L{k} G{next} eta eps",
    lambda at, w, g, G, eta, eps: w - eta / (np.sqrt(G) + eps) * g,
)
_ADAM = (
    "w{next}",
    "w{k} m{next} v{next} eta beta1 beta2 eps",
    lambda at, w, m, v, eta, beta1, beta2, eps: (
        w - eta * (m / (1 - beta1 ** (at.step + 1))) / (np.sqrt(v / (1 - beta2 ** (at.step + 1))) + eps)
    ),
)
_STEPS: dict[str, list[tuple[str, str, Callable[..., Any]]]] = {
    "gd": [_LOSS, _GRADIENT, ("w{next}", "w{k} grad_L{k} eta", lambda at, w, g, eta: w - eta * g)],
    "momentum": [_LOSS, _GRADIENT, _VELOCITY, _DRIFT],
    "nesterov": [
        ("y{k}", "w{k} s{k} delta", lambda at, w, s, delta: w + delta * s),
        _LOSS_AHEAD,
        _GRADIENT_AHEAD,
        _VELOCITY,
        _DRIFT,
    ],
    "adagrad": [_LOSS, _GRADIENT, ("G{next}", "G{k} grad_L{k}", lambda at, G, g: G + g * g), _SCALED],
    "rmsprop": [
        _LOSS,
        _GRADIENT,
        ("G{next}", "G{k} grad_L{k} rho", lambda at, G, g, rho: rho * G + (1 - rho) * g * g),
        _SCALED,
    ],
    "adam": [
        _LOSS,
        _GRADIENT,
        ("m{next}", "m{k} grad_L{k} beta1", lambda at, m, g, beta: beta * m + (1 - beta) * g),
        ("v{next}", "v{k} grad_L{k} beta2", lambda at, v, g, beta: beta * v + (1 - beta) * g * g),
        _ADAM,
    ],
}


OPTIMIZERS = tuple(_STEPS)


def computation_graph(steps: int, optimizer: str = "gd") -> list[Node]:
    """F2.1: every quantity of a run in the order in which it is computed, from w0 to L_T.

    Parents that no node computes (w0, eta, lambda, ...) are given from outside.

    >>> [node.name for node in computation_graph(2)]
    ['L0', 'grad_L0', 'w1', 'L1', 'grad_L1', 'w2', 'L2']
    """
    rules = [(k, rule) for k in range(steps) for rule in _STEPS[optimizer]]
    graph = []
    for k, (name, parents, compute) in [*rules, (steps, _LOSS)]:
        numbered = tuple(parents.format(k=k, next=k + 1).split())
        graph.append(Node(name.format(k=k, next=k + 1), numbered, k, compute))
    return graph


def edges(graph: Sequence[Node]) -> list[tuple[str, str]]:
    """F2.1: the arrows of a graph, from what is used to what it is used for."""
    return [(parent, node.name) for node in graph for parent in node.parents]


def walk(graph: Sequence[Node], X: Array, t: Array, given: Mapping[str, Any]) -> dict[str, Any]:
    """F2.1: the value of every node, computed from its parents alone; `given` holds what comes from outside."""
    values = dict(given)
    for node in graph:
        values[node.name] = node.compute(At(X, t, node.step), *(values[parent] for parent in node.parents))
    return values


# F2.2: the memory of a hypergradient, by keeping vectors on a shelf that counts them -----------------------------


class Hyper(NamedTuple):
    """F2.2: the hyperparameters of heavy ball on L: the rate, the weight decay and the momentum (0 is plain GD)."""

    eta: float
    lam: float
    delta: float


class Shelf(dict[Any, Array]):
    """F2.2: the vectors a method keeps between its steps, and the most it ever kept at once."""

    most = 0

    def __setitem__(self, name: Any, vector: Array) -> None:
        super().__setitem__(name, vector)
        self.most = max(self.most, len(self))


def _start(w0: Array) -> Shelf:
    shelf = Shelf()
    shelf["w", 0], shelf["s", 0] = w0, np.zeros(len(w0))
    return shelf


def _advance(X: Array, t: Array, h: Hyper, shelf: Shelf, k: int) -> None:
    """Step k of heavy ball: puts the gradient and the next state on the shelf."""
    shelf["g", k] = gradient(X, t, h.lam, shelf["w", k])
    shelf["s", k + 1] = h.delta * shelf["s", k] - h.eta * shelf["g", k]
    shelf["w", k + 1] = shelf["w", k] + shelf["s", k + 1]


def _run(X: Array, t: Array, h: Hyper, shelf: Shelf, start: int, stop: int) -> None:
    """Steps from `start` to `stop` that leave only the two ends on the shelf."""
    for k in range(start, stop):
        _advance(X, t, h, shelf, k)
        del shelf["g", k]
        if k > start:
            del shelf["w", k], shelf["s", k]


def _turn(X: Array, t: Array, h: Hyper, shelf: Shelf, w: Array) -> Array:
    """Puts the derivatives of L_T by w_T and s_T on the shelf; returns those of L_T itself by (eta, lam, delta)."""
    shelf["w_bar"], shelf["s_bar"] = gradient(X, t, h.lam, w), np.zeros(len(w))
    return np.array([0.0, w @ w, 0.0])


def _pull_back(X: Array, h: Hyper, shelf: Shelf, w: Array, s: Array, g: Array) -> Array:
    """Moves the derivatives back over the step taken at (w, s) along g; returns its share by (eta, lam, delta)."""
    to_velocity = shelf["s_bar"] + shelf["w_bar"]
    shelf["s_bar"] = h.delta * to_velocity
    shelf["w_bar"] = shelf["w_bar"] - h.eta * hessian(X, h.lam) @ to_velocity
    return np.array([-g @ to_velocity, -2 * h.eta * w @ to_velocity, s @ to_velocity])


def _retreat(X: Array, h: Hyper, shelf: Shelf, k: int) -> Array:
    """Step k backwards, with what it needs from the shelf; whatever only it needed is dropped."""
    del shelf["w", k + 1], shelf["s", k + 1]
    return _pull_back(X, h, shelf, shelf["w", k], shelf["s", k], shelf.pop(("g", k)))


def forward_run(X: Array, t: Array, w0: Array, h: Hyper, steps: int) -> tuple[float, int]:
    """F2.2: L_T and the vectors held by running forward alone: the same few for any T."""
    shelf = _start(w0)
    for k in range(steps):
        _advance(X, t, h, shelf, k)
        del shelf["g", k], shelf["w", k], shelf["s", k]
    return loss(X, t, h.lam, shelf["w", steps]), shelf.most


def backpropagation(X: Array, t: Array, w0: Array, h: Hyper, steps: int) -> tuple[Array, int]:
    """F2.2: dL_T / d(eta, lam, delta) and the vectors held: every state and gradient, so in proportion to T."""
    shelf = _start(w0)
    for k in range(steps):
        _advance(X, t, h, shelf, k)
    total = _turn(X, t, h, shelf, shelf["w", steps])
    for k in reversed(range(steps)):
        total = total + _retreat(X, h, shelf, k)
    return total, shelf.most


def forward_mode(X: Array, t: Array, w0: Array, h: Hyper, steps: int, names: Sequence[str]) -> tuple[Array, int]:
    """F2.2: the derivatives by the named hyperparameters, carried along with the run: two vectors for each of them."""
    shelf = _start(w0)
    for name in names:
        shelf["dw", name], shelf["ds", name] = np.zeros(len(w0)), np.zeros(len(w0))
    for k in range(steps):
        _advance(X, t, h, shelf, k)
        for name in names:
            dg = hessian(X, h.lam) @ shelf["dw", name] + 2 * shelf["w", k] * (name == "lam")
            own = shelf["s", k] * (name == "delta") - shelf["g", k] * (name == "eta")
            shelf["ds", name] = h.delta * shelf["ds", name] - h.eta * dg + own
            shelf["dw", name] = shelf["dw", name] + shelf["ds", name]
        del shelf["g", k], shelf["w", k], shelf["s", k]
    w = shelf["w", steps]
    at_end = gradient(X, t, h.lam, w)
    return np.array([at_end @ shelf["dw", name] + w @ w * (name == "lam") for name in names]), shelf.most


def checkpointed(X: Array, t: Array, w0: Array, h: Hyper, steps: int, every: int) -> tuple[Array, int]:
    """F2.2: keep the state of each `every`-th step and run every segment again: about T/every + every states."""
    shelf = _start(w0)
    segments = [(start, min(start + every, steps)) for start in range(0, steps, every)]
    for start, stop in segments:
        _run(X, t, h, shelf, start, stop)
    total = _turn(X, t, h, shelf, shelf["w", steps])
    for start, stop in reversed(segments):
        for k in range(start, stop):
            _advance(X, t, h, shelf, k)
        for k in reversed(range(start, stop)):
            total = total + _retreat(X, h, shelf, k)
    return total, shelf.most


def recursive_halving(X: Array, t: Array, w0: Array, h: Hyper, steps: int) -> tuple[Array, int]:
    """F2.2: run to the middle, reverse the second half, then the first, each in the same way: about log2 T states."""
    shelf = _start(w0)

    def reverse(start: int, stop: int) -> Array:
        if stop - start == 1:
            _advance(X, t, h, shelf, start)
            return _retreat(X, h, shelf, start)
        middle = (start + stop) // 2
        _run(X, t, h, shelf, start, middle)
        second = reverse(middle, stop)
        return second + reverse(start, middle)

    _run(X, t, h, shelf, 0, steps)
    return _turn(X, t, h, shelf, shelf["w", steps]) + reverse(0, steps), shelf.most


def times_fraction(s: Any, p: int, q: int, lost: Any) -> tuple[Any, Any]:
    """F2.2: whole numbers s times p/q, nothing forgotten: the remainder goes to `lost`, which pays a digit back."""
    lost = lost * q + s % q
    return p * (s // q) + lost % p, lost // p


def reversible(
    X: Array, t: Array, w0: Array, eta: float, lam: float, p: int, q: int, steps: int, scale: float
) -> tuple[Array, int, int, bool]:
    """F2.2: momentum delta = p/q on whole numbers of units 1/scale, undone step by step on the way back.

    Returns:
        The derivatives by (eta, lam, delta), the vectors held, the bits that multiplying by p/q would have lost, and
        whether the way back ended exactly at the start.
    """

    def whole(v: Array) -> Any:
        return np.array([round(x) for x in scale * v], dtype=object)  # Python integers never overflow

    def real(v: Any) -> Array:
        return np.array([int(x) / scale for x in v])

    h, start, shelf = Hyper(eta, lam, p / q), whole(w0), Shelf()
    lost = 0 * start
    shelf["w"], shelf["s"] = start, 0 * start
    for _ in range(steps):
        shelf["g"] = gradient(X, t, lam, real(shelf["w"]))
        shelf["s"], lost = times_fraction(shelf["s"], p, q, lost)
        shelf["s"] = shelf["s"] - whole(eta * shelf["g"])
        shelf["w"] = shelf["w"] + shelf["s"]
    bits = sum(int(number).bit_length() for number in lost)
    total = _turn(X, t, h, shelf, real(shelf["w"]))
    for _ in range(steps):
        shelf["w"] = shelf["w"] - shelf["s"]
        shelf["g"] = gradient(X, t, lam, real(shelf["w"]))
        # Exchanging p and q undoes times_fraction.
        shelf["s"], lost = times_fraction(shelf["s"] + whole(eta * shelf["g"]), q, p, lost)
        total = total + _pull_back(X, h, shelf, real(shelf["w"]), real(shelf["s"]), shelf["g"])
    recovered = bool(np.all(shelf["w"] == start) and not np.any(shelf["s"]) and not np.any(lost))
    return total, shelf.most, bits, recovered


# F2.3: what goes wrong in long runs ------------------------------------------------------------------------------


def momentum_jacobian(X: Array, h: Hyper) -> Array:
    """F2.3: the derivative of one heavy-ball step's (w, s) by the last one's, a 2d x 2d matrix."""
    I, H = np.eye(X.shape[1]), hessian(X, h.lam)
    return np.block([[I - h.eta * H, h.delta * I], [-h.eta * H, h.delta * I]])


def log10_norms(jacobians: Sequence[Array]) -> list[float]:
    """F2.3: log10 of the norms of J_1, J_2 J_1, ..., J_T ... J_1, rescaled on the way so that none overflows."""
    product, size = np.eye(len(jacobians[0])), 0.0
    sizes: list[float] = []
    for J in jacobians:
        product = J @ product
        norm = np.linalg.norm(product, 2)
        if norm == 0:
            return [*sizes, -np.inf]
        product, size = product / norm, size + np.log10(norm)
        sizes.append(float(size))
    return sizes


def diagnosis(sizes: Sequence[float]) -> str:
    """F2.3: whether a hypergradient through these Jacobians vanishes or explodes, and how fast.

    A factor of 10^8 is where half of float64's sixteen digits are gone.
    """
    growth = 10 ** (sizes[-1] / len(sizes))
    number = f"x {growth:.4g} per step, 10^{sizes[-1]:.1f} over {len(sizes)} steps"
    if sizes[-1] > 8:
        return f"explodes: {number}"
    if sizes[-1] < -8:
        return f"vanishes: {number}"
    return f"keeps its size: {number}"
