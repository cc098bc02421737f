"""Results as text, CSV, JSON and pages: exact for programs, harmless whatever a user named, whole or not at all."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from thalweg.errors import InputError, OutputError
from thalweg.report import (
    Result,
    Section,
    Table,
    Together,
    checked_target,
    counted,
    format_cell,
    page,
    picture_source,
    printable,
    to_json,
    write_text,
)

HOSTILE = [
    "<script>alert(1)</script>",
    "[red]not markup[/red]",
    "\x1b[31mred\x1b[0m",
    "</table>",
    "{{ 7 * 7 }}",
    "a\x07b",
]


@dataclass(frozen=True, repr=False)
class Answer(Result):
    name: str
    values: np.ndarray

    def table(self):
        return Table(self.name, ("name", "value"), [(self.name, float(value)) for value in self.values], (self.name,))

    def figure(self):
        return go.Figure(go.Scatter(y=self.values, name=self.name), layout={"title": self.name})

    def to_dict(self):
        return {"name": self.name, "values": self.values}


class Tags(HTMLParser):
    """The tags and the text of a page, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.sources = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


def test_a_narrow_terminal_loses_no_part_of_a_word():
    console = Console(file=io.StringIO(), width=24)
    console.print(Table("t", ("name", "why"), [("a" * 30 + "z", "b" * 30 + "y")]))
    assert {"z", "y"} <= set(console.file.getvalue())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_prints_literally_everywhere(name, tmp_path):
    answer = Answer(name, np.array([1.0, 2.0]))
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    console.print(answer)
    shown = printable(name)
    assert shown in console.file.getvalue()
    assert shown in answer.table().to_text()
    assert "\x1b[31m" not in console.file.getvalue() + answer.table().to_text()
    saved = answer.save(tmp_path / "answer.html").read_text()
    parsed = Tags(saved)
    plain = Tags(Answer("plain", answer.values).save(tmp_path / "plain.html").read_text())
    assert parsed.tags == plain.tags, "a name may not add or remove an element"
    assert any(shown in text for text in parsed.text)


def test_a_page_is_self_contained(tmp_path):
    text = Answer("squares", np.arange(3.0)).save(tmp_path / "page.html").read_text()
    assert Tags(text).sources == []
    assert "Plotly" in text
    assert Tags(page("no figures", [Section("one", ["a < b"])])).tags.count("script") == 0


def test_a_page_holds_its_sections_in_order():
    text = "".join(
        Tags(page("T", [Section("first", ["a < b"]), Section("second", tables=[Table("t", ["x"], [["last"]])])])).text
    )
    assert text.index("first") < text.index("a < b") < text.index("second") < text.index("last")


@given(st.lists(st.tuples(st.text(), st.floats(allow_nan=False), st.integers(), st.booleans(), st.none())))
def test_csv_keeps_every_value(rows):
    table = Table("values", ("text", "float", "integer", "truth", "nothing"), rows)
    text = table.to_csv()
    if any("\r" in row[0] or "\0" in row[0] for row in rows):
        return  # the reader of the standard library cannot read these back, whoever wrote them
    back = list(csv.reader(io.StringIO(text, newline="")))
    assert back[0] == ["text", "float", "integer", "truth", "nothing"]
    for row, read in zip(rows, back[1:], strict=True):
        assert read == [row[0], repr(row[1]), str(row[2]), str(row[3]), ""]


def test_text_is_aligned_and_numbers_are_right():
    text = Table("Squares", ("n", "square", "even"), [(1, 1.0, False), (1200, 1.44e6, True)]).to_text()
    assert text.splitlines() == ["Squares", "    n    square  even", "    1         1  no", "1,200  1.44e+06  yes"]


def test_cells_are_readable():
    assert [format_cell(value) for value in (1234567, 0.1 + 0.2, True, None, "x")] == [
        "1,234,567",
        "0.3",
        "yes",
        "",
        "x",
    ]


def test_results_have_a_short_repr_and_things_are_counted_in_words():
    assert repr(Answer("many numbers", np.ones(10_000))) == "<Answer: many numbers>"
    assert [counted(number, "example") for number in (0, 1, 2000)] == ["0 examples", "1 example", "2,000 examples"]


def test_json_is_strict():
    value = {
        "a": np.float64(1.5),
        2: np.array([1, 2]),
        "bad": [np.nan, float("inf")],
        "answer": Answer("x", np.ones(1)),
    }
    assert json.loads(to_json(value), parse_constant=pytest.fail) == {
        "a": 1.5,
        "2": [1, 2],
        "bad": [None, None],
        "answer": {"name": "x", "values": [1.0]},
    }


@pytest.mark.parametrize("suffix", [".json", ".csv", ".html", ".JSON"])
def test_save_writes_the_format_of_the_suffix_with_ordinary_permissions(suffix, tmp_path):
    path = Answer("x", np.ones(2)).save(tmp_path / f"answer{suffix}")
    text = path.read_text()
    assert {".json": '"values"', ".csv": "name,value", ".html": "<!doctype html>"}[suffix.lower()] in text
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_suffix_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"'\.pdf' is not one of \.json, \.csv, \.html"):
        Answer("x", np.ones(1)).save("answer.pdf")


def test_a_target_is_refused_before_any_work(tmp_path):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        checked_target(tmp_path / "folder.html")
    with pytest.raises(OutputError, match="there is no folder"):
        checked_target(tmp_path / "missing" / "answer.html")
    with pytest.raises(InputError, match=r"'\.csv' is not \.html; name a file that ends in \.html"):
        checked_target(tmp_path / "answer.csv", [".html"])
    assert checked_target(str(tmp_path / "answer.csv")) == tmp_path / "answer.csv"


def test_a_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root, who runs CI, may write anywhere
    with pytest.raises(OutputError, match="not yours to write to"):
        checked_target(tmp_path / "answer.json")


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path):
    with pytest.raises(OutputError, match="No such file or directory"):
        write_text(tmp_path / "missing" / "answer.json", "{}")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        write_text(tmp_path / "folder.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


def test_a_notebook_shows_the_table_and_the_figure():
    shown = Tags(Answer("<b>x</b>", np.ones(2))._repr_html_())
    assert "table" in shown.tags
    assert "b" not in shown.tags


def test_pictures_keep_their_pixels():
    grey = np.array([[0, 64], [128, 255]], np.uint8)
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    for levels in (grey, colours):
        header, encoded = picture_source(levels).split(",")
        assert header == "data:image/png;base64"
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
        assert pixels.tolist() == levels.tolist()


def test_answers_together_show_everything_and_the_first_one_leads(tmp_path):
    first, second = Answer("one", np.ones(1)), Answer("two", np.zeros(1))
    both = Together((("", first), ("second", second)))
    assert both.to_dict() == {**first.to_dict(), "second": second.to_dict()}
    assert [table.title for table in both.tables()] == ["one", "two"]
    assert [figure.layout.title.text for figure in both.figures()] == ["one", "two"]
    assert both.table().title == both.figure().layout.title.text == "one"
    page_text = both.save(tmp_path / "both.html").read_text()
    assert "one" in page_text
    assert "two" in page_text
