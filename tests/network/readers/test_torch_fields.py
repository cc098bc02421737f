"""What units of PyTorch modules see, against the gradients of real runs: positive weights, float64, random networks.

The networks are built and run by PyTorch; that they depend on an input position is told by a gradient that is not zero.
Nothing here knows of intervals, windows or the recorder.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import thalweg as tw  # noqa: E402
import torch_networks as networks  # noqa: E402
from thalweg.network.readers.torch_windows import _NEAREST, _NEAREST_EXACT  # noqa: E402

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
AVERAGE = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
CHANNELS = 2


class Crop(nn.Module):
    """Cuts off or pads every axis."""

    def __init__(self, sides):
        super().__init__()
        self.sides = sides

    def forward(self, x):
        return functional.pad(x, self.sides)


class Strided(nn.Module):
    """Every so many positions, as slices take them."""

    def __init__(self, start, step):
        super().__init__()
        self.start, self.step = start, step

    def forward(self, x):
        return x[:, :, self.start :: self.step]


class Rolled(nn.Module):
    """Positions that leave at one end and come back at the other."""

    def __init__(self, shift, axis):
        super().__init__()
        self.shift, self.axis = shift, axis

    def forward(self, x):
        return torch.roll(x, self.shift, self.axis)


class Seamed(nn.Module):
    """Two parts of an axis, one of which goes another way, put together in either order, perhaps with zeros."""

    def __init__(self, axis, cut, layer, order, zeros):
        super().__init__()
        self.axis, self.cut, self.order, self.zeros = axis, cut, order, zeros
        self.layer = layer

    def forward(self, x):
        cut = min(self.cut, x.shape[self.axis] - 1)
        first, last = x.narrow(self.axis, 0, cut), x.narrow(self.axis, cut, x.shape[self.axis] - cut)
        parts = [self.layer(first), last]
        if self.zeros:
            shape = list(parts[1].shape)
            shape[self.axis] = self.zeros
            parts.insert(1, x.new_zeros(shape))
        return torch.cat(parts[:: self.order], self.axis)


class Turned(nn.Module):
    """The axis read backwards, or twice."""

    def __init__(self, axis, way):
        super().__init__()
        self.axis, self.way = axis, way

    def forward(self, x):
        if self.way == "backwards":
            return x.flip(self.axis)
        times = [1] * x.dim()
        times[self.axis] = 2
        return x.repeat(times) if self.way == "twice" else torch.cat([x.narrow(self.axis, 0, 1)] * 2 + [x], self.axis)


class Resize(nn.Module):
    def __init__(self, factor, mode):
        super().__init__()
        self.factor, self.mode = factor, mode

    def forward(self, x):
        return functional.interpolate(x, scale_factor=self.factor, mode=self.mode)


class Resized(nn.Module):
    """To any extents or by any factor, as a decoder does for odd maps, or pooled to any extents."""

    def __init__(self, mode, axes, extents, factor, align_corners):
        super().__init__()
        self.mode, self.axes, self.extents, self.factor = mode, axes, extents, factor
        self.corners = {"align_corners": align_corners} if "linear" in mode or mode == "bicubic" else {}

    def forward(self, x):
        if self.mode == "pool":
            return getattr(functional, f"adaptive_avg_pool{self.axes}d")(x, self.extents)
        if self.factor:
            return functional.interpolate(x, scale_factor=self.factor, mode=self.mode, **self.corners)
        return functional.interpolate(x, self.extents, mode=self.mode, **self.corners)


class Branches(nn.Module):
    """Two ways that meet on what both of them have."""

    def __init__(self, one, other, joined, corner):
        super().__init__()
        self.one, self.other, self.joined, self.corner = one, other, joined, corner
        self.mix = None if joined == "add" else CONV[corner](2 * CHANNELS, CHANNELS, 1)

    def forward(self, x):
        one, other = self.one(x), self.other(x)
        for axis in range(2, x.dim()):
            least = min(one.shape[axis], other.shape[axis])
            one, other = one.narrow(axis, 0, least), other.narrow(axis, other.shape[axis] - least, least)
        if self.joined == "add":
            return one + other
        return self.mix(torch.cat([one, other], dim=1))


def same_around(rng, axes, axis):
    """A convolution that changes the extent along one axis only."""
    kernel = [rng.choice([1, 3]) for _ in range(axes)]
    padding = [taps // 2 for taps in kernel]
    padding[axis] = rng.randint(0, 2)
    return CONV[axes](CHANNELS, CHANNELS, tuple(kernel), padding=tuple(padding))


def random_layer(rng, axes):
    def each(low, high):
        return tuple(rng.randint(low, high) for _ in range(axes))

    kernel = each(1, 4)
    padding = tuple(rng.randint(0, k // 2) for k in kernel)
    border = rng.choice(["reflect", "replicate", "circular"])
    upsampling = ["nearest", {1: "linear", 2: "bilinear", 3: "trilinear"}[axes]]
    return rng.choice([
        lambda: CONV[axes](CHANNELS, CHANNELS, kernel, each(1, 3), each(0, 3), each(1, 3)),
        lambda: CONV[axes](CHANNELS, CHANNELS, 3, 1, "same", each(1, 2), groups=CHANNELS),
        lambda: CONV[axes](CHANNELS, CHANNELS, kernel, each(1, 2), padding, padding_mode=border),
        lambda: Rolled(rng.randint(-3, 3), rng.randint(2, axes + 1)),
        lambda: AVERAGE[axes](kernel, each(1, 3), padding, ceil_mode=rng.random() < 0.5),
        lambda: TRANSPOSED[axes](CHANNELS, CHANNELS, kernel, 2, each(0, 1), each(0, 1), dilation=each(1, 2)),
        lambda: Crop([n for _ in range(axes) for n in (rng.randint(-2, 2), rng.randint(-2, 3))]),
        lambda: Strided(rng.randint(0, 1), rng.randint(1, 3)),
        lambda: Seamed(
            (axis := rng.randint(2, axes + 1)), rng.randint(1, 5), same_around(rng, axes, axis - 2),
            rng.choice([1, -1]), rng.randint(0, 2),
        ),
        lambda: Turned(rng.randint(2, axes + 1), rng.choice(["backwards", "twice", "first repeated"])),
        lambda: Resize(rng.randint(1, 2), rng.choice(upsampling)),
        lambda: Resized(
            rng.choice([*upsampling, "nearest-exact", "pool"]), axes, each(2, 11), rng.choice([0, 0, 0.75, 1.5, 2.5]),
            rng.random() < 0.5,
        ),
        nn.Softplus,
    ])()  # fmt: skip


def runs(module, x, most):
    try:
        with torch.no_grad():
            y = module(x)
    except RuntimeError:
        return None
    return y if min(y.shape) > 0 and max(y.shape[2:]) <= most and y.sum() > 0 else None


def extended(rng, layers, x, count, axes, most):
    for _ in range(count):
        layer = random_layer(rng, axes).double()
        positive(layer)
        if runs(layer, x, most) is not None:
            layers.append(layer)
            x = runs(layer, x, most)
    return x


def positive(module):
    for weight in module.parameters():
        nn.init.uniform_(weight, 0.5, 1.0)


def random_network(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    axes = rng.choice([1, 1, 2, 2, 2, 3])
    most = {1: 60, 2: 16, 3: 8}[axes]
    shape = tuple(rng.randint(most // 3, most * 2 // 3) for _ in range(axes))
    x = torch.rand(1, CHANNELS, *shape, dtype=torch.float64)
    layers = []
    y = extended(rng, layers, x, rng.randint(1, 3), axes, most)
    for _ in range(rng.randint(0, 2)):
        ways = [[nn.Identity()], [nn.Identity()]]
        for way in ways:
            extended(rng, way, y, rng.randint(0, 2), axes, most)
        both = Branches(*(nn.Sequential(*way) for way in ways), rng.choice(["add", "cat"]), axes).double()
        positive(both)
        if runs(both, y, most) is not None:
            layers.append(both)
            y = extended(rng, layers, runs(both, y, most), rng.randint(0, 2), axes, most)
    layers.append(CONV[axes](CHANNELS, 1, 1, bias=False).double())
    positive(layers[-1])
    return nn.Sequential(*layers), x


def box(gradient):
    """The first and last position of a gradient that is not zero, along every axis."""
    seen = gradient[0].abs().sum(0).numpy() > 0
    if not seen.any():
        return None
    return tuple((int(each.min()), int(each.max())) for each in np.nonzero(seen))


SEEDS = 480
MANY = 1_300  # so that all blocks together ask more than 10,000 units


@pytest.mark.parametrize("block", range(8))
def test_units_see_what_their_gradients_say(block):
    units = 0
    for seed in range(block, SEEDS, 8):
        module, x = random_network(seed)
        answer = tw.size(module, tuple(x.shape[1:]))
        assert answer.complete
        last = answer.layers[-1]
        x.requires_grad_(True)
        y = module(x)
        assert tuple(y.shape[1:]) == last.output
        rng = random.Random(seed)
        for position in rng.sample(list(np.ndindex(*y.shape[2:])), min(200, y[0, 0].numel())):
            (gradient,) = torch.autograd.grad(y[(0, 0, *position)], x, retain_graph=True)
            told = answer.unit(len(answer.layers) - 1, position).clipped
            assert told == box(gradient), (seed, module, position)
            units += 1
    assert units > MANY


def test_the_random_networks_hold_what_makes_fields_hard():
    found = set()
    for seed in range(SEEDS):
        module, x = random_network(seed)
        found.add(x.dim() - 2)
        found.update(type(each).__name__ for each in module.modules())
        found.update(each.joined for each in module.modules() if isinstance(each, Branches))
        found.update("ceil" for each in module.modules() if getattr(each, "ceil_mode", False))
        found.add("not square" if len(set(x.shape[2:])) > 1 else "square")
    wanted = {1, 2, 3, "Conv2d", "ConvTranspose1d", "ConvTranspose3d", "AvgPool2d", "Crop", "Strided", "Resize"}
    wanted |= {"Seamed", "Turned", "Resized"}
    assert wanted | {"add", "cat", "ceil", "not square"} <= found


class Shuffled(nn.Module):
    """A pixel shuffle above an upsampled map."""

    def __init__(self):
        super().__init__()
        self.up, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 1, 3)

    def forward(self, x):
        larger = functional.pixel_shuffle(self.up(x), 2)
        return self.last(torch.cat([larger, functional.interpolate(x, scale_factor=2)], 2))


class Picked(nn.Module):
    """Places of an axis in an order that is known: from a buffer, made on the way, or written down."""

    def __init__(self, way):
        super().__init__()
        self.first, self.last, self.way = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3), way
        self.register_buffer("order", torch.tensor([5, 4, 4, 0, 1, 7, -1]))

    def forward(self, x):
        x = self.first(x)
        if self.way == "buffer":
            return self.last(x[:, :, self.order])
        if self.way == "looked up":
            return self.last(x[:, :, self.order[torch.arange(x.shape[2]) % 7]])
        if self.way == "counted":
            return self.last(x[..., torch.arange(x.shape[-1] - 1, -1, -2)])
        return self.last(x.index_select(2, torch.tensor([3, 0, 6, 2, 2])))


def averaging_u_net():
    """A maximum has a gradient at one place only."""
    module = networks.UNet(channels=1, classes=1, width=2, depth=3)
    module.pool = nn.AvgPool2d(2)
    return module


class Merged(nn.Module):
    """Blocks of neighbours become one, by a convolution that takes a block at once: positions stand on three axes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.merge = nn.Conv2d(3, 3, 2)
        self.last = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        side = x.shape[-1] // 2
        blocks = x.unflatten(2, (side, 2)).unflatten(4, (side, 2)).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, 2, 2)
        return self.last(self.merge(blocks).view(1, side, side, 3).permute(0, 3, 1, 2))


class Recoded(nn.Module):
    """A convolution along an axis that is made of channels, at every position by itself."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.along = nn.Conv1d(1, 2, 3, stride=2)
        self.last = nn.Conv2d(4, 1, 2)

    def forward(self, x):
        x = self.first(x)
        side = x.shape[-1]
        along = self.along(x.permute(0, 2, 3, 1).reshape(-1, 1, 6))
        return self.last(along.reshape(1, side, side, 4).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("build", "side"),
    [
        (averaging_u_net, 64),
        (lambda: nn.Sequential(nn.Conv2d(1, 1, 3), Resized("bicubic", 2, (13, 5), 0, False), nn.Conv2d(1, 1, 2)), 9),
        (lambda: nn.Sequential(nn.Conv2d(1, 1, 3), Resized("bicubic", 2, (9, 4), 0, True), nn.Conv2d(1, 1, 2)), 11),
        (Merged, 8),
        (Recoded, 7),
        (Shuffled, 7),
        (lambda: Picked("buffer"), 9),
        (lambda: Picked("counted"), 9),
        (lambda: Picked("written"), 9),
        (lambda: Picked("looked up"), 9),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.PixelShuffle(2), nn.Conv2d(1, 1, 3, padding=1)), 12),
        (
            lambda: nn.Sequential(
                nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(1, 1, 1)
            ),
            12,
        ),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ChannelShuffle(2), nn.Conv2d(4, 1, 3, 2)), 13),
    ],
)
def test_known_networks(build, side):
    module = build().double().eval()
    positive(module)
    x = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    y = module(x)
    answer = tw.size(module, (1, side, side))
    rng = random.Random(0)
    units = list(np.ndindex(*y.shape[2:]))
    for position in rng.sample(units, min(len(units), 24)):
        (gradient,) = torch.autograd.grad(y[(0, 0, *position)], x, retain_graph=True)
        assert answer.unit(len(answer.layers) - 1, position).clipped == box(gradient)


def test_places_counted_from_the_end_are_those_places():
    class Last(nn.Module):
        def forward(self, x):
            return x.index_select(2, torch.tensor([-1, 0]))

    unit = tw.size(nn.Sequential(nn.Conv1d(1, 1, 1), Last()), (1, 9)).unit(-1, (0,))
    assert unit.clipped == unit.unclipped == ((8, 8),)


# TF-Slim's networks as published in google-research/receptive_field, RECEPTIVE_FIELD_TABLE.md at f12ae8e: receptive
# field, effective stride, effective padding (which is minus our `first`).
PUBLISHED = {
    "pool1": (6, 2, 2), "conv2_1": (10, 2, 4), "pool2": (16, 4, 6), "conv3_2": (32, 4, 14), "pool3": (44, 8, 18),
    "conv4_2": (76, 8, 34), "pool4": (100, 16, 42), "conv5_1": (132, 16, 58), "pool5": (212, 32, 90),
}  # fmt: skip


def vgg_16():
    module, channels = nn.Sequential(), 3
    for stage, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for place in range(1, depth + 1):
            module.add_module(f"conv{stage}_{place}", nn.Conv2d(channels, width, 3, padding=1))
            module.add_module(f"relu{stage}_{place}", nn.ReLU())
            channels = width
        module.add_module(f"pool{stage}", nn.MaxPool2d(2))
    return module


def test_published_receptive_fields():
    layers = {layer.name: layer for layer in tw.size(vgg_16(), (3, 224, 224)).layers}
    for name, (size, stride, padding) in PUBLISHED.items():
        found = layers[name]
        assert (found.receptive_field, found.stride, found.first) == ((size,) * 2, (stride,) * 2, (-padding,) * 2), name


def test_windows_of_attention():
    """Without a shift every token of a window sees the whole window and nothing else."""

    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(1, 8, 2, 2)
            self.block = networks.SwinBlock(8, 2, 4, 0)
            self.block.norm1, self.block.norm2 = nn.Identity(), nn.Identity()  # whose gradients add up to zero

        def forward(self, x):
            return self.block(self.embed(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    module = Windows().double()
    x = torch.rand(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    y = module(x)
    answer = tw.size(module, (1, 16, 16))
    for position in ((0, 0), (3, 4), (5, 2), (7, 7)):
        (gradient,) = torch.autograd.grad(y[0, :, *position].sum(), x, retain_graph=True)
        assert answer.unit(len(answer.layers) - 1, position).clipped == box(gradient)


@pytest.mark.parametrize("exact", [False, True])
def test_the_nearest_position_is_that_of_pytorch_or_not_said(exact):
    """PyTorch works in single precision, which ends on the other side of a whole number now and then."""
    mode, interpolation = ("nearest-exact", _NEAREST_EXACT) if exact else ("nearest", _NEAREST)
    unsaid = 0
    for before in range(1, 40):
        places = torch.arange(before, dtype=torch.float32)[None, None]
        for after in range(1, 90):
            real = torch.nn.functional.interpolate(places, size=after, mode=mode)[0, 0].tolist()
            found = interpolation.by_ratio(before, after, None)
            if found is None:
                unsaid += 1
            else:
                assert [min(found.at(unit)[0], before - 1) for unit in range(after)] == real
    assert 0 < unsaid < 39 * 89 / 20


@pytest.mark.parametrize(
    ("extents", "factor", "mode"),
    [
        ((4,), 2.2, "nearest"), ((5,), 1.1, "nearest"), ((8,), 0.3, "nearest"), ((4,), 2.2, "nearest-exact"),
        ((4,), 2.2, "linear"), ((8,), 0.3, "linear"), ((5,), 1.1, "linear"), ((8,), 2.0, "linear"),
        ((4, 6), (2.2, 1.5), "nearest"), ((5, 4), (1.1, 2.3), "nearest"), ((4, 6), (2.2, 1.5), "bilinear"),
        ((5, 5), 1.1, "bilinear"), ((8, 8), 0.6, "bilinear"), ((4, 6), 2.2, "bicubic"), ((4, 3, 5), 2.2, "nearest"),
    ],
)  # fmt: skip
def test_a_factor_that_was_said_counts_also_where_the_extents_divide(extents, factor, mode):
    """2.2 times 4 positions are 8, but not each of them twice: PyTorch places them by the factor, with exceptions."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(extents) - 1](1, 1, 3, padding=1)
            self.last = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(extents) - 1](1, 1, 1)

        def forward(self, x):
            return self.last(functional.interpolate(self.conv(x), scale_factor=factor, mode=mode))

    module = Scaled().double()
    with torch.no_grad():
        for each in module.parameters():
            each.uniform_(0.5, 1)
    answer = tw.size(module, (1, *extents))
    pixels = list(np.ndindex(*extents))
    changes = torch.eye(len(pixels), dtype=torch.float64).view(-1, 1, *extents)
    with torch.no_grad():  # what the backward pass of `nearest` takes is not what the forward pass took
        changed = module(changes) != module(torch.zeros_like(changes))
    for index in np.ndindex(*changed.shape[2:]):
        seen = np.array([pixel for pixel, each in zip(pixels, changed[:, 0], strict=True) if each[index]])
        wanted = tuple(zip(seen.min(0).tolist(), seen.max(0).tolist(), strict=True))
        assert answer.unit("last", index).clipped == wanted, index
