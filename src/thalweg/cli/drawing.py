"""Pictures made of characters, for those who look at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.text import Text

_RAMP = " .:-=+*#%@"


def _shrunk(image: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Block means of `image` on a grid of rows x columns, scaled to 0 .. 1."""
    import numpy as np

    height, width = image.shape
    row_edges = np.linspace(0, height, rows + 1).astype(int)[:-1]
    column_edges = np.linspace(0, width, columns + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(image, row_edges, axis=0), column_edges, axis=1)
    areas = np.outer(np.diff([*row_edges, height]), np.diff([*column_edges, width]))
    means = sums / areas
    shrunk: NDArray[np.float64] = (means - means.min()) / (float(np.ptp(means)) or 1.0)
    return shrunk


def grey_text(image: NDArray[np.float64], columns: int) -> str:
    """A grey image `(height, width)` as lines of characters, the darker the denser, twice as tall as wide."""
    rows = max(1, round(columns * image.shape[0] / image.shape[1] / 2))
    level = (_shrunk(image, rows, columns) * (len(_RAMP) - 1)).round().astype(int)
    return "\n".join("".join(_RAMP[value] for value in row).rstrip() for row in level)


def grey_blocks(image: NDArray[np.float64], columns: int) -> Text:
    """A grey image `(height, width)` for a colour terminal: two pixels a character, by half blocks."""
    from rich.text import Text

    rows = max(2, 2 * round(columns * image.shape[0] / image.shape[1] / 2))
    level = (_shrunk(image, rows, columns) * 255).round().astype(int)
    text = Text()
    for upper, lower in zip(level[::2], level[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", style=f"rgb({above},{above},{above}) on rgb({below},{below},{below})")
        text.append("\n")
    return text


def plane(layers: Sequence[tuple[str, Iterable[Any]]], low: float, high: float, rows: int = 21) -> str:
    """Points of a plane drawn with letters on a square window; later layers cover earlier ones.

    Args:
        layers: pairs of a character and the points `(x, y)` it marks.
        low: the left and lower edge of the window.
        high: the right and upper edge.
        rows: the height in characters; the width is twice that, as characters are twice as tall as wide.
    """
    columns = 2 * rows
    canvas = [[" "] * (columns + 1) for _ in range(rows + 1)]
    for mark, points in layers:
        for x, y in points:
            column, row = round((x - low) / (high - low) * columns), round((high - y) / (high - low) * rows)
            if 0 <= column <= columns and 0 <= row <= rows:
                canvas[row][column] = mark
    return "\n".join("".join(line).rstrip() for line in canvas)
