"""`thalweg rates DATA`: which learning rates are best?"""

from __future__ import annotations

from typing import Annotated

import typer

from thalweg.cli.common import Json, Save, check_save, progress_bar, show


def rates(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A name (digits, diabetes, ...), a file, or inline rows.")
    ],
    target: Annotated[str | None, typer.Option(help="The target column of a file: its name or index.")] = None,
    steps: Annotated[int, typer.Option(metavar="T", help="The largest number of steps asked about.")] = 100,
    l2: Annotated[float, typer.Option(help="The weight of the squared norm in the loss (lambda).")] = 0.0,
    schedule: Annotated[
        bool, typer.Option("--schedule", help="Also print the best learning rate for each step.")
    ] = False,
    peak: Annotated[
        float, typer.Option(help="The largest loss a schedule may pass, as a multiple of the first.")
    ] = 1.0,
    json: Json = False,
    save: Save = None,
) -> None:
    """The best constant learning rate for every number of steps, and the best schedule, from one run over the data.

    JSON and saved files always hold the schedule too.

    thalweg rates digits --steps 50
    thalweg rates measurements.csv --target weight --json
    thalweg rates "1 2 = 3; 0 1 = 2"
    """
    check_save(save)
    import thalweg as tw
    from thalweg.report import Together

    source = tw.load(data, target=target)
    problem = tw.LeastSquares(source.X, source.t, l2)
    with progress_bar("steps", steps) as advance:
        answer = tw.rates(problem, steps, progress=advance)
    if not (schedule or json or save):
        show(answer, json=json, save=save)
        return
    show(Together((answer, answer.schedule_details(peak=peak))), json=json, save=save)
