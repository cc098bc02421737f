"""Two networks side by side: totals, differences, ratios, what is seen, and layers in pairs."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import thalweg as tw
from thalweg.errors import InputError
from thalweg.network.comparison import QUANTITIES
from thalweg.network.grouping import is_shown

FIRST = "input 112x112x3; conv3-64; maxpool; conv3-128; maxpool; FC-10"
SECOND = "input 112x112x3; conv3-64; maxpool; conv5-128; conv3-128; maxpool; FC-10"


def test_totals_differences_and_ratios():
    answer = tw.size(FIRST).compare(tw.size(SECOND))
    fields = (3 * 64 * 9 + 64, 64 * 128 * 9 + 128, 28 * 28 * 128 * 10 + 10)
    more = 64 * 128 * 25 + 128 + 128 * 128 * 9 + 128 - fields[1]
    assert answer.first.totals["parameters"] == sum(fields)
    assert answer.difference["parameters"] == more
    assert answer.ratio["parameters"] == pytest.approx(1 + more / sum(fields))
    assert (answer.first.last.receptive_field, answer.second.last.receptive_field) == ((10, 10), (18, 18))
    # The larger kernel and the new layer see two positions of stride 2 more at each end.
    assert answer.first.seen[0] == (14 * 4 - 3, 14 * 4 + 6)
    assert answer.second.seen[0] == (14 * 4 - 7, 14 * 4 + 10)
    for key in QUANTITIES:
        assert answer.difference[key] == answer.second.totals[key] - answer.first.totals[key]


def test_layers_are_paired_by_name_and_kind():
    pairs = [(one and one.name, other and other.name) for one, other in tw.size(FIRST).compare(tw.size(SECOND)).layers]
    assert pairs == [
        ("conv3-64", "conv3-64"), ("maxpool", "maxpool"), (None, "conv5-128"), ("conv3-128", "conv3-128"),
        ("maxpool", "maxpool"), ("FC-10", "FC-10"),
    ]  # fmt: skip


def test_tables_json_and_figure(tmp_path):
    answer = tw.size(FIRST).compare(tw.size(SECOND), ("small", "large"))
    main, layers, only = answer.tables()
    assert main.columns == ("", "small", "large", "difference", "ratio")
    assert "it sees" in [row[0] for row in main.rows]
    assert layers.notes == [
        "3 layers are the same in both.",
        "1 layer as costly in both, seeing more or less: the last 10x10 and 18x18.",
    ]
    assert [row[:2] for row in layers.rows] == [("conv3-128", "small"), ("", "large")]
    assert (only.title, [row[0] for row in only.rows]) == ("Only in large", ["conv5-128"])
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(answer)
    assert "…" not in console.export_text()
    found = json.loads(answer.to_json())
    assert list(found) == ["first", "second", "difference", "ratio", "layers"]
    assert list(found["first"]["totals"]) == list(QUANTITIES)
    assert found["layers"][2][0] is None
    assert max(max(bar.x) for bar in answer.figure().data) == 100
    for suffix in (".html", ".json", ".csv"):
        assert answer.save(tmp_path / f"two{suffix}").stat().st_size > 50


def test_long_names_stand_below():
    answer = tw.size(FIRST).compare(tw.size(SECOND), (FIRST, SECOND))
    assert answer.table().columns[1:3] == ("1", "2")
    assert f"2: {SECOND}" in answer.table().notes


def test_bytes_are_for_the_setup_of_the_first():
    from thalweg.network.training_step import Setup

    answer = tw.size(FIRST).trained_with(Setup.of(32, "bf16", "sgd")).compare(tw.size(SECOND))
    assert answer.second.totals["training_bytes"] == tw.size(SECOND).memory(32, "bf16", "sgd").training_bytes
    assert "Bytes for a batch of 32, bfloat16, sgd." in answer.table().notes


def test_networks_without_positions_compare_too():
    answer = tw.size("input 9; FC-3").compare(tw.size("input 9; FC-4; relu; FC-3"))
    assert answer.first.last is None
    assert answer.to_dict()["first"]["receptive_field"] is None
    answer.table().to_text()


def test_two_names_are_needed():
    with pytest.raises(InputError, match="Two networks need two names, not 3"):
        tw.size(FIRST).compare(tw.size(SECOND), ("a", "b", "c"))


layers = st.lists(st.sampled_from(["conv3-4", "conv1-4", "maxpool3/1 pad 1", "relu"]), max_size=8)


@given(layers, layers)
def test_every_layer_is_paired_once_and_in_order(one, other):
    sizes = [tw.size("; ".join(["input 9x9x4", *each, "FC-2"])) for each in (one, other)]
    answer = sizes[0].compare(sizes[1])
    for side, size in enumerate(sizes):
        assert [pair[side] for pair in answer.layers if pair[side]] == [each for each in size.layers if is_shown(each)]
    same = sizes[0].compare(sizes[0])
    assert all(value == 0 for value in same.difference.values())
    assert len(same.tables()) == 2
    assert not same.tables()[1].rows
