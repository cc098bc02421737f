"""Learning rates of networks for 1 and for 5 steps, beside what others would choose on the same networks and data.

Every number is the decrease of the loss that literal gradient steps reach, as a share of the best decrease that any of
80 learning rates reaches, from 0.02 to 200 times 2/lambda_max of the Hessian; negative where the loss has risen, and
minus infinity where it is no number any more. All see the same loss, that of 300 digits.

The others: `torch-lr-finder`'s suggestion, by its defaults (a loss curve of 100 steps at rates from 1e-5 to 10, rising
exponentially, smoothed by 0.05, stopped at 5 times the best loss; the rate of the steepest descent between the 10
first points and the 5 last); Prodigy from Optax, which needs no rate and was made for longer runs, so that what it
reaches in 100 steps stands there too; 2/lambda_max.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import statistics
import sys

import jax
import numpy as np
import optax.contrib

from thalweg.data import digit_images
from thalweg.learning_rate.forecast import forecast
from thalweg.learning_rate.gauss_newton import network_of
from thalweg.report import Table
from thalweg.tasks import built_in

SEEDS = 5
STEPS = (1, 5)
LONGER = 100  # for Prodigy, which first finds out how far it may go
EXAMPLES = 300
GRID = np.geomspace(0.02, 200, 80)


def jax_networks(kind, loss):
    """One network with its data at the starts of several seeds; compiled once."""
    task = built_in(f"digits-{kind}", loss)
    images, digit = digit_images()
    x, y = images[None, :EXAMPLES, :, :, None].astype(np.float32), np.eye(10, dtype=np.float32)[None, digit[:EXAMPLES]]
    training = dataclasses.replace(task.training, batches=lambda key: (x, y))
    network = network_of(training, task.hyper)
    for seed in range(SEEDS):
        trained = training.prepare(jax.random.key(seed))[0].trained
        network.start = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(trained)])
        yield network


def torch_networks(kind, loss):
    import torch
    from torch import nn

    from thalweg.learning_rate.torch_module import ModuleNetwork

    images, digit = digit_images()
    x, labels = torch.tensor(images[:EXAMPLES, None], dtype=torch.float32), torch.tensor(digit[:EXAMPLES])
    one_hot = nn.functional.one_hot(labels, 10).float()
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        if kind == "mlp":
            module = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 10))
        else:
            module = nn.Sequential(
                *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Flatten(), nn.Linear(64, 10)),
            )
        if loss == "mse":
            yield ModuleNetwork(module, (x, one_hot), nn.functional.mse_loss)
        else:
            yield ModuleNetwork(module, (x, labels), nn.functional.cross_entropy)


def decreases(network, rate):
    """How far literal steps at one rate lower the loss, after 0 to 5 of them."""
    if rate is None:
        return np.full(STEPS[-1] + 1, -np.inf)
    losses = network.descend(network.start, rate, np.zeros(STEPS[-1] + 1)).losses
    return np.where(np.isfinite(losses), losses[0] - losses, -np.inf)


def lr_finder(network, first=1e-5, last=10.0, iterations=100, smoothing=0.05, diverged=5, skip=(10, 5)):
    """The rate that torch-lr-finder 0.2.2 suggests; None where it fails to."""
    w, curve, best = network.start, [], None
    rates = first * (last / first) ** (np.arange(iterations) / (iterations - 1))
    for rate in rates:
        step = network.descend(w, rate, np.zeros(2))
        loss, w = float(step.losses[0]), step.last
        if curve:
            loss = smoothing * loss + (1 - smoothing) * curve[-1]
        best = loss if best is None or loss < best else best
        curve.append(loss)
        if loss > diverged * best:
            break
    kept = slice(skip[0], -skip[1])
    try:
        return float(rates[: len(curve)][kept][np.gradient(np.array(curve[kept])).argmin()])
    except ValueError:
        return None


def prodigy(network):
    """How far Prodigy's steps lower the loss, after 0 to 100 of them."""
    w = jax.numpy.asarray(network.start, jax.numpy.float32)
    optimizer = optax.contrib.prodigy()
    state, losses, update = optimizer.init(w), [], jax.jit(optimizer.update)
    for _ in range(LONGER + 1):
        loss, gradient = network.loss_and_gradient(np.asarray(w, np.float64))
        losses.append(loss)
        updates, state = update(jax.numpy.asarray(gradient, jax.numpy.float32), state, w)
        w = optax.apply_updates(w, updates)
    return losses[0] - np.array(losses)


def contest(network):
    """For each number of steps the shares of the best decrease, by contestant."""
    answer = forecast(network, STEPS[-1])
    limit = answer.stability["hessian"]
    grid = np.array([decreases(network, rate) for rate in limit * GRID])
    found, steady, free = lr_finder(network), decreases(network, limit), prodigy(network)
    finder = decreases(network, found)
    for step in STEPS:
        best = grid[:, step].max()
        yield (
            step,
            {
                "thalweg": decreases(network, answer.best_rate(step))[step] / best,
                "its forecast alone": decreases(network, answer.forecasts[step].rate)[step] / best,
                "lr-finder": finder[step] / best,
                "Prodigy": free[step] / best,
                f"Prodigy in {LONGER} steps": free[LONGER] / best,
                "2/lambda_max": steady[step] / best,
            },
        )


def main():
    makers = {"JAX": jax_networks}
    notes = ["thalweg: the rate it recommends, after its runs; its forecast alone: before any step."]
    if importlib.util.find_spec("torch") is not None:
        makers["PyTorch"] = torch_networks
    else:
        notes.append("PyTorch is not installed, so that its half was left out.")
    shares = {step: {} for step in STEPS}
    for name, make in makers.items():
        for kind in ("mlp", "cnn"):
            for loss in ("cross-entropy", "mse"):
                for network in make(kind, loss):
                    for step, share in contest(network):
                        shares[step].setdefault((name, kind, loss), []).append(share)
                        print(name, kind, loss, step, share, file=sys.stderr, flush=True)
    for step, by_case in shares.items():
        rows = []
        for case, seeds in by_case.items():
            cells = [
                f"{pick([share[who] for share in seeds]):.3g}" for who in seeds[0] for pick in (min, statistics.median)
            ]
            rows.append((*case, *cells))
        contestants = next(iter(by_case.values()))[0]
        columns = [f"{who}, {pick}" for who in contestants for pick in ("worst", "median")]
        title = f"Share of the best decrease in {step} step{'s' * (step > 1)}, {SEEDS} seeds"
        print(Table(title, ("", "network", "loss", *columns), rows, notes).to_text(), flush=True)


if __name__ == "__main__":
    main()
