"""Python files that a user names: what they define, and their modules."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_FUNCTIONS = (ast.FunctionDef,)


def defined(path: Path, kinds: tuple[type[ast.FunctionDef | ast.ClassDef], ...] = _FUNCTIONS) -> list[str]:
    """The names of what a file defines at its top, without running it; none where it is no Python.

    Args:
        path: the file.
        kinds: of definitions, functions where nothing is said.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    return [node.name for node in tree.body if isinstance(node, kinds)]


def imported(path: Path, name: str, run: Callable[[Callable[[], None]], None] = lambda call: call()) -> ModuleType:
    """The module of a file whose name ends in .py, run anew.

    Args:
        path: the file.
        name: under which the module is known afterwards, unless it fails.
        run: runs the file, to say more where that fails.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None, "the suffix is .py"
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    sys.modules[name] = module  # where dataclasses and pickles look for it
    try:
        run(lambda: loader.exec_module(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def importable(folders: Sequence[str | Path]) -> Iterator[None]:
    """While this lasts, modules in some folders can be imported, before all others."""
    first = [str(Path(folder).resolve()) for folder in folders]
    sys.path[:0] = first
    try:
        yield
    finally:
        for folder in first:
            sys.path.remove(folder)
