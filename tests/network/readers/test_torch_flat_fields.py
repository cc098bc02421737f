"""Maps flattened one after the other, as tokens behind class tokens, against the gradients of real runs in float64.

The networks flatten maps in any order of their axes, join them with tokens of their own and with each other, treat all
tokens alike, and take some of them, or a map, out again. Nothing here knows of flat maps, intervals or the recorder.
"""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg.errors import InputError  # noqa: E402

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Tokens(nn.Module):
    """Branches of convolutions whose maps become tokens, and what is taken of these."""

    def __init__(self, rng, axes, channels):
        super().__init__()

        def convolution(number):
            stride = rng.randint(1, 2) if number == 0 else 1
            return CONV[axes](channels, channels, rng.randint(1, 3), stride, rng.randint(0, 1))

        self.branches = nn.ModuleList(
            nn.Sequential(*map(convolution, range(rng.randint(1, 2)))) for _ in range(rng.randint(1, 3))
        )
        self.orders = [rng.sample(range(axes), axes) for _ in self.branches]
        self.front, self.back = rng.randint(1, 3), rng.randint(0, 2)
        self.token = nn.Parameter(torch.rand(1, self.front, channels))
        self.tokens_last = rng.random() < 0.3
        self.mix = nn.Linear(channels, channels)
        self.taken = rng.choice(["all", "all", "map", "class tokens", "what follows", "what comes before"])
        self.number = rng.randrange(len(self.branches))
        if self.taken == "what follows" and not self.back and self.number == len(self.branches) - 1:
            self.taken = "all"  # a map alone would follow, whose units are its positions
        self.last = CONV[axes](channels, channels, 3, padding=1)

    def forward(self, x):
        rows = [self.token.expand(x.shape[0], -1, -1)]
        begins, extents = [], []
        for branch, order in zip(self.branches, self.orders, strict=True):
            made = branch(x).permute(0, 1, *(2 + axis for axis in order))
            begins.append(sum(row.shape[1] for row in rows))
            extents.append(made.shape[2:])
            rows.append(made.flatten(2).transpose(1, 2))
        if self.back:
            rows.append(torch.ones(x.shape[0], self.back, x.shape[1], dtype=x.dtype))
        if self.tokens_last:
            tokens = torch.cat([row.transpose(1, 2) for row in rows], 2).transpose(1, 2)
        else:
            tokens = torch.cat(rows, 1)
        tokens = tokens + self.mix(tokens)
        begin, order = begins[self.number], self.orders[self.number]
        if self.taken == "class tokens":
            return tokens[:, : self.front]
        if self.taken == "what follows":
            return self.mix(tokens[:, begin:])
        if self.taken == "all":
            return tokens
        behind = begin + math.prod(extents[self.number])
        if self.taken == "what comes before":
            return self.mix(tokens[:, :behind])
        of_map = tokens[:, begin:behind]
        back = self.mix(of_map).transpose(1, 2).reshape(x.shape[0], -1, *extents[self.number])
        return self.last(back.permute(0, 1, *(2 + order.index(axis) for axis in range(len(order)))))


def read(seed, channels):
    """A random network with positive weights, its answer, its last layer, an input, and a function of a unit."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    axes = rng.choice([1, 2, 2, 2, 3])
    module = Tokens(rng, axes, channels).double()
    with torch.no_grad():
        for each in module.parameters():
            each.fill_(1) if channels == 1 else each.uniform_(0.1, 1)
    x = torch.rand(1, channels, *(rng.randint(9, 11) for _ in range(axes)), dtype=torch.float64, requires_grad=True)
    answer = tw.size(module, tuple(x.shape[1:]))
    assert answer.complete
    assert answer.lost == ()
    last = max(number for number, layer in enumerate(answer.layers) if layer.kind != "not used")
    y = module(x)
    assert answer.layers[last].output == tuple(y.shape[1:])
    is_map = module.taken == "map"
    places = list(np.ndindex(*y.shape[2:])) if is_map else [(place,) for place in range(y.shape[1])]

    def gradient(place):
        unit = y[(0, 0, *place)] if is_map else y[(0, *place, 0)]
        (found,) = torch.autograd.grad(unit, x, retain_graph=True, allow_unused=True)
        return np.zeros(x.shape[2:]) if found is None else found[0].abs().sum(0).numpy()

    return answer, last, gradient, rng.sample(places, min(60, len(places)))


@pytest.mark.parametrize("block", range(4))
def test_units_of_flat_maps_see_what_their_gradients_say(block):
    units = 0
    for seed in range(block, 240, 4):
        answer, last, gradient, places = read(seed, 2)
        for place in places:
            seen = np.argwhere(gradient(place))
            wanted = tuple(zip(seen.min(0).tolist(), seen.max(0).tolist(), strict=True)) if len(seen) else None
            assert answer.unit(last, place).clipped == wanted, (seed, place)
            units += 1
    assert units > 1000


def test_paths_to_units_of_flat_maps_are_the_gradients_of_networks_of_ones():
    for seed in range(80):
        answer, last, gradient, places = read(seed, 1)
        for place in places[:8]:
            paths = gradient(place)
            effective = answer.effective(last, place)
            assert effective.paths == paths.sum()
            if paths.any():
                np.testing.assert_array_equal(effective.shares, paths / paths.sum())
            else:
                assert effective.shares is None


def test_the_measured_gradient_of_a_token_lies_where_it_sees():
    for seed in range(24):
        answer, last, gradient, places = read(seed, 1)
        layer = answer.layers[last].name
        if layer != "mix":  # a module gives it
            continue
        for place in places[:3]:
            measured = answer.measured(last, place, samples=1)
            paths = gradient(place)
            if paths.any():
                np.testing.assert_allclose(measured.shares, paths / paths.sum(), atol=1e-6)


class Cut(nn.Module):
    """Takes tokens from the middle of a map, or gives all of them another shape."""

    def __init__(self, way):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.way = way
        self.mix = nn.Linear(4, 5)

    def forward(self, x):
        tokens = torch.cat([self.token, self.conv(x).flatten(2).transpose(1, 2)], 1)  # 1 + 14 places
        if self.way == "cut":
            return self.mix(tokens[:, 3:])
        if self.way == "every other":
            return self.mix(tokens[:, ::2])
        if self.way == "shape":
            return self.mix(tokens.reshape(1, 5, 3, 4))
        return self.mix(torch.nn.functional.pad(tokens, (0, 0, 1, 0)))


@pytest.mark.parametrize("way", ["cut", "every other", "shape", "padded"])
def test_flat_maps_that_are_cut_or_take_another_shape_are_not_followed(way):
    answer = tw.size(Cut(way), (3, 4, 14))
    assert answer.complete
    assert len(answer.lost) == 1
    assert answer.layers[-1].receptive_field is None
    with pytest.raises(InputError, match="cannot be followed"):
        answer.unit("mix", (0,))


def test_the_view_of_tokens_is_that_of_the_patches_behind_the_class_token():
    answer = tw.size(Cut("padded"), (3, 4, 14))
    joined = next(layer for layer in answer.layers if layer.kind == "concatenate")
    assert (joined.output, joined.parameters) == ((15, 4), 4)
    assert (joined.receptive_field, joined.stride, joined.first) == ((2, 2), (2, 2), (0, 0))
    place = answer.layers.index(joined)
    assert answer.unit(place, (0,)).clipped is None
    assert answer.unit(place, (8,)).clipped == ((2, 3), (0, 1))


class Pooled(nn.Module):
    """All tokens together, in one of several ways."""

    def __init__(self, way):
        super().__init__()
        self.stem = nn.Conv2d(1, 1, 3, 2)
        self.token = nn.Parameter(torch.ones(1, 1, 1))
        self.way = way

    def forward(self, x):
        tokens = torch.cat([self.token, self.stem(x).flatten(2).transpose(1, 2)], 1)
        if self.way == "sum":
            return tokens.sum(1)
        if self.way == "sum beside each":
            return tokens + tokens.sum(1, keepdim=True)
        return tokens.softmax(1)


@pytest.mark.parametrize(("way", "index"), [("sum", (0,)), ("sum beside each", (5,)), ("shares", (5,))])
def test_paths_through_all_tokens_together(way, index):
    module = Pooled(way).double()
    torch.nn.init.ones_(module.stem.weight)
    answer = tw.size(module, (1, 9, 11))
    assert answer.lost == ()
    x = torch.rand(1, 1, 9, 11, dtype=torch.float64, requires_grad=True)
    y = module(x)[0] if way != "shares" else Pooled.forward(_summed(module), x)[0]
    (gradient,) = torch.autograd.grad(y.flatten()[index[0] if way != "shares" else 0], x)
    paths = gradient[0, 0].numpy()
    effective = answer.effective(-1, index)
    assert effective.paths == paths.sum()
    np.testing.assert_array_equal(effective.shares, paths / paths.sum())


def _summed(module):
    """The same network, whose units add up all tokens where each of its shares depends on all of them."""
    module.way = "sum"
    return module


class OfRows(nn.Module):
    """A row of positions of which some stand along another axis too, or together with channels."""

    def __init__(self, way):
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3)
        self.token = nn.Parameter(torch.ones(1, 3, 1, 5))
        self.way = way

    def forward(self, x):
        made = self.conv(x)
        if self.way == "columns elsewhere":
            return torch.cat([self.token, made.flatten(2, 3)], 2)
        if self.way == "in another order":
            made = made.reshape(1, 3, 3, 2, 2, 5).permute(0, 1, 4, 2, 3, 5)
            return torch.cat([self.token.flatten(2), made.flatten(2)], 2)
        tokens = torch.cat([self.token.flatten(2), made.flatten(2)], 2)
        tokens = tokens if self.way == "channels around" else tokens.transpose(1, 2)
        return torch.cat([tokens.flatten(1), torch.ones(1, 2)], 1)


@pytest.mark.parametrize(
    ("way", "shape"),
    [
        ("columns elsewhere", (3, 13, 5)),
        ("in another order", (3, 65)),
        ("channels around", (197,)),
        ("channels inside", (197,)),
    ],
)
def test_rows_that_hold_more_or_less_than_whole_maps_are_not_told_wrong(way, shape):
    answer = tw.size(OfRows(way), (2, 5, 6, 7))
    assert answer.layers[-1].output == shape
    assert answer.layers[-1].receptive_field is None
    assert len(answer.lost) == 1


class Along(nn.Module):
    """A convolution over tokens in a row, as over a sequence."""

    def __init__(self, kernel, padding=0, token=False, transposed=False):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, 2)
        self.token = nn.Parameter(torch.ones(1, 4, 1)) if token else None
        self.conv = (nn.ConvTranspose1d if transposed else nn.Conv1d)(4, 5, kernel, padding=padding)

    def forward(self, x):
        tokens = self.stem(x).flatten(2)
        return self.conv(tokens if self.token is None else torch.cat([self.token, tokens], 2))


@pytest.mark.parametrize("token", [False, True])
def test_convolutions_over_tokens_are_linear_layers_where_they_mix_none_or_all(token):
    count = 20 + token  # of 4 x 5 positions
    one = tw.size(Along(1, token=token), (2, 9, 11))
    assert one.lost == ()
    assert (one.layers[-1].kind, one.layers[-1].output, one.layers[-1].macs) == ("linear", (5, count), 20 * count)
    assert one.unit("conv", (7 + token,) if token else (1, 2)).clipped == ((2, 4), (4, 6))
    whole = tw.size(Along(count, token=token), (2, 9, 11))
    assert whole.lost == ()
    assert (whole.layers[-1].kind, whole.layers[-1].output, whole.layers[-1].macs) == ("linear", (5, 1), 20 * count)
    assert whole.unit("conv", (0,)).clipped == ((0, 8), (0, 10))
    for given in (
        {"kernel": 3},
        {"kernel": 1, "padding": 1},
        {"kernel": count, "padding": 1},
        {"kernel": 3, "transposed": True},
        {"kernel": count, "transposed": True},
    ):
        some = tw.size(Along(**given, token=token), (2, 9, 11))
        assert some.layers[-1].receptive_field is None
        assert some.lost == ("conv",)


class OverChannels(nn.Module):
    """A convolution over the channels of each position, and a layer behind what it makes."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.fc = nn.Conv2d(2, 12, 3), nn.Conv1d(1, 2, 3), nn.Linear(20, 5)

    def forward(self, x):
        tokens = self.stem(x).flatten(2).transpose(1, 2).transpose(0, 1)
        return self.fc(self.conv(tokens).flatten(1))


def test_convolutions_over_channels_leave_positions_where_they_are():
    answer = tw.size(OverChannels(), (2, 6, 7))
    assert answer.lost == ()
    conv, fc = (next(layer for layer in answer.layers if layer.name == name) for name in ("conv", "fc"))
    assert (conv.kind, conv.output, conv.macs) == ("linear", (20, 2, 10), 20 * 2 * 10 * 3)
    assert (fc.output, fc.receptive_field) == ((20, 5), (3, 3))


class Again(nn.Module):
    """Tokens that have all seen everything, taken apart, joined again, and seen in another shape."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.mix = nn.Linear(4, 5)

    def forward(self, x):
        tokens = torch.cat([self.token, self.conv(x).flatten(2).transpose(1, 2)], 1)
        tokens = torch.softmax(tokens @ tokens.transpose(1, 2), -1) @ tokens
        tokens = torch.cat([tokens[:, :1], tokens[:, 1:]], 1)
        return self.mix(tokens.reshape(1, 5, 3, 4))


def test_tokens_that_have_seen_everything_are_followed_in_any_shape():
    answer = tw.size(Again(), (3, 4, 14))
    assert answer.lost == ()
    assert (answer.layers[-1].output, answer.layers[-1].receptive_field) == ((5, 3, 5), (4, 14))


class Heads(nn.Module):
    """The boxes of a detector: two maps of anchors in one row, and a weighted sum of each box's sixteen bins."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 64, 3, 2, 1), nn.Conv2d(64, 64, 3, 2, 1)
        self.bins = nn.Conv2d(16, 1, 1, bias=False)

    def forward(self, x):
        fine = self.fine(x)
        boxes = torch.cat([each.flatten(2) for each in (fine, self.coarse(fine))], 2)
        shares = boxes.view(1, 4, 16, -1).transpose(2, 1).softmax(1)
        return self.bins(shares).view(1, 4, -1)


def test_the_boxes_of_a_detector_are_followed_through_their_bins():
    answer = tw.size(Heads(), (3, 16, 24))
    assert answer.lost == ()
    bins = answer.layers[-1]
    assert (bins.receptive_field, bins.stride, bins.first) == ((7, 7), (None, None), (-1, -1))
    assert answer.unit(bins.name, (13,)).clipped == ((1, 3), (1, 3))
    assert answer.unit(bins.name, (8 * 12 + 7,)).clipped == ((1, 7), (1, 7))
    assert bins.macs == 4 * 16 * (8 * 12 + 4 * 6)
