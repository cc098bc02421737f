"""The demo: every number it shows is one that thalweg computes, and what was shown is kept, even after Ctrl-C."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import thalweg as tw
from thalweg.cli import demo


def run(tmp_path, *arguments, code="from thalweg.cli import main; main()"):
    command = [sys.executable, "-c", code, "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return done.stdout, (folder / "thalweg-demo.html").read_text()


def test_the_network_is_the_one_of_the_textbook(shown):
    screen, page = shown
    for number in ("52,444,644", "999,407,616", "1,957,988"):
        assert number in screen
        assert number in page
    assert "30x30" in screen


def test_the_filter_is_named_and_checked_against_the_literal_loop(shown):
    screen, _ = shown
    assert "unoriented edge" in screen
    assert float(re.search(r"A literal loop .* differs by (\S+)\.\n", screen)[1]) < 1e-14


def test_both_optimizers_land_where_they_must(shown):
    screen, page = shown
    assert "G gd at (0.600000, 1.200000)   A adagrad at (1.000000, 1.000000)" in screen
    assert "minimum-norm solution" in page
    assert "left the row space" in page


def test_the_surface_is_timed_and_compared_and_its_best_rate_verified(shown):
    screen, _ = shown
    data = tw.load("digits")
    curve = tw.rates(tw.LeastSquares(data.X, data.t), 100)
    assert "20,000 losses" in screen
    assert "extrapolated" in screen
    assert float(re.search(r"Largest relative difference from the 8 literal runs: (\S+)\.\n", screen)[1]) < 1e-10
    rows = re.findall(r"^ *([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", screen.split("One literal step")[1], re.MULTILINE)
    literal = [float(row[2]) for row in rows]
    assert [float(row[3]) for row in rows] == literal
    assert min(literal) == literal[1] == pytest.approx(curve.best_loss(1), rel=1e-5)
    assert float(rows[1][1]) == pytest.approx(curve.best_rate(1) / curve.stability_rate, rel=1e-5)


def test_it_ends_with_three_commands_that_work(shown, tmp_path):
    screen, page = shown
    assert "rates your.csv --target column" in page
    commands = re.findall(r"^  thalweg (\w+) (.*)$", screen.split("Now with your own:")[1], re.MULTILINE)
    assert [name for name, _ in commands] == ["size", "rates", "limits"]
    (tmp_path / "your.csv").write_text("feature,column\n1,2\n2,5\n3,4\n")
    for name, arguments in commands:
        words = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', arguments)]
        command = [sys.executable, "-c", "from thalweg.cli import main; main()", name, *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert done.returncode == 0, done.stderr


def test_after_ctrl_c_the_page_holds_what_was_shown(tmp_path):
    interrupted = (
        "from thalweg.cli import demo, main\ndef stop(screen): raise KeyboardInterrupt\ndemo._limits = stop\nmain()"
    )
    done = run(tmp_path, "--save", "half.html", code=interrupted)
    assert done.returncode == 130
    assert "52,444,644" in (tmp_path / "half.html").read_text()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("started", "found", "shown"),
    [
        (".venv/bin/thalweg", None, ".venv/bin/thalweg"),
        ("/usr/bin/thalweg", "/usr/bin/thalweg", "thalweg"),
        ("-c", None, "thalweg"),
    ],
)
def test_the_commands_can_be_typed_as_they_are_shown(monkeypatch, started, found, shown):
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setattr("shutil.which", lambda name: found)
    assert demo._program() == shown


def test_the_plane_shows_where_each_ends():
    answer = tw.limits(tw.LeastSquares([[1.0, 2.0]], [3.0]), optimizers=["gd", "adagrad"])
    drawing = demo._plane(answer).split("\n")
    row_of_g = next(number for number, line in enumerate(drawing) if "G" in line)
    row_of_a = next(number for number, line in enumerate(drawing) if "A" in line)
    assert row_of_g < row_of_a, "gradient descent ends higher: 1.2 against 1"
    assert drawing[row_of_g].index("G") < drawing[row_of_a].index("A"), "and further left: 0.6 against 1"
