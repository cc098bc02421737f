"""What is written in place is read from there on: the operations are those of the network that writes nothing so."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402

import thalweg as tw  # noqa: E402


class Residual(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.one, self.two = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.activation = nn.ReLU(inplace=in_place)
        self.in_place = in_place

    def forward(self, x):
        y = self.two(self.activation(self.one(x)))
        if self.in_place:
            y += x
            y.mul_(torch.sigmoid(y))
        else:
            y = y + x
            y = y * torch.sigmoid(y)
        return self.activation(y)


def shape_of(graph):
    """Kinds, and which operation each input comes from, by its place."""
    places = {tensor.id: -1 for tensor in graph.inputs}
    rows = []
    for place, operation in enumerate(graph.operations):
        rows.append((operation.kind, [places[each.id] for each in operation.inputs]))
        places[operation.output.id] = place
    return rows


def test_a_network_that_writes_in_place_is_the_same_network():
    def network(in_place):
        return nn.Sequential(nn.Conv2d(3, 4, 1), Residual(in_place), Residual(in_place), nn.Conv2d(4, 2, 3))

    written, plain = (tw.size(network(in_place), (3, 16, 16)) for in_place in (True, False))
    assert shape_of(written._graph) == shape_of(plain._graph)
    assert [each.receptive_field for each in written.layers] == [each.receptive_field for each in plain.layers]
    assert written.layers[-1].receptive_field == (11, 11)


def test_what_is_written_into_a_part_reaches_the_whole():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.one(x)
            x[:, :2].mul_(torch.sigmoid(x[:, 2:]))
            return self.two(x)

    rows = shape_of(tw.size(Halves(), (3, 8, 8))._graph)
    # Of the last layer's input the product is a part.
    reached, pending = set(), [len(rows) - 1]
    while pending:
        place = pending.pop()
        if place >= 0 and place not in reached:
            reached.add(place)
            pending += rows[place][1]
    assert len(reached) == len(rows)


def test_running_statistics_are_not_the_output():
    graph = tw.size(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)), (3, 8, 8))._graph
    assert [sources for _, sources in shape_of(graph)] == [[-1], [0], [1]]
