"""What the commands share: the options `--json` and `--save`, which options go together, how an answer is shown."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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


def alone(option: str, **others: object) -> None:
    """Refuse what was given but means nothing to an option, rather than leave it out unsaid.

    Args:
        option: what was asked, as people write it.
        others: by their names, the values of options that it has no use for; None where they were not given.

    Raises:
        InputError: one was given.
    """
    from thalweg.errors import InputError

    idle = [f"--{name.replace('_', '-')}" for name, given in others.items() if given is not None]
    if idle:
        raise InputError(
            f"{option} has no use for {' and '.join(idle)}; leave {'it' if len(idle) == 1 else 'them'} out."
        )


def prints_aside() -> AbstractContextManager[object]:
    """Where a user's own code may run, what it prints goes to standard error, so that it does not mix with answers."""
    return contextlib.redirect_stdout(sys.stderr)


def show(result: Result, *, json: bool, save: Path | None) -> None:
    """Print an answer for whoever reads it, a person, a pipe or a program, and save it where asked."""
    if sys.stdout.isatty() and not json:
        from rich.console import Console

        with prints_aside():
            shown = result.__rich__()
        Console().print(shown)
    else:
        with prints_aside():  # some answers are worked out when they are asked for, and run a user's model again
            text = result.to_json() if json else "\n\n".join(table.to_text() for table in result.tables())
        print(text)
    if save is not None:  # last, so that an answer is shown even where it cannot be saved
        with prints_aside():
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
