"""What units see behind masks, one-way recurrence and running sums, against the gradients of real PyTorch runs.

As in `test_torch_fields`, a unit depends on an input position where its gradient in float64 is not zero; nothing here
knows of intervals or of the recorder.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import thalweg as tw  # noqa: E402
from torch_attention import WAYS, WIDTH, Attention, band, blocks, causal  # noqa: E402

QUICK, LONG = 60, 600


def random_mask(rng, n):
    """Which of n keys n queries see, and whether the keys are those up to the query."""
    kind = rng.choice(["causal", "later", "band", "blocks", "causal blocks", "any", "all", "sinks"])
    if kind == "causal":
        return causal(n)
    if kind == "later":
        return causal(n).T
    if kind == "band":
        return band(n, rng.randint(0, 4), rng.randint(0, 4))
    if kind == "sinks":
        return causal(n) & (band(n, 2, 0) | (torch.arange(n) < 2))
    if kind == "any":
        seed = torch.Generator().manual_seed(rng.randrange(1 << 30))
        return (torch.rand(n, n, generator=seed) < 0.3) | torch.eye(n, dtype=torch.bool)
    if kind == "all":
        return torch.ones(n, n, dtype=torch.bool)
    same = blocks(n, rng.randint(1, 5))
    return same & causal(n) if kind == "causal blocks" else same


class Tokens(nn.Module):
    """A layer over `(batch, tokens, channels)` on a map with its channels first."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        made = self.inner(x.transpose(1, 2))
        made = made[0] if isinstance(made, tuple) else made
        return made.transpose(1, 2)


class Running(nn.Module):
    def forward(self, x):
        return x.cumsum(2)


class Backwards(nn.Module):
    def forward(self, x):
        return x.flip(2)


class Blanked(nn.Module):
    """Some places of an axis are 0, or one of two branches takes some places and the other those that are left."""

    def __init__(self, places, branch=None):
        super().__init__()
        self.register_buffer("places", places)
        self.branch = branch

    def forward(self, x):
        if self.branch is not None:
            return torch.where(self.places, x, self.branch(x))
        return x * self.places


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


def random_network(seed, n=13):
    rng = random.Random(seed)
    layers = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(["attention", "attention", "attention", "conv", "strided", "lstm", "gru", "running",
                           "backwards", "blanked", "branches"])  # fmt: skip
        if kind == "attention":
            way = rng.choice(WAYS)
            mask = causal(n) if "triangle" in way or "causal" in way else random_mask(rng, n)
            if way == "low buffer" and mask.all():  # zeros may be anything
                way = "fused"
            layers.append(
                Residual(Tokens(Attention(way, mask))) if rng.random() < 0.5 else Tokens(Attention(way, mask))
            )
        elif kind == "conv":
            taps, dilation = rng.choice([1, 3]), rng.randint(1, 2)
            layers.append(nn.Conv1d(WIDTH, WIDTH, taps, padding=dilation * (taps // 2), dilation=dilation))
        elif kind == "strided":
            layers.append(nn.Conv1d(WIDTH, WIDTH, 2, stride=2, padding=1))
            n = n // 2 + 1
        elif kind in ("lstm", "gru"):
            recurrent = (nn.LSTM if kind == "lstm" else nn.GRU)(WIDTH, WIDTH, rng.randint(1, 2), batch_first=True)
            layers.append(Tokens(recurrent))
        elif kind in ("blanked", "branches"):
            places = torch.tensor([rng.random() < 0.7 for _ in range(n)])
            branch = nn.Conv1d(WIDTH, WIDTH, 3, padding=1) if kind == "branches" else None
            layers.append(Blanked(places, branch))
        else:
            layers.append({"running": Running, "backwards": Backwards}[kind]())
    return nn.Sequential(*layers)


def seen(network, shape):
    """For every position of the output the first and the last input position with a gradient along each axis."""
    torch.manual_seed(0)
    network = network.double().eval()
    for parameter in network.parameters():
        parameter.data.uniform_(0.1, 0.5)
    x = (torch.rand(1, *shape, dtype=torch.double) * 1e-4).requires_grad_()  # no gate may be shut for good
    made = network(x)[0].sum(0)
    found = {}
    for position in np.ndindex(*made.shape):
        (slope,) = torch.autograd.grad(made[position], x, retain_graph=True)
        places = np.argwhere(slope[0].abs().sum(0).numpy())
        ends = zip(places.min(0).tolist(), places.max(0).tolist(), strict=True) if len(places) else None
        found[position] = None if ends is None else tuple(ends)
    return found


def check(network, shape):
    answer = tw.size(network, shape)
    assert answer.complete
    assert not answer.lost
    last = max(place for place, layer in enumerate(answer.layers) if layer.kind != "not used")
    truth = seen(network, shape)
    for position, interval in truth.items():
        unit = answer.unit(last, position)
        assert unit.clipped == interval, position
        assert not unit.masked
        if unit.clipped is not None:
            for inside, ends in zip(unit.clipped, unit.unclipped, strict=True):
                assert ends[0] <= inside[0] <= inside[1] <= ends[1]
    return len(truth)


@pytest.mark.parametrize("seed", range(QUICK))
def test_what_masks_leave_is_where_the_gradient_is(seed):
    assert check(random_network(seed), (WIDTH, 13)) > 0


@pytest.mark.long
def test_what_masks_leave_in_many_networks_is_where_the_gradient_is():
    assert sum(check(random_network(seed), (WIDTH, 13)) for seed in range(1_000, 1_000 + LONG)) > 5_000


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_apply_a_mask_is_followed(way):
    causal_only = "causal" in way or "triangle" in way
    for mask in (causal(9), band(9, 2, 1), blocks(9, 3), random_mask(random.Random(3), 9)):
        network = nn.Sequential(nn.Conv1d(WIDTH, WIDTH, 1), Tokens(Attention(way, causal(9) if causal_only else mask)))
        check(network, (WIDTH, 9))


class BlankedMap(nn.Module):
    """A map of two axes, of which a mask leaves some positions, between two convolutions."""

    def __init__(self, blanked):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1)
        self.blanked = blanked

    def forward(self, x):
        return self.last(self.blanked(self.first(x)))


HOLE = torch.ones(7, 8, dtype=torch.bool)
HOLE[2:5, 3:6] = False
ODD = torch.arange(8) % 2 == 1


@pytest.mark.parametrize(
    "blanked",
    [
        lambda x: x.masked_fill(HOLE, 0),
        lambda x: x.masked_fill(~HOLE, 7),
        lambda x: torch.where(HOLE, x, 1.0),
        lambda x: torch.where(HOLE, 1.0, x),
        lambda x: x * ODD,
        lambda x: x * HOLE.any(1)[:, None] * ODD,
        lambda x: x.tril(1),
        lambda x: x.triu(-2),
        lambda x: (x.flatten(2) * HOLE.flatten()).unflatten(2, (7, 8)),
        lambda x: (x.flatten(2).mT * (HOLE & ODD).flatten()[:, None]).mT.unflatten(2, (7, 8)),
        lambda x: x * torch.stack([HOLE, ~HOLE]),  # each position is left in one channel
    ],
)  # fmt: skip
def test_what_masks_leave_of_maps_is_where_the_gradient_is(blanked):
    assert check(BlankedMap(blanked), (1, 7, 8)) == 56


def test_a_map_of_which_nothing_is_left_sees_nothing():
    class Nothing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.last = nn.Conv1d(1, 1, 3), nn.Conv1d(1, 1, 1)

        def forward(self, x):
            return self.last(x[:, :, 2:] + self.layer(x).masked_fill(torch.ones(6, dtype=torch.bool), 0))

    assert tw.size(Nothing(), (1, 8)).unit(-1, (3,)).clipped == ((5, 5),)


def test_the_unclipped_intervals_of_a_causal_network_begin_with_the_image():
    answer = tw.size(nn.Sequential(nn.Conv1d(WIDTH, WIDTH, 3, padding=1), Running()), (WIDTH, 9))
    assert [answer.unit(-1, (unit,)).unclipped for unit in (0, 4, 8)] == [((-1, 1),), ((-1, 5),), ((-1, 9),)]
    assert (answer.layers[-1].receptive_field, answer.layers[-1].stride, answer.layers[-1].first) == (
        (11,),
        (None,),
        (-1,),
    )


def test_states_see_all_steps_and_what_follows_them_too():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.GRU(2, 3, batch_first=True), nn.GRU(2, 3, batch_first=True)

        def forward(self, x):
            _, state = self.encoder(x)
            return self.decoder(x.flip(1), state)[0]

    answer = tw.size(Decoder(), (6, 2))
    assert [answer.unit("decoder", (unit,)).clipped for unit in (0, 5)] == [((0, 5),), ((0, 5),)]
    assert answer.unit("encoder", (2,)).clipped == ((0, 2),)


@pytest.mark.parametrize("way", ["data", "bias of data", "unknown buffer", "another function"])
def test_a_mask_that_is_not_followed_is_said(way):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.keys = nn.Linear(WIDTH, WIDTH)
            self.register_buffer("held", torch.rand(6, 6))

        def forward(self, x):
            scores = self.keys(x) @ x.transpose(1, 2)
            if way == "data":
                scores = scores.masked_fill(x[:, :, 0] > 0, -torch.inf)
            elif way == "bias of data":
                return functional.scaled_dot_product_attention(x, self.keys(x), x, attn_mask=scores)
            elif way == "unknown buffer":
                scores = torch.where(self.held > 0.5, scores, -torch.inf)
            else:
                return torch.exp2(scores.masked_fill(torch.ones(6, 6).triu(1) > 0, -torch.inf)) @ x
            return scores.softmax(2) @ x

    unit = tw.size(Masked(), (6, WIDTH)).unit(-1, (2,))
    assert unit.clipped == ((0, 5),)
    assert unit.masked
    assert any("a mask that is not followed" in note for note in unit.table().notes)


def test_masks_of_layers_of_pytorch():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2)

        def forward(self, x):
            return self.layer(x, nn.Transformer.generate_square_subsequent_mask(x.shape[1]), is_causal=True)

    class Weighed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.layer(x, x, x, attn_mask=~causal(x.shape[1]))[0]

    for network in (Encoder(), Weighed()):
        answer = tw.size(network, (7, 8))
        assert [answer.unit(-1, (unit,)).clipped for unit in range(7)] == [((0, unit),) for unit in range(7)]
        assert not answer.unit(-1, (0,)).masked


class Scored(nn.Module):
    """Attention whose weights are made of scores `(batch, queries, keys)` by a function."""

    def __init__(self, weigh):
        super().__init__()
        self.keys, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.heads = nn.Linear(2, 2)
        self.table, self.prefix = nn.Parameter(torch.zeros(8, 8)), nn.Parameter(torch.zeros(1, 2, WIDTH))
        self.weigh = weigh

    def forward(self, x):
        tokens = x.transpose(1, 2)
        made = self.weigh(self, tokens @ self.keys(tokens).transpose(1, 2), tokens)
        return self.last(made if made.shape[2] == WIDTH else made @ tokens).transpose(1, 2)


LOWER = causal(8)
LATER = ~LOWER
EYE = torch.eye(8, dtype=torch.bool)
NEAR = band(8, 2, 1)
MIXED = [7, 3, 1, 0, 2, 4, 6, 5]


def two_heads(x):
    return x.unflatten(2, (2, 2)).transpose(1, 2)


def over_heads(self, x, layer):
    q, k = two_heads(x), two_heads(self.keys(x))
    shares = (q @ k.transpose(2, 3)).masked_fill(LATER, -torch.inf).softmax(3)
    return (layer(shares.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ q).transpose(1, 2).flatten(2)


def crossed(self, x):
    front, back = x[:, :4], x[:, 4:]
    decoded = functional.scaled_dot_product_attention(back, self.keys(back), back, is_causal=True)
    return functional.scaled_dot_product_attention(decoded, self.keys(front), front)


def written(scores):
    scores[:, LATER] = -torch.inf
    return scores.softmax(2)


def written_table(table):
    table += torch.zeros(8, 8).masked_fill(LATER, -1e9)
    return table


EXACT = {
    "shares, then a mask": lambda self, scores, x: scores.softmax(2) * LOWER,
    "shares, then a triangle": lambda self, scores, x: scores.softmax(2).tril(),
    "normalised, then a triangle": lambda self, scores, x: functional.layer_norm(scores, (8,)).tril(),
    "statistics of the map, then a triangle": lambda self, scores, x: functional.instance_norm(
        scores[:, None]
    )[:, 0].tril(),
    "masked shares, then another mask": lambda self, scores, x: scores.masked_fill(
        ~(NEAR | EYE), -torch.inf
    ).softmax(2) * EYE,
    "shares of shares": lambda self, scores, x: scores.masked_fill(LATER, -torch.inf).softmax(2).softmax(2),
    "rows that are all hidden": lambda self, scores, x: scores.tril(-2),
    "padding on the left": lambda self, scores, x: scores.masked_fill(
        LATER | (torch.arange(8) < 2), torch.finfo(scores.dtype).min
    ).softmax(2),
    "subtracted": lambda self, scores, x: (scores - LATER.to(scores.dtype) * 1e9).softmax(2),
    "added with a factor": lambda self, scores, x: torch.add(scores, LATER.to(scores.dtype), alpha=-1e9).softmax(2),
    "a learned table, masked": lambda self, scores, x: (scores + self.table.masked_fill(LATER, -torch.inf)).softmax(2),
    "a learned table and a mask": lambda self, scores, x: (
        scores + (self.table + torch.zeros(8, 8).masked_fill(LATER, -1e9))[None]
    ).softmax(2),
    "a learned table written into": lambda self, scores, x: (scores + written_table(self.table * 1)).softmax(2),
    "a learned table chosen by a mask": lambda self, scores, x: functional.scaled_dot_product_attention(
        x, self.keys(x), x, attn_mask=torch.where(LOWER, self.table, -torch.inf)
    ),
    "heads mixed": lambda self, scores, x: over_heads(self, x, lambda y: functional.linear(y, self.heads.weight)),
    "heads together": lambda self, scores, x: scores.masked_fill(LATER, -torch.inf).softmax(2)[:, None].expand(
        -1, 2, -1, -1
    ).mean(1),
    "filled with 0, then with low numbers": lambda self, scores, x: (
        scores.masked_fill(~NEAR, 0).masked_fill(LATER, -torch.inf).softmax(2)
    ),
    "multiplied with 0, then low numbers added": lambda self, scores, x: (
        scores * LOWER.to(x.dtype) - 1e10 * (1 - LOWER.to(x.dtype))
    ).softmax(2),
    "filled with 1": lambda self, scores, x: scores.masked_fill(LATER, 1),
    "shares filled with a small number": lambda self, scores, x: torch.where(LOWER, scores.sigmoid(), 1e-6),
    "filled twice, until nothing is left of a row": lambda self, scores, x: (
        scores.masked_fill(LATER, -1e9).masked_fill(torch.arange(8) < 2, -1e9).softmax(2)
    ),
    "filled for ever, then until nothing is left of a row": lambda self, scores, x: (
        scores.masked_fill(LATER, -torch.inf).masked_fill(torch.arange(8) < 2, -1e9).softmax(2)
    ),
    "low numbers added twice, until nothing is left of a row": lambda self, scores, x: (
        scores + LATER.to(x.dtype) * -1e9 + (torch.arange(8) < 2).to(x.dtype) * -1e9
    ).softmax(2),
    "low numbers added, then for ever, until nothing is left of a row": lambda self, scores, x: (
        scores + LATER.to(x.dtype) * -1e9 + torch.zeros(8).masked_fill(torch.arange(8) < 2, -torch.inf)
    ).softmax(2),
    "made finite once shared": lambda self, scores, x: scores.masked_fill(LATER, -torch.inf).softmax(2).nan_to_num(),
    "a table of low numbers that is not added": lambda self, scores, x: torch.baddbmm(
        torch.zeros(1, 8, 8, dtype=x.dtype).masked_fill(LATER, -1e9), self.keys(x), x.mT, beta=0
    ).softmax(2),
    "a table added with a factor": lambda self, scores, x: torch.baddbmm(
        LATER.to(x.dtype)[None], self.keys(x), x.mT, beta=-1e9
    ).softmax(2),
    "cross-attention behind a causal one": lambda self, scores, x: crossed(self, x),
}  # fmt: skip
SAID = {
    "heads mixed and shifted": lambda self, scores, x: over_heads(self, x, self.heads),
    "rows flipped, then a mask": lambda self, scores, x: scores.flip(1).masked_fill(LATER, -torch.inf).softmax(2),
    "rows rolled, then a mask": lambda self, scores, x: scores.roll(1, 1).masked_fill(~LATER.T, -torch.inf).softmax(2),
    "rows in another order": lambda self, scores, x: scores[:, MIXED].masked_fill(~NEAR, -torch.inf).softmax(2),
    "rows moved by padding": lambda self, scores, x: functional.pad(scores, (0, 0, 2, 0))[:, :-2].tril(),
    "a mask, then rows flipped": lambda self, scores, x: scores.masked_fill(~NEAR, -torch.inf).softmax(2).flip(1),
    "low numbers turned high": lambda self, scores, x: (scores.masked_fill(LATER, -1e9) * -1).softmax(2),
    "low numbers made small": lambda self, scores, x: (scores.masked_fill(LATER, -1e4) * 1e-3).softmax(2),
    "logarithms of shares": lambda self, scores, x: scores.masked_fill(LATER, -torch.inf).log_softmax(2).exp(),
    "keys before queries": lambda self, scores, x: scores.masked_fill(LATER.T, -torch.inf).softmax(1).transpose(1, 2),
    "a prefix of its own": lambda self, scores, x: (
        x @ self.keys(torch.cat([self.prefix, x], 1)).transpose(1, 2)
    ).masked_fill(torch.cat([torch.zeros(8, 2) > 0, LATER], 1), -torch.inf).softmax(2) @ torch.cat([self.prefix, x], 1),
    "a sink in front": lambda self, scores, x: torch.cat(
        [self.table[0].view(1, 8, 1), scores.masked_fill(LATER, -torch.inf)], 2
    ).softmax(2)[..., 1:],
    "padded with a zero": lambda self, scores, x: functional.pad(
        scores.masked_fill(LATER, -torch.inf), (0, 1)
    ).softmax(2)[..., :8],
    "some of the keys": lambda self, scores, x: scores[..., :5].masked_fill(
        LATER[:, :5], -torch.inf
    ).softmax(2) @ x[:, :5],
    "written into": lambda self, scores, x: written(scores),
    "subtracted from 1": lambda self, scores, x: (1 - scores.masked_fill(LATER, -1e9)).softmax(2),
    "subtracted from a table": lambda self, scores, x: (
        torch.zeros(8, 8, dtype=x.dtype) - scores.masked_fill(LATER, -1e9)
    ).softmax(2),
    "added turned round": lambda self, scores, x: torch.add(
        torch.zeros(8, 8, dtype=x.dtype), scores.masked_fill(LATER, -1e9), alpha=-1
    ).softmax(2),
    "a divisor": lambda self, scores, x: torch.ones(8, 8, dtype=x.dtype) / scores.masked_fill(LATER, torch.inf),
    "made finite": lambda self, scores, x: scores.masked_fill(LATER, -torch.inf).nan_to_num(neginf=0).softmax(2),
    "exponentials summed over heads": lambda self, scores, x: scores.tril()[:, None].expand(-1, 2, -1, -1).logsumexp(1),
    "a length over heads": lambda self, scores, x: scores.masked_fill(LATER, -1e9)[:, None].norm(dim=1).softmax(2),
    "a product over heads": lambda self, scores, x: scores.masked_fill(LATER, -1e9)[:, None].expand(
        -1, 2, -1, -1
    ).prod(1).softmax(2),
    "the product of two tables added": lambda self, scores, x: torch.addcmul(
        scores, LATER.to(x.dtype), torch.tensor(-1e9, dtype=x.dtype)
    ).softmax(2),
    "the smaller of it and a table": lambda self, scores, x: torch.minimum(
        scores, torch.full((8, 8), torch.inf, dtype=x.dtype).masked_fill(LATER, -torch.inf)
    ).softmax(2),
    "several numbers instead": lambda self, scores, x: torch.where(
        LOWER, scores, -torch.arange(8.0, dtype=x.dtype)
    ).tril(3),
    "several numbers instead, shared": lambda self, scores, x: torch.where(
        LOWER, scores, -torch.arange(8.0, dtype=x.dtype)
    ).softmax(2),
    "filled with 0, then with 1": lambda self, scores, x: scores.masked_fill(~NEAR, 0).masked_fill(LATER, 1),
    "low numbers, then 0": lambda self, scores, x: scores.masked_fill(LATER, -1e9).masked_fill(EYE, 0).softmax(2),
    "chosen by data behind a causal layer": lambda self, scores, x: scores.tril().matmul(x)[
        :, scores.sum(2).argsort(1)[0]
    ],
    "blocks": lambda self, scores, x: functional.scaled_dot_product_attention(
        *[x.unflatten(1, (2, 4))] * 3, is_causal=True
    ).flatten(1, 2),
    "a table that nobody learns": lambda self, scores, x: (LOWER / LOWER.sum(1, keepdim=True)).to(x.dtype) @ x,
}  # fmt: skip


@pytest.mark.parametrize("name", [*EXACT, *SAID])
def test_what_else_happens_to_scores_is_followed_or_said(name):
    network = Scored((EXACT | SAID)[name])
    answer, truth = tw.size(network, (WIDTH, 8)), seen(network, (WIDTH, 8))
    last = max(place for place, layer in enumerate(answer.layers) if layer.kind != "not used")
    for position, interval in truth.items():
        unit = answer.unit(last, position)
        if name in EXACT:
            assert (unit.clipped, unit.masked) == (interval, False), position
        else:
            assert unit.masked
            assert interval is None or unit.clipped[0][0] <= interval[0][0] <= interval[0][1] <= unit.clipped[0][1]


@pytest.mark.parametrize("way", ["fused", "decomposed", "running", "recurrent"])
def test_an_order_of_merged_tokens_is_said(way):
    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.steps = nn.Conv2d(2, 2, 1), nn.GRU(2, 2, batch_first=True)

        def forward(self, x):
            tokens, places = self.layer(x).flatten(2).transpose(1, 2), torch.arange(16)
            mask = places[:, None] >= places
            if way == "fused":
                mixed = functional.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=mask)
            elif way == "decomposed":
                mixed = (tokens @ tokens.mT).masked_fill(~mask, -torch.inf).softmax(2) @ tokens
            else:
                mixed = tokens.cumsum(1) if way == "running" else self.steps(tokens)[0]
            return torch.relu(mixed.transpose(1, 2).unflatten(2, (4, 4)))

    unit = tw.size(Image(), (2, 4, 4)).unit("relu", (1, 2))
    assert (unit.clipped, unit.masked) == (((0, 3), (0, 3)), True)


@pytest.mark.parametrize("way", ["flash", "flash with a mask", "efficient", "efficient with a mask"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_as_pytorch_has_it_inside(way, is_causal):
    low = torch.zeros(6, 6).masked_fill(~band(6, 1, 1), -torch.inf)

    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            heads = self.layer(x)[:, None]
            mask = low if "mask" in way else None
            if "flash" in way:
                function = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
                return function(heads, heads, heads, 0.0, is_causal, attn_mask=mask)[0][:, 0]
            function = torch.ops.aten._scaled_dot_product_efficient_attention
            return function(heads, heads, heads, mask, True, 0.0, is_causal)[0][:, 0]

    answer = tw.size(Fused(), (6, WIDTH))
    for place in range(6):
        first, last = (max(place - 1, 0), min(place + 1, 5)) if "mask" in way else (0, 5)
        assert answer.unit(-1, (place,)).clipped == ((first, place if is_causal else last),)


def test_without_borders_what_is_kept_at_the_ends_goes_on():
    places = torch.arange(9) != 4
    network = nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), Blanked(places), nn.Conv1d(1, 1, 3, padding=1))
    answer = tw.size(network, (1, 9))
    assert [answer.unit(-1, (unit,)).unclipped for unit in (0, 8)] == [((-2, 2),), ((6, 10),)]


def test_causal_attention_over_a_class_token_and_a_map_is_said():
    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.last = nn.Conv2d(2, 4, 2, 2), nn.Linear(4, 4)
            self.token = nn.Parameter(torch.zeros(1, 1, 4))

        def forward(self, x):
            tokens = torch.cat([self.token, self.patches(x).flatten(2).mT], 1)[:, None]
            return self.last(functional.scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True)[:, 0])

    unit = tw.size(Image(), (2, 8, 8)).unit("last", (3,))
    assert (unit.clipped, unit.masked) == (((0, 7), (0, 7)), True)


def test_a_learned_table_that_is_subtracted_hides_nothing_where_it_is_low():
    network = Scored(
        lambda self, scores, x: (scores + (torch.zeros(8, 8) - self.table.masked_fill(LATER, -1e9))).softmax(2)
    )
    assert tw.size(network, (WIDTH, 8)).unit("last", (2,)).clipped == ((0, 7),)


def test_a_table_of_sines_is_no_mask_where_it_is_0():
    angles = torch.arange(6)[:, None] * torch.tensor([1.0, 0.1, 0.01, 0.001])  # the first place is not turned

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            heads = self.layer(x)
            first, second = heads.chunk(2, -1)
            return heads * angles.cos() + torch.cat([-second, first], -1) * angles.sin()

    layers = tw.size(Turned(), (6, 4)).layers
    assert [layer.kind for layer in layers] == ["linear", "activation", "concatenate", "add"]  # and no "multiply"


def test_causal_attention_behind_what_is_not_followed_is_said_to_see_all():
    class Stretched(nn.Module):
        def forward(self, x):
            tokens = functional.interpolate(x, 2053).mT[:, None]  # more phases than are followed
            return functional.scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True)[:, 0]

    unit = tw.size(Stretched(), (2, 2049)).unit("attention", (3,))
    assert (unit.clipped, unit.masked) == (((0, 2048),), True)


def test_a_mask_is_seen_as_it_was_when_it_was_used():
    class Growing(nn.Module):
        def forward(self, x):
            mask = EYE | (torch.arange(8) == 0)
            first = functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)
            mask &= EYE
            return first + functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    answer = tw.size(Growing(), (8, WIDTH))
    assert [answer.unit(-1, (unit,)).clipped for unit in range(8)] == [((0, unit),) for unit in range(8)]
