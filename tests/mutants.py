"""Changes one sign, factor or constant at a time and shows which changes no test notices.

    python tests/mutants.py src/thalweg/textbook/learning_rate.py

Every change is made in a copy of the package, and the tests of the file (tests/<room>/test_<file>.py, or those named
with --tests) run against that copy. A change is killed when a test fails or the time is up. The changes: + and -,
* and /, < and <=, > and >= are exchanged, a minus sign or a transposition is dropped, a number n becomes n + 1.

Survivors are printed, and the exit code is 1, unless `equivalent_mutants.toml` lists them with a reason.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

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
    """One changed file: where, the line before and after, and the whole text."""

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
        for changed in changes(node):
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            new = ast.unparse(changed)
            # Brackets keep the rest of the expression as it was; a statement takes none.
            new = new if isinstance(changed, ast.Constant | ast.Name | ast.AugAssign) else f"({new})"
            mutated = text[:begin] + new.encode() + text[end:]
            before = " ".join(text[starts[node.lineno - 1] : starts[node.end_lineno]].decode().split())
            last = starts[node.end_lineno] + len(mutated) - len(text)
            after = " ".join(mutated[starts[node.lineno - 1] : last].decode().split())
            yield Mutant(path, node.lineno, before, after, mutated.decode())


def tests_of(path: Path) -> Path:
    """The test file that mirrors a source file."""
    inside = path.relative_to(SOURCE / "thalweg")
    return ROOT / "tests" / inside.parent / f"test_{inside.name}"


def passes(tests: list[Path], copy_of_source: Path, timeout: float) -> bool:
    """Whether the tests pass against a copy of the package."""
    # PYTHONPATH comes before the path of an editable installation.
    environment = os.environ | {
        "PYTHONPATH": str(copy_of_source),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    plugins = ["-p", "no:cacheprovider", "-p", "mutant_profile", "--hypothesis-profile=mutants"]
    command = [sys.executable, "-m", "pytest", "-x", "-q", *plugins]
    try:
        finished = subprocess.run(
            [*command, *map(str, tests)], cwd=ROOT, env=environment, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return finished.returncode == 0


def survives(mutant: Mutant, tests: list[Path], copies: Queue[Path], timeout: float) -> bool:
    """Whether no test notices the change."""
    place = copies.get()
    target = place / mutant.path.relative_to(SOURCE)
    try:
        target.write_text(mutant.text)
        return passes(tests, place, timeout)
    finally:
        shutil.copyfile(mutant.path, target)
        copies.put(place)


def check_the_copy_is_tested(path: Path, tests: list[Path], place: Path, timeout: float) -> None:
    """The tests must pass on an unchanged copy and fail on one whose file cannot be imported."""
    target = place / path.relative_to(SOURCE)
    if not passes(tests, place, timeout):
        sys.exit(f"{path}: the tests do not pass before anything is changed")
    target.write_text("raise RuntimeError('this copy must not be importable')\n")
    if passes(tests, place, timeout):
        sys.exit(f"{path}: the tests do not use the changed copy of the package")
    shutil.copyfile(path, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="FILE", help="source files below src/")
    parser.add_argument("--tests", nargs="+", type=Path, help="test files; by default the one that mirrors each source")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many test runs at a time")
    parser.add_argument("--timeout", type=float, default=60, help="seconds after which a change counts as killed")
    arguments = parser.parse_args()
    known = {
        (entry["file"], entry["before"], entry["after"])
        for entry in tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    }
    unexplained, used = 0, set()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.workers) as pool:
        copies: Queue[Path] = Queue()
        for number in range(arguments.workers):
            place = Path(folder) / str(number)
            shutil.copytree(SOURCE, place, ignore=shutil.ignore_patterns("__pycache__"))
            (place / "mutant_profile.py").write_text(PROFILE)
            copies.put(place)
        for path in (source.resolve() for source in arguments.sources):
            tests = arguments.tests or [tests_of(path)]
            check_the_copy_is_tested(path, tests, place, arguments.timeout)
            tried = list(mutants(path))
            outcomes = pool.map(lambda m, t=tests: survives(m, t, copies, arguments.timeout), tried)
            survivors = [mutant for mutant, survived in zip(tried, outcomes, strict=True) if survived]
            name = str(path.relative_to(SOURCE / "thalweg"))
            for mutant in survivors:
                if (key := (name, mutant.before, mutant.after)) in known:
                    used.add(key)
                else:
                    unexplained += 1
                    print(
                        f"{path.relative_to(ROOT)}:{mutant.line}\n  - {mutant.before}\n  + {mutant.after}", flush=True
                    )
            print(f"{name}: {len(tried)} changes, {len(survivors)} survivors", flush=True)
            for key in sorted(entry for entry in known - used if entry[0] == name):
                print(f"{EQUIVALENT.name} lists a change that does not survive: {key[2]}")
    print(f"{unexplained} unexplained survivors")
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
