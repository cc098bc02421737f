"""What convolutions see whose kernels are masked, as in a PixelCNN, against the gradients of their units in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import thalweg as tw
from thalweg.network.fields import MAX_TERMS
from thalweg.network.graph import Kept, Window
from thalweg.network.readers.jax_numbers import left_in

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
nn, functional = torch.nn, torch.nn.functional


def seen(network, shape):
    """For every position the box around all positions of the input with a gradient, None for none."""
    network = copy.deepcopy(network).double()
    for each in network.parameters():
        each.data.uniform_(0.1, 1)
    x = torch.rand(1, *shape, dtype=torch.float64, requires_grad=True)
    out = network(x).sum(1)[0]
    answer = {}
    for position in np.ndindex(*out.shape):
        (slope,) = torch.autograd.grad(out[position], x, retain_graph=True)
        places = slope[0].abs().sum(0).nonzero().tolist()
        answer[position] = tuple((min(axis), max(axis)) for axis in zip(*places, strict=True)) or None
    return answer


def check(network, shape):
    answer = tw.size(network, shape)
    for position, box in seen(network, shape).items():
        unit = answer.unit(-1, position)
        assert (unit.clipped, unit.masked) == (box, False), position
    return answer


def before(kernel, with_itself):
    """The taps before the middle one, row by row, as a PixelCNN has them."""
    mask = torch.ones(kernel)
    middle = [extent // 2 for extent in kernel]
    mask[middle[0], middle[1] + with_itself :] = 0
    mask[middle[0] + 1 :] = 0
    return mask


class Masked(nn.Conv2d):
    """A convolution whose kernel is masked in one of the ways that people have."""

    def __init__(self, mask, way, *arguments, **options):
        super().__init__(*arguments, kernel_size=tuple(mask.shape), **options)
        self.register_buffer("mask", mask)
        self.way = way

    def forward(self, x):
        mask = self.mask.to(x.dtype)
        if self.way == "in place":
            with torch.no_grad():
                self.weight.mul_(mask)
        elif self.way == "in the data":
            self.weight.data *= mask
        if self.way in ("in place", "in the data"):
            return super().forward(x)
        kernel = {
            "times": lambda: self.weight * mask,
            "filled": lambda: self.weight.masked_fill(mask == 0, 0),
            "chosen": lambda: torch.where(mask.bool(), self.weight, 0.0),
            "in another shape": lambda: (self.weight.flatten(2) * mask.flatten()).view_as(self.weight),
            "twice": lambda: mask * (self.weight * mask),
        }[self.way]()
        return self._conv_forward(x, kernel, self.bias)


WAYS = ("times", "filled", "chosen", "in another shape", "twice", "in place", "in the data")


@pytest.mark.parametrize("way", WAYS)
def test_a_pixel_cnn_sees_what_comes_before(way):
    network = nn.Sequential(
        Masked(before((5, 5), False), way, 1, 3, padding=2),
        nn.Softplus(),
        Masked(before((3, 3), True), way, 3, 3, padding=1),
        nn.Conv2d(3, 2, 1),
    )
    answer = check(network, (1, 7, 8))
    assert answer.layers[0].receptive_field == (3, 5)
    assert answer.totals.parameters == sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_any_taps_are_followed(seed, transposed):
    rng = np.random.default_rng(seed)
    kernel, stride, dilation = (tuple(rng.integers(1, most, 2).tolist()) for most in (6, 3, 3))
    mask = torch.from_numpy(rng.random(kernel) < 0.5)
    mask[tuple(rng.integers(0, kernel))] = True

    class Any(nn.ConvTranspose2d if transposed else nn.Conv2d):
        def forward(self, x):
            kernel = self.weight * mask
            if transposed:
                return functional.conv_transpose2d(x, kernel, self.bias, stride, dilation=dilation)
            return functional.conv2d(x, kernel, self.bias, stride, 1, dilation)

    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), Any(2, 2, kernel), nn.Softplus(), nn.Conv2d(2, 2, (1, 2)))
    check(network, (1, 5, 6) if transposed else (1, 13, 14))


def test_a_deep_pixel_cnn_is_followed_exactly():
    layers = [Masked(before((3, 3), True), "times", 2, 2, padding=1) for _ in range(20)]
    network = nn.Sequential(Masked(before((7, 7), False), "times", 1, 2, padding=3), *layers)
    answer = tw.size(network, (1, 64, 64))
    assert answer.unit(-1, (40, 30)).clipped == ((17, 40), (7, 53))
    assert answer.unit(-1, (0, 30)).clipped == ((0, 0), (7, 29))
    assert not answer.unit(-1, (0, 30)).masked


def test_more_taps_than_are_followed_are_said():
    """What is told then is what their extremes see: away from the borders that is all there is."""
    layers = [Masked(before((3, 3), True), "times", 1, 1, padding=1) for _ in range(MAX_TERMS + 4)]
    unit = tw.size(nn.Sequential(*layers), (1, 80, 80)).unit(-1, (75, 40))
    assert unit.clipped == ((75 - len(layers), 75), (0, 79))
    assert unit.masked


def test_paths_go_through_the_taps_that_are_left():
    network = Masked(before((3, 3), False), "times", 1, 1, padding=1)
    field = tw.size(network, (1, 5, 5)).effective(-1, (2, 2))
    assert field.paths == 4
    assert [profile.seen for profile in field.profiles] == [(1, 2), (1, 3)]
    assert [profile.mean for profile in field.profiles] == pytest.approx([1.25, 1.75])


@pytest.mark.parametrize("way", ["linear", "product", "written into"])
def test_a_masked_layer_over_all_positions_is_said(way):
    class Mixer(nn.Module):
        """A layer over the tokens `(batch, 6, channels)` that takes those before each, as in a causal gMLP."""

        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.mix = nn.Parameter(torch.randn(6, 6))

        def forward(self, x):
            x = self.first(x)
            if way == "linear":
                return functional.linear(x.transpose(1, 2), self.mix.tril())
            if way == "written into":
                self.mix.data.tril_()
                return self.mix @ x
            return self.mix.tril() @ x

    answer = tw.size(Mixer(), (6, 4))
    assert answer.unit(-1, (2,) if way == "linear" else ()).masked


def test_masked_kernels_of_flax_and_jax():
    linen = pytest.importorskip("flax.linen", reason="needs Flax, which CI installs")
    from jax import lax

    mask = before((5, 5), False).numpy()
    left = np.ones((3, 3, 1, 2)) * before((3, 3), True).numpy()[..., None, None]

    class Layer(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Conv(2, (5, 5), mask=np.broadcast_to(mask[..., None, None], (5, 5, 1, 2)))(x)

    class Own(linen.Module):
        @linen.compact
        def __call__(self, x):
            kernel = self.param("kernel", linen.initializers.lecun_normal(), (2, 1, 3, 3))
            kernel = kernel.transpose(2, 3, 1, 0) * left
            return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    for network, reach in ((Layer(), 2), (Own(), 1)):
        answer = tw.size(network, (9, 9, 1))
        assert answer.unit(0, (4, 4)).clipped == ((4 - reach, 4), (4 - reach, 4 + reach))
        assert answer.unit(0, (0, 4)).clipped == ((0, 0), (4 - reach, 4 - 1 + (reach == 1)))
        assert not answer.unit(0, (4, 4)).masked


def test_a_masked_layer_over_all_positions_of_jax_is_said():
    linen = pytest.importorskip("flax.linen", reason="needs Flax, which CI installs")
    import jax.numpy as jnp

    class Mixer(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Dense(4)(x)
            mix = self.param("mix", linen.initializers.lecun_normal(), (6, 6))
            return jnp.einsum("ij,bjc->bic", jnp.tril(mix), x)

    answer = tw.size(Mixer(), (6, 4))
    assert answer.unit(-1, ()).masked


def test_the_parts_of_a_window():
    window = Window((5,), (2,), (3,), (4,), (1,))
    taps = (Kept((((0, 2), (3, 4)),)),)
    parts = list(window.parts(taps))
    assert [(each.kernel, each.low, each.high) for each in parts] == [((2,), (4,), (-8,)), ((1,), (-5,), (-2,))]
    assert all(each.output_extents((30,)) == window.output_extents((30,)) for each in parts)
    assert window.around(taps) == Window((4,), (2,), (3,), (4,), (-2,))


def test_what_weights_choose_may_be_anything():
    zeros = np.zeros(2)
    assert left_in("select_n", {}, (2,), [None, None, zeros], [None, None, None]) is None
    assert left_in("select_n", {}, (2,), [np.array([0, 1]), None, zeros], [None, None, None]).tolist() == [True, False]
