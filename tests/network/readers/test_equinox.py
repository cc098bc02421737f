"""Equinox: the textbook table, layers with state, names by path, channels first, sequences, shared weights."""

from __future__ import annotations

import itertools

import pytest

import thalweg as tw
from textbook_table import check_textbook, counted, same_network
from thalweg.errors import InputError

eqx = pytest.importorskip("equinox", reason="needs Equinox, which CI installs")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

KEY = jax.random.key(0)


def abstract(make, *arguments):
    return eqx.filter_eval_shape(make, *arguments)


class Textbook(eqx.Module):
    convs: list
    dense: eqx.nn.Linear
    last: eqx.nn.Linear
    pool: eqx.nn.MaxPool2d

    def __init__(self, key):
        widths = [3, 64, 128, 256, 256]
        self.convs = [eqx.nn.Conv2d(a, b, 3, padding=1, key=key) for a, b in itertools.pairwise(widths)]
        self.dense = eqx.nn.Linear(256 * 14 * 14, 1024, key=key)
        self.last = eqx.nn.Linear(1024, 100, key=key)
        self.pool = eqx.nn.MaxPool2d(2, 2)

    def __call__(self, x):
        for number, conv in enumerate(self.convs):
            x = jax.nn.relu(conv(x))
            x = x if number == 2 else self.pool(x)
        return self.last(jax.nn.relu(self.dense(x.reshape(-1))))


def test_the_textbook_table_without_weights():
    answer = tw.size(abstract(Textbook, KEY), (3, 112, 112))
    check_textbook(answer, channels_first=True)
    names = ["convs.0", "MaxPool2d", "convs.1", "MaxPool2d", "convs.2", "convs.3", "MaxPool2d", "dense", "last"]
    assert [each.name for each in counted(answer)] == names
    assert answer.input == (3, 112, 112)


class ResNet(eqx.Module):
    stem: eqx.nn.Conv2d
    conv1: eqx.nn.Conv2d
    norm1: eqx.nn.BatchNorm
    conv2: eqx.nn.Conv2d
    norm2: eqx.nn.BatchNorm
    head: eqx.nn.Linear
    drop: eqx.nn.Dropout

    def __init__(self, key, mode):
        self.stem = eqx.nn.Conv2d(1, 8, 3, 2, padding=1, key=key)
        self.conv1, self.conv2 = (eqx.nn.Conv2d(8, 8, 3, padding=1, use_bias=False, key=key) for _ in range(2))
        self.norm1, self.norm2 = (eqx.nn.BatchNorm(8, axis_name="batch", mode=mode) for _ in range(2))
        self.head = eqx.nn.Linear(8, 10, key=key)
        self.drop = eqx.nn.Dropout(0.5)

    def __call__(self, x, state, key):
        x = self.stem(x)
        y, state = self.norm1(self.conv1(x), state)
        y, state = self.norm2(self.conv2(jax.nn.relu(y)), state)
        x = jax.nn.relu(x + y)
        return self.head(self.drop(x.mean((1, 2)), key=key)), state


RESNET = """
    input 16x12x1; stem: conv3-8/2 pad 1; conv3-8 nobias; bn; relu; conv3-8 nobias; bn; add stem; relu
    globalavgpool; dropout; FC-10
"""


@pytest.mark.parametrize("mode", ["ema", "batch"])
def test_a_residual_network_with_state_after_training(mode):
    model = abstract(eqx.nn.make_with_state(ResNet), KEY, mode)
    answer = tw.size(model, (1, 16, 12))
    same_network(answer, RESNET)
    assert [each.name for each in answer.layers][:5] == ["stem", "conv1", "norm1", "relu", "conv2"]
    assert answer.layers[0].output == (8, 8, 6)
    arrays = [each for each in jax.tree.leaves(model[0]) if hasattr(each, "size")]
    assert answer.totals.parameters == sum(each.size for each in arrays)


class UNet(eqx.Module):
    down: eqx.nn.Conv2d
    deep: eqx.nn.Conv2d
    up: eqx.nn.ConvTranspose2d
    out: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm

    def __init__(self, key):
        self.down = eqx.nn.Conv2d(3, 4, 3, padding="SAME", key=key)
        self.deep = eqx.nn.Conv2d(4, 8, 3, padding=2, dilation=2, key=key)
        self.up = eqx.nn.ConvTranspose2d(8, 4, 3, 2, padding=1, output_padding=1, key=key)
        self.out = eqx.nn.Conv2d(8, 2, 1, key=key)
        self.norm = eqx.nn.GroupNorm(2, 4)

    def __call__(self, x):
        a = jax.nn.relu(self.norm(self.down(x)))
        x = jax.nn.relu(self.deep(eqx.nn.AvgPool2d(2, 2)(a)))
        return self.out(jnp.concatenate([a, self.up(x)]))


def test_a_u_net_with_group_normalisation():
    spec = """
        input 12x12x3; conv3-4; groupnorm 2; a: relu; avgpool; conv3-8 dilation 2; relu
        convt3-4/2 pad 1 outpad 1; concat a; conv1-2
    """
    answer = tw.size(abstract(UNet, KEY), (3, 12, 12))
    told = tw.size(spec)
    assert answer.totals == told.totals
    assert "gate" in " ".join(answer.table().notes)
    for mine, other in zip(counted(answer), counted(told), strict=True):
        assert (mine.receptive_field, mine.stride, mine.first) == (other.receptive_field, other.stride, other.first)


class Transformer(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    mlp: eqx.nn.MLP
    head: eqx.nn.Shared

    def __init__(self, key):
        words = eqx.nn.Embedding(50, 8, key=key)
        self.attention = eqx.nn.MultiheadAttention(2, 8, key=key)
        self.norm = eqx.nn.LayerNorm(8)
        self.mlp = eqx.nn.MLP(8, 8, 16, 1, activation=jax.nn.gelu, key=key)
        head = eqx.nn.Linear(8, 50, use_bias=False, key=key)
        self.head = eqx.nn.Shared((words, head), lambda pair: pair[1].weight, lambda pair: pair[0].weight)

    def __call__(self, ids):
        words, head = self.head()
        x = jax.vmap(words)(ids)
        y = jax.vmap(self.norm)(x)
        x = x + self.attention(y, y, y)
        x = x + jax.vmap(self.mlp)(x)
        return jax.vmap(head)(x)


def test_a_transformer_of_shared_words_against_counts_by_hand():
    answer = tw.size(abstract(Transformer, KEY), (7,))
    assert answer.complete
    assert answer.totals.macs == 7 * (4 * 64 + 2 * 8 * 16 + 8 * 50) + 2 * 7 * 7 * 8
    assert answer.totals.parameters == 50 * 8 + 4 * 64 + 2 * 8 + (8 * 16 + 16) + (16 * 8 + 8)
    rows = {each.name: each for each in answer.layers}
    assert rows["attention.query_proj"].output == (7, 8)
    assert rows["MultiheadAttention.softmax"].kind == "activation"
    assert rows["mlp.layers.0"].parameters == 144
    assert rows["gelu"].neurons == 0
    assert answer.layers[0].receptive_field == (1,)
    assert answer.layers[-1].receptive_field == (7,)


def made(layer, *arguments, **options):
    """A layer without weights."""
    return eqx.filter_eval_shape(lambda key: layer(*arguments, key=key, **options), KEY)


def test_a_signal_has_its_channels_first_and_a_sequence_last():
    class Sequence(eqx.Module):
        one: eqx.nn.Linear

        def __call__(self, x):
            return jax.vmap(self.one)(x)

    signal = tw.size(made(eqx.nn.Conv1d, 2, 4, 5, padding=2), (2, 30))
    same_network(signal, "input 30x2; conv5-4")
    words = tw.size(Sequence(made(eqx.nn.Linear, 6, 3)), (9, 6))
    assert (words.layers[0].output, words.layers[0].receptive_field) == ((9, 3), (1,))


def test_a_volume():
    class Volume(eqx.Module):
        conv: eqx.nn.Conv3d
        pool: eqx.nn.MaxPool3d

        def __call__(self, x):
            return self.pool(self.conv(x))

    model = Volume(made(eqx.nn.Conv3d, 1, 2, 3, padding=1), eqx.nn.MaxPool3d(2, 2))
    same_network(tw.size(model, (1, 6, 8, 10)), "input 6x8x10x1; conv3-2; maxpool")


def test_a_recurrent_cell_in_a_loop():
    class Recurrent(eqx.Module):
        cell: eqx.nn.GRUCell
        out: eqx.nn.Linear

        def __call__(self, x):
            state, _ = jax.lax.scan(lambda state, each: (self.cell(each, state), None), jnp.zeros(6), x)
            return self.out(state)

    answer = tw.size(Recurrent(made(eqx.nn.GRUCell, 4, 6), made(eqx.nn.Linear, 6, 2)), (9, 4))
    cell, out = answer.layers
    assert (cell.name, cell.kind, cell.output) == ("cell", "recurrent", (6,))
    assert (cell.parameters, cell.macs) == (3 * 6 * (4 + 6) + 3 * 6 + 6, 9 * 3 * 6 * (4 + 6))
    assert (out.name, out.receptive_field) == ("out", (9,))


def test_models_that_cannot_be_read():
    with pytest.raises(InputError, match=r"failed with ValueError: .*needs to have rank 3"):
        tw.size(made(eqx.nn.Conv2d, 3, 4, 3), (30, 3))
    with pytest.raises(InputError, match="does not say what its input is"):
        tw.size(made(eqx.nn.Linear, 3, 4))
