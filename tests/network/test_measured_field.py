"""Measured receptive fields: the gradient worked out in another way, path counts, exact fields, what stays as is."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402

import thalweg as tw  # noqa: E402
import torch_networks as networks  # noqa: E402
from thalweg.errors import InputError  # noqa: E402
from thalweg.network.effective_field import MOST  # noqa: E402


def linear_chain(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, (3, 5), bias=True), nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.Conv2d(5, 2, 2, dilation=2)
    ).double()


def derivatives_by_hand(layers, extents, index):
    """The derivatives of a unit, summed over its channels, by an image: tap by tap, from the last layer back."""
    gradients = {(channel, *index): 1.0 for channel in range(layers[-1].out_channels)}
    maps = [extents]
    for layer in layers:
        maps.append(tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                maps[-1], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
            )
        ))  # fmt: skip
    for layer, (height, width) in zip(reversed(layers), reversed(maps[:-1]), strict=True):
        kernel, before = layer.weight.detach().numpy(), {}
        for (channel, row, column), value in gradients.items():
            for source, a, b in itertools.product(*(range(each) for each in kernel.shape[1:])):
                y = row * layer.stride[0] - layer.padding[0] + layer.dilation[0] * a
                x = column * layer.stride[1] - layer.padding[1] + layer.dilation[1] * b
                if 0 <= y < height and 0 <= x < width:
                    at = (source, y, x)
                    before[at] = before.get(at, 0.0) + value * kernel[channel, source, a, b]
        gradients = before
    array = np.zeros((layers[0].in_channels, *extents))
    for at, value in gradients.items():
        array[at] = value
    return array


@pytest.mark.parametrize("index", [(0, 0), (2, 1), (4, 3)])
def test_a_linear_chain_has_the_gradient_that_its_kernels_give(index):
    module = linear_chain()
    expected = np.abs(derivatives_by_hand(list(module), (15, 16), index)).sum(axis=0)
    field = tw.size(module, (3, 15, 16)).measured("2", index, samples=3)
    assert field.gradient == pytest.approx(expected.sum(), rel=1e-12)
    np.testing.assert_allclose(field.shares, expected / expected.sum(), rtol=1e-10)
    assert field.seen == np.count_nonzero(expected)


def test_a_layer_in_the_middle_and_a_vector():
    module = linear_chain()
    expected = np.abs(derivatives_by_hand(list(module)[:1], (15, 16), (3, 4))).sum(axis=0)
    answer = tw.size(module, (3, 15, 16))
    np.testing.assert_allclose(answer.measured("0", (3, 4)).shares, expected / expected.sum(), rtol=1e-10)
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(2 * 4 * 5, 3)).double()
    weights = (network[2].weight.detach().numpy()[1].reshape(2, 4, 5) * network[0].weight.detach().numpy()[:, 0]).sum(0)
    field = tw.size(network, (1, 4, 5)).measured("2", (1,))
    np.testing.assert_allclose(field.shares, np.abs(weights) / np.abs(weights).sum(), rtol=1e-12)


def test_rectifiers_are_averaged_over_the_inputs():
    module = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.ReLU(inplace=True), nn.Conv1d(1, 1, 3, bias=False))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[2].weight.copy_(torch.tensor([[[1.0, -2.0, 4.0]]]))
    answer = tw.size(module, (1, 3))
    batch = np.array([[[1, 1, -1]], [[1, -1, -1]], [[-1, 1, 1]], [[-1, -1, -1]]])
    field = answer.measured("2", (0,), inputs=batch)
    # Taps 1, 2, 4 are open in 2, 2, 1 of the four inputs.
    assert field.gradient == pytest.approx((2 + 4 + 4) / 4)
    np.testing.assert_allclose(field.shares, [0.2, 0.4, 0.4])
    assert (field.samples, field.seed) == (4, None)
    assert "4 given inputs" in field.table().notes[1]
    # What the rectifier writes in place does not reach back to the layer before it.
    np.testing.assert_allclose(answer.measured("0", (2,), inputs=batch).shares, [0, 0, 1])
    assert answer.measured("0", (2,), inputs=batch).gradient == 1
    closed = answer.measured("2", (0,), inputs=batch[3:])
    assert (closed.shares, closed.gradient, closed.seen) == (None, 0, 0)
    assert "No gradient of this unit" in closed.table().notes[0]
    assert not closed.figure().data


def test_equal_weights_count_paths():
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.AvgPool2d(2), nn.Conv2d(3, 4, 3, dilation=2), nn.ReLU(),
        nn.ConvTranspose2d(4, 2, 3, 2), nn.Conv2d(2, 2, 3, stride=2, padding=1),
    )  # fmt: skip
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    answer = tw.size(module, (2, 20, 26))
    inputs = np.ones((1, 2, 20, 26))
    for layer, index in (("0", (0, 5)), ("2", (3, 4)), ("4", (6, 0)), ("5", (2, 3))):
        counted, measured = answer.effective(layer, index), answer.measured(layer, index, inputs)
        np.testing.assert_allclose(measured.shares, counted.shares, rtol=1e-5, atol=1e-9)
        assert (measured.within, measured.seen) == (counted.within, counted.seen)
        for one, other in zip(measured.profiles, counted.profiles, strict=True):
            assert (one.seen, one.most) == (other.seen, other.most)
            assert one.deviation == pytest.approx(other.deviation, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "layer", "index"),
    [
        (lambda: networks.resnet(18), "layer1.0.conv2", (8, 3)),
        (lambda: networks.resnet(18), "layer1.1.relu#2", (8, 3)),
        (lambda: networks.resnet(18), "layer2.0.downsample.0", (4, 4)),
        (lambda: networks.UNet(width=4), None, (3, 9)),
    ],
)
def test_the_gradient_lies_within_what_the_unit_sees(make, layer, index):
    torch.manual_seed(1)
    answer = tw.size(make(), (3, 64, 64))
    name = layer or [each.name for each in answer.layers if each.kind == "convolution"][3]
    field, unit = answer.measured(name, index, samples=2), answer.unit(name, index)
    for profile, (first, last) in zip(field.profiles, unit.clipped, strict=True):
        assert first <= profile.seen[0] <= profile.seen[1] <= last
        assert profile.seen[1] - profile.seen[0] > (last - first) / 2
    assert field.shares.sum() == pytest.approx(1)
    largest = np.sort(field.shares, axis=None)[::-1]
    assert largest[: field.within].sum() >= MOST > largest[: field.within - 1].sum()


def test_each_call_of_a_shared_module_is_told_apart():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

        def forward(self, x):
            return self.conv(self.conv(x))

    answer = tw.size(Twice(), (1, 9))
    assert [answer.measured(f"conv#{call}", (4,)).seen for call in (1, 2)] == [3, 5]


def test_a_module_that_is_called_on_maps_of_several_sizes():
    """As the heads of detectors are."""

    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.Conv1d(1, 1, 2, 2, bias=False)
            self.head = nn.Conv1d(1, 1, 3, padding=1, bias=False)

        def forward(self, x):
            return self.head(x), self.head(self.down(x))

    answer = tw.size(Levels(), (1, 12))
    assert [answer.measured(f"head#{call}", (4,)).profiles[0].seen for call in (1, 2)] == [(3, 5), (6, 11)]


def test_tokens_are_positions():
    module = networks.VisionTransformer(side=32, patch=8, width=16, depth=1, heads=2, classes=3)
    answer = tw.size(module, (3, 32, 32))
    field = answer.measured(names(answer)[0], (1, 2))
    assert [profile.seen for profile in field.profiles] == [(8, 15), (16, 23)]


def names(answer):
    return [each.name for each in answer.layers]


class Tokens(nn.Module):
    """An image as tokens, row by row or column by column, each by itself in a fully connected layer."""

    def __init__(self, by_rows):
        super().__init__()
        self.patches, self.mix, self.by_rows = nn.Conv2d(1, 4, 2, 2), nn.Linear(4, 4), by_rows

    def forward(self, x):
        x = self.patches(x)
        return self.mix((x if self.by_rows else x.transpose(2, 3)).flatten(2).transpose(1, 2))


def test_tokens_in_another_order_are_noticed():
    field = tw.size(Tokens(True), (1, 6, 8)).measured("mix", (1, 3))
    assert [profile.seen for profile in field.profiles] == [(2, 3), (6, 7)]
    assert field.notes == ("Its tokens are taken to be positions row by row.",)
    answer = tw.size(Tokens(False), (1, 6, 8))
    with pytest.raises(InputError, match="gradient reaches beyond"):
        answer.measured("mix", (1, 3))


class Restless(nn.Module):
    """Draws numbers, counts its calls in a buffer, and writes into its input."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3)
        self.norm = nn.BatchNorm1d(2)
        self.last = nn.Conv1d(2, 1, 3)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        x = nn.functional.dropout(self.norm(self.conv(x.mul_(2))), 0.5, training=True)
        return self.last(x)


def test_the_module_and_all_generators_stay_as_they_are():
    module = Restless()
    module.train()
    module.norm.eval()
    module.conv.weight.requires_grad_(False)
    module.last.weight.grad = torch.ones_like(module.last.weight)
    before = copy.deepcopy(module.state_dict())
    answer = tw.size(module, (1, 12))
    drawn = torch.random.get_rng_state()
    batch = torch.randn(2, 1, 12, generator=torch.Generator().manual_seed(3))
    kept = batch.clone()
    with torch.inference_mode():
        first = answer.measured("last", (4,), samples=4)
    answer.measured("last", (4,), inputs=batch)
    assert torch.equal(drawn, torch.random.get_rng_state())
    assert torch.equal(kept, batch)
    assert not batch.requires_grad
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert (module.training, module.norm.training) == (True, False)
    assert not module.conv.weight.requires_grad
    assert torch.equal(module.last.weight.grad, torch.ones_like(module.last.weight))
    assert module.conv.weight.grad is None
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in module.modules())
    torch.manual_seed(99)
    again = answer.measured("last", (4,), samples=4)
    np.testing.assert_array_equal(first.shares, again.shares)
    assert (first.samples, first.seed) == (4, 0)
    other = answer.measured("last", (4,), samples=4, seed=1)
    assert not np.array_equal(first.shares, other.shares)


def test_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.table, self.mix = nn.Conv1d(2, 2, 3), nn.Embedding(5, 2), nn.Conv1d(2, 2, 1)

        def forward(self, x, ids):
            return self.mix(self.conv(x) * self.table(ids).mean(1)[:, :, None])

    answer = tw.size(Two(), ((2, 8), (3,)))
    assert answer.measured("mix", (2,)).seen == 3
    ids = np.array([[0, 1, 4]])
    given = answer.measured("mix", (2,), inputs=(np.ones((1, 2, 8)), ids))
    assert np.flatnonzero(given.shares).tolist() == [2, 3, 4]
    with pytest.raises(InputError, match="takes 2 inputs"):
        answer.measured("mix", (2,), inputs=np.ones((1, 2, 8)))


def test_learned_queries_are_no_input():
    torch.manual_seed(0)
    field = tw.size(networks.LearnedQuery(), (5, 16)).measured("read", (3,), samples=2)
    np.testing.assert_allclose(field.shares, [0, 0, 0, 1, 0], atol=1e-12)


def test_tables_json_and_pictures():
    field = tw.size(linear_chain(), (3, 15, 16)).measured("1", (3, 4), samples=2, seed=5)
    table = field.table()
    assert table.title == "Gradient of unit (3, 4) of 1"
    assert [row[:2] for row in table.rows] == [("height", 5), ("width", 7)]
    assert "95% of the gradient lies at" in table.notes[0]
    assert "the mean over 2 inputs of standard normal numbers (seed 5)" in table.notes[1]
    answer = field.to_dict()
    assert set(answer) == {"layer", "index", "axes", "gradient", "within", "seen", "samples", "seed"}
    assert sum(answer["axes"][0]["shares"]) == pytest.approx(1)
    assert [trace.type for trace in field.figure().data] == ["bar", "bar", "heatmap"]
    assert field.figure().data[2].z.shape == (5, 7)


class Odd(nn.Module):
    """Layers that are not modules, or whose modules give something else."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1)
        self.attention = nn.MultiheadAttention(1, 1, batch_first=True)

    def forward(self, x):
        x = (self.conv(x) + x).transpose(1, 2)
        return self.attention(x, x, x)[0]


def test_layers_that_cannot_be_taken_hold_of():
    answer = tw.size(Odd(), (1, 8))
    assert "add" in names(answer)
    with pytest.raises(InputError, match="'add' is not a module of its own"):
        answer.measured("add", (0,))
    with pytest.raises(InputError, match=r"'attention\.out_proj' was called 0 times"):
        answer.measured("attention.out_proj", (0,))
    recurrent = tw.size(nn.Sequential(nn.LSTM(3, 4)), (7, 3))
    with pytest.raises(InputError, match="A LSTM of the network takes the batch in the middle"):
        recurrent.measured("0", (0,))
    flat = tw.size(nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.ReLU(), nn.Linear(12, 2)), (1, 8))
    with pytest.raises(InputError, match="Where the positions of '2' are in its array cannot be told"):
        flat.measured("2", (3,))
    ids = tw.size(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), (6,))
    with pytest.raises(InputError, match="nothing has a derivative by it"):
        ids.measured("1", (0,))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"samples": 0}, "`samples` must be a whole number of at least 1, not 0"),
        ({"samples": 1.5}, "`samples` must be a whole number"),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, not -1"),
        ({"inputs": np.ones((2, 3, 9, 9))}, "must be a batch of 3 x 15 x 16 each, not 2 x 3 x 9 x 9"),
        ({"inputs": np.ones((0, 3, 15, 16))}, "must be a batch of 3 x 15 x 16 each"),
        ({"inputs": "abc"}, "must be an array of numbers"),
        ({"inputs": np.full((1, 3, 15, 16), np.nan)}, "not finite"),
        ({"index": (99, 0)}, "has no unit '99,0'"),
    ],
)
def test_what_cannot_be_asked(asked, sentence):
    module = nn.Sequential(*linear_chain(), nn.Tanh())
    answer = tw.size(module, (3, 15, 16))
    with pytest.raises(InputError, match=sentence):
        answer.measured("3", **{"index": (0, 0), **asked})


def test_networks_without_weights():
    with torch.device("meta"):
        bare = networks.resnet(18)
    with pytest.raises(InputError, match="holds no weights; build it with weights"):
        tw.size(bare, (3, 64, 64)).measured("conv1", (0, 0))
    lazy = nn.Sequential(nn.LazyConv1d(2, 3))
    with pytest.raises(InputError, match="holds no weights"):
        tw.size(lazy, (1, 9)).measured("0", (0,))
    with pytest.raises(InputError, match="needs a network that holds its weights"):
        tw.size("input 8x8x1; conv3-1").measured(0, (0, 0))
