"""What the commands share: the options `--json` and `--save`, and how an answer is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thalweg.report import Result

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON with stable keys.")]
Save = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Also write the answer to FILE: .json, .csv or .html."),
]


def check_save(save: Path | None) -> None:
    """Refuse a file that results cannot be saved to, before any work is done for it."""
    if save is not None:
        from thalweg.report import checked_target

        checked_target(save)


def show(result: Result, *, json: bool, save: Path | None) -> None:
    """Print an answer for whoever reads it, a person, a pipe or a program, and save it where asked."""
    if json:
        print(result.to_json())
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(result)
    else:
        print("\n\n".join(table.to_text() for table in result.tables()))
    if save is not None:  # last, so that an answer is shown even where it cannot be saved
        result.save(save)
        print(f"Saved to {save}", file=sys.stderr)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal; yields a function to call with how much is done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
