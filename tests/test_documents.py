"""The README and the pages of `docs`: their examples run, and print what the pages show."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from thalweg.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", re.DOTALL)
COMMANDS = [
    line.removeprefix("$ ")
    for page in PAGES
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_print_what_it_shows(page):
    names: dict[str, object] = {}
    for example, shown in EXAMPLE.findall(page.read_text()):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example, page.name, "exec"), names)
        assert printed.getvalue() == shown


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_pages_work(command, capsys):
    program, *arguments = shlex.split(command)
    assert program == "thalweg"
    with pytest.raises(SystemExit) as left:
        main(arguments)
    captured = capsys.readouterr()
    assert not left.value.code, captured.err
    assert captured.out.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_example_of_the_readme_has_ten_lines():
    example, _ = EXAMPLE.findall(PAGES[0].read_text())[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
