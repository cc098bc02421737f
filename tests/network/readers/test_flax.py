"""Flax, Linen and NNX: the textbook table, residual networks, transposed convolutions, attention, shared weights."""

from __future__ import annotations

import itertools

import pytest

import thalweg as tw
from textbook_table import check_textbook, counted, same_network
from thalweg.errors import InputError

pytest.importorskip("flax", reason="needs Flax, which CI installs")

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx


class Textbook(nn.Module):
    @nn.compact
    def __call__(self, x):
        for channels, times in ((64, 1), (128, 1), (256, 2)):
            for _ in range(times):
                x = nn.relu(nn.Conv(channels, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(1024)(x.reshape(x.shape[0], -1)))
        return nn.Dense(100)(x)


class TextbookNNX(nnx.Module):
    def __init__(self, rngs):
        widths = [3, 64, 128, 256, 256]
        self.convs = nnx.List([nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in itertools.pairwise(widths)])
        self.dense = nnx.Linear(14 * 14 * 256, 1024, rngs=rngs)
        self.last = nnx.Linear(1024, 100, rngs=rngs)

    def __call__(self, x):
        for number, conv in enumerate(self.convs):
            x = nnx.relu(conv(x))
            if number != 2:
                x = nnx.max_pool(x, (2, 2), (2, 2))
        return self.last(nnx.relu(self.dense(x.reshape(x.shape[0], -1))))


def test_the_textbook_table_from_linen_without_weights():
    answer = tw.size(Textbook(), (112, 112, 3))
    check_textbook(answer)
    assert [each.name for each in counted(answer)][:3] == ["Conv_0", "max_pool", "Conv_1"]
    assert counted(answer)[-1].name == "Dense_1"


def test_the_textbook_table_from_nnx_without_weights():
    answer = tw.size(nnx.eval_shape(lambda: TextbookNNX(nnx.Rngs(0))), (112, 112, 3))
    check_textbook(answer)
    assert [each.name for each in counted(answer)][-2:] == ["dense", "last"]


class Block(nn.Module):
    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, train: bool):
        y = nn.Conv(self.channels, (3, 3), (self.stride, self.stride), use_bias=False, name="conv1")(x)
        y = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm1")(y))
        y = nn.Conv(self.channels, (3, 3), use_bias=False, name="conv2")(y)
        y = nn.BatchNorm(use_running_average=not train, name="norm2")(y)
        if self.stride > 1:
            x = nn.Conv(self.channels, (1, 1), (self.stride, self.stride), use_bias=False, name="short")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(8, (3, 3), use_bias=False)(x)))
        x = Block(8, name="block1")(x, train)
        x = Block(16, 2, name="block2")(x, train)
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(10)(x)


RESNET = """
    input 16x16x3; conv3-8 nobias; bn; relu
    a:; conv3-8 nobias; bn; relu; conv3-8 nobias; bn; add a; relu
    b:; conv3-16/2 nobias; bn; relu; conv3-16 nobias; main: bn
    from b; conv1-16/2 nobias; add main; relu; globalavgpool; dropout; FC-10
"""


def test_a_residual_network_with_batch_normalisation_after_training():
    answer = tw.size(ResNet(), (16, 16, 3))
    told = tw.size(RESNET)
    assert answer.totals == told.totals
    assert sorted(each.connections for each in counted(answer)) == sorted(each.connections for each in counted(told))
    assert answer.layers[-1].macs == 160
    names = [each.name for each in answer.layers]
    assert names[:7] == ["Conv_0", "BatchNorm_0", "relu", "block1.conv1", "block1.norm1", "block1.relu", "block1.conv2"]
    assert not any("everything" in note or "gate" in note for note in answer.table().notes)
    (last,) = [each for each in answer.layers if each.name == "block2.conv2"]
    (other,) = [each for each in told.layers if each.name == "conv3-16"]
    assert (last.receptive_field, last.stride, last.first) == (other.receptive_field, other.stride, other.first)


def test_bound_modules_and_modules_with_variables_count_the_same():
    module = ResNet()
    variables = jax.eval_shape(
        lambda key, x: module.init(key, x, train=False), jax.random.key(0), jnp.zeros((1, 16, 16, 3))
    )
    told = tw.size(module, (16, 16, 3)).totals
    assert tw.size((module, variables), (16, 16, 3)).totals == told
    assert tw.size(module.bind(variables), (16, 16, 3)).totals == told
    assert told.parameters == sum(each.size for each in jax.tree.leaves(variables["params"]))


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        a = nn.relu(nn.Conv(4, (3, 3))(x))
        b = nn.relu(nn.Conv(8, (3, 3))(nn.max_pool(a, (2, 2), (2, 2))))
        x = nn.ConvTranspose(4, (2, 2), (2, 2))(b)
        return nn.Conv(2, (1, 1))(jnp.concatenate([a, x], -1))


def test_a_u_net():
    spec = "input 12x12x3; conv3-4; a: relu; maxpool; conv3-8; relu; convt2-4/2; concat a; conv1-2"
    same_network(tw.size(UNet(), (12, 12, 3)), spec)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (3, 1), (2, 3)])
def test_transposed_convolutions(kernel, stride, padding):
    class Up(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.ConvTranspose(2, (kernel,), (stride,), padding)(nn.Conv(3, (3,))(x))

    answer = tw.size(Up(), (10, 1))
    extent = 10 * stride if padding == "SAME" else 9 * stride + max(kernel, stride)
    assert answer.layers[-1].output == (extent, 2)
    assert answer.layers[-1].connections == 10 * kernel * 3 * 2
    # Every tap that meets a unit, counted by the same convolution of ones.
    taps = jax.lax.conv_transpose(np.ones((1, 10, 1)), np.ones((kernel, 1, 1)), (stride,), padding)
    assert answer.layers[-1].connections_inside == int(taps.sum()) * 3 * 2
    assert taps.shape[1:-1] == answer.layers[-1].output[:-1]


class ViT(nn.Module):
    width: int = 32
    layers: int = 2

    @nn.compact
    def __call__(self, x, deterministic: bool):
        x = nn.Conv(self.width, (4, 4), (4, 4), padding="VALID", name="patches")(x).reshape(1, -1, self.width)
        x = x + self.param("positions", nn.initializers.normal(), (1, x.shape[1], self.width))
        for number in range(self.layers):
            y = nn.LayerNorm(name=f"before{number}")(x)
            y = nn.MultiHeadDotProductAttention(4, name=f"attention{number}")(y, deterministic=deterministic)
            x = x + nn.Dropout(0.1)(y, deterministic=deterministic)
            y = nn.Dense(64, name=f"up{number}")(nn.LayerNorm(name=f"after{number}")(x))
            x = x + nn.Dense(self.width, name=f"down{number}")(nn.gelu(y))
        return nn.Dense(10, name="head")(nn.LayerNorm(name="norm")(x).mean(1))


def test_a_vision_transformer_against_counts_by_hand():
    answer = tw.size(ViT(), (16, 16, 3))
    width, hidden, tokens = 32, 64, 16
    each = 4 * width * width + 2 * width * hidden
    assert answer.complete
    assert answer.totals.macs == (tokens * 48 * width + 2 * (tokens * each + 2 * tokens * tokens * width) + width * 10)
    variables = jax.eval_shape(
        lambda key, x: ViT().init(key, x, deterministic=True), jax.random.key(0), jnp.zeros((1, 16, 16, 3))
    )
    assert answer.totals.parameters == sum(each.size for each in jax.tree.leaves(variables))
    names = [each.name for each in answer.layers]
    assert names[:5] == ["patches", "positions", "before0", "attention0.query", "attention0.key"]
    assert names.count("gelu") == 2
    assert names.count("attention0.softmax") == 1
    assert answer.layers[1].receptive_field == (4, 4)
    assert answer.layers[-1].receptive_field == (16, 16)


def test_a_recurrent_layer_and_an_embedding():
    class Words(nn.Module):
        @nn.compact
        def __call__(self, ids):
            x = nn.Embed(50, 8, name="words")(ids)
            return nn.Dense(3, name="head")(nn.RNN(nn.LSTMCell(6), name="memory")(x))

    answer = tw.size(Words(), (7,))
    rows = [(each.name, each.kind, each.output, each.parameters, each.macs) for each in answer.layers]
    assert rows == [
        ("words", "embedding", (7, 8), 400, 0),
        ("LSTMCell_0", "recurrent", (7, 6), 4 * (8 * 6 + 6 * 6 + 6), 7 * 4 * (8 * 6 + 6 * 6)),
        ("head", "linear", (7, 3), 21, 126),
    ]
    assert [each.receptive_field for each in answer.layers] == [(1,), (7,), (7,)]


def test_shared_weights_are_counted_once():
    class Tied(nn.Module):
        @nn.compact
        def __call__(self, ids):
            table = nn.Embed(50, 8)
            again = nn.Dense(8, name="again")
            return table.attend(again(again(table(ids))))

    class TiedNNX(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(8, 8, rngs=rngs)
            self.second = self.first

        def __call__(self, x):
            return self.second(self.first(x))

    answer = tw.size(Tied(), (5,))
    assert answer.totals.parameters == 400 + 72
    assert [each.parameters for each in answer.layers] == [400, 72, 0, 0]
    assert answer.totals.macs == 5 * (64 + 64 + 400)
    assert tw.size(nnx.eval_shape(lambda: TiedNNX(nnx.Rngs(0))), (8,)).totals.parameters == 72


def test_a_stack_of_layers_made_by_a_loop():
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.relu(nn.Dense(8)(x)), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            loop = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=5)
            return loop(name="layers")(x, None)[0]

    answer = tw.size(Stack(), (8,))
    assert [each.parameters for each in counted(answer)] == [72] * 5
    assert counted(answer)[3].name == "layers.Dense_0.3"


def test_normalisations_of_nnx_are_read_as_after_training():
    class Normed(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.batch = nnx.BatchNorm(4, rngs=rngs)
            self.group = nnx.GroupNorm(4, num_groups=2, rngs=rngs)
            self.layer = nnx.LayerNorm(4, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.drop(self.layer(self.group(nnx.relu(self.batch(self.conv(x))))))

    model = nnx.eval_shape(lambda: Normed(nnx.Rngs(0)))
    answer = tw.size(model, (8, 8, 3))
    kinds = ["convolution", "normalisation", "activation", "spatial normalisation", "normalisation"]
    assert [each.kind for each in answer.layers] == kinds
    assert [each.parameters for each in answer.layers] == [112, 8, 0, 8, 8]
    assert not model.batch.use_running_average  # the model itself stays as it was


def test_models_that_cannot_be_read():
    class Broken(nn.Module):
        @nn.compact
        def __call__(self, x):
            raise RuntimeError("first line\nsecond line")

    with pytest.raises(
        InputError, match=r"Initialising .* on an input of 8 failed in .* with RuntimeError: first line\.$"
    ):
        tw.size(Broken(), (8,))
    with pytest.raises(InputError, match="does not say what its input is"):
        tw.size(Textbook())
