"""Pages in a real browser: pictures are drawn, nothing is fetched, and no name that a user chose ever runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest

from thalweg.report import Section, Table, page, write_text

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium browser (Debian package chromium)")

ATTACKS = [
    "<script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title = 'owned'\">",
    "</script><script>document.title = 'owned'</script>",
    '"><svg onload="document.title = \'owned\'">',
    '<a href="javascript:document.title=1">x</a>',
]


class Attributes(HTMLParser):
    """Every attribute of every element, as the browser's parser would split them."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += attrs


def rendered(path, profile):
    """The page's elements after its scripts have run, with no network to reach."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += [
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    command = [CHROMIUM, *options, f"--user-data-dir={profile}", "--virtual-time-budget=8000", "--dump-dom"]
    return subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout


def test_pictures_are_drawn_without_a_network(tmp_path):
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name="a line"), layout={"title": "a title"})
    section = Section("one", tables=[Table("t", ["x"], [[1]])], figures=[figure])
    path = write_text(tmp_path / "page.html", page("Page", [section]))
    dom = rendered(path, tmp_path / "profile")
    assert 'class="main-svg"' in dom
    assert "a title" in dom


def test_hostile_names_never_run(tmp_path):
    sections = []
    for attack in ATTACKS:
        figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name=attack), layout={"title": attack, "showlegend": True})
        sections.append(Section(attack, [attack], [Table(attack, [attack], [[attack]], [attack])], [figure]))
    path = write_text(tmp_path / "page.html", page(" ".join(ATTACKS), sections))
    dom = rendered(path, tmp_path / "profile")
    assert dom.count('class="plot-container') >= len(ATTACKS), "the pictures must be drawn for this to mean anything"
    title = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert title is not None
    assert title[1].count("owned") == len(ATTACKS) - 1, "the title is what was asked for, not what a script made of it"
    assert "<script>document.title" not in dom
    attributes = Attributes(dom).found
    assert not {name for name, _ in attributes} & {"onerror", "onload"}
    assert not [value for _, value in attributes if (value or "").strip().startswith("javascript:")]
