"""Which steps reach what LSQR reaches, and survive rounding: the mathematics behind `learning_rate.schedule`.

T steps at rates eta_1 .. eta_T multiply the part of the residual with Hessian eigenvalue h by
`p(h) = prod_i (1 - eta_i h)`, so the best schedule is the polynomial with p(0) = 1 of least norm over the measure that
`rates` has found. Its roots are the Ritz values, and its loss is that of LSQR. Run from the largest root to the
smallest it never raises the loss: what remains after each step is again the best polynomial for what is left, and the
inverse of its largest root is below the best rate for one step. In floating point, though, that order explodes as soon
as a Ritz value has converged: that part of the residual is cancelled once, to rounding, and multiplied afterwards by
every larger rate. Three things repair it, none of which reads the data again:

- every node becomes a small cloud of nodes, and none may have less than a small share of the weight; the best
  polynomial for that measure spends a second or third root where rounding would grow back;
- the roots are ordered so that, after every step, both the loss and what the step's rounding will have grown to by the
  end stay small;
- the run is simulated on the nodes, rounding included, and the width and share with the best last loss are kept, among
  those whose loss stays below the cap on the way even where rounding turns out unluckily; long runs are made of
  shorter ones, one after the other.

Source: the polynomial is that of C. C. Paige and M. A. Saunders, "LSQR" (1982); that finite precision acts like a cloud
around every node is due to A. Greenbaum, "Behavior of slightly perturbed Lanczos and conjugate-gradient recurrences"
(1989).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.learning_rate.spectrum import Spectrum

Array = NDArray[np.float64]

_LENGTHS = (50, 25)  # steps in a block: whole is better, short is more robust, so both are tried
_SHORT_LENGTHS = (10, 4)  # for when neither keeps to the cap
_WIDEST = 0.01  # the largest relative half-width of a cloud; the smallest is half a rounding
_WIDTHS = 8
_CLOUD = np.polynomial.legendre.leggauss(7)  # so many roots can meet at one node: enough for 50 steps
_SHARES = (1e-6, 1e-2)  # of the whole loss, spread over all nodes
_NEAR = 1.001  # times the ideal loss is near enough to stop looking
_UNLUCKY = 5.0  # times its standard deviation: how large rounding may turn out without the loss passing the cap


class Conditions(NamedTuple):
    """What a run is held to.

    Attributes:
        peak: the largest loss allowed on the way.
        rounding: the machine epsilon of its arithmetic; 0 for none.
        scale: the mean square of what residuals are computed from, whose rounding does not shrink with them.
        examples: over how many directions such rounding spreads.
        momentum: whether a step may add a multiple of the step before it.
    """

    peak: float
    rounding: float
    scale: float
    examples: int
    momentum: bool


class Plan(NamedTuple):
    """Steps and where they lead.

    Attributes:
        rates: `(T,)`.
        momenta: `(T,)`, zeros for plain gradient descent.
        losses: `(T + 1,)`, the predicted loss before the first and after every step.
        highest: the largest loss on the way where rounding turns out unluckily.
        left: `(m,)`, the loss left along each node of the spectrum after the last step.
        how: how they were chosen, in words.
    """

    rates: Array
    momenta: Array
    losses: Array
    highest: float
    left: Array
    how: str


def best_plan(spectrum: Spectrum, steps: int, conditions: Conditions, ideal: float) -> Plan | None:
    """The steps with the least predicted last loss; None where rounding lets none keep to the cap.

    Args:
        spectrum: what the run has to reduce.
        steps: the number of steps T, at least 1.
        conditions: what the run is held to.
        ideal: the loss that LSQR reaches, which is as good as can be.
    """
    best = None
    for length in dict.fromkeys(min(length, steps) for length in (*_LENGTHS, *_SHORT_LENGTHS)):
        if best is not None and (length in _SHORT_LENGTHS or best.losses[-1] <= _NEAR * ideal):
            break
        plan = _in_blocks(spectrum, steps, length, conditions)
        if plan is not None and (best is None or plan.losses[-1] < best.losses[-1]):
            best = plan
    return best


def _in_blocks(spectrum: Spectrum, steps: int, length: int, conditions: Conditions) -> Plan | None:
    """`steps` steps in equal blocks of at most `length`, each the best for the loss that those before it leave."""
    blocks = -(-steps // length)
    parts: list[Plan] = []
    widths: list[float] = []
    for index in range(blocks):
        left = parts[-1].left if parts else spectrum.losses
        found = _block(Spectrum(spectrum.curvatures, left), steps // blocks + (index < steps % blocks), conditions)
        if found is None:
            return None
        parts.append(found[0])
        widths.append(found[1])
    kind = (
        "conjugate-gradient steps with frozen coefficients" if conditions.momentum else "roots of the best polynomial"
    )
    several = f", {blocks} blocks one after the other" if blocks > 1 else ""
    extremes = " to ".join(f"{width:.1e}" for width in sorted({min(widths), max(widths)}))
    clouds = f"nodes widened by a relative delta of {extremes}" if any(widths) else "nodes as they are (delta = 0)"
    return Plan(
        rates=np.concatenate([part.rates for part in parts]),
        momenta=np.concatenate([part.momenta for part in parts]),
        losses=np.concatenate([parts[0].losses[:1], *(part.losses[1:] for part in parts)]),
        highest=max(part.highest for part in parts),
        left=parts[-1].left,
        how=f"{kind}{several}; {clouds}",
    )


def _block(spectrum: Spectrum, steps: int, conditions: Conditions) -> tuple[Plan, float] | None:
    """The plan with the best predicted last loss within the cap, and the width of its clouds."""
    B = _bidiagonal(spectrum, steps)
    if not B.shape[1]:  # nothing is left but a floor: any steps will do that do no harm
        return simulate(spectrum, np.full(steps, 1 / spectrum.curvatures.max()), np.zeros(steps), conditions), 0.0
    # What `steps` steps can see of the spectrum: the Ritz values, and a rest at zero that is the ideal loss.
    vectors, singular_values, _ = np.linalg.svd(B)
    seen = spectrum.losses.sum() * vectors[0] ** 2
    ritz, ideal = Spectrum(singular_values**2, seen[:-1]), seen[-1]
    lowest = (1 - _WIDEST) * spectrum.curvatures[spectrum.curvatures > 0].min()  # no root is truly below it
    widths = np.geomspace(conditions.rounding / 2, _WIDEST, _WIDTHS)

    best: tuple[Plan, float] | None = None
    for width, share in [(0.0, 0.0), *itertools.product(widths.tolist(), _SHARES)]:
        clouds = _clouds(ritz, width, share * spectrum.losses.sum()) if width else ritz
        widened = _bidiagonal(clouds, steps) if width else B
        if conditions.momentum:
            rates, momenta = _conjugate_steps(widened)
        else:
            roots = np.maximum(np.linalg.svd(widened, compute_uv=False) ** 2, lowest)
            rates, momenta = 1 / _ordered(np.resize(roots, steps), clouds, conditions.rounding), np.zeros(steps)
        # Where fewer steps see all there is they are taken again; a momentum of zero makes that a new start.
        plan = simulate(spectrum, np.resize(rates, steps), np.resize(momenta, steps), conditions)
        if not plan.highest <= conditions.peak:  # a run that overflowed to NaN is not within the cap either
            continue
        if best is None or plan.losses[-1] < best[0].losses[-1]:
            best = plan, width
        if best[0].losses[-1] <= _NEAR * ideal:
            break
    return best


def _clouds(spectrum: Spectrum, width: float, floor: float) -> Spectrum:
    """Every node as a cloud of relative half-width `width`, and `floor` of loss spread evenly over all of them."""
    points, weights = _CLOUD
    curvatures = spectrum.curvatures[:, None] * (1 + width * points)
    losses = (spectrum.losses[:, None] + floor / len(spectrum.losses)) * (weights / 2)
    return Spectrum(curvatures.ravel(), losses.ravel())


def _bidiagonal(spectrum: Spectrum, steps: int) -> Array:
    """B `(k + 1, k)` of k <= `steps` Golub-Kahan steps on the nodes; fewer where they see all there is.

    With full reorthogonalisation, in which `thalweg.quadrature` differs: there are few nodes, and a copy of a root
    must be a choice, not an accident.
    """
    sigma = np.sqrt(spectrum.curvatures)
    steps = min(steps, int(np.count_nonzero(sigma)))
    left = np.zeros((steps + 1, len(sigma)))
    right = np.zeros((steps, len(sigma)))
    B = np.zeros((steps + 1, steps))
    left[0] = np.sqrt(spectrum.losses / spectrum.losses.sum())
    negligible = np.finfo(np.float64).eps * sigma.max()
    for step in range(steps):
        v = _orthogonal_to(right[:step], sigma * left[step])
        B[step, step] = np.linalg.norm(v)
        if B[step, step] <= negligible:
            return B[: step + 1, :step]
        right[step] = v / B[step, step]
        u = _orthogonal_to(left[: step + 1], sigma * right[step])
        B[step + 1, step] = np.linalg.norm(u)
        if B[step + 1, step] <= negligible:
            B[step + 1, step] = 0.0
            return B[: step + 2, : step + 1]
        left[step + 1] = u / B[step + 1, step]
    return B


def _orthogonal_to(basis: Array, v: Array) -> Array:
    for _ in range(2):
        v = v - (basis @ v) @ basis
    return v


def _ordered(roots: Array, spectrum: Spectrum, rounding: float) -> Array:
    """The roots in an order that keeps both the loss and the rounding small, chosen greedily.

    After a step the loss is that of the polynomial so far, and its rounding will be multiplied by the steps to come:
    by the whole polynomial divided by that so far. Both are known before the step is chosen.
    """
    roots = np.sort(roots)[::-1]
    curvatures, losses = spectrum.curvatures, spectrum.losses / spectrum.losses.sum()
    # No factor is known to be smaller than its rounding.
    factors = np.maximum(np.abs(1 - curvatures / roots[:, None]), rounding * (1 + curvatures.max() / roots[:, None]))
    squares, logarithms = factors**2, 2 * np.log(factors)
    whole, so_far = logarithms.sum(axis=0), np.zeros(len(curvatures))
    left, order = list(range(len(roots))), []
    while left:
        loss = squares[left] @ (losses * np.exp(np.minimum(so_far, 600)))
        growth = (1 / squares[left]) @ np.exp(np.clip(whole - so_far, -600, 600)) / len(curvatures)
        chosen = left.pop(int(np.argmin(loss + rounding**2 * np.maximum(loss, 1) * growth)))
        order.append(chosen)
        so_far = so_far + logarithms[chosen]
    return roots[order]


def _conjugate_steps(B: Array) -> tuple[Array, Array]:
    """The rates and momenta `(k,)` with which gradient descent takes the steps of LSQR, by Givens rotations of B.

    The direction `p <- g + beta p` and the step `alpha p` are, in terms of the step before, the rate alpha and the
    momentum `alpha beta / alpha_before`.
    """
    diagonal, below = np.diagonal(B), np.diagonal(B, -1)
    alpha, beta = np.empty(len(diagonal)), np.zeros(len(diagonal))
    rho_bar = diagonal[0]
    for step in range(len(diagonal)):
        rho = np.hypot(rho_bar, below[step])
        alpha[step] = 1 / rho**2
        if step + 1 < len(diagonal):
            beta[step + 1] = (below[step] * diagonal[step + 1] / rho**2) ** 2
            rho_bar = -rho_bar / rho * diagonal[step + 1]
    return alpha, np.concatenate([[0.0], alpha[1:] * beta[1:] / alpha[:-1]])


def simulate(spectrum: Spectrum, rates: Array, momenta: Array, conditions: Conditions) -> Plan:
    """The run on the nodes: exact values, and beside them the spread of the rounding that every step brings in.

    Along a node, this residual and the one before it scatter as (beta x + gamma y, alpha x) of independent unit
    normals x and y; this form of their covariance, unlike the covariance itself, does not cancel.
    """
    h = spectrum.curvatures
    now = np.sqrt(spectrum.losses)
    before = now
    alpha = beta = gamma = np.zeros_like(now)
    left, losses = spectrum.losses, [float(spectrum.losses.sum())]
    unlucky = losses[:]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for rate, momentum in zip(rates, momenta, strict=True):
            factor = 1 - rate * h + momentum
            now, before = factor * now - momentum * before, now
            # The rounding of the residual enters through the gradient and that of the weights directly, spread over all
            # directions; along every node the factor is as uncertain as the node, which is known to a rounding of the
            # largest.
            everywhere = max(losses[-1], conditions.scale) / conditions.examples * (1 + (rate * h) ** 2)
            noise = conditions.rounding * np.sqrt(everywhere + left * (1 + rate * h.max()) ** 2)
            spread = np.hypot(beta, gamma)
            inherited = np.where(spread > 0, momentum * alpha / spread, 0.0)
            alpha, beta, gamma = spread, factor * spread - inherited * beta, np.hypot(inherited * gamma, noise)
            scatter = beta**2 + gamma**2
            left = now**2 + scatter
            losses.append(float(left.sum()))
            unlucky.append(losses[-1] + (_UNLUCKY**2 - 1) * float(scatter.sum()))
    return Plan(rates, momenta, np.array(losses), float(np.max(unlucky)), left, how="as given")


def lsqr_losses(spectrum: Spectrum, steps: int) -> Array:
    """What LSQR reaches after 0 to `steps` steps on the nodes, in float64 as it is run, `(steps + 1,)`."""
    sigma = np.sqrt(spectrum.curvatures)
    total = float(spectrum.losses.sum())
    losses = np.full(steps + 1, 0.0)
    losses[0] = total
    u = np.sqrt(spectrum.losses / total)
    v = sigma * u
    diagonal = rho_bar = float(np.linalg.norm(v))
    negligible = np.finfo(np.float64).eps * sigma.max()
    for step in range(1, steps + 1):
        if diagonal <= negligible:
            losses[step:] = losses[step - 1]
            break
        v = v / diagonal
        u = sigma * v - diagonal * u
        below = float(np.linalg.norm(u))
        rho = np.hypot(rho_bar, below)
        losses[step] = losses[step - 1] * (below / rho) ** 2
        if below <= negligible:
            break
        u = u / below
        v = sigma * u - below * v
        diagonal = float(np.linalg.norm(v))
        rho_bar = -rho_bar / rho * diagonal
    return losses
