"""The laws of the house: what a room may import, what loads when, and that no package hides a function."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import thalweg as tw

SOURCE = Path(tw.__file__).parent
WINGS = ("implicit_bias", "learning_rate", "network")
GROUND = (
    *("errors", "report", "memory_maps", "arrays", "operators", "data", "least_squares", "quadrature"),
    *("training", "adapters", "tasks", "python_files"),
)
TEXTBOOK_MATHEMATICS = ("implicit_bias", "learning_rate", "unrolled", "convolution")


def imports_of(path):
    """Every module of ours, and every other top-level package, that a file imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "thalweg" else {node.module}
            )
    return names


def rooms_of(path):
    return {name.split(".")[1] for name in imports_of(path) if name.startswith("thalweg.")}


def files(*parts):
    found = sorted((SOURCE.joinpath(*parts)).rglob("*.py"))
    assert found, f"nothing in {parts}"
    return found


@pytest.mark.parametrize("wing", WINGS)
def test_wings_import_only_the_ground_floor(wing):
    for path in files(wing):
        assert rooms_of(path) <= {wing, *GROUND}, path


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_floor_imports_only_itself(name):
    paths = [SOURCE / f"{name}.py"] if (SOURCE / f"{name}.py").exists() else files(name)
    for path in paths:
        assert rooms_of(path) <= set(GROUND), path


def test_reports_and_errors_know_nobody():
    assert rooms_of(SOURCE / "errors.py") == set()
    assert rooms_of(SOURCE / "report.py") == {"errors"}


def test_the_textbook_stands_alone():
    for path in files("textbook"):
        assert rooms_of(path) <= {"textbook", "errors", "report"}, path


@pytest.mark.parametrize("chapter", TEXTBOOK_MATHEMATICS)
def test_the_mathematics_of_the_textbook_is_literal_numpy(chapter):
    outside = {name.split(".")[0] for name in imports_of(SOURCE / "textbook" / f"{chapter}.py")}
    assert outside <= {"numpy"} | set(sys.stdlib_module_names)


def test_nothing_below_the_command_line_prints_or_exits():
    for path in files():
        if "cli" in path.parts or path.name == "__main__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "input", "exit", "eval", "exec"), f"{path}:{node.lineno}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
                assert node.attr not in ("argv", "exit", "stdout", "stderr"), f"{path}:{node.lineno}"


def loaded_after(code):
    """The top-level packages in memory after `code` has run in a fresh interpreter."""
    report = "import sys; print('\\n'.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n"))


def test_importing_thalweg_loads_nothing_heavy():
    assert not loaded_after("import thalweg") & {"numpy", "jax", "torch", "plotly", "optuna", "scipy", "rich", "typer"}


def test_help_loads_nothing_heavy():
    code = "import thalweg.cli\ntry:\n    thalweg.cli.main(['--help'])\nexcept SystemExit:\n    pass"
    assert not loaded_after(code) & {"numpy", "jax", "torch", "plotly", "optuna", "scipy"}


@pytest.mark.parametrize(
    "command", [["rates", "1 2 = 3"], ["limits", "1 2 = 3"], ["limits", "1 2 = 3", "--trace", "2"]]
)
def test_small_problems_need_no_compiler(command):
    code = (
        "import contextlib, io, thalweg.cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        f"    thalweg.cli.main({command})"
    )
    assert not loaded_after(code) & {"jax", "optax", "sympy", "torch", "plotly"}


def test_no_package_hides_a_public_function():
    for module in pkgutil.walk_packages(tw.__path__, "thalweg."):
        importlib.import_module(module.name)
    calls = {
        "check": lambda: tw.check("F2.6", "n / 2 * (a @ K @ a) / (a @ K @ K @ a)").correct,
        "facts": lambda: tw.facts("F3.2").to_dict(),
        "filters": lambda: tw.filters("sobel", image="0 1; 1 0").to_json(),
        "from_equinox": lambda: tw.from_equinox.__name__,  # these two need a package each
        "from_flax": lambda: tw.from_flax.__name__,
        "limits": lambda: tw.limits(tw.LeastSquares([[1.0, 2.0]], [3.0]), optimizers=["gd"]).to_json(),
        "load": lambda: tw.load("1 2 = 3").t.tolist(),
        "rates": lambda: tw.rates(tw.LeastSquares([[1.0, 2.0]], [3.0]), 2).to_dict(),
        "size": lambda: tw.size("input 8x8x1; conv3-2").to_dict(),
    }
    public = {name for name in tw.__all__ if name.islower()}
    assert public == set(calls), "a public function is missing from this test"
    for name, call in calls.items():
        assert call() == call(), name


def test_every_public_name_is_documented_and_listed():
    assert set(dir(tw)) >= set(tw.__all__)
    for name in tw.__all__:
        assert getattr(tw, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'rate'"):
        tw.rate  # noqa: B018
