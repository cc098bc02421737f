"""The `thalweg` command: one file per command, no mathematics."""

from __future__ import annotations

import io
import itertools
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import typer

from thalweg.cli import check, demo, facts, filters, limits, rates, size
from thalweg.errors import InputError, ThalwegError

app = typer.Typer(
    name="thalweg",
    help="Learn about a training run before you pay for it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "facts": facts.facts,
    "check": check.check,
    "limits": limits.limits,
    "rates": rates.rates,
    "size": size.size,
    "filters": filters.filters,
}
for name, command in _COMMANDS.items():
    app.command(name)(command)

_INLINE_DATA = re.compile(r"-[\d\s.][\d\s.;=,eE+-]*")
_FORMULA = re.compile(r"-(?!-|h\Z).*", re.DOTALL)  # -h is the only option of one letter


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 when all is well, 2 for the user's mistakes, 1 for ours, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the stream cannot show is shown as its escape
            stream.reconfigure(errors="backslashreplace")
    # Data ("-1 2 = 3") and formulas ("-2 * a.T @ a") may begin with a minus sign; a leading space keeps them from
    # being read as options.
    negative = _FORMULA if given[0] == "check" else _INLINE_DATA
    words = [f" {text}" if negative.fullmatch(text) else text for text in given]
    try:
        _check_each_once(words)
        code = app(words, prog_name="thalweg", standalone_mode=False)
        sys.stdout.flush()
    except ThalwegError as error:
        _refuse(str(error))
    except typer.TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        about = f"thalweg {given[0]}" if given[0] in _COMMANDS else "thalweg"
        _refuse(f"{message.rstrip('.')}, in: thalweg {shlex.join(given)} (see {about} --help)")
    except OSError as error:
        if error.filename is not None:
            raise
        # Standard output is full or closed; what is still in its buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _refuse(f"Cannot write to standard output: {error.strerror}.")
    sys.exit(code)


def _check_each_once(words: Sequence[str]) -> None:
    """Refuse an option that is given twice, of which all but the last would be left out unsaid."""
    options = [word.partition("=")[0] for word in itertools.takewhile("--".__ne__, words) if word.startswith("--")]
    for option in options:
        if options.count(option) > 1:
            several = "; several inputs of one network stand behind commas, as in --input 1x8x8,10"
            raise InputError(f"{option} is given twice; give it once{several if option == '--input' else ''}.")


def _refuse(message: str) -> NoReturn:
    from thalweg.report import printable

    print(f"thalweg: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(2)
