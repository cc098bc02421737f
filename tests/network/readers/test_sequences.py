"""What units see of sequences that are cut, turned, put side by side and multiplied, against their gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import thalweg as tw

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
nn, functional = torch.nn, torch.nn.functional

TOKENS, WIDTH = 10, 4
LATER = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)


class Net(nn.Module):
    """A layer, a function of what it makes, and another layer, with whatever parts the function needs."""

    def __init__(self, function, first=None, **parts):
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH) if first is None else first
        self.last = nn.Linear(WIDTH, WIDTH)
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.last(self.function(self, self.first(x)))


def seen(network, shape=(TOKENS, WIDTH)):
    """For every position of the output the box around the positions of the input with a gradient, None for none."""
    network = copy.deepcopy(network).double()
    x = torch.randn(1, *shape, dtype=torch.float64, requires_grad=True)
    out = network(x)[0].pow(2).sum(-1)
    answer = []
    for position in range(len(out)):
        (slope,) = torch.autograd.grad(out[position], x, retain_graph=True)
        places = slope[0].abs().sum(-1).nonzero().flatten().tolist()
        answer.append(((min(places), max(places)),) if places else None)
    return answer


def in_pairs(x):
    return x.reshape(TOKENS // 2, 2, WIDTH)


def stepped(self, x):
    """A recurrent cell over tokens that stand first, as in early PyTorch."""
    state, steps = torch.zeros(1, WIDTH, dtype=x.dtype), []
    for token in x.transpose(0, 1):
        state = torch.tanh(self.cell(token + state))
        steps.append(state)
    return torch.stack(steps).transpose(0, 1)


def decoded(self, x):
    """Steps from the state of an encoder, with nothing else to see."""
    return self.decoder(torch.zeros(1, 5, WIDTH, dtype=x.dtype), self.encoder(x)[1])[0]


def gru(**options):
    return nn.GRU(WIDTH, WIDTH, batch_first=True, **options)


NETWORKS = {
    "last states of pairs": Net(lambda self, x: self.gru(in_pairs(x))[1].reshape(1, -1, WIDTH), gru=gru()),
    "pairs both ways": Net(
        lambda self, x: self.gru(in_pairs(x))[0].mean(1).reshape(1, -1, WIDTH),
        gru=nn.GRU(WIDTH, WIDTH // 2, bidirectional=True, batch_first=True),
    ),
    "a learned query for each pair": Net(
        lambda self, x: functional.scaled_dot_product_attention(
            self.query.expand(TOKENS // 2, 1, WIDTH), in_pairs(x), in_pairs(x)
        ).reshape(1, -1, WIDTH),
        query=nn.Parameter(torch.zeros(1, 1, WIDTH)),
    ),
    "attention in pairs": Net(
        lambda self, x: functional.scaled_dot_product_attention(*[in_pairs(x)] * 3).reshape(1, -1, WIDTH)
    ),
    "shares of pairs": Net(lambda self, x: in_pairs(x).softmax(1).reshape(1, -1, WIDTH)),
    "a factor that mixes tokens": Net(
        lambda self, x: x * self.mix(x.transpose(1, 2)).transpose(1, 2), mix=nn.Linear(TOKENS, TOKENS)
    ),
    "attention times a gate": Net(
        lambda self, x: functional.silu(x) * functional.scaled_dot_product_attention(x, x, x)
    ),
    "shares of time as weights": Net(lambda self, x: x.softmax(1) * x),
    "tokens first": Net(stepped, cell=nn.Linear(WIDTH, WIDTH)),
    "a cell at every token": Net(
        lambda self, x: torch.stack([self.cell(x[:, place]) for place in range(TOKENS)], 1),
        nn.Identity(), cell=nn.Linear(WIDTH, WIDTH),
    ),
    "a decoder": Net(decoded, encoder=gru(), decoder=gru()),
    "a mask of one axis": Net(
        lambda self, x: x * self.held[:, None], held=nn.Buffer((torch.arange(TOKENS) % 3 > 0).float())
    ),
    "a mask in the type of another": Net(lambda self, x: x * (torch.arange(TOKENS) % 3 > 0)[:, None].type_as(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_what_units_see_is_where_the_gradient_is(name):
    network = NETWORKS[name]
    answer, truth = tw.size(network, (TOKENS, WIDTH)), seen(network)
    units = [answer.unit("last", (place,)) for place in range(len(truth))]
    assert [unit.clipped for unit in units] == truth
    assert any(unit.masked for unit in units) == (name == "last states of pairs")  # one way inside of pairs
    assert not answer.lost


@pytest.mark.parametrize("way", ["sum", "difference", "product", "in place"])
def test_a_map_and_its_transpose_are_not_taken_for_one(way):
    class Symmetric(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, x):
            x = self.conv(x)
            turned = x.transpose(2, 3)
            if way == "in place":
                return x.clone().add_(turned)
            return {"sum": x + turned, "difference": x - turned, "product": x * turned}[way]

    answer = tw.size(Symmetric(), (1, 6, 6))
    assert answer.lost
    with pytest.raises(tw.errors.InputError, match="cannot be followed"):
        answer.unit(-1, (0, 1))


@pytest.mark.parametrize("turns", range(-1, 5))
def test_quarters_of_a_circle(turns):
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x):
            return torch.rot90(self.conv(x), turns, (2, 3))

    x = torch.arange(12).reshape(1, 1, 3, 4)
    turned = torch.rot90(x, turns, (2, 3))[0, 0]
    answer = tw.size(Turned(), (1, 3, 4))
    for place in np.ndindex(3, 4):  # units are counted along the axes of the input
        index = place if turns % 2 == 0 else place[::-1]
        row, column = divmod(int(turned[index]), 4)
        assert answer.unit(-1, place).clipped == ((row, row), (column, column))


def test_jax_arrays_that_meet_themselves_turned_round():
    import jax.numpy as jnp

    def shuffled(x):
        return jnp.tanh(x + x.reshape(1, 2, 4, 3).swapaxes(1, 2).reshape(1, 8, 3))

    answer = tw.size(shuffled, (8, 3))
    with pytest.raises(tw.errors.InputError, match="cannot be followed"):
        answer.unit(-1, (1,))


def test_places_outside_of_jax_arrays():
    import jax.numpy as jnp

    ahead = np.arange(8) + 2
    clipped = tw.size(lambda x: jnp.tanh(jnp.take(x, ahead, axis=1, mode="clip")), (8, 3))
    assert [clipped.unit(-1, (unit,)).clipped for unit in range(8)] == [((min(unit + 2, 7),) * 2,) for unit in range(8)]
    filled = tw.size(lambda x: jnp.tanh(x.at[:, ahead].get(mode="fill", fill_value=0)), (8, 3))
    assert filled.lost


def test_masks_that_jax_functions_hold():
    import jax
    import jax.numpy as jnp

    hides = np.triu(np.full((8, 8), -np.inf), 1)
    weights = jnp.ones((8, 8))
    answer = tw.size(lambda x: jax.nn.softmax(x @ x.swapaxes(1, 2) + hides) @ x, (8, 3))
    assert [answer.unit(-1, (unit,)).clipped for unit in range(8)] == [((0, unit),) for unit in range(8)]
    assert answer.totals.parameters == 0
    assert tw.size(lambda x: weights @ x, (8, 3)).totals.parameters == 64


def test_rows_that_are_hidden_in_one_head_only():
    import jax
    import jax.numpy as jnp

    causal = np.tril(np.ones((8, 8), bool))
    heads = np.stack([np.tril(causal, -1), causal])

    def attention(x):
        x = x.reshape(1, 8, 2, 2)
        scores = jnp.einsum("bqhd,bkhd->bhqk", x, x)
        shares = jax.nn.softmax(jnp.where(heads, scores, -1e9))
        return jnp.einsum("bhqk,bkhd->bqhd", shares, x).reshape(1, 8, 4)

    answer = tw.size(attention, (8, 4))
    assert [answer.unit(-1, (unit,)).clipped for unit in range(8)] == [((0, unit if unit else 7),) for unit in range(8)]


def test_taps_of_transposed_convolutions_of_jax():
    import jax
    import jax.numpy as jnp
    from jax import lax

    taps = np.array([1, 1, 0], bool)[:, None, None]
    kernel = np.random.default_rng(0).random((3, 2, 2), np.float32)

    def up(x):
        kept = jnp.where(taps, kernel, 0)
        return lax.conv_transpose(x, kept, (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))

    slopes = np.asarray(jax.jacrev(lambda x: up(x).sum(-1))(jnp.ones((1, 5, 2))))[0, :, 0].any(-1)
    answer = tw.size(up, (5, 2))
    for unit, slope in enumerate(slopes):
        places = np.flatnonzero(slope)
        assert answer.unit(-1, (unit,)).clipped == (((places[0], places[-1]),) if len(places) else None)


@pytest.mark.parametrize("way", ["fused", "decomposed"])
def test_queries_that_windows_share_are_said(way):
    class Windows(nn.Module):
        """All windows of two tokens see the same two queries, which are tokens themselves."""

        def __init__(self):
            super().__init__()
            self.first = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            x = self.first(x)
            queries, keys = x[:, None, :2], x.view(1, 5, 2, WIDTH)
            if way == "fused":
                made = functional.scaled_dot_product_attention(queries, keys, keys)
            else:
                made = (queries @ keys.transpose(2, 3)).softmax(-1) @ keys
            return made.reshape(1, TOKENS, WIDTH)

    answer = tw.size(Windows(), (TOKENS, WIDTH))
    assert answer.lost or answer.unit(-1, (6,)).masked


@pytest.mark.parametrize("way", ["broadcast", "expanded", "repeated", "expanded and merged"])
def test_a_gate_is_left_out_however_it_is_spread(way):
    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.gate = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            x = self.first(x)
            gate = self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
            if way == "expanded":
                gate = gate.expand_as(x)
            elif way == "repeated":
                gate = gate.repeat(1, 1, 6, 6)
            elif way == "expanded and merged":
                return (x.flatten(2) * gate.expand_as(x).flatten(2)).view_as(x)
            return x * gate

    answer = tw.size(Squeezed(), (1, 6, 6))
    assert answer.unit(-1, (2, 3)).clipped == ((2, 2), (3, 3))
    assert answer.gated
