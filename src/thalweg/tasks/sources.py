"""From a name, or a user's own file, to a task."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thalweg.errors import InputError, ThalwegError, unknown_name
from thalweg.python_files import defined, importable, imported
from thalweg.tasks.built_in import built_in
from thalweg.tasks.task import Task


def load_task(source: str) -> Task:
    """The task of that name, or the one that a function in a file returns.

    Args:
        source: a name (`digits-mlp`, `digits-cnn`, `diabetes`, `breast_cancer`), or `path/to/file.py:function`, where
            the function takes nothing and returns a `tw.Task`. The file is run as Python, and may import its
            neighbours.

    Raises:
        InputError: there is no such task, file or function; the file or the function fails, and the message says in
            which line; the function returns something else.
    """
    if is_file_task(source):
        return _from_file(source)
    return built_in(source.strip())


def is_file_task(source: str) -> bool:
    """Whether a text means a file of Python rather than a name."""
    return source.strip().endswith(".py") or ".py:" in source


def _from_file(source: str) -> Task:
    path, function = _place(source.strip())
    with importable([path.parent]):
        module = imported(path, f"thalweg_task_{path.stem}", lambda call: _run(path, call, "the file"))
        if not hasattr(module, function):
            raise unknown_name(f"function in {path}", function, defined(path))
        make = getattr(module, function)
        if not callable(make):
            raise InputError(f"{function} in {path} must be a function, but it is a {type(make).__name__}.")
        made = _run(path, make, f"{function}()")
    if not isinstance(made, Task):
        raise InputError(
            f"{function} in {path} must return a tw.Task(training, hyper, objective), but it returned a "
            f"{type(made).__name__}."
        )
    return made


def _place(source: str) -> tuple[Path, str]:
    """The file and the function."""
    name, _, function = source.rpartition(".py")
    path = Path(f"{name}.py")
    if not path.is_file():
        reason = "it is a folder" if path.is_dir() else "there is no such file"
        raise InputError(f"Cannot read the task {source!r}: {reason}.")
    function = function.removeprefix(":").strip()
    if not function:
        known = defined(path)
        which = f"; it defines {', '.join(known)}" if known else ""
        raise InputError(f"{str(path)!r} does not say which function makes the task; write {path}:FUNCTION{which}.")
    return path, function


def _run(path: Path, call: Callable[[], Any], what: str) -> Any:
    """What a user's code returns; its failure as one sentence with the line."""
    try:
        return call()
    except SyntaxError as error:
        where = f"{error.filename or path}, line {error.lineno}"
        raise InputError(f"{where} is not Python: {error.msg}.") from error
    except (Exception, SystemExit) as error:
        raise _blame(path, error, what) from error


@contextmanager
def failures_named(source: str) -> Iterator[None]:
    """While a task is used: what fails inside a user's own file becomes one sentence with its line.

    Args:
        source: what `load_task` was given.

    Raises:
        InputError: in place of what the user's functions raised.
    """
    try:
        yield
    except ThalwegError:
        raise
    except Exception as error:
        path = _place(source.strip())[0] if is_file_task(source) else None
        if path is None or not _lines(path, error):
            raise
        raise _blame(path, error, "the task") from error


def _lines(path: Path, error: BaseException) -> list[int]:
    """The lines of a file that were being run when something failed, the innermost last."""
    own = str(path.resolve())
    frames = traceback.extract_tb(error.__traceback__)
    return [frame.lineno or 0 for frame in frames if str(Path(frame.filename).resolve()) == own]


def _blame(path: Path, error: BaseException, what: str) -> InputError:
    lines = _lines(path, error)
    where = f"{path}, line {lines[-1]}" if lines else str(path)
    said = " ".join(str(error).split())
    return InputError(f"{where}, while running {what}: {type(error).__name__}{': ' * bool(said)}{said}")
