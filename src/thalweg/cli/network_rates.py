"""`thalweg rates TASK`: the learning rates of a network."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from thalweg.cli.common import prints_aside, progress_bar, show


def is_task(source: str) -> bool:
    """Whether a text means a training task; a name that is also that of data means the data."""
    from thalweg.tasks import is_file_task, names

    return is_file_task(source) or source.strip() in names()


def network_rates(source: str, steps: int | None, others: Sequence[str], json: bool, save: Path | None) -> None:
    """Load a task and show the best learning rates of its network.

    Args:
        source: the task: a name, or FILE.py:FUNCTION.
        steps: the largest number of steps asked about; None for what `tw.rates` takes.
        others: the names of options that were given and are for data only.
        json: as for every command.
        save: as for every command.
    """
    import thalweg as tw
    from thalweg.tasks import failures_named, load_task

    if others:
        raise tw.InputError(f"--{others[0]} is for data, and {source} is a task, whose network has --steps only.")
    asked = {} if steps is None else {"steps": steps}
    try:
        with prints_aside(), progress_bar("percent", 100) as advance, failures_named(source):
            task = load_task(source)
            answer = tw.rates(task.training, hyper=task.hyper, progress=advance, keep_interrupted=True, **asked)
    except KeyboardInterrupt:
        print("Interrupted before there was an answer; fewer --steps take less time.", file=sys.stderr)
        raise typer.Exit(130) from None
    if answer.interrupted:
        print("Interrupted: the answer is the best of the rates that had been run.", file=sys.stderr)
    show(answer, json=json, save=save)
    if answer.interrupted:
        raise typer.Exit(130)
