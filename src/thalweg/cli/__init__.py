"""The `thalweg` command: one file per command, no mathematics."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import typer

from thalweg.cli import check, demo, facts, limits, rates, size
from thalweg.errors import ThalwegError

app = typer.Typer(
    name="thalweg",
    help="Learn about a training run before you pay for it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo.demo, facts.facts, check.check, limits.limits, rates.rates, size.size):
    app.command()(command)

_INLINE_DATA = re.compile(r"-[\d\s.][\d\s.;=,eE+-]*")
_FORMULA = re.compile(r"-(?!-|h\Z).*", re.DOTALL)  # -h is the only option of one letter


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 when all is well, 2 for the user's mistakes, 1 for ours, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        # Data ("-1 2 = 3") and formulas ("-2 * a.T @ a") may begin with a minus sign; a leading space keeps them from
        # being read as options.
        negative = _FORMULA if arguments[:1] == ["check"] else _INLINE_DATA
        app([f" {text}" if negative.fullmatch(text) else text for text in arguments], prog_name="thalweg")
    except ThalwegError as error:
        from thalweg.report import printable

        print(f"thalweg: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
