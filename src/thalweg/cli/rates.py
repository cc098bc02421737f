"""`thalweg rates DATA|TASK`: which learning rates are best?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from thalweg.cli.common import Json, Save, check_save, progress_bar, show
from thalweg.cli.network_rates import is_task, network_rates


def rates(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA|TASK",
            help="Data: a name (digits, diabetes, ...), a file, or inline rows. A network: digits-mlp, digits-cnn, "
            "diabetes-mlp, breast_cancer-mlp, or FILE.py:FUNCTION.",
        ),
    ],
    target: Annotated[str | None, typer.Option(help="The target column of a file: its name or index.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="T", help="The largest number of steps asked about. Default: 100, for networks 5."),
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(metavar="LO:HI:N", help="Also the losses at N learning rates from LO to HI, as in 0.001:1:50."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Test examples, as DATA: also their loss, and when to stop early."),
    ] = None,
    l2: Annotated[float, typer.Option(help="The weight of the squared norm in the loss (lambda).")] = 0.0,
    schedule: Annotated[
        bool, typer.Option("--schedule", help="Also print the best learning rate for each step.")
    ] = False,
    momentum: Annotated[
        str | None, typer.Option(metavar="KIND", help="Also the best rate with momentum: heavy-ball or nesterov.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="B", help="Also what SGD with batches of B examples can be expected to do.")
    ] = None,
    peak: Annotated[
        float, typer.Option(help="The largest loss a schedule may pass, as a multiple of the first.")
    ] = 1.0,
    json: Json = False,
    save: Save = None,
) -> None:
    """The best constant learning rate for every number of steps, and the best schedule, from one run over the data.

    JSON and saved files always hold the schedule too. Ctrl-C ends the run early, with the answer for the steps done.
    For a network: the best rates near its first weights, as predicted and as measured.

    thalweg rates digits --steps 50 --schedule --momentum nesterov --batch 16
    thalweg rates measurements.csv --target weight --json
    thalweg rates diabetes --rates 0.001:1:50 --test held_out.csv
    thalweg rates "1 2 = 3; 0 1 = 2"
    thalweg rates digits-mlp
    thalweg rates my_model.py:task --steps 10
    """
    check_save(save)
    if is_task(data):
        for_data: dict[str, object] = {
            "target": target,
            "rates": rates,
            "test": test,
            "momentum": momentum,
            "batch": batch,
        }
        for_data |= {"l2": l2 or None, "schedule": schedule or None, "peak": None if peak == 1.0 else peak}
        network_rates(data, steps, [name for name, value in for_data.items() if value is not None], json, save)
        return
    steps = 100 if steps is None else steps
    import thalweg as tw
    from thalweg.learning_rate.grid import spaced
    from thalweg.report import Result, Together

    grid = None if rates is None else spaced(rates)
    source = tw.load(data, target=target)
    problem = tw.LeastSquares(source.X, source.t, l2)
    tried = None if test is None else tw.load(test, target=target)
    try:
        scheduled = bool(schedule or json or save)
        if peak != 1.0 and not scheduled:
            raise tw.InputError("--peak caps the loss of a schedule; ask for one with --schedule.")
        whole = scheduled or momentum is not None
        with progress_bar("steps", steps) as advance:
            answer = tw.rates(problem, steps, whole=whole, progress=advance, keep_interrupted=True)
        interrupted = answer.steps < steps
        if interrupted:
            print(f"Interrupted after {answer.steps:,} of {steps:,} steps; the answer is for these.", file=sys.stderr)
        parts: list[tuple[str, Result]] = [("", answer)]
        if grid is not None:
            parts.append(("grid", answer.on_grid(grid)))
        if scheduled:
            parts.append(("", answer.schedule_details(peak=peak)))
        if momentum is not None:
            parts.append(("momentum", answer.momentum(momentum)))
        if batch is not None:
            parts.append(("sgd", answer.sgd(batch)))
        if tried is not None:
            parts.append(("test", answer.generalisation(tried.X, tried.t)))
        show(Together(tuple(parts)), json=json, save=save)
    except KeyboardInterrupt:
        print("Interrupted before there was an answer; fewer --steps take less time.", file=sys.stderr)
        raise typer.Exit(130) from None
    if interrupted:
        raise typer.Exit(130)
