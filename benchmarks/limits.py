"""How long many optimizers and many seeds take in one compiled run, and in PyTorch.

13 optimizers x 32 seeds x 20,000 steps on 20 x 100 data, batches of 5, from a cold start. PyTorch does the same work in
three ways: one seed after the other, as a training loop is written; all seeds of an optimizer as one batch; and the
latter again with the gradient by hand and every update in place. It is given its batches, drawn beforehand, and timed
over some of the steps, as its steps all cost the same; all three are first shown to reach our weights.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import time

import numpy as np

import thalweg as tw
from thalweg.implicit_bias.compiled import run_together
from thalweg.implicit_bias.trajectories import drawn_batches, prepared
from thalweg.report import Table

OPTIMIZERS = ("sgd", "minibatch", "minibatch-replacement", "momentum", "nesterov", "adagrad", "optax-adagrad")
OPTIMIZERS += ("rmsprop", "adam", "adamw", "sign", "lion", "normalised")
SEEDS, STEPS, BATCH, L2 = 32, 20_000, 5, 1e-3
ROUNDS, PEER_STEPS = 3, 300


def problem():
    generator = np.random.default_rng(0)
    # With a penalty, so that no run arrives early and every one of the steps is taken.
    return tw.LeastSquares(generator.standard_normal((20, 100)), generator.standard_normal(20), l2=L2)


def timed(steps):
    """Wall-clock and processor seconds until the first steps are done, which is mostly compiling, and until the end."""
    data = problem()
    runs = [prepared(data, name, batch=BATCH) for name in OPTIMIZERS]
    began, processor = time.perf_counter(), time.process_time()
    first = []

    def progress(step):
        if step > 0 and not first:
            first.extend((time.perf_counter() - began, time.process_time() - processor))

    found = list(run_together(data, runs, range(SEEDS), steps=steps, progress=progress))
    assert sum(run.steps for run in found) == len(runs) * SEEDS * steps
    return first, (time.perf_counter() - began, time.process_time() - processor)


def plain(w, gradient, state, rate, step):
    w.sub_(gradient, alpha=rate)


def momentum(w, gradient, state, rate, step):
    w.sub_(state[0].mul_(0.9).add_(gradient), alpha=rate)


def nesterov(w, gradient, state, rate, step):
    w.sub_(gradient.add(state[0].mul_(0.9).add_(gradient), alpha=0.9), alpha=rate)


def adagrad(w, gradient, state, rate, step):
    w.addcdiv_(gradient, state[0].addcmul_(gradient, gradient).sqrt().add_(1e-10), value=-rate)


def optax_adagrad(w, gradient, state, rate, step):
    if step == 1:
        state[0].fill_(0.1)
    w.addcdiv_(gradient, state[0].addcmul_(gradient, gradient).add(1e-7).sqrt_(), value=-rate)


def rmsprop(w, gradient, state, rate, step):
    w.addcdiv_(gradient, state[0].mul_(0.9).addcmul_(gradient, gradient, value=0.1).sqrt().add_(1e-8), value=-rate)


def adam(w, gradient, state, rate, step):
    m, v = state[0].mul_(0.9).add_(gradient, alpha=0.1), state[1].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    divisor = v.sqrt().div_(math.sqrt(1 - 0.999**step)).add_(1e-8)
    w.addcdiv_(m, divisor, value=-rate / (1 - 0.9**step))


def adamw(w, gradient, state, rate, step):
    adam(w.mul_(1 - 1e-4 * rate), gradient, state, rate, step)


def sign(w, gradient, state, rate, step):
    w.sub_(gradient.sign(), alpha=rate)


def lion(w, gradient, state, rate, step):
    w.mul_(1 - 1e-3 * rate).sub_(state[0].mul(0.9).add_(gradient, alpha=0.1).sign_(), alpha=rate)
    state[0].mul_(0.99).add_(gradient, alpha=0.01)


def normalised(w, gradient, state, rate, step):
    w.sub_(gradient / gradient.norm(dim=-1, keepdim=True), alpha=rate)


BY_HAND = {"sgd": plain, "minibatch": plain, "minibatch-replacement": plain, "momentum": momentum, "nesterov": nesterov}
BY_HAND |= {"adagrad": adagrad, "optax-adagrad": optax_adagrad, "rmsprop": rmsprop, "adam": adam, "adamw": adamw}
BY_HAND |= {"sign": sign, "lion": lion, "normalised": normalised}


def library_optimizer(name, w, rate):
    """PyTorch's own optimizer in its fastest form on the CPU; None where it has none of the same rule."""
    from torch import optim

    make = {
        "momentum": lambda: optim.SGD([w], rate, momentum=0.9),
        "nesterov": lambda: optim.SGD([w], rate, momentum=0.9, nesterov=True),
        "adagrad": lambda: optim.Adagrad([w], rate, fused=True),
        "rmsprop": lambda: optim.RMSprop([w], rate, alpha=0.9),
        "adam": lambda: optim.Adam([w], rate, fused=True),
        "adamw": lambda: optim.AdamW([w], rate, weight_decay=1e-4, fused=True),
    }
    if BY_HAND[name] is plain:
        return optim.SGD([w], rate)
    return make[name]() if name in make else None


def torch_run(run, rows, X, t):
    """PyTorch's training loop on given batches `(steps, size)` or `(steps, seeds, size)`: seconds, and the weights."""
    import torch

    shape = (*rows.shape[1:-1], X.shape[1])
    w = torch.zeros(shape, dtype=X.dtype, requires_grad=True)
    optimizer = library_optimizer(run.name, w, run.rate)
    state, update = [torch.zeros(shape, dtype=X.dtype) for _ in range(2)], BY_HAND[run.name]
    decay = run.final_rate ** (1 / len(rows))
    began = time.perf_counter()
    for step, batch in enumerate(rows):
        w.grad = None
        residual = (X[batch] @ w.unsqueeze(-1)).squeeze(-1) - t[batch]
        loss = (residual**2).mean(dim=-1).sum() + L2 * (w * w).sum()
        loss.backward()
        rate = run.rate * decay**step
        if optimizer is None:
            with torch.no_grad():
                update(w, w.grad, state, rate, step + 1)
        else:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
    return time.perf_counter() - began, w.detach()


def torch_by_hand(run, rows, X, t):
    """The same on batches `(steps, seeds, size)` without automatic differentiation, everything in place."""
    import torch

    shape = (rows.shape[1], X.shape[1])
    w, *state = (torch.zeros(shape, dtype=X.dtype) for _ in range(3))
    update, decay = BY_HAND[run.name], run.final_rate ** (1 / len(rows))
    began = time.perf_counter()
    with torch.no_grad():
        for step, batch in enumerate(rows):
            X_B = X[batch]
            residual = torch.bmm(X_B, w.unsqueeze(-1)).squeeze(-1).sub_(t[batch])
            gradient = torch.bmm(residual.mul_(2 / batch.shape[-1]).unsqueeze(1), X_B).squeeze(1).add_(w, alpha=2 * L2)
            update(w, gradient, state, run.rate * decay**step, step + 1)
    return time.perf_counter() - began, w


def peers(steps):
    """What PyTorch needs for the steps of one seed of every optimizer, and for those of all seeds: seconds, weights."""
    import torch

    data = problem()
    X, t = torch.from_numpy(data.X), torch.from_numpy(data.t)
    seconds, weights = np.zeros(3), []
    for name in OPTIMIZERS:
        run = prepared(data, name, batch=BATCH)
        generators = [np.random.default_rng(seed) for seed in range(SEEDS)]
        drawn = [next(drawn_batches(data.n, run.batch, run.replacement, one, steps)) for one in generators]
        rows = torch.from_numpy(np.stack(drawn, axis=1)[:steps])
        ways = (
            torch_run(run, rows[:, 0].contiguous(), X, t),
            torch_run(run, rows, X, t),
            torch_by_hand(run, rows, X, t),
        )
        seconds += [way[0] for way in ways]
        weights.append([way[1].numpy() for way in ways])
    return seconds, weights


def check_peers():
    """All three reach the weights of the compiled run on the same batches."""
    data, steps = problem(), 100
    runs = [prepared(data, name, batch=BATCH) for name in OPTIMIZERS]
    ours = iter(run_together(data, runs, range(SEEDS), steps=steps))
    for name, (one_seed, batched, by_hand) in zip(OPTIMIZERS, peers(steps)[1], strict=True):
        expected = np.array([next(ours).w for _ in range(SEEDS)])
        for found, wanted in ((one_seed, expected[0]), (batched, expected), (by_hand, expected)):
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9, err_msg=name)


def main():
    (compile_wall, compile_cpu), (wall, cpu) = timed(STEPS)
    taken = len(OPTIMIZERS) * SEEDS * STEPS
    rows = [
        ("import and compile", compile_wall, compile_cpu, None),
        ("run", wall - compile_wall, cpu - compile_cpu, (wall - compile_wall) / taken * 1e6),
    ]
    title = f"{len(OPTIMIZERS)} optimizers x {SEEDS} seeds x {STEPS:,} steps, 20 x 100, batches of {BATCH}"
    print(Table(title, ("part", "wall clock, s", "processor, s", "a step, us"), rows).to_text())
    if importlib.util.find_spec("torch") is None:
        print("\nPyTorch is not installed, so the comparison with it is left out.")
        return

    check_peers()
    ours, theirs = [], []
    for _ in range(ROUNDS):
        (first, _), (whole, _) = timed(STEPS)
        ours.append((whole - first, whole))
        theirs.append(peers(PEER_STEPS)[0] * STEPS / PEER_STEPS * (SEEDS, 1, 1))
    run, cold = (statistics.median(column) for column in zip(*ours, strict=True))
    rows = [("one compiled run", run, None, None), ("compiling and running", cold, None, None)]
    names = ("PyTorch, a loop for each seed", "PyTorch, seeds batched", "PyTorch, seeds batched, gradient by hand")
    for name, column in zip(names, zip(*theirs, strict=True), strict=True):
        seconds = statistics.median(column)
        rows.append((name, seconds, seconds / run, seconds / cold))
    columns = ("the same work", "seconds", "times the run", "times compiling and running")
    print("\n" + Table(f"Medians of {ROUNDS} rounds, taking turns", columns, rows).to_text())


if __name__ == "__main__":
    main()
