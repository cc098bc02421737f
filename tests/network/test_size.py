"""`size`: the textbook table cell by cell, stable keys, single units, notes, files, hostile names, bad input."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time

import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import thalweg as tw
from thalweg.errors import InputError
from thalweg.network.graph import Graph, Kind, Operation, Tensor
from thalweg.network.readers.spec import read_spec
from thalweg.network.size import size

TEXTBOOK = "input 112x112x3; conv3-64; maxpool; conv3-128; maxpool; conv3-256 x2; maxpool; FC-1024; FC-100"

# Mission F3.2, every cell; the receptive fields follow from size + (kernel - 1) * stride, layer by layer.
ROWS = [
    ("conv3-64", (112, 112, 64), 802_816, 1_792, 21_676_032, 3, 1),
    ("maxpool", (56, 56, 64), 200_704, 0, 802_816, 4, 2),
    ("conv3-128", (56, 56, 128), 401_408, 73_856, 231_211_008, 8, 2),
    ("maxpool", (28, 28, 128), 100_352, 0, 401_408, 10, 4),
    ("conv3-256", (28, 28, 256), 200_704, 295_168, 231_211_008, 18, 4),
    ("conv3-256", (28, 28, 256), 200_704, 590_080, 462_422_016, 26, 4),
    ("maxpool", (14, 14, 256), 50_176, 0, 200_704, 30, 8),
    ("FC-1024", (1024,), 1_024, 51_381_248, 51_380_224, 112, None),
    ("FC-100", (100,), 100, 102_500, 102_400, 112, None),
]
TOTALS = (1_957_988, 52_444_644, 999_407_616)


def test_the_textbook_table_cell_by_cell():
    answer = tw.size(TEXTBOOK)
    for layer, row in zip(answer.layers, ROWS, strict=True):
        name, output, neurons, parameters, connections, field, stride = row
        assert (layer.name, layer.output) == (name, output)
        assert (layer.neurons, layer.parameters, layer.connections) == (neurons, parameters, connections)
        assert layer.receptive_field == (field, field)
        assert layer.stride == (stride, stride)
    assert (answer.totals.neurons, answer.totals.parameters, answer.totals.connections) == TOTALS
    weighted = sum(row[4] for row in ROWS if not row[0].startswith("maxpool"))
    assert answer.totals.macs == weighted
    assert [layer.first[0] for layer in answer.layers] == [-1, -1, -3, -3, -7, -11, -11, 0, 0]
    # A 3x3 on an n x n map loses 3 taps for each of the n units of a side, twice counted at the corners: (3n - 2)^2.
    inside = (334**2 * 3 * 64, 166**2 * 64 * 128, 82**2 * 128 * 256, 82**2 * 256 * 256)
    assert tuple(answer.layers[place].connections_inside for place in (0, 2, 4, 5)) == inside


def test_json_has_the_documented_keys():
    answer = json.loads(tw.size(TEXTBOOK).to_json())
    assert list(answer) == ["layers", "totals", "complete", "unknown"]
    counts = ["neurons", "parameters", "connections", "connections_inside", "macs"]
    assert list(answer["totals"]) == [*counts, "training_bytes"]
    for layer, row in zip(answer["layers"], ROWS, strict=True):
        assert list(layer) == ["name", "kind", "output", *counts, "receptive_field", "stride", "first"]
        assert layer["output"] == list(row[1])
        assert layer["receptive_field"] == [row[5]] * 2
        assert layer["stride"] == [row[6]] * 2
    assert answer["complete"] is True
    assert answer["unknown"] == []
    assert [layer["kind"] for layer in answer["layers"][:2]] == ["convolution", "max pool"]


def test_the_table_reads_like_the_textbook_and_fits_a_terminal():
    answer = tw.size(TEXTBOOK)
    text = answer.table().to_text()
    lines = [line.split() for line in text.splitlines()]
    assert ["conv3-256", "28x28x256", "200,704", "590,080", "462,422,016", "26x26"] in lines
    assert ["total", "1,957,988", "52,444,644", "999,407,616"] in lines
    assert ["FC-100", "100", "100", "102,500", "102,400", "all"] in lines
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(answer)
    shown = console.export_text()
    assert ["conv3-256", "28x28x256", "200,704", "590,080", "462,422,016", "26x26"] in map(
        str.split, shown.splitlines()
    )
    assert "…" not in shown
    work = [line.split() for line in answer.tables()[1].to_text().splitlines()]
    assert ["conv3-64", "convolution", "21,418,752", "21,676,032", "1", "-1"] in work


def test_what_one_unit_sees():
    answer = tw.size(TEXTBOOK)
    corner = answer.unit("conv3-256#2", (0, 27))
    assert corner.clipped == ((0, 14), (97, 111))
    assert corner.unclipped == ((-11, 14), (97, 122))
    assert corner.to_dict()["layer"] == "conv3-256#2"
    assert answer.unit(5, (0, 27)) == answer.unit(-4, (0, 27)) == answer.unit("CONV3-256#2", (0, 27)) == corner
    assert answer.unit("conv3-256#1", (0, 27)) != corner
    assert answer.unit("FC-100").clipped == answer.unit("FC-100", (99,)).clipped == ((0, 111), (0, 111))
    assert (
        "height      0    14    15                -11                14                26" in corner.table().to_text()
    )


def test_a_unit_of_a_flattened_map_is_found_where_it_came_from():
    answer = size("input 6x5x2; conv3-3; flat: flatten")
    for row, column, channel in ((0, 0, 0), (3, 2, 1), (5, 4, 2)):
        unit = (row * 5 + column) * 3 + channel
        assert answer.unit("flat", (unit,)).clipped == answer.unit("conv3-3", (row, column)).clipped


def test_a_unit_that_sees_nothing_says_so():
    answer = size("input 4x4x1; pad 3; conv1-1")
    assert answer.unit("conv1-1", (0, 5)).clipped is None
    assert answer.unit("conv1-1", (0, 5)).unclipped == ((-3, -3), (2, 2))
    assert "sees nothing" in answer.unit("conv1-1", (0, 5)).table().to_text()


@pytest.mark.parametrize(
    ("layer", "index", "sentence"),
    [
        ("maxpol", (0, 0), "There is no layer named 'maxpol'; did you mean 'maxpool'?"),
        ("conv3-256", (0, 0), "2 layers are named 'conv3-256'; say which: conv3-256#1 to conv3-256#2."),
        ("conv3-256#3", (0, 0), "There is no conv3-256#3; layers named 'conv3-256': 2."),
        ("conv3-64", (0,), "Layer 'conv3-64' has no unit '0'; its units are 0..111,0..111"),
        ("conv3-64", (0, 112), "Layer 'conv3-64' has no unit '0,112'; its units are 0..111,0..111"),
        ("conv3-64", (-1, 0), "Layer 'conv3-64' has no unit '-1,0'"),
        ("conv3-64", (0.5, 0), "The position of a unit of 'conv3-64' must be whole numbers."),
        ("FC-100", (100,), "Layer 'FC-100' has no unit '100'; its units are 0..99"),
        (9, (0, 0), "There is no layer 9; the network has 9, counted from 0."),
    ],
)
def test_units_that_are_not_there(layer, index, sentence):
    with pytest.raises(InputError) as caught:
        tw.size(TEXTBOOK).unit(layer, index)
    assert sentence in str(caught.value)


def test_the_input_can_be_given_apart():
    smaller = size(TEXTBOOK, input="56x56x3")
    assert smaller.layers[0].output == (56, 56, 64)
    assert size("conv3-64; maxpool", (56, 56, 3)).layers == smaller.layers[:2]
    assert size("conv3-64; maxpool", "56 x 56 x 3").input == (56, 56, 3)


def test_a_spec_may_stand_in_a_file(tmp_path):
    path = tmp_path / "vgg.txt"
    path.write_text(TEXTBOOK.replace("; ", "\n") + "\n# that is all\n", encoding="utf-8")
    assert size(path).layers == size(str(path)).layers == size(TEXTBOOK).layers


def test_a_mistake_in_a_file_is_placed(tmp_path):
    path = tmp_path / "vgg.txt"
    path.write_text("input 8x8x3\nconv3-4\n  maxpol\n")
    with pytest.raises(InputError, match="line 3, column 3: 'maxpol' is not a layer; did you mean 'maxpool'"):
        size(path)


@pytest.mark.parametrize(
    ("model", "given", "sentence"),
    [
        (3, None, "Cannot read a network from a value of type 'int'; give a spec such as"),
        (None, None, "Cannot read a network from a value of type 'NoneType'"),
        ("", None, "line 1, column 1: expected a layer"),
        ("nets/vgg.txt", None, "There is no file 'nets/vgg.txt'; name a text file with a spec"),
        ("conv3-4", "12", "'conv3-4' slides over positions, but its input is a vector of 12 units"),
        ("conv3-4", "big", "'big' is not the extents of an input; write them as '112x112x3'."),
        ("conv3-4", ("a", 1), "The extents of the input must be whole numbers, such as (112, 112, 3)."),
        ("conv3-4", 5, "The extents of the input must be whole numbers, such as (112, 112, 3)."),
        ("conv3-4", (2.5, 3), "The extents of the input must be whole numbers, such as (112, 112, 3)."),
        ("conv3-4", (0, 3), "The input 0 x 3 is not 1 to 3 positive extents and a number of channels."),
        ("conv3-4", (2**70, 3), "more than 1,000,000,000"),
        ("conv3-4\0", None, "has no meaning here"),
        ("x" * 5000, (3, 3), "is not a layer"),
        (Graph((Tensor(0, (4, 1), (0,), 1),), ()), "4x1", "A graph holds its input's extents already"),
    ],
)
def test_models_that_cannot_be_used(model, given, sentence):
    with pytest.raises(InputError) as caught:
        size(model, given)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    binary = tmp_path / "model.txt"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    large = tmp_path / "large.txt"
    large.write_text("relu;" * 100_000)
    for path, sentence in (
        (binary, "it is not UTF-8 text"),
        (tmp_path, "is a folder without a config.json"),
        (tmp_path / "absent", "No such file or directory"),
        (large, "at most 200,000 are read"),
    ):
        with pytest.raises(InputError, match=sentence):
            size(path)


def test_phases_frozen_weights_gates_and_crooked_branches_are_noted():
    notes = "\n".join(
        size(
            "input 18x18x2; a: conv3-4 valid frozen; maxpool; conv3-4; convt2-4/2; here: conv4-4 pad 1; groupnorm 2; "
            "from a; crop 0,1; conv1-4; joined: add here"
        )
        .table()
        .notes
    )
    trained = 4 * 4 * 9 + 4 + 4 * 4 * 4 + 4 + 16 * 16 + 4 + 8 + 16 + 4
    assert f"{trained:,} parameters are trained, 76 are frozen." in notes
    assert "What a unit sees depends on its position in here." in notes
    assert "From groupnorm 2 on, a gate or a normalisation also depends on the whole image" in notes
    assert "joined: its branches are centred" in notes
    assert "positions apart along the height" in notes
    paces = size("input 16x1; a: conv1-1/2; from input; crop 4; joined: add a").table().notes
    assert paces == [
        "joined: its branches move over the position at different paces, so they do not meet on the same places."
    ]


def test_an_unknown_operation_makes_the_totals_incomplete():
    image = Tensor(0, (8, 8, 4), (0, 1), 2)
    strange = Operation(Kind.UNKNOWN, "[red]warp\x1b[31m<script>", (image,), (Tensor(1, (8, 8, 4), (0, 1), 2),))
    answer = size(Graph((image,), (strange,)))
    assert answer.complete is False
    assert answer.unknown == (strange.name,)
    assert answer.to_dict()["layers"][0]["neurons"] is None
    assert answer.table().rows[0][2:5] == (None, None, None)
    assert answer.to_dict()["layers"][0]["receptive_field"] is None
    assert "Incomplete: not known, so that only parameters are counted of" in answer.table().to_text()
    with pytest.raises(InputError, match="cannot be followed"):
        answer.unit(0, (0, 0))
    # Whatever the name holds prints literally and cannot act: markup, terminal escapes, tags.
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(answer)
    assert "[red]warp\\x1b[31m<script>" in console.export_text()
    assert "\x1b" not in answer.table().to_text()
    assert "<script>" not in answer.table().to_html()
    assert "<script>" not in json.loads(answer.figure().to_json())["layout"]["yaxis"]["ticktext"][0]


@pytest.mark.parametrize("text", [TEXTBOOK, "input 50x3; conv3-4; gap", "input 9; FC-3", "input 6x6x6x1; conv3-2"])
def test_figures_and_pages(text, tmp_path):
    answer = size(text)
    assert [bar["name"] for bar in answer.figure().data][:3] == ["neurons", "parameters", "connections"]
    for suffix in (".html", ".json", ".csv"):
        assert answer.save(tmp_path / f"size{suffix}").stat().st_size > 50
    unit = answer.unit(0, (1,) * (len(answer.input) - 1))
    assert len(unit.figure().data) == (3 if len(answer.input) > 1 else 0)
    assert unit.save(tmp_path / "unit.html").exists()


def test_an_endless_input_still_has_a_picture():
    assert not size("input 1000000000x1; conv3-4").figure().data[3].x


def test_the_picture_shows_what_the_middle_unit_sees():
    figure = size(TEXTBOOK).figure()
    fields = figure.data[3]
    assert list(fields.base)[:2] == [55, 55]
    assert list(fields.x) == [3, 4, 8, 10, 18, 26, 30, 112, 112]
    shares = {bar["name"]: bar["x"] for bar in figure.data[:3]}
    for share in shares.values():
        assert sum(share) == pytest.approx(100)
    assert shares["parameters"][7] == pytest.approx(100 * 51_381_248 / TOTALS[1])


def ragged(period_one, period_two):
    """Two branches that leave gaps along different axes: their union is no product of intervals."""
    a, b = f"a{period_one}_{period_two}", f"b{period_one}_{period_two}"
    one, two = f"{period_one}x1", f"1x{period_two}"
    return f"{a}:; maxpool1/{one}; convt1-1/{one}; {b}:; from {a}; maxpool1/{two}; convt1-1/{two}; add {b}"


@pytest.mark.parametrize(
    "text",
    [
        "input 1000000000x1000000000x1000000000x1000000000; conv1000000000-1000000000/7; FC-1000000000",
        "input 64x64x1; (conv3-1; relu) x3300",
        "input 9x1; (convt2-1/2) x10; (conv1001-1) x500",
        "input 210x210x1; (" + "; ".join(ragged(p, q) for p in (2, 3, 5, 7) for q in (2, 3, 5, 7)) + ") x60",
        "input 40x1; a:; (b:; conv1-1/2; upsample2; add a; conv1-1/5; upsample5; add b) x800",
    ],
    ids=["large numbers", "deep", "long phases", "ragged", "many paces"],
)
def test_specs_at_the_limits_are_answered_within_seconds(text):
    began = time.perf_counter()
    answer = size(text)
    assert time.perf_counter() - began < 20  # a second or two where nothing else runs
    assert answer.totals.neurons > 0
    assert answer.layers[0].receptive_field is not None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["conv3-4", "conv3-4/2 valid", "maxpool", "bn", "crop 1", "pad 2", "upsample2", "convt3-4/2", "a:", "b:",
             "add a", "concat a b", "gap", "FC-4", "flatten", "reshape 2x2x1", "from a", "multiply a", "instancenorm"]
        ),
        max_size=9,
    )
)  # fmt: skip
def test_sums_and_shapes_hold_for_whatever_is_read(statements):
    text = "; ".join(["input 9x8x4", *dict.fromkeys(statements), "relu"])
    try:
        graph = read_spec(text)
    except InputError:
        return
    answer = size(graph)
    for what in ("neurons", "parameters", "connections", "connections_inside", "macs"):
        assert getattr(answer.totals, what) == sum(getattr(layer, what) for layer in answer.layers)
    for layer in answer.layers:
        assert 0 <= layer.connections_inside <= layer.connections
        assert layer.macs in (0, layer.connections)
        if layer.receptive_field is not None:
            assert len(layer.receptive_field) == len(layer.stride) == len(layer.first) == 2
    answer.to_json()
    answer.table().to_text()


def test_no_array_library_is_loaded_for_a_spec():
    code = (
        "import sys, thalweg as tw; answer = tw.size('input 8x8x3; conv3-4; FC-2'); answer.table().to_text();"
        "answer.to_json(); print([name for name in ('numpy', 'scipy', 'plotly', 'rich', 'jax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_unit_says_that_a_mask_is_not_followed():
    """Only a softmax is known to make nothing of what a mask hides."""

    def attention(x):
        first = jnp.tanh(x)
        scores = jnp.where(jnp.tri(10, dtype=bool), first @ x.T, -jnp.inf)
        return jnp.exp2(scores) @ x

    answer = tw.size(attention, (10, 4))
    behind, before = answer.unit(-1, (0,)), answer.unit("tanh", (3,))
    assert behind.clipped == ((0, 9),)
    assert any("a mask that is not followed" in note for note in behind.table().notes)
    assert not before.table().notes
