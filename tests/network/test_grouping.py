"""Large tables by module: repeated blocks once, sums that hold, and pictures that stay readable."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import thalweg as tw
from thalweg.network.graph import Kind
from thalweg.network.grouping import at_most, grouped, is_shown
from thalweg.network.layer_size import LayerSize
from thalweg.network.readers.arrays import Slide
from thalweg.network.readers.recorder import Recorder
from thalweg.network.size import size

SAME = Slide((3, 3), low=(1, 1), high=(1, 1))


def layer(name, module="", neurons=10, parameters=5, kind="convolution"):
    return LayerSize(name, kind, (8, 8), neurons, parameters, 100 * bool(neurons), 90 * bool(neurons), 7, None, None,
                     None, None, module)  # fmt: skip


def deep_network(blocks=36, stages=3):
    """A residual network as a reader of modules writes it down."""
    recorder = Recorder()
    x = recorder.input((1, 8, 32, 32), positions=(2, 3), channel=1)

    def conv(x, path, channels):
        weight = recorder.weight(f"{path}.weight", (channels, x.shape[1], 3, 3))
        holder, _, _ = path.rpartition(".")
        return recorder.slide(Kind.CONVOLUTION, x, (2, 3), SAME, channels=channels, weights=(weight,), name=path,
                              module=holder)  # fmt: skip

    def norm(x, path):
        scale = recorder.weight(f"{path}.weight", (x.shape[1],))
        return recorder.normalise(x, (), (scale,), name=path, module=path.rpartition(".")[0])

    x = conv(x, "stem", 8)
    for stage in range(stages):
        for block in range(blocks):
            path = f"layer{stage + 1}.{block}"
            y = norm(conv(x, f"{path}.conv1", 8 << stage), f"{path}.bn1")
            y = recorder.elementwise([y], name=f"{path}.relu", module=path)
            y = norm(conv(y, f"{path}.conv2", 8 << stage), f"{path}.bn2")
            x = recorder.elementwise([x, y], Kind.ADD, f"{path}.add", path) if x.shape == y.shape else y
    return size(recorder.graph())


def test_blocks_that_repeat_are_told_once():
    answer = deep_network()
    lines = [line.rstrip() for line in answer.table().to_text().splitlines()]
    labels = [line.split("  ")[0] if not line.startswith(" ") else line.strip().split("  ")[0] for line in lines]
    assert labels[2:12] == [
        "stem", "layer1.0-35 (36 x)", "conv1", "conv2",
        "layer2", "0", "conv1", "conv2", "1-35 (35 x)", "conv1",
    ]  # fmt: skip
    assert len(lines) < 30
    whole = 36 * 2 * (8 * 8 * 9 + 8)
    assert f"{whole:,}" in lines[3]
    assert "Not shown: 430 operations without neurons" in "\n".join(lines)


def test_sums_of_modules_hold_what_is_not_shown():
    answer = deep_network(blocks=12)
    rows = grouped(answer.layers)
    outer = [row for row in rows if row.depth == 0]
    everything = [place for row in outer for place in row.places]
    assert sorted(everything) == list(range(len(answer.layers)))
    assert sum(answer.layers[place].parameters for place in everything) == answer.totals.parameters


def test_every_operation_can_be_shown_and_is_in_files(tmp_path):
    answer = deep_network(blocks=12)
    assert len(answer.in_full().table().rows) == len(answer.layers) + 1
    assert len(answer.table().rows) < 30
    lines = answer.save(tmp_path / "size.csv").read_text().splitlines()
    assert len(lines) == len(answer.layers) + 2
    assert len(answer.to_dict()["layers"]) == len(answer.layers)
    assert answer.in_full() == answer


def test_a_long_spec_folds_its_repeats():
    answer = tw.size("input 64x64x3; conv3-16; (conv3-16; relu; conv3-16; relu; maxpool3/1 pad 1) x40; FC-10")
    text = answer.table().to_text()
    assert len(text.splitlines()) < 20
    assert "conv3-16 ... maxpool3/1 (40 x)" in text
    assert "  conv3-16 (2 x)                64x64x16    131,072" in text  # those of the first of the forty
    assert "5..241 each" in text


def test_a_longer_pattern_goes_before_a_shorter_one():
    answer = tw.size("input 64x64x16; conv3-16; (conv3-16; relu; conv3-16; relu; maxpool3/1 pad 1) x40; FC-10")
    labels = [row[0] for row in answer.table().rows]
    assert labels == [
        "conv3-16", "conv3-16 ... maxpool3/1 (40 x)", "  conv3-16 (2 x)", "  maxpool3/1", "FC-10", "total",
    ]  # fmt: skip


def test_a_hundred_columns_are_enough():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(deep_network())
    shown = console.export_text()
    assert "…" not in shown
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_pictures_have_few_bars():
    figure = deep_network(blocks=100, stages=3).figure()
    assert len(figure.data[0].x) <= 60
    for bars in figure.data[:3]:
        assert sum(bars.x) > 95  # what is no layer of neurons has some of the parameters
    flat = tw.size("input 2000x1; " + "; ".join(f"conv3-{width}" for width in range(1, 501))).figure()
    assert len(flat.data[0].x) <= 60
    assert sum(flat.data[1].x) > 99.9
    assert "conv3-1 ... conv3-9" in flat.layout.yaxis.ticktext[0]


names = st.sampled_from(["a", "b", "0", "1", "2"])


@given(
    st.lists(st.tuples(st.lists(names, max_size=3), names, st.sampled_from([0, 10]), st.integers(0, 2)), max_size=40)
)
def test_nothing_is_lost_or_counted_twice(steps):
    layers = [
        layer(".".join([*path, name]), ".".join(path), neurons, parameters) for path, name, neurons, parameters in steps
    ]
    rows = grouped(layers)
    leaves = [place for row in rows if row.leaf for place in row.everywhere]
    assert sorted(leaves) == [place for place, each in enumerate(layers) if is_shown(each)]
    for most in (1, 3, 100):
        shown = at_most(rows, most)
        assert len(shown) <= most
        places = [place for row in shown for place in row.everywhere]
        assert len(places) == len(set(places))
        assert set(places) >= set(leaves)
    outermost = [place for row in rows if row.depth == 0 for place in row.places]
    assert len(outermost) == len(set(outermost))
