"""Changes one sign, factor or constant at a time and shows which changes no test notices.

    python tests/mutants.py src/thalweg/textbook/learning_rate.py

Every change is made in a copy of the package, and the tests of the file (tests/<room>/test_<file>.py, or those named
with --tests) run against that copy, each time in a process forked from one that has loaded pytest and nothing of ours.
A change is killed when a test fails or the time is up. The changes: + and -, * and /, < and <=, > and >= are exchanged,
a minus sign or a transposition is dropped, a number n becomes n + 1.

Survivors are printed, and the exit code is 1, unless `equivalent_mutants.toml` lists them with a reason.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")

# A failure need not be shrunk to be a failure, and every change should meet the same examples.
PROFILE = """
from hypothesis import Phase, settings
phases = [Phase.explicit, Phase.generate]
settings.register_profile("mutants", derandomize=True, database=None, deadline=None, phases=phases)
"""

EXCHANGED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}


@dataclass(frozen=True)
class Mutant:
    """One changed file: where, the changed lines before and after, and the whole text."""

    path: Path
    line: int
    before: str
    after: str
    text: str


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may stand in place of this one."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in EXCHANGED:
        changed = copy.deepcopy(node)
        changed.op = EXCHANGED[type(node.op)]()
        yield changed
    if isinstance(node, ast.Compare):
        for index, op in enumerate(node.ops):
            if type(op) in EXCHANGED:
                changed = copy.deepcopy(node)
                changed.ops[index] = EXCHANGED[type(op)]()
                yield changed
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield node.value
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield ast.Constant(node.value + 1)


def mutants(path: Path) -> Iterator[Mutant]:
    """Every change of one file, in the order of its lines."""
    text = path.read_bytes()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    nodes = [node for node in ast.walk(ast.parse(text)) if hasattr(node, "lineno")]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        first, last = starts[node.lineno - 1], starts[node.end_lineno]
        begin, end = first + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        for changed in changes(node):
            # Brackets keep the rest of the expression as it was; a statement takes none.
            new = ast.unparse(changed)
            new = new if isinstance(changed, ast.Constant | ast.Name | ast.AugAssign) else f"({new})"
            mutated = text[:begin] + new.encode() + text[end:]
            before, after = text[first:last], mutated[first : last + len(mutated) - len(text)]
            yield Mutant(
                path, node.lineno, *(" ".join(part.decode().split()) for part in (before, after)), mutated.decode()
            )


def mirror_of(path: Path) -> Path:
    """The test file that mirrors a source file."""
    inside = path.relative_to(SOURCE / "thalweg")
    return ROOT / "tests" / inside.parent / f"test_{inside.name}"


def run_pytest(tests: list[Path]) -> int:
    """Run the tests here, in silence; pytest's exit code."""
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "mutant_profile", "--hypothesis-profile=mutants"]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        return int(pytest.main([*options, *map(str, tests)]))


def passes(tests: list[Path], timeout: float) -> bool:
    """Whether the tests pass in time, in a process forked from this one."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = run_pytest(tests)
        finally:
            os._exit(code)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        finished, status = os.waitpid(process, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return False


place = Path()  # a worker's copy of the package


def prepare(folder: str) -> None:
    """Give a worker its copy of the package, and load everything into it but the package."""
    global place
    place = Path(tempfile.mkdtemp(dir=folder))
    shutil.copytree(SOURCE, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    (place / "mutant_profile.py").write_text(PROFILE)
    (place / "test_nothing.py").write_text("def test_nothing(): pass\n")
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.dont_write_bytecode = True
    # First on the path, and so before the path that an editable installation adds.
    sys.path.insert(0, str(place))
    import numpy  # noqa: F401

    os.chdir(ROOT)
    run_pytest([place / "test_nothing.py"])
    assert "thalweg" not in sys.modules


def survives(path: Path, text: str, tests: list[Path], timeout: float) -> bool:
    """Whether the tests pass with `text` in the place of a file."""
    target = place / path.relative_to(SOURCE)
    try:
        target.write_text(text)
        return passes(tests, timeout)
    finally:
        shutil.copyfile(path, target)


def explained() -> set[tuple[str, str, str]]:
    """The changes that cannot be noticed: file, line before and line after."""
    listed = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    return {(entry["file"], entry["before"], entry["after"]) for entry in listed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="FILE", help="source files below src/")
    parser.add_argument("--tests", nargs="+", type=Path, help="test files; by default the one that mirrors each source")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many test runs at a time")
    parser.add_argument("--timeout", type=float, default=60, help="seconds after which a change counts as killed")
    arguments = parser.parse_args()
    unexplained = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("fork").Pool(arguments.workers, prepare, [folder]) as pool,
    ):
        for path in (source.resolve() for source in arguments.sources):
            name, tests = str(path.relative_to(SOURCE / "thalweg")), arguments.tests or [mirror_of(path)]
            known = {key for key in explained() if key[0] == name}

            def outcome(text: str, path: Path = path, tests: list[Path] = tests) -> multiprocessing.pool.AsyncResult:
                return pool.apply_async(survives, (path, text, tests, arguments.timeout))

            if not outcome(path.read_text()).get():
                sys.exit(f"{name}: the tests do not pass before anything is changed")
            if outcome("raise RuntimeError('the tests must import this copy')\n").get():
                sys.exit(f"{name}: the tests do not use the changed copy of the package")
            tried = [(mutant, outcome(mutant.text)) for mutant in mutants(path)]
            survivors = set()
            for mutant, result in tried:
                if result.get():
                    survivors.add(key := (name, mutant.before, mutant.after))
                    if key not in known:
                        unexplained += 1
                        print(
                            f"{path.relative_to(ROOT)}:{mutant.line}\n  - {mutant.before}\n  + {mutant.after}",
                            flush=True,
                        )
            print(f"{name}: {len(tried)} changes, {len(survivors)} survive", flush=True)
            for _, _, after in sorted(known - survivors):
                print(f"{EQUIVALENT.name} lists a change that is not there or does not survive: {after}")
    print(f"{unexplained} survivors without an explanation")
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
