"""The table of the textbook's network, whatever framework it is written in, and comparisons with spec text."""

from __future__ import annotations

import thalweg as tw

SPEC = "input 112x112x3; conv3-64; maxpool; conv3-128; maxpool; conv3-256 x2; maxpool; FC-1024; FC-100"

# Mission F3.2, every cell: units, neurons, parameters, connections.
ROWS = [
    ((112, 112, 64), 802_816, 1_792, 21_676_032),
    ((56, 56, 64), 200_704, 0, 802_816),
    ((56, 56, 128), 401_408, 73_856, 231_211_008),
    ((28, 28, 128), 100_352, 0, 401_408),
    ((28, 28, 256), 200_704, 295_168, 231_211_008),
    ((28, 28, 256), 200_704, 590_080, 462_422_016),
    ((14, 14, 256), 50_176, 0, 200_704),
    ((1024,), 1_024, 51_381_248, 51_380_224),
    ((100,), 100, 102_500, 102_400),
]
TOTALS = (1_957_988, 52_444_644, 999_407_616)
COUNTED = ("neurons", "parameters", "connections", "connections_inside", "macs")
SEEN = ("receptive_field", "stride", "first")


def counted(answer):
    """The rows of layers of neurons."""
    return [layer for layer in answer.layers if layer.neurons]


def check_textbook(answer, channels_first=False):
    """Every cell of the table, and what the same network as spec text costs and sees."""
    assert answer.complete
    for layer, spec, (units, *counts) in zip(counted(answer), counted(tw.size(SPEC)), ROWS, strict=True):
        assert layer.output == (units[-1:] + units[:-1] if channels_first else units)
        assert [layer.neurons, layer.parameters, layer.connections] == counts
        assert [getattr(layer, each) for each in COUNTED] == [getattr(spec, each) for each in COUNTED]
        assert [getattr(layer, each) for each in SEEN] == [getattr(spec, each) for each in SEEN]
    totals = answer.totals
    assert (totals.neurons, totals.parameters, totals.connections) == TOTALS


def same_network(answer, spec):
    """Layer by layer the counts and the receptive fields of a spec; totals with everything between."""
    told = tw.size(spec)
    assert answer.complete
    for layer, other in zip(counted(answer), counted(told), strict=True):
        for each in (*COUNTED, *SEEN):
            assert getattr(layer, each) == getattr(other, each), (layer.name, other.name, each)
    assert answer.totals == told.totals
