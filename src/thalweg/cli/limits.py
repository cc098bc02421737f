"""`thalweg limits DATA`: where does each optimizer end up?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from thalweg.cli.common import Json, Save, check_save, progress_bar, show

_PROGRESS_MARKS = 1000


def limits(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A name (digits, wilson, ...), a file, or inline rows.", show_default=False
        ),
    ],
    optimizers: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Which to run: gd, sgd, minibatch, minibatch-replacement, momentum, nesterov, adagrad, optax-adagrad, "
            "rmsprop, adam, adamw, sign, lion, normalised, preconditioned. Default: gd, sgd, momentum, adagrad.",
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(metavar="T", help="The budget of steps; runs that have arrived end earlier.")
    ] = 20_000,
    start: Annotated[
        str | None, typer.Option(metavar="W0", help='The first weights, as in "1, 0". Default: zeros.')
    ] = None,
    rate: Annotated[float | None, typer.Option(help="One learning rate for all, in place of their defaults.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples in a step, for all but gd and sgd. Default: all.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each optimizer that draws batches at random.")] = 1,
    seed: Annotated[int, typer.Option(help="The seed of the first of them.")] = 0,
    target: Annotated[str | None, typer.Option(help="The target column of a file: its name or index.")] = None,
    json: Json = False,
    save: Save = None,
) -> None:
    """Which of all solutions each optimizer picks, with the number that proves it.

    thalweg limits "1 2 = 3"
    thalweg limits gaussian:n=20,d=100 --optimizers gd,sgd,adam --save limits.html
    thalweg limits wilson:n=40,p=0.75 --json
    """
    check_save(save)
    import thalweg as tw
    from thalweg.data.inline import numbers
    from thalweg.implicit_bias.verdict import DEFAULT_OPTIMIZERS, Limits, outcomes

    source = tw.load(data, target=target)
    problem = tw.LeastSquares(source.X, source.t)
    w0 = problem.start(None if start is None else numbers(start, "--start"))
    chosen = [name.strip() for name in optimizers.split(",")] if optimizers else list(DEFAULT_OPTIMIZERS)
    found = []
    interrupted = False
    try:
        with progress_bar("runs", _PROGRESS_MARKS) as advance:
            for outcome in outcomes(
                problem,
                chosen,
                seeds,
                steps,
                batch=batch,
                start=w0,
                rate=rate,
                seed=seed,
                progress=lambda share: advance(int(share * _PROGRESS_MARKS)),
            ):
                found.append(outcome)
    except KeyboardInterrupt:
        interrupted = True
    if found:
        show(Limits(problem, w0, tuple(found)), json=json, save=save)
    if interrupted:
        done = {outcome.name for outcome in found}
        rest = ",".join(name for name in chosen if name not in done)
        how_far = f"after {len(found)} run{'s' * (len(found) > 1)}" if found else "before any run had ended"
        print(f"Interrupted {how_far}; for the rest: --optimizers {rest or chosen[-1]}", file=sys.stderr)
        raise typer.Exit(130)
