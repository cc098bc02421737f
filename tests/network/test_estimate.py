"""Memory by rule: parts by hand, laws over setups and batches, and agreement with rehearsed PyTorch."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thalweg as tw
from thalweg.network.estimate import _Walk, estimated_inference, estimated_step
from thalweg.network.graph import Kind
from thalweg.network.optimizers import OPTIMIZERS, state_size
from thalweg.network.readers.spec import read_spec
from thalweg.network.training_step import BACKWARD, FORWARD, PRECISIONS, UPDATE, Setup

RESIDUAL = """
input 32x32x3; conv3-16 pad 1 nobias; bn; relu
(a:; conv3-16 pad 1 nobias; bn; relu; conv3-16 pad 1 nobias; bn; add a; relu) x4
globalavgpool; FC-10
"""
U_NET = (
    "input 32x32x1; conv3-8; relu; d: conv3-8; maxpool; conv3-16; relu; convt2-8/2; concat d; conv3-8; gelu; conv1-2"
)
SPECS = [RESIDUAL, U_NET, "input 20; FC-30; relu; FC-5", "input 16x2; conv5-4/2; dropout; avgpool2; groupnorm 2; FC-3"]


def step(text, **setup):
    return estimated_step(read_spec(text), Setup.of(**setup))


def test_a_small_network_by_hand():
    found = step("input 8x8x3; conv3-4; relu; maxpool; FC-10", batch=5, optimizer="adam")
    weights = 3 * 4 * 9 + 4 + 64 * 10 + 10
    assert (found.weights, found.gradients, found.state) == (4 * weights, 4 * weights, 8 * weights)
    # The input for the convolution, the output of relu for itself and the pool, indices, the pool's output for FC.
    assert found.saved == 5 * (4 * 192 + 4 * 256 + 8 * 64 + 4 * 64)
    # The most of the forward pass: relu, when the input, the convolution's output and its own are there.
    assert found.worst(FORWARD).held == 5 * 4 * (192 + 256 + 256)
    # Of the backward pass: relu again, its two gradients beside what is kept for it and the convolution.
    assert found.worst(BACKWARD).others == 5 * 4 * (192 + 256 + 256 + 256)
    assert found.worst(UPDATE).held == 4 * weights + 5 * 4 * 192 + 4 * 640


def test_inference_holds_the_input_and_the_largest_neighbours():
    graph = read_spec("input 10; FC-200; relu; FC-50; FC-10")
    weights = 10 * 200 + 200 + 200 * 50 + 50 + 500 + 10
    assert estimated_inference(graph, Setup(3)).peak == 4 * weights + 3 * 4 * (10 + 200 + 200)


def test_a_shortcut_holds_on_to_its_tensor():
    plain, shortcut = (
        estimated_inference(read_spec(f"input 8x8x4; a: conv1-4; conv1-4; conv1-4; {end}"), Setup()).peak
        for end in ("conv1-4", "add a")
    )
    one = 4 * 8 * 8 * 4
    assert shortcut - 4 * 3 * 20 == 4 * one  # input, a, what a third convolution reads, and makes
    assert plain - 4 * 4 * 20 == 3 * one


def test_frozen_layers_in_front_keep_nothing():
    frozen = step("input 8x8x3; conv3-4 frozen; relu; conv3-4 frozen; FC-2", batch=2)
    assert frozen.saved == 2 * 4 * 256
    assert frozen.gradients == 4 * (2 * 256 + 2)
    nothing = step("input 8x8x3; conv3-4 frozen; relu; FC-2 frozen", batch=2)
    assert (nothing.saved, nothing.gradients, nothing.state) == (0, 0, 0)


def test_shared_weights_count_once():
    shared = step("input 8x8x4; a: conv3-4; relu; conv3-4 share a", optimizer="momentum")
    assert shared.weights == shared.gradients == shared.state == 4 * (4 * 4 * 9 + 4)


@pytest.mark.parametrize("text", SPECS)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_whatever_was_taken_is_given_back(text, checkpointing, dtype):
    walk = _Walk(read_spec(text), Setup.of(3, dtype, checkpointing=checkpointing))
    before = walk._heap.now
    walk.train()
    assert walk._heap.now == before
    assert all(moment.others >= before for moment in walk._moments)


@given(
    st.sampled_from(SPECS), st.lists(st.integers(1, 10_000), min_size=3, max_size=3, unique=True),
    st.sampled_from(sorted(PRECISIONS)), st.booleans(),
)  # fmt: skip
def test_bytes_are_affine_in_the_batch(text, batches, dtype, checkpointing):
    steps = [step(text, batch=batch, dtype=dtype, checkpointing=checkpointing) for batch in batches]
    lines = zip(*(each.moments for each in steps), strict=True)
    for points in [[each.saved for each in steps], *([moment.others for moment in line] for line in lines)]:
        (a, b, c), (x, y, z) = points, batches
        assert (b - a) * (z - x) == (c - a) * (y - x)


@given(st.sampled_from(SPECS), st.integers(1, 100), st.sampled_from(sorted(OPTIMIZERS)))
def test_sgd_remembers_least(text, batch, optimizer):
    least, found = (step(text, batch=batch, optimizer=each) for each in ("sgd", optimizer))
    assert found.state >= least.state == 0
    assert found.peak >= least.peak


@given(st.sampled_from(sorted(OPTIMIZERS)), st.lists(st.integers(1, 50), max_size=4))
def test_no_state_is_larger_than_its_copies_of_a_matrix(name, shape):
    size = state_size(name, tuple(shape))
    assert size >= 0
    if not OPTIMIZERS[name].factored:
        assert size == OPTIMIZERS[name].copies * functools.reduce(int.__mul__, shape, 1)


def test_checkpointing_trades_activations_for_work():
    text = "input 64x64x8; (conv3-8; relu) x32"
    kept, again = (step(text, batch=4, checkpointing=each) for each in (False, True))
    tensor = 4 * 4 * 64 * 64 * 8
    assert kept.saved == 33 * tensor
    assert again.saved == 8 * tensor  # what goes into each of eight segments
    assert again.peak < kept.peak / 2


def test_half_precision_halves_and_mixed_keeps_single_weights():
    single, half, mixed = (step(RESIDUAL, batch=64, dtype=each) for each in ("float32", "bf16", "mixed"))
    assert (half.weights, half.gradients, half.state) == (single.weights // 2, single.gradients // 2, single.state // 2)
    assert (mixed.weights, mixed.gradients, mixed.state) == (single.weights, single.gradients, single.state)
    assert 0.5 <= half.saved / single.saved < 0.51
    layers = [each for each in read_spec(RESIDUAL).operations if each.kind in (Kind.CONVOLUTION, Kind.LINEAR)]
    copies = 2 * sum(weight.size for each in layers for weight in each.weights)
    assert mixed.saved == half.saved + copies


def test_rules_agree_with_a_rehearsed_run():
    """Without in-place operations and with the same layers, PyTorch keeps what the rules say."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    from torch import nn

    from thalweg.network.rehearsal import Rehearsal

    def conv(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = conv(16, 16), conv(16, 16)

        def forward(self, x):
            return torch.relu(x + self.two(torch.relu(self.one(x))))

    net = nn.Sequential(
        conv(3, 16), nn.ReLU(), *(Block() for _ in range(4)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )
    stage = Rehearsal(net, lambda batch: (torch.zeros(batch, 3, 32, 32),))
    for optimizer in ("sgd", "adam"):
        rehearsed, ruled = stage.train(Setup(16, optimizer=optimizer)), step(RESIDUAL, batch=16, optimizer=optimizer)
        buffers = sum(each.untyped_storage().nbytes() for each in net.buffers())
        running = buffers - 9 * 8  # batch normalisation also keeps hold of its running statistics
        assert rehearsed.weights == ruled.weights + buffers
        assert rehearsed.gradients == ruled.gradients
        assert rehearsed.saved == ruled.saved + running
        assert ruled.peak == pytest.approx(rehearsed.peak, rel=0.05)


def test_a_sum_hands_its_gradient_on_and_gradients_that_meet_are_added():
    found = step("input 4x4x2; a: conv1-2; conv1-2; add a", optimizer="sgd")
    one = 4 * 4 * 4 * 2
    # Input and a are kept all along; backward from the sum: its gradient, which both branches share; then beside it
    # what the second convolution sends to a, and their sum; then that sum alone, which the first one needs.
    held = [each.others for each in found.moments if each.phase == BACKWARD]
    assert held == [3 * one, 5 * one, 2 * one]
    assert [each.gradients for each in found.moments if each.phase == BACKWARD] == [0, 4 * 6, 4 * 12]


def test_views_hold_nothing_of_their_own():
    plain, flat = (step(f"input 8x8x2; conv3-4; relu; {view}FC-5") for view in ("", "flatten; "))
    assert flat.saved == plain.saved
    assert flat.peak == plain.peak


def test_the_gradient_of_shared_weights_is_one_array():
    found = step("input 8x8x4; a: conv3-4; relu; conv3-4 share a")
    assert max(each.gradients for each in found.moments) == found.gradients


def test_copies_of_weights_that_no_gradient_passes_are_not_kept():
    found = step("input 8x8x4; conv3-4 frozen; relu; FC-2", dtype="mixed")
    assert found.saved == 2 * 256 + 2 * (2 * 256 + 2)


def test_what_scores_are_made_of_is_not_held_for_them():
    """The operations of masked scores name queries and keys, but compute with the scores alone."""
    import jax
    import jax.numpy as jnp

    def attention(mask):
        def function(matrix, x):
            q, k, v = jnp.split(x @ matrix, 3, -1)
            scores = jnp.einsum("bqd,bkd->bqk", q, k) + mask
            return jnp.einsum("bqk,bkd->bqd", jax.nn.softmax(scores), v)

        return function, jnp.ones((8, 24))

    plain, masked = (tw.size(attention(mask), (9, 8)) for mask in (0.0, np.triu(np.full((9, 9), -np.inf), 1)))
    assert masked.unit(-1, (2,)).clipped == ((0, 2),)
    assert masked.memory(4) == plain.memory(4)
