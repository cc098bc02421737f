"""What is written into parts of a tensor, against the gradients of real runs in float64."""

from __future__ import annotations

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402

import thalweg as tw  # noqa: E402

SIZE, CHANNELS = 8, 6


class Writes(nn.Module):
    """Two convolutions of different sizes, of which parts are written into one tensor through views of many kinds."""

    def __init__(self, rng):
        super().__init__()
        self.one, self.five = nn.Conv2d(2, CHANNELS, 1), nn.Conv2d(2, CHANNELS, 5, padding=2)
        self.last = nn.Conv2d(CHANNELS, 1, 1)
        self.blank = rng.random() < 0.5
        # Which channels hold what is not told apart, so they are written once.
        self.ways = [rng.choice(OF_CHANNELS), *(rng.choice(OF_POSITIONS) for _ in range(rng.randint(0, 2)))]
        rng.shuffle(self.ways)
        self.numbers = [sorted(rng.sample(range(CHANNELS + 1), 2)) for _ in self.ways]

    def forward(self, x):
        values = self.one(x)
        y = torch.zeros_like(values) if self.blank else self.five(x)
        for way, (start, stop) in zip(self.ways, self.numbers, strict=True):
            way(y, values if self.blank else self.one(x), start, stop)
            values = self.five(x)
        return self.last(y)


def channels(y, values, start, stop):
    y[:, start:stop] = values[:, start:stop]


def every_other_channel(y, values, start, stop):
    y[:, start % 2 :: 2] = values[:, : CHANNELS // 2]


def one_channel(y, values, start, stop):
    y[:, start] = values[:, 0]


def rows(y, values, start, stop):
    y[:, :, start:stop] = values[:, :, start:stop]


def columns_elsewhere(y, values, start, stop):
    y[..., start:stop] = values[..., start + 1 : stop + 1]


def one_row(y, values, start, stop):
    y[:, :, start] = values[:, :, 2]


def a_block(y, values, start, stop):
    y[:, start:stop, :, 2:5] = values[:, start:stop, :, 2:5]


def turned(y, values, start, stop):
    y.transpose(2, 3)[:, :, start:stop] = values.transpose(2, 3)[:, :, start:stop]


def in_another_shape(y, values, start, stop):
    y.view(1, CHANNELS // 2, 2, SIZE, SIZE)[:, :, 1] = values[:, : CHANNELS // 2]


def added(y, values, start, stop):
    y[:, :, start:stop] += values[:, :, start:stop]


def all_of_it(y, values, start, stop):
    y[:] = values


OF_CHANNELS = [channels, every_other_channel, one_channel, a_block, in_another_shape]
OF_POSITIONS = [rows, columns_elsewhere, one_row, turned, added, all_of_it]


def test_what_is_written_into_views_is_seen_where_it_is():
    rng = random.Random(5)
    torch.manual_seed(5)
    units = 0
    for seed in range(150):
        module = Writes(random.Random(seed)).double()
        with torch.no_grad():
            for each in module.parameters():
                each.uniform_(0.1, 1)
        answer = tw.size(module, (2, SIZE, SIZE))
        assert answer.complete
        assert answer.lost == (), (seed, module.ways)
        x = torch.rand(1, 2, SIZE, SIZE, dtype=torch.float64, requires_grad=True)
        y = module(x)
        for row, column in rng.sample(list(np.ndindex(SIZE, SIZE)), 12):
            (found,) = torch.autograd.grad(y[0, 0, row, column], x, retain_graph=True)
            seen = np.argwhere(found[0].sum(0).numpy())
            wanted = tuple(zip(seen.min(0).tolist(), seen.max(0).tolist(), strict=True)) if len(seen) else None
            assert answer.unit("last", (row, column)).clipped == wanted, (seed, module.ways, row, column)
            units += 1
    assert units == 1800


class Told(nn.Module):
    """Two convolutions of different sizes whose results come together in some way."""

    def __init__(self, way):
        super().__init__()
        self.one, self.five, self.way = nn.Conv2d(2, CHANNELS, 1), nn.Conv2d(2, CHANNELS, 5, padding=2), way
        self.last = nn.LazyConv2d(1, 1)

    def forward(self, x):
        return self.last(self.way(self.one(x), self.five(x)))


def copied_to(y, values):
    y.to(torch.float64, copy=True).add_(values)
    return y


def not_copied_by_reshape(y, values):
    y.permute(0, 2, 3, 1).reshape(len(y), -1, CHANNELS).mul_(values.permute(0, 2, 3, 1).reshape(len(y), -1, CHANNELS))
    return y


def copied_by_reshape(y, values):
    y.transpose(2, 3).reshape(len(y), CHANNELS, -1).mul_(values.transpose(2, 3).reshape(len(y), CHANNELS, -1))
    return y


def copied_by_contiguous(y, values):
    turned = y.permute(0, 2, 3, 1).contiguous()
    turned += values.permute(0, 2, 3, 1)
    return torch.cat([turned.permute(0, 3, 1, 2), y], 2)


def older_rows(y, values):
    top = y[:, :, :3]
    y[:, :, 2:5] = values[:, :, 2:5]
    return torch.cat([top, y], 2)


def older_row(y, values):
    row = y[:, :, 2]
    y.copy_(values)
    return row[:, :, None]


def older_channels_turned(y, values):
    turned = y.transpose(2, 3)[:, :2]
    y += values
    return turned.transpose(2, 3)


def older_channels_last(y, values):
    last = y.permute(0, 2, 3, 1)
    y += values
    return last.permute(0, 3, 1, 2)


def older_in_another_shape(y, values):
    flat = y.flatten(2)
    y.add_(values)
    return flat.view(y.shape)


def older_part_of_nothing(y, values):
    blank = torch.zeros_like(y)
    middle = blank[:, :, 2:6]
    blank[:] = values
    return middle


def older_part_of_an_empty_one(y, values):
    blank = torch.empty_like(y)
    middle = blank[:, :, 2:6]
    blank.copy_(values)
    return middle


def older_view_of_a_view(y, values):
    inner = y[:, :, 1:7][:, :, :, 2:6]
    y[:, :, :4] = values[:, :, :4]
    return inner


def rows_made_zero(y, values):
    y[:, :, 2:4].zero_()
    values[:, :, :1].fill_(2.0)
    return torch.cat([y, values], 2)


def written_out(y, values):
    made = torch.empty_like(y)
    torch.add(y, values, out=made)
    return made


def joined_out(y, values):
    made = torch.empty_like(y).repeat(1, 1, 2, 1)
    torch.cat([y, values], 2, out=made)
    return made


def multiplied_out_into_a_part(y, values):
    made = torch.zeros_like(y)
    torch.mul(y[:, :, 2:5], values[:, :, 2:5], out=made[:, :, 2:5])
    return made


@pytest.mark.parametrize(
    "way",
    [
        copied_to, not_copied_by_reshape, copied_by_reshape, copied_by_contiguous, older_rows, older_row,
        older_channels_last, older_channels_turned, older_in_another_shape, older_part_of_nothing,
        older_part_of_an_empty_one, older_view_of_a_view, rows_made_zero, written_out, joined_out,
        multiplied_out_into_a_part,
    ],
)  # fmt: skip
def test_copies_older_views_and_results_written_elsewhere(way):
    module = Told(way).double()
    pixels = list(np.ndindex(SIZE, SIZE))
    changes = torch.zeros(2 * len(pixels), 2, SIZE, SIZE, dtype=torch.float64)
    changes[: len(pixels)] = 1
    changes[: len(pixels)].view(len(pixels), 2, -1)[range(len(pixels)), :, range(len(pixels))] = 2
    changes[len(pixels) :] = 1
    with torch.no_grad():
        module(changes)
        for each in module.parameters():
            each.uniform_(0.1, 1)
        changed, same = module(changes).split(len(pixels))
    answer = tw.size(module, (2, SIZE, SIZE))
    assert answer.complete
    assert answer.lost == ()
    for index in np.ndindex(*same.shape[2:]):
        here = (slice(None), 0, *index)
        seen = np.array(pixels)[((changed[here] - same[here]).abs() > 1e-9).numpy()]
        wanted = tuple(zip(seen.min(0).tolist(), seen.max(0).tolist(), strict=True)) if len(seen) else None
        assert answer.unit(-1, index).clipped == wanted, index


def test_a_number_that_the_network_makes_fills_a_part():
    def filled(y, values):
        y[:, :, 6:7].fill_(values[0, 0, 4, 4])
        return y

    answer = tw.size(Told(filled), (2, SIZE, SIZE))
    assert answer.unit(-1, (6, 0)).clipped == ((2, 6), (2, 6))
    assert answer.unit(-1, (5, 1)).clipped == ((5, 5), (1, 1))


@pytest.mark.parametrize(
    ("shape", "stride", "behind"),
    [
        ((1, CHANNELS, 2, 2, SIZE), (384, 64, SIZE, 2 * SIZE, 1), 0),  # every other row
        ((1, CHANNELS, 4, SIZE), (384, 64, SIZE, 1), 32),  # the rows below
        ((1, 3, 2, 4, SIZE), (384, 128, 64, SIZE, 1), 32),
    ],
)
def test_views_of_other_places_are_not_taken_for_these(shape, stride, behind):
    def elsewhere(y, values):
        top = y[:, :, :4]
        other = top.as_strided(shape, stride, behind)
        y += values
        return other.reshape(1, CHANNELS, -1, SIZE)

    answer = tw.size(Told(elsewhere), (2, SIZE, SIZE))
    assert answer.layers[-1].name == "last"
    assert answer.layers[-1].receptive_field is None


def test_a_view_that_was_written_into_is_not_taken_from_the_whole_again():
    def written(y, values):
        top = y[:, :, :3]
        top += values[:, :, :3]
        return torch.cat([top, y], 2)

    answer = tw.size(Told(written), (2, SIZE, SIZE))
    assert "view" not in [layer.name for layer in answer.layers]


def test_every_other_row_is_not_followed_and_not_told_wrong():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.five = nn.Conv2d(2, 2, 5, padding=2)

        def forward(self, x):
            y = self.five(x)
            y[:, :, ::2] = x[:, :, ::2]
            return y + 1

    answer = tw.size(Rows(), (2, 8, 8))
    assert answer.complete
    assert answer.lost == ("copy",)
