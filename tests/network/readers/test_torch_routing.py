"""Networks that send each token to a few experts, in the ways people write them, against counts of real runs."""

from __future__ import annotations

import copy
from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg.network.readers.torch_routing import Marked, Named, choices, counted  # noqa: E402

WIDTH, EXPERTS, FEW = 16, 8, 2


class Routed(nn.Module):
    """Attention, and a layer of experts behind it that is written in one of many ways."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.gate = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 32), nn.SiLU(), nn.Linear(32, WIDTH)) for _ in range(EXPERTS)
        )

    def forward(self, x):
        x = x + torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1) @ x
        tokens = x.reshape(-1, WIDTH)
        shares, named = torch.topk(functional.softmax(self.gate(tokens), -1), FEW, dim=-1)
        return self.way(self, tokens, shares, named).reshape(x.shape)


def by_place(m, x, shares, named):
    y = torch.zeros_like(x)
    for number, expert in enumerate(m.experts):
        token, choice = torch.where(named == number)
        y[token] += expert(x[token]) * shares[token, choice, None]
    return y


def by_pairs(m, x, shares, named):
    y = torch.zeros_like(x)
    for number, expert in enumerate(m.experts):
        pairs = torch.nonzero(named == number)
        y.index_add_(0, pairs[:, 0], expert(x[pairs[:, 0]]) * shares[pairs[:, 0], pairs[:, 1], None])
    return y


def by_hits(m, x, shares, named):
    y = torch.zeros_like(x)
    mask = functional.one_hot(named, EXPERTS).permute(2, 1, 0)
    for number in torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero():
        choice, token = torch.where(mask[number].squeeze(0))
        y.index_add_(0, token, m.experts[int(number)](x[token]) * shares[token, choice, None])
    return y


def by_name(m, x, shares, named):
    y = torch.zeros_like(x)
    experts = {f"expert {number}": expert for number, expert in enumerate(m.experts)}
    for number in torch.unique(named):
        token, choice = (named == number).nonzero(as_tuple=True)
        y[token] += experts[f"expert {number}"](x[token]) * shares[token, choice, None]
    return y


def by_mask(m, x, shares, named):
    y = torch.zeros_like(x)
    for number, expert in enumerate(m.experts):
        of_expert = (named == number).any(dim=-1)
        if of_expert.any():
            y[of_expert] += expert(x[of_expert])
    return y


def by_sum_of_masks(m, x, shares, named):
    y = torch.zeros_like(x)
    mask = functional.one_hot(named, EXPERTS).float().sum(dim=1)
    for number, expert in enumerate(m.experts):
        (token,) = torch.where(mask[:, number] > 0)
        y.index_add_(0, token, expert(x[token]))
    return y


def by_what_is_left_of_a_mask(m, x, shares, named):
    y = torch.zeros_like(x)
    room = torch.cumsum(functional.one_hot(named, EXPERTS), dim=0) <= len(x)
    mask = (functional.one_hot(named, EXPERTS + 1)[..., :EXPERTS] * room > 0) & (shares > 0)[..., None]
    for number, expert in enumerate(m.experts):
        of_token = mask[..., number].any(dim=1, keepdim=True)
        token, choice = torch.where(mask[..., number] & of_token)
        y[token] += expert(x[token]) * shares[token, choice, None]
    return y


def by_count(m, x, shares, named):
    y = torch.zeros_like(x)
    counts = torch.bincount(named.flatten(), minlength=EXPERTS + 1).tolist()
    for number, expert in enumerate(m.experts):
        if counts[number] == 0:
            continue
        token, choice = torch.where(named == number)
        y[token] += expert(x[token]) * shares[token, choice, None]
    return y


def in_order(m, x, shares, named):
    counts = named.new_zeros((len(named), EXPERTS))
    counts.scatter_(1, named, 1)
    order = named.view(-1).argsort()
    taken, found, start = x[order // FEW], [], 0
    for number, count in enumerate(counts.sum(dim=0).cpu().numpy()):
        found.append(m.experts[number](taken[start : start + count]))
        start += count
    found = torch.cat(found)
    back = torch.empty_like(found)
    back[order] = found
    return (back.view(*named.shape, -1) * shares.unsqueeze(-1)).sum(1)


def in_parts(m, x, shares, named):
    flat = named.flatten()
    order = flat.argsort()
    parts = torch.split(x[order // FEW], torch.bincount(flat, minlength=EXPERTS).tolist())
    found = torch.cat([expert(part) for expert, part in zip(m.experts, parts, strict=True)])
    return torch.zeros_like(x).index_add(0, order // FEW, found * shares.flatten()[order][:, None])


def by_gates(m, x, shares, named):
    """After Shazeer et al., "Outrageously large neural networks", as people write it: how many for each, as a list."""
    gates = torch.zeros(len(x), EXPERTS).scatter(1, named, shares)
    experts, order = torch.nonzero(gates).sort(0)
    rows = torch.nonzero(gates)[order[:, 1], 0]
    parts = torch.split(x[rows], (gates > 0).sum(0).tolist())
    made = torch.cat([expert(part) for expert, part in zip(m.experts, parts, strict=True)])
    return torch.zeros_like(x).index_add(0, rows, made * gates[rows, experts[:, 1]][:, None])


WAYS = [
    by_place, by_pairs, by_hits, by_name, by_mask, by_sum_of_masks, by_what_is_left_of_a_mask, by_count, in_order,
    in_parts, by_gates,
]  # fmt: skip


def real_macs(module, tokens):
    """The multiply-accumulates of a real run, by PyTorch's counter."""
    module = module.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(torch.rand(1, tokens, WIDTH))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("way", WAYS)
def test_experts_are_counted_as_in_a_real_run(way):
    module = Routed(way)
    answer = tw.size(module, (64, WIDTH))
    assert answer.complete
    assert answer.lost == ()
    experts = [layer for layer in answer.layers if layer.name.startswith("experts") and layer.kind == "linear"]
    outside = answer.totals.macs - sum(layer.macs for layer in experts)
    assert len(experts) == 2 * EXPERTS
    assert {layer.output[0] for layer in experts} == {64 * FEW // EXPERTS}
    assert outside + 64 * FEW * 2 * WIDTH * 32 == answer.totals.macs == real_macs(module, 64)
    assert any("each is taken to be chosen equally often" in note for note in answer.table().notes)


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_divide_is_at_most_one_token_more_for_each_expert(way):
    module = Routed(way)
    real = real_macs(module, 61)
    found = tw.size(module, (61, WIDTH)).totals.macs
    assert 0 <= found - real < EXPERTS * 2 * WIDTH * 32
    if way in (in_order, in_parts, by_gates):
        assert found == real


def test_the_best_expert_of_each_token():
    def best(m, x, shares, named):
        y = torch.zeros_like(x)
        first = torch.argmax(m.gate(x), dim=-1)
        for number, expert in enumerate(m.experts):
            mask = first == number
            if mask.sum() > 0:
                y[mask] = expert(x[mask])
        return y

    module = Routed(best)
    answer = tw.size(module, (64, WIDTH))
    assert answer.complete
    assert answer.totals.macs == real_macs(module, 64)


NAMED_BY = {
    "max": lambda scores: scores.max(-1).indices[:, None],
    "argmin": lambda scores: (-scores).argmin(-1, keepdim=True),
    "sort": lambda scores: scores.sort(-1, descending=True)[1][:, :FEW],
    "argsort": lambda scores: scores.argsort(-1)[:, -FEW:],
}
MOVED = {
    "T": lambda named: named.T.T,
    "ravel": lambda named: named.ravel().view(-1, FEW),
    "narrow": lambda named: named.narrow(1, 0, FEW),
    "type_as": lambda named: named.type_as(torch.zeros((), dtype=torch.int32)),
    "unflatten": lambda named: named.flatten().unflatten(0, (-1, FEW)),
    "swapaxes": lambda named: named.swapaxes(0, 1).mT,
    "cat": lambda named: torch.cat([named[:8], named[8:]]),
    "stack": lambda named: torch.stack(named.unbind(1), 1),
    "split": lambda named: torch.cat(named.split([3, len(named) - 3])),
    "another device": lambda named: named.cpu(),
    "another shape": lambda named: named.reshape_as(named.view(-1, FEW)).expand_as(named),
}


@pytest.mark.parametrize("way", [*NAMED_BY, *MOVED])
def test_however_the_best_experts_are_named(way):
    def by_masks(m, x, shares, named):
        named = NAMED_BY[way](m.gate(x)) if way in NAMED_BY else MOVED[way](named)
        y = torch.zeros_like(x)
        for number, expert in enumerate(m.experts):
            rows, _ = torch.where(named == number)
            y[rows] += expert(x[rows])
        return y

    module = Routed(by_masks)
    answer = tw.size(module, (64, WIDTH))
    assert answer.complete
    assert answer.totals.macs - real_macs(module, 64) in (0, EXPERTS * WIDTH)[: 1 + (way in NAMED_BY)]


class Masked(nn.Module):
    """What a mask of the best rows lets through goes into a layer."""

    def __init__(self, masked):
        super().__init__()
        self.gate, self.fc, self.masked = nn.Linear(WIDTH, EXPERTS), nn.Linear(WIDTH, 4), masked

    def forward(self, x):
        return self.fc(self.masked(x[0], self.gate(x[0])))


def rows_but(x, scores):
    keep = torch.ones(len(x), dtype=torch.bool).scatter(0, scores[:, 0].topk(16).indices, False)
    return x[keep]


def rows_with(x, scores):
    keep = torch.zeros(len(x), dtype=torch.bool).scatter_(0, scores[:, 0].topk(16).indices, True)
    return x[keep]


def rows_that_are_not(x, scores):
    keep = torch.zeros(len(x)).scatter(0, scores[:, 0].topk(16).indices, 1.0) > 0
    return x[~keep]


def selected(x, scores):
    keep = torch.zeros_like(scores[:, 0]).scatter(0, scores[:, 0].topk(16).indices, 1.0) != 0
    return x.masked_select(keep[:, None]).view(-1, WIDTH)


@pytest.mark.parametrize("masked", [rows_but, rows_with, rows_that_are_not, selected])
def test_masks_made_by_scatter(masked):
    module = Masked(masked)
    answer = tw.size(module, (64, WIDTH))
    assert answer.complete
    assert answer.totals.macs == real_macs(module, 64)


def test_what_is_written_into_an_unknown_mask_is_not_taken_for_all_of_it():
    answer = tw.size(
        Masked(lambda x, scores: x[(scores[:, 0] > 0).scatter(0, scores[:, 1].topk(16).indices, True)]), (64, WIDTH)
    )
    assert not answer.complete


def test_places_in_the_queues_of_experts_are_no_mask():
    """GShard's: a one-hot mask times numbers holds those numbers."""

    def queued(x, scores):
        one_hot = functional.one_hot(scores.argmax(-1))
        return x[(one_hot * torch.cumsum(one_hot, 0)).sum(-1) - 1]

    answer = tw.size(Masked(queued), (64, WIDTH))
    assert answer.layers[-1].output == (64, 4)
    with pytest.raises(tw.InputError, match="cannot be followed"):
        answer.unit("fc", (3,))


@pytest.mark.parametrize(
    ("asked", "word"),
    [(lambda x: x.tolist(), "tolist"), (lambda x: x.numpy(), "numpy"), (lambda x: [each.item() for each in x], "item")],
)
def test_numbers_that_are_asked_for_outside_of_pytorch_break_off_by_name(asked, word):
    def read_aloud(x, scores):
        asked(scores.argmax(-1))
        return x

    answer = tw.size(Masked(read_aloud), (64, WIDTH))
    assert not answer.complete
    assert any(f"({word!r})" in note for note in answer.notes)


@pytest.mark.parametrize("changed", [True, False])
def test_a_mask_that_is_changed_is_no_mask_of_choices_any_more(changed):
    class Marks(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.fc = nn.Linear(WIDTH, EXPERTS), nn.Linear(WIDTH, 4)

        def forward(self, x):
            mask = self.gate(x).argmax(-1) == 2
            if changed:
                mask[:, 0] = True
            return self.fc(x[mask])

    answer = tw.size(Marks(), (64, WIDTH))
    assert answer.complete == (not changed)
    assert answer.layers[-1].output == ((64,) if changed else (64 // EXPERTS,)) + (4,)


@pytest.mark.parametrize(
    "compared",
    [
        lambda mask, scores, named: mask > scores.new_full((), 0.5),
        lambda mask, scores, named: mask.float() > scores,
        lambda mask, scores, named: mask * named[:, None] > 0,
        lambda mask, scores, named: mask > 1,
    ],
)
def test_masks_that_are_compared_with_something_else_are_not_told_wrong(compared):
    class Marks(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.fc = nn.Linear(WIDTH, EXPERTS), nn.Linear(WIDTH, 4)

        def forward(self, x):
            scores = self.gate(x[0])
            named = scores.argmax(-1)
            mask = functional.one_hot(named, EXPERTS)
            token, _ = torch.where(compared(mask, scores, named))
            return self.fc(x[0][token])

    answer = tw.size(Marks(), (64, WIDTH))
    assert not answer.complete
    assert any("all are taken to pass" in note for note in answer.notes)
    assert answer.layers[-1].output == (64 * EXPERTS, 4)


def test_where_each_choice_is_in_a_list_of_them_is_not_known():
    def looked_up(m, x, shares, named):
        found, place = torch.unique(named, return_inverse=True)
        return x * found[place].sum(-1, keepdim=True)

    assert not tw.size(Routed(looked_up), (64, WIDTH)).complete


def test_shares_of_masks_are_those_of_real_ones():
    """Every token names 2 of 8: where 64 tokens do, each is named; a table of other columns is none of choices."""
    whole = {"self": torch.zeros(64, FEW, EXPERTS), "dim": [0, 1]}
    assert choices("sum", whole, [Marked(Fraction(1, EXPERTS))], 1) == [Marked(Fraction(1))]
    assert choices("sum", {**whole, "dim": 1}, [Marked(Fraction(1, EXPERTS))], 1) == [Marked(Fraction(FEW, EXPERTS))]
    for columns, share in ((EXPERTS, Fraction(FEW, EXPERTS)), (EXPERTS + 1, None)):
        given = {"self": torch.zeros(64, columns), "dim": 1, "index": torch.zeros(64, FEW), "value": 1}
        assert choices("scatter", given, [None, Named(EXPERTS)], 1) == [share and Marked(share)]


@pytest.mark.parametrize(
    ("other", "choice", "ones"),
    [
        (1, None, True), (2, None, False), (True, None, True), (torch.ones(4, 8), None, True),
        (torch.full((4, 8), 3), None, False), (torch.zeros(4, 8, dtype=torch.bool), None, True),
        (torch.zeros(4, 8), Marked(Fraction(1, 8)), True), (torch.zeros(4, 8), Marked(Fraction(1, 8), False), False),
    ],
)  # fmt: skip
def test_a_mask_times_numbers_holds_those_numbers(other, choice, ones):
    known = [Marked(Fraction(1, 4)), choice] if isinstance(other, torch.Tensor) else [Marked(Fraction(1, 4))]
    (found,) = choices("mul", {"self": torch.zeros(4, 8), "other": other}, known, 1)
    assert found == Marked(Fraction(1, 8) if choice else Fraction(1, 4), ones)


@pytest.mark.parametrize(
    ("around", "written", "found"),
    [
        (0, 1, Marked(Fraction(1, 4))), (0, True, Marked(Fraction(1, 4))), (0, 3, Marked(Fraction(1, 4), False)),
        (1, 0, Marked(Fraction(3, 4))), (0, 0, None), (1, 1, None), (2, 0, None),
        (0, torch.empty(4, 2, device="meta"), Marked(Fraction(1, 4), False)),
    ],
)  # fmt: skip
def test_a_mask_is_what_was_written_into_other_numbers(around, written, found):
    given = {"self": torch.full((4, 8), around), "dim": 1, "index": torch.zeros(4, 2, dtype=torch.int64)}
    given["src" if isinstance(written, torch.Tensor) else "value"] = written
    assert list(choices("scatter", given, [None, Named(8)], 1)) == [found]


def test_what_names_nothing_known_is_no_choice():
    scores = torch.zeros(4, 8)
    assert list(choices("argmax", {"self": scores}, [None], 1)) == [None]
    assert list(choices("max", {"self": scores}, [None], 1)) == [None]
    assert list(choices("topk", {"self": scores, "k": 2}, [None], 2)) == [None, Named(8)]
    assert list(choices("cat", {"tensors": [scores, scores]}, [Named(8), Named(4)], 1)) == [None]
    assert list(choices("cat", {"tensors": [scores, scores]}, [Named(8), Named(8)], 1)) == [Named(8)]


def test_counts_of_choices_add_up():
    for tokens in range(1, 40):
        (found,) = counted("bincount", {"self": torch.zeros(tokens)}, Named(7))
        assert (int(found.sum()), found.numel()) == (tokens, 7)
        assert int(found.max() - found.min()) <= 1


def test_a_mask_of_what_no_router_named_lets_all_through():
    class Kept(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(WIDTH, 4)

        def forward(self, x):
            labels = (x.sum(-1) * 3).long()
            return self.fc(x[labels == 2])

    answer = tw.size(Kept(), (10, WIDTH))
    assert not answer.complete
    assert answer.totals.macs == 10 * WIDTH * 4


def test_a_copy_of_a_tensor_is_what_it_is():
    class Copies(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(WIDTH, 4)

        def forward(self, x):
            mask = copy.deepcopy(torch.ones_like(x[..., 0]))
            return self.fc(copy.deepcopy(x)) if mask.all() else x

    answer = tw.size(Copies(), (10, WIDTH))
    assert answer.complete
    assert answer.unit("fc", (3,)).clipped == ((3, 3),)


def test_a_number_in_a_message_is_no_reason_to_break_off():
    class Says(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(WIDTH, 4)

        def forward(self, x):
            self.message = f"mean {x.mean()} of {torch.tensor(3)}"
            return self.fc(x)

    assert tw.size(Says(), (10, WIDTH)).complete


def test_what_sees_everything_still_does_in_any_order():
    answer = tw.size(Routed(in_order), (12, WIDTH))
    assert answer.lost == ()
    place = max(number for number, layer in enumerate(answer.layers) if layer.name.startswith("experts"))
    module = Routed(in_order).double()
    x = torch.rand(1, 12, WIDTH, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x)[0, 5, 0], x)
    assert np.all(gradient.abs().sum(-1).numpy() > 0)
    assert answer.unit(place, (0,)).clipped == ((0, 11),)


def test_distances_to_a_codebook_are_products():
    class Codebook(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Parameter(torch.rand(10, WIDTH))

        def forward(self, x):
            return torch.cdist(x, self.words).argmin(-1)

    answer = tw.size(Codebook(), (50, WIDTH))
    assert answer.complete
    assert (answer.totals.parameters, answer.totals.macs) == (10 * WIDTH, 50 * 10 * WIDTH)
    assert answer.unit("words", (7,)).clipped == ((7, 7),)
