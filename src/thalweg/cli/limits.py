"""`thalweg limits DATA`: where does each optimizer end up?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from thalweg.cli.common import Json, Save, alone, check_save, progress_bar, show

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
            "rmsprop, adam, adamw, sign, lion, normalised, preconditioned, exponentiated. "
            "Default: gd, sgd, momentum, adagrad.",
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(metavar="T", help="The budget of steps; runs that have arrived end earlier.")
    ] = 20_000,
    start: Annotated[
        str | None, typer.Option(metavar="W0", help='The first weights, as in "1, 0". Default: zeros.')
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="ETA",
            help="One learning rate for all, in place of their defaults; with --expand also a name for 2 eta / b.",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Examples in a step, for all but gd and sgd. Default: all.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each optimizer that draws batches at random.")] = 1,
    seed: Annotated[int, typer.Option(help="The seed of the first of them.")] = 0,
    momentum: Annotated[
        str | None,
        typer.Option(help="That of momentum and nesterov; with --expand also a name, such as delta. Default: 0.9."),
    ] = None,
    expand: Annotated[
        str | None,
        typer.Option(metavar="I,J,K", help="Write out the first steps on these batches in symbols, and run nothing."),
    ] = None,
    trace: Annotated[
        int | None,
        typer.Option(metavar="K", help="Show every number of the first K steps of each optimizer, and no more."),
    ] = None,
    to_loss: Annotated[
        float | None,
        typer.Option(metavar="L", help="Count the steps to this loss instead, also with standardised columns."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Test examples, as DATA. Default: those of a named set that has some."),
    ] = None,
    float32: Annotated[bool, typer.Option("--float32", help="Run in single precision.")] = False,
    target: Annotated[str | None, typer.Option(help="The target column of a file: its name or index.")] = None,
    json: Json = False,
    save: Save = None,
) -> None:
    """Which of all solutions each optimizer picks, with the number that proves it.

    thalweg limits "1 2 = 3"
    thalweg limits gaussian:n=20,d=100 --optimizers gd,sgd,adam --save limits.html
    thalweg limits wilson:n=40,p=0.75 --json
    thalweg limits "1 2 = 3" --optimizers adagrad --rate 0.5 --trace 4
    thalweg limits breast_cancer_raw --to-loss 0.3 --steps 5000
    thalweg limits gaussian:n=3,d=5 --expand i,j,k --momentum delta
    """
    check_save(save)
    runs = {"seeds": seeds if seeds != 1 else None, "test": test, "float32": float32 or None}
    if expand is not None:
        alone("--expand", trace=trace, to_loss=to_loss, optimizers=optimizers, start=start, **runs)
    elif trace is not None:
        alone("--trace", to_loss=to_loss, **runs)
    elif to_loss is not None:
        alone("--to-loss", start=start, rate=rate, batch=batch, momentum=momentum, **runs)
    import thalweg as tw
    from thalweg.data import load_test
    from thalweg.data.inline import number, numbers
    from thalweg.implicit_bias.verdict import DEFAULT_OPTIMIZERS, Limits, checked_test, outcomes

    source = tw.load(data, target=target)
    problem = tw.LeastSquares(source.X, source.t).stored("limits")
    w0 = problem.start(None if start is None else numbers(start, "--start"))
    chosen = [name.strip() for name in optimizers.split(",")] if optimizers is not None else list(DEFAULT_OPTIMIZERS)
    if expand is not None:
        from thalweg.implicit_bias.expansion import expand as written_out

        show(
            written_out(problem, expand, batch=1 if batch is None else batch, rate=rate, momentum=momentum or 0),
            json=json,
            save=save,
        )
        return
    delta = None if momentum is None else number(momentum, "--momentum")
    eta = None if rate is None else number(rate, "--rate")
    if trace is not None:
        from thalweg.implicit_bias.worked import Traces
        from thalweg.implicit_bias.worked import trace as worked

        traces = [
            worked(problem, name, trace, start=w0, rate=eta, batch=batch, seed=seed, momentum=delta) for name in chosen
        ]
        show(Traces(tuple(traces)), json=json, save=save)
        return
    if to_loss is not None:
        from thalweg.implicit_bias.scaling import METHODS, steps_to_loss

        with progress_bar("steps", _PROGRESS_MARKS) as advance:
            counted = steps_to_loss(
                problem,
                to_loss,
                optimizers=chosen if optimizers is not None else METHODS,
                steps=steps,
                progress=lambda share: advance(int(share * _PROGRESS_MARKS)),
            )
        show(counted, json=json, save=save)
        return
    tried = tw.load(test, target=target) if test is not None else load_test(data)
    test_examples = checked_test(problem, None if tried is None else (tried.X, tried.t))
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
                rate=eta,
                seed=seed,
                momentum=delta,
                precision="float32" if float32 else "float64",
                progress=lambda share: advance(int(share * _PROGRESS_MARKS)),
            ):
                found.append(outcome)
    except KeyboardInterrupt:
        interrupted = True
    if found:
        show(Limits(problem, w0, tuple(found), test_examples), json=json, save=save)
    if interrupted:
        cut_short = {outcome.name for outcome in found if outcome.trajectory.ended == "interrupted"}
        done = {outcome.name for outcome in found} - cut_short
        rest = ",".join(name for name in chosen if name not in done)
        how_far = f"after {len(found)} run{'s' * (len(found) > 1)}" if found else "before any run had ended"
        print(f"Interrupted {how_far}; for the rest: --optimizers {rest or chosen[-1]}", file=sys.stderr)
        raise typer.Exit(130)
