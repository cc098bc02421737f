"""What thalweg raises when a person gives it something it cannot use.

Every message is one sentence that says what was wrong, where, and what to do; the command line prints it and leaves
with exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ThalwegError(Exception):
    """The base of everything thalweg raises on purpose."""


class InputError(ThalwegError, ValueError):
    """A value, array, file or text that cannot be used as given."""


class MissingPackageError(ThalwegError, ImportError):
    """An optional package is needed and not installed; the message holds the install command."""


class OutputError(ThalwegError, OSError):
    """A result could not be written where it was asked to go."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a list of names, with the nearest known one suggested.

    Args:
        kind: what the name stands for, in the singular: `"data set"`, `"fact"`.
        name: what was given.
        known: the names that would have been understood.
    """
    names = list(known)
    by_lower_case = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), list(by_lower_case), n=1, cutoff=0.5)
    hint = f"did you mean {by_lower_case[near[0]]!r}?" if near else f"known: {', '.join(names)}."
    return InputError(f"There is no {kind} named {name!r}; {hint}")


def missing_package(package: str, needed_for: str, extra: str) -> MissingPackageError:
    """The error for an optional package that is not installed.

    Args:
        package: the import name of the missing package.
        needed_for: what the person was doing, as a noun phrase: `"reading Parquet files"`.
        extra: the extra of thalweg that installs it.
    """
    return MissingPackageError(
        f"{needed_for[0].upper()}{needed_for[1:]} needs the package {package!r}, which is not installed; "
        f'install it with: pip install "thalweg[{extra}]".'
    )
