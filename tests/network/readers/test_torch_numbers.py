"""Numbers that a network writes itself are known while it runs without data, and it may decide by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")

from torch import nn  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg.network.readers.torch_modes import building  # noqa: E402
from thalweg.network.readers.torch_numbers import worked_out_thinly  # noqa: E402


class Deciding(nn.Module):
    """Keeps as many positions as a number says that was made in some way."""

    def __init__(self, number):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 1)
        self.number = number

    def forward(self, x):
        return self.conv(x)[:, :, : int(self.number(x))]


def filled(x):
    shapes = torch.empty((2, 2), dtype=torch.long, device=x.device)
    for level in range(2):
        shapes[level, 0] = 3
        shapes[level, 1] = level
    return (shapes[:, 0] * shapes[:, 1]).sum()


def made_empty_like_another(x):
    ones = torch.ones(3, dtype=torch.long, device=x.device)
    like = torch.empty_like(ones)
    like[:2] = 1
    like[2] = 1
    return like.sum()


@pytest.mark.parametrize(
    "number",
    [
        lambda x: torch.tensor([[1, 2], [3, 4]], device=x.device)[1, 0],
        lambda x: torch.as_tensor([3], dtype=torch.long, device=x.device),
        lambda x: torch.tensor(3, device=str(x.device)),
        lambda x: torch.tensor(data=[3], device=x.device),
        lambda x: torch.tensor([1, 2], device=x.device)[[0, 1]].sum(),
        lambda x: torch.arange(6, device=x.device)[[3]],
        lambda x: torch.arange(x.shape[2])[torch.arange(x.shape[2]) % 3 == 1].sum() - 2,
        lambda x: (torch.arange(x.shape[2], device=x.device) > 3).nonzero().numel(),
        filled,
        made_empty_like_another,
    ],
)
def test_networks_decide_by_numbers_that_they_write_themselves(number):
    module = Deciding(number)
    answer = tw.size(module, (1, 7))
    assert module(torch.zeros(1, 1, 7)).shape[2] == 3
    assert answer.complete
    assert answer.layers[-1].output == (1, 3)
    assert answer.notes == ()


class Indexed(nn.Module):
    def __init__(self, index):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 1)
        self.index = index

    def forward(self, x):
        return self.conv(x)[self.index]


@pytest.mark.parametrize(
    ("index", "places"),
    [
        ((slice(None), slice(None), [2, 0]), [2, 0]),
        ((..., [-1, 3, 3]), [6, 3, 3]),
        ((..., [False, True, False, False, False, False, True]), [1, 6]),
        ((slice(None), slice(None), torch.tensor([True, False, False, True, True, False, False])), [0, 3, 4]),
    ],
)
def test_places_that_are_written_out_are_followed(index, places):
    answer = tw.size(Indexed(index), (1, 7))
    last = len(answer.layers) - 1
    assert answer.layers[last].output == (1, len(places))
    assert [answer.unit(last, (unit,)).clipped for unit in range(len(places))] == [((each, each),) for each in places]


@pytest.mark.parametrize("index", [[0], [True], (slice(None), [0])])
def test_indices_that_move_no_position_leave_the_layer_alone(index):
    answer = tw.size(Indexed(index), (1, 7))
    assert answer.complete
    assert answer.unit("conv", (3,)).clipped == ((3, 3),)


def test_choices_by_known_numbers_are_made():
    class Chosen(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 1)

        def forward(self, x):
            places = torch.arange(x.shape[2])
            even = places[places % 2 == 0]
            return self.conv(x)[:, :, even], self.conv(x)[:, :, places > 2]

    answer = tw.size(Chosen(), (1, 7))
    even, last = (place for place, each in enumerate(answer.layers) if each.kind in ("gather", "crop"))
    assert [answer.unit(even, (unit,)).clipped for unit in range(4)] == [((each, each),) for each in (0, 2, 4, 6)]
    assert [answer.unit(last, (unit,)).clipped for unit in range(4)] == [((each, each),) for each in (3, 4, 5, 6)]
    assert answer.notes == ()


def test_a_choice_by_the_input_is_still_taken_to_be_all():
    class Chosen(nn.Module):
        def forward(self, x):
            return x[x > 0]

    answer = tw.size(nn.Sequential(nn.Linear(5, 4), Chosen()), (5,))
    assert answer.layers[-1].output == (4,)
    assert any("depends on the data; all are taken to pass" in note for note in answer.notes)


def test_a_name_made_of_data_breaks_the_run_off_and_says_where():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.router = nn.Linear(4, 2)
            self.experts = nn.ModuleDict({f"expert_{number}": nn.Linear(4, 3) for number in range(2)})

        def forward(self, x):
            return self.experts[f"expert_{self.router(x).argmax(-1)[0]}"](x)

    answer = tw.size(Experts(), (4,))
    assert not answer.complete
    assert answer.unknown == ("the rest of the network",)
    assert any("depends on the values of its input ('str'" in note for note in answer.notes)


@pytest.mark.parametrize("unit_diagonal", [False, True])
@pytest.mark.parametrize("left", [True, False])
def test_triangular_systems_are_counted_like_the_loop_that_solves_them(left, unit_diagonal):
    class Solved(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(7, 20, bias=False), nn.Linear(7, 20, bias=False)

        def forward(self, x):
            square = self.left(x).unflatten(-1, (5, 4))[:, :4].tril()
            sides = self.right(x).unflatten(-1, (4, 5) if left else (5, 4))
            return torch.linalg.solve_triangular(square, sides, upper=False, left=left, unitriangular=unit_diagonal)

    answer = tw.size(Solved(), (7,))
    work = 0
    for _ in range(5):  # right-hand sides
        for row in range(4):
            work += row + (not unit_diagonal)
    assert answer.complete
    assert answer.totals.macs == 2 * 7 * 20 + work


def test_whole_numbers_written_down_where_a_module_is_built_keep_their_values():
    class Strided(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("step", torch.tensor(3))
            self.register_buffer("scale", torch.tensor([0.5, 2.0]))
            self.register_buffer("same", torch.as_tensor(self.scale))
            self.conv = nn.Conv1d(2, 4, 3)

        def forward(self, x):
            return self.conv(x * self.scale[:, None])[..., :: int(self.step)]

    with building():
        module = Strided()
        assert torch.tensor([1], device="meta").is_meta
    devices = [each.device.type for each in (module.step, module.scale, module.conv.weight)]
    assert devices == ["cpu", "meta", "meta"]
    answer = tw.size(module, (2, 20))
    assert answer.layers[-1].output == (4, 6)
    assert answer.unit(-1, (5,)).clipped == ((15, 17),)


@given(st.data())
@settings(max_examples=60)
def test_many_numbers_of_which_few_differ_are_worked_out_as_if_they_were_few(data):
    """Masks of 300 x 300 and more, each the same along some axes, through what masks are made with."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = (2, 300, 301)

    def thin():
        kept = [n if data.draw(st.booleans()) and n < 100 else 1 for n in shape]
        kept[data.draw(st.integers(0, 2))] = 1
        return torch.from_numpy(rng.random(kept) < 0.5).expand(shape)

    one, other = thin(), thin()
    chosen = torch.ops.aten.where.ScalarOther, (one, torch.tensor(0.0), -1.0)
    scores = worked_out_thinly(*chosen, {}, shape)
    for func, args in [
        (torch.ops.aten.bitwise_and.Tensor, (one, other)),
        (torch.ops.aten.__or__.Tensor, (one, other)),
        chosen,
        (torch.ops.aten.masked_fill.Scalar, (scores, other, 2.0)),
        (torch.ops.aten._to_copy.default, (one,)),
        (torch.ops.aten.permute.default, (one, (2, 0, 1))),
    ]:
        wanted = func(*args)
        found = worked_out_thinly(func, args, {}, wanted.shape)
        assert found is not None
        assert (found.dtype, torch.equal(found, wanted)) == (wanted.dtype, True)
        assert found.untyped_storage().nbytes() <= 8 * 2 * 301


def test_many_numbers_that_differ_are_not_kept():
    many = (3000, 3000)
    causal = torch.ops.aten.le.Tensor, (torch.arange(3000), torch.arange(3000)[:, None])
    assert worked_out_thinly(*causal, {}, many) is None
    assert worked_out_thinly(torch.ops.aten.cumsum.default, (torch.ones(3000).expand(many), 0), {}, many) is None


@pytest.mark.parametrize(
    "blank",
    [
        lambda x: torch.ones_like(x),
        lambda x: x.new_ones(2, 4),
        lambda x: torch.full_like(x, 1),
        lambda x: x.new_full((2, 4), 1.0),
        lambda x: torch.zeros_like(x) + 1,
        lambda x: x.new_zeros(2, 4) + 1,
    ],
)
def test_constants_of_the_shape_of_data_are_known(blank):
    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.right, self.wrong = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, x):
            x = self.first(x)
            mask = blank(x)
            mask[0, 1] = 0
            return self.right(x) if mask.sum() == mask.numel() - 1 and not mask.all() else self.wrong(x)

    answer = tw.size(Asks(), (4,))
    assert answer.complete
    assert [layer.name for layer in answer.layers if layer.kind == "linear"] == ["first", "right"]


@pytest.mark.parametrize("way", ["all of them", "a part of them", "another view"])
def test_what_else_holds_the_numbers_that_are_written_is_not_told_wrong(way):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.right, self.wrong = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, x):
            x = self.first(x)
            if way == "all of them":  # 9 million of them: given up
                mask = torch.ones(1, 3000).expand(3000, 3000) * 1
                mask[7][3] = 0
                right = mask.sum() == 3000 * 3000 - 1
            elif way == "a part of them":  # 8.7 million of them are written: given up
                mask = (torch.arange(3000) < 2900)[None] & torch.ones(3000, 1, dtype=torch.bool)
                mask[:, :2900].logical_not_()
                right = mask[0].sum() == 0
            else:  # few: kept
                numbers = torch.zeros(4)
                one, other = numbers[:2], numbers[:2]
                one[0] = 1
                right = other.sum() == 1
            return self.right(x) if right else self.wrong(x)

    answer = tw.size(Masked(), (4,))
    assert answer.complete == (way == "another view")
    assert not any(layer.name == "wrong" and layer.kind == "linear" for layer in answer.layers)


def test_one_of_many_numbers_that_are_the_same_can_be_written():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.right, self.wrong = nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, x):
            row = (torch.ones(1, 3000).expand(3000, 3000) * 1)[7]
            row[3] = 0
            return self.right(x) if row.sum() == 2999 else self.wrong(x)

    assert tw.size(Masked(), (4,)).layers[0].output == (2,)
