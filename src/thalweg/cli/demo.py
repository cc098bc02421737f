"""`thalweg demo`: the three questions answered on real data, every number computed while one looks on."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.cli.common import progress_bar

if TYPE_CHECKING:
    from rich.text import Text

    from thalweg.implicit_bias.verdict import Limits
    from thalweg.report import Section, Table

_NETWORK = "input 112x112x3; conv3-64; maxpool; conv3-128; maxpool; conv3-256 x2; maxpool; FC-1024; FC-100"
_RATES, _STEPS = 200, 100
_PATCH = 32  # the side of the square on which the filter is also run as a literal loop


def demo(
    save: Annotated[
        Path, typer.Option("--save", metavar="FILE", help="Where to write the page that holds everything (.html).")
    ] = Path("thalweg-demo.html"),
) -> None:
    """See thalweg answer its three questions on real data, in less than a minute."""
    from thalweg.report import checked_target, page, write_text

    checked_target(save, [".html"])
    screen = _Screen()
    sections: list[Section] = []
    parts: list[Callable[[_Screen], list[Section]]] = [_size, _filter, _limits, _rates, _yours]
    try:
        for part in parts:
            sections += part(screen)
    finally:  # after Ctrl-C the page holds what was shown until then
        if sections:
            write_text(save, page("thalweg: a training run, before you pay for it", sections))
            screen.say(f"\nAll of it, with pictures, on one page: {save}")


def _program() -> str:
    """How the person can start thalweg again: by its name where that is known, else by the path it was started with."""
    started = Path(sys.argv[0])
    if started.name != "thalweg" or shutil.which("thalweg"):
        return "thalweg"
    return str(started)


class _Screen:
    """Headings with the time since the start, sentences, tables and drawings, for a terminal or a pipe."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.is_terminal = sys.stdout.isatty()

    def heading(self, text: str) -> None:
        self.say(f"\n[{time.perf_counter() - self._began:4.1f} s]  {text}")

    def say(self, text: str) -> None:
        print(text, flush=True)

    def paint(self, thing: Table | Text) -> None:
        from rich.console import Console

        Console().print(thing)

    def show(self, table: Table) -> None:
        if self.is_terminal:
            self.paint(table)
        else:
            self.say(table.to_text())


def _size(screen: _Screen) -> list[Section]:
    import thalweg as tw
    from thalweg.report import Section

    title = "What does the network cost, and what does a unit of it see?"
    screen.heading(f"1. {title}")
    answer = tw.size(_NETWORK)
    screen.show(answer.table())
    return [Section(title, [_NETWORK], answer.tables(), answer.figures())]


def _filter(screen: _Screen) -> list[Section]:
    import numpy as np

    import thalweg as tw
    from thalweg.cli.drawing import grey_blocks, grey_text
    from thalweg.data import photograph
    from thalweg.network.correlation import convolve
    from thalweg.report import Section
    from thalweg.textbook import convolution as textbook

    image = photograph()
    kernel = textbook.LAPLACIAN
    answer = tw.filters("laplacian", image)
    edges = answer[0].convolution
    assert edges is not None, "there is an image"
    patch = image[:_PATCH, :_PATCH]
    difference = float(np.abs(convolve(patch, kernel) - textbook.convolve(patch, kernel)).max())
    size = " x ".join(str(side) for side in image.shape)
    caption = f"The filter {kernel.tolist()} on a photograph of {size} pixels: {answer[0].label}."
    checked = f"A literal loop over {_PATCH} x {_PATCH} of its pixels differs by {difference:.1e}."
    screen.say("")
    if screen.is_terminal:
        screen.paint(grey_blocks(np.abs(edges), 72))
    else:
        screen.say(grey_text(np.abs(edges), 72))
    screen.say(f"{caption}\n{checked}")
    return [Section("What does a filter detect?", [caption, checked], answer.tables(), answer.figures())]


def _limits(screen: _Screen) -> list[Section]:
    import thalweg as tw
    from thalweg.report import Section

    title = "Where will the optimizer end up? X = [1 2], t = 3 has a whole line of solutions"
    screen.heading(f"2. {title}")
    answer = tw.limits(tw.LeastSquares([[1.0, 2.0]], [3.0]), optimizers=["gd", "adagrad"])
    screen.say(_plane(answer))
    screen.show(answer.tables()[0])
    return [Section(title, (), answer.tables(), answer.figures())]


def _plane(answer: Limits) -> str:
    """The plane of two weights: solutions, row space, the ways of the optimizers and where they end."""
    import numpy as np

    from thalweg.cli.drawing import plane

    X, t = answer.problem.X[0], answer.problem.t[0]
    along = np.linspace(-2, 2, 400)[:, None]
    solutions = answer.problem.minimum_norm_solution() + along * np.array([X[1], -X[0]])
    layers: list[tuple[str, Any]] = [(".", solutions), ("-", along * X)]
    for outcome in answer.outcomes:
        path = outcome.trajectory.path
        assert path is not None, "a run in the plane keeps its path"
        between = np.linspace(0, 1, 20)[:, None, None]
        layers.append((outcome.name[0], ((1 - between) * path[:-1] + between * path[1:]).reshape(-1, 2)))
    layers += [(outcome.name[0].upper(), [outcome.w]) for outcome in answer.outcomes]
    key = f"... solutions of {X[0]:g} x + {X[1]:g} y = {t:g}   --- row space   "
    ends = (
        f"{outcome.name[0].upper()} {outcome.name} at ({outcome.w[0]:.6f}, {outcome.w[1]:.6f})"
        for outcome in answer.outcomes
    )
    return plane(layers, -0.2, 1.6) + "\n" + key + "   ".join(ends)


def _rates(screen: _Screen) -> list[Section]:
    import numpy as np

    import thalweg as tw
    from thalweg.learning_rate.literal import compare, literal_run
    from thalweg.report import Section, Table

    data = tw.load("digits")
    problem = tw.LeastSquares(data.X, data.t)
    title = f"Which learning rate is best? Even or odd, {problem.n:,} handwritten digits of {problem.d} pixels"
    screen.heading(f"3. {title}")
    limit = problem.stability_rate
    grid = np.linspace(1.1 * limit / _RATES, 1.1 * limit, _RATES)
    with progress_bar("literal runs", 8) as advance:
        compared = compare(problem, grid, _STEPS, sample=8, progress=advance)
    screen.show(compared.table())
    curve = compared.curve
    screen.show(curve.table())

    best = curve.best_rate(1)
    tried = [0.99 * best, best, 1.01 * best, limit]
    losses = [literal_run(problem, rate, 1, problem.start())[1] for rate in tried]
    verified = Table(
        f"One literal step at the best one-step rate, {best / limit:.2f} times the stability limit",
        ("rate", "x stability limit", "loss, literal run", "loss, from the one run"),
        [(rate, rate / limit, float(loss), curve.loss(rate, 1)) for rate, loss in zip(tried, losses, strict=True)],
    )
    screen.show(verified)
    tables = [*compared.tables(), *curve.tables(), verified]
    return [Section(title, (), tables, [*curve.figures(), *compared.figures()])]


def _yours(screen: _Screen) -> list[Section]:
    from thalweg.report import Section

    program = _program()
    commands = [
        f'{program} size "input 32x32x3; conv3-32; maxpool; conv3-64; maxpool; FC-10"',
        f"{program} rates your.csv --target column",
        f'{program} limits "1 2 = 3; 0 1 = 2"',
    ]
    screen.say("\nNow with your own:")
    for command in commands:
        screen.say(f"  {command}")
    return [Section("Now with your own", commands)]
