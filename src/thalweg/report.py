"""What every result shares: a table, figures, JSON, CSV and a self-contained HTML page.

A result is a frozen dataclass that inherits from `Result` and says three things about itself: its `table()`, its
`figure()` and its `to_dict()`. Printing, saving and the notebook view follow from those. This module knows no result
by name.

    >>> from thalweg.report import Table
    >>> print(Table("Squares", ("n", "n squared"), [(1, 1), (200, 40_000)]).to_text())
    Squares
      n  n squared
      1          1
    200     40,000
"""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from thalweg.errors import InputError, OutputError

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go
    from numpy.typing import NDArray
    from rich.table import Table as RichTable

Cell: TypeAlias = str | int | float | bool | None

SUFFIXES = (".json", ".csv", ".html")

# Control characters (terminal escapes among them) would act on the reader's screen if a name held them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """`text` with every control character but tab and newline shown as an escape, so that it cannot act on a screen."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def format_cell(value: Cell) -> str:
    """How people see one value: integers with thousands separators, floats to six digits, an empty cell for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(value)


def counted(number: int, what: str) -> str:
    """A number of things in words: `1 example`, `1,797 examples`."""
    return f"{number:,} {what}{'s' * (number != 1)}"


@dataclass(frozen=True)
class Table:
    """Rows for people, and the same rows for a file.

    Args:
        title: one line above the table.
        columns: the column headings.
        rows: one sequence of cells per row, as long as `columns`.
        notes: sentences printed below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            assert len(row) == len(self.columns), f"row {number} has {len(row)} cells for {len(self.columns)} columns"

    def _is_numeric(self, column: int) -> bool:
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells)

    def __rich__(self) -> RichTable:
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        # Text, unlike str, is never read as markup: a layer named "[red]" prints as just that.
        table = RichTable(
            title=Text(printable(self.title), style="bold"),
            caption=Text("\n".join(printable(note) for note in self.notes)) if self.notes else None,
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1),
        )
        for index, column in enumerate(self.columns):
            numeric = self._is_numeric(index)
            table.add_column(
                Text(printable(column)), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold"
            )
        for row in self.rows:
            table.add_row(*(Text(format_cell(cell)) for cell in row))
        return table

    def to_text(self) -> str:
        """Aligned plain text, for pipes and logs."""
        cells = [[printable(column) for column in self.columns]]
        cells += [[format_cell(cell).replace("\n", " ") for cell in row] for row in self.rows]
        widths = [max(len(row[index]) for row in cells) for index in range(len(self.columns))]
        numeric = [self._is_numeric(index) for index in range(len(self.columns))]
        lines = [printable(self.title)]
        for row in cells:
            aligned = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            )
            lines.append("  ".join(aligned).rstrip())
        return "\n".join([*lines, *(printable(note) for note in self.notes)])

    def to_csv(self) -> str:
        """The rows with full precision, headings first, in the dialect of RFC 4180."""
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return buffer.getvalue()

    def to_html(self) -> str:
        """A `<table>`; every name in it is escaped."""
        kinds = ["number" if self._is_numeric(index) else "text" for index in range(len(self.columns))]
        head = "".join(
            f'<th class="{kind}">{html.escape(printable(column))}</th>'
            for column, kind in zip(self.columns, kinds, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td class="{kind}">{html.escape(format_cell(cell))}</td>'
                for cell, kind in zip(row, kinds, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<p>{html.escape(printable(note))}</p>" for note in self.notes)
        return (
            f"<table><caption>{html.escape(printable(self.title))}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"
        )


class Result:
    """The face that every answer of thalweg shows: subclasses are frozen dataclasses of arrays and numbers."""

    def table(self) -> Table:
        """The answer as rows for people."""
        raise NotImplementedError

    def figure(self) -> go.Figure:
        """The answer as a Plotly figure."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The answer under stable, documented keys; arrays and NumPy numbers are allowed."""
        raise NotImplementedError

    def tables(self) -> list[Table]:
        """Every table of the answer, the main one first."""
        return [self.table()]

    def figures(self) -> list[go.Figure]:
        """Every figure of the answer, the main one first."""
        return [self.figure()]

    def rows_of_a_file(self) -> Table:
        """What a CSV file holds: the main table, unless that leaves rows out for people."""
        return self.table()

    def to_json(self, indent: int | None = 2) -> str:
        """The answer as strict JSON: numbers that are not finite become null."""
        return to_json(self.to_dict(), indent)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the answer to a file whose suffix chooses the format: `.json`, `.csv` or `.html`.

        Returns:
            The path written.

        Raises:
            InputError: the suffix is none of these.
            OutputError: the file cannot be written there; nothing half-written is left behind.
        """
        target = checked_target(path)
        suffix = target.suffix.lower()
        if suffix == ".json":
            text = self.to_json() + "\n"
        elif suffix == ".csv":
            text = self.rows_of_a_file().to_csv()
        else:
            text = page(self.table().title, [Section(tables=self.tables(), figures=self.figures())])
        return write_text(target, text)

    def __rich__(self) -> Any:
        from rich.console import Group

        first, *rest = self.tables()
        return Group(first, *(part for table in rest for part in ("", table)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.table().title}>"

    def _repr_html_(self) -> str:
        return "".join(table.to_html() for table in self.tables()) + "".join(
            figure.to_html(full_html=False, include_plotlyjs="cdn") for figure in self.figures()
        )


@dataclass(frozen=True, repr=False)
class Together(Result):
    """Several answers to one question, shown, saved and written as one; the first one's table and figure lead.

    Args:
        parts: pairs of a key and an answer. In JSON an answer stands under its key, and at the top where that is
            empty; those at the top have no key in common.
    """

    parts: tuple[tuple[str, Result], ...]

    def table(self) -> Table:
        """The table of the first part."""
        return self.parts[0][1].table()

    def rows_of_a_file(self) -> Table:
        """Those of the first part."""
        return self.parts[0][1].rows_of_a_file()

    def figure(self) -> go.Figure:
        """The figure of the first part."""
        return self.parts[0][1].figure()

    def tables(self) -> list[Table]:
        """Every table of every part."""
        return [table for _, part in self.parts for table in part.tables()]

    def figures(self) -> list[go.Figure]:
        """Every figure of every part."""
        return [figure for _, part in self.parts for figure in part.figures()]

    def to_dict(self) -> dict[str, Any]:
        """The keys of every part."""
        answer: dict[str, Any] = {}
        for key, part in self.parts:
            answer |= {key: part.to_dict()} if key else part.to_dict()
        return answer


@dataclass(frozen=True)
class Section:
    """One part of an HTML page: a heading, sentences, tables and figures, in this order; all text is escaped."""

    heading: str = ""
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[go.Figure] = ()


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #d8dee4; text-align: left; white-space: pre-wrap; }
th.number, td.number { text-align: right; white-space: nowrap; }
pre { background: #f3f5f7; padding: .8rem; overflow-x: auto; }
</style>
{% if figures %}<script>{{ plotly_js }}</script>{% endif %}
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}
<section>
{% if section.heading %}<h2>{{ section.heading }}</h2>{% endif %}
{% for sentence in section.text %}<p>{{ sentence }}</p>{% endfor %}
{% for table in section.tables %}<div class="scroll">{{ table }}</div>{% endfor %}
{% for figure in section.figures %}<div class="scroll">{{ figure }}</div>{% endfor %}
</section>
{% endfor %}
</body>
</html>
"""


def page(title: str, sections: Sequence[Section]) -> str:
    """A self-contained HTML page: scripts inline, nothing fetched, every name escaped.

    Args:
        title: the page's heading, plain text.
        sections: what stands on it, in order.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    # Markup marks what is HTML already; everything else is escaped by the environment.
    parts = [
        {
            "heading": printable(section.heading),
            "text": [printable(sentence) for sentence in section.text],
            "tables": [Markup(table.to_html()) for table in section.tables],
            "figures": [Markup(figure.to_html(full_html=False, include_plotlyjs=False)) for figure in section.figures],
        }
        for section in sections
    ]
    figures = any(section.figures for section in sections)
    plotly_js = Markup("")
    if figures:
        from plotly.offline import get_plotlyjs

        plotly_js = Markup(get_plotlyjs())
    template = Environment(autoescape=True).from_string(_PAGE)
    return template.render(title=printable(title), sections=parts, figures=figures, plotly_js=plotly_js)


def picture_source(levels: NDArray[np.uint8]) -> str:
    """A picture as the address that figures and pages hold it under: PNG, inline.

    Args:
        levels: `(height, width)` in grey or `(height, width, 3)` in red, green and blue.
    """
    import base64

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def to_json(value: object, indent: int | None = 2) -> str:
    """Strict JSON of dataclasses, mappings, sequences, NumPy arrays and numbers; what is not finite becomes null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, without importing NumPy to find out
        value = value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def checked_target(path: str | os.PathLike[str], suffixes: Sequence[str] = SUFFIXES) -> Path:
    """`path` as a `Path`, once it is known to be a file that can be written under one of the suffixes.

    Commands call this before long work, so that a mistake costs nothing.

    Raises:
        InputError: the suffix is none of `suffixes`.
        OutputError: the path is a folder, or its folder does not exist or cannot be written to.
    """
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise InputError(
            f"Cannot save to {str(path)!r}: the suffix {target.suffix!r} is not {_one_of(suffixes)}; "
            f"name a file that ends in {_one_of(suffixes)}."
        )
    if target.is_dir():
        raise _not_written(path, "it is a folder")
    if not target.parent.is_dir():
        raise _not_written(path, f"there is no folder {str(target.parent)!r}")
    if not os.access(target.parent, os.W_OK):
        raise _not_written(path, f"the folder {str(target.parent)!r} is not yours to write to")
    return target


def _one_of(suffixes: Sequence[str]) -> str:
    return suffixes[0] if len(suffixes) == 1 else f"one of {', '.join(suffixes)}"


def _not_written(path: str | os.PathLike[str], reason: str) -> OutputError:
    return OutputError(f"Cannot write {str(path)!r}: {reason}; name a file in a folder you can write to.")


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write `text` to `path` whole or not at all.

    Raises:
        OutputError: the folder does not exist or the file cannot be written there.
    """
    target = Path(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=target.parent, prefix=f".{target.name}.", delete=False, encoding="utf-8", newline=""
        ) as stream:
            temporary = Path(stream.name)
            stream.write(text)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # temporary files are private; a result should have ordinary permissions
        temporary.replace(target)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise _not_written(path, error.strerror or str(error)) from error
    return target
