"""Will it fit: the answer's parts, tables and keys, the largest batch as a law, and mistakes."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import thalweg as tw
from thalweg.errors import InputError
from thalweg.network.graph import Graph, Kind, Operation, Tensor
from thalweg.network.memory import most_that_fit
from thalweg.network.training_step import MAX_BATCH

SPEC = "input 32x32x3; conv3-16; relu; maxpool; conv3-32; relu; maxpool; FC-10"


def test_the_parts_of_an_estimate():
    answer = tw.size(SPEC).memory(batch=64, optimizer="momentum")
    parameters = 3 * 16 * 9 + 16 + 16 * 32 * 9 + 32 + 2048 * 10 + 10
    assert answer.weights == answer.gradients == answer.optimizer_state == 4 * parameters
    assert answer.training_bytes == max(answer.weights + answer.optimizer_state + each.held for each in answer.moments)
    assert answer.inference_bytes < answer.training_bytes
    assert (answer.exact, answer.complete) == (False, True)
    text = "\n".join(table.to_text() for table in answer.tables())
    assert "Memory for a batch of 64, float32, momentum" in text
    assert "An estimate, by rule" in text
    assert [each.phase for each in answer.moments] == ["forward pass", "backward pass", "update"]


def test_json_has_the_documented_keys(tmp_path):
    answer = tw.size(SPEC).memory()
    found = json.loads(answer.to_json())
    assert list(found) == [
        "batch", "dtype", "optimizer", "checkpointing", "device", "weights", "gradients", "optimizer_state", "saved",
        "training_bytes", "inference_bytes", "phases", "exact", "complete",
    ]  # fmt: skip
    assert found["training_bytes"] == max(found["phases"].values())
    assert tw.size(SPEC).to_dict()["totals"]["training_bytes"] == answer.training_bytes
    for each in (answer, tw.size(SPEC).largest_batch("1GiB")):
        for suffix in (".html", ".json", ".csv"):
            assert each.save(tmp_path / f"memory{suffix}").stat().st_size > 50


def test_the_figure_stacks_up_to_the_peak():
    answer = tw.size(SPEC).memory(batch=8)
    figure = answer.figure()
    assert figure.layout.xaxis.title.text == "MiB"
    stacks = [sum(bar.x[number] for bar in figure.data) * 2**20 for number in range(3)]
    assert max(stacks) == pytest.approx(answer.training_bytes)


def test_tables_fit_a_terminal():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(tw.size(SPEC).memory(batch=32, dtype="mixed", checkpointing=True))
    console.print(tw.size(SPEC).largest_batch("24GiB"))
    shown = console.export_text()
    assert "…" not in shown
    assert "activations kept for the backward pass" in shown
    assert "Mixed: weights, gradients and optimizer state are float32" in shown


@given(
    st.sampled_from([SPEC, "input 20; FC-30; FC-5"]), st.integers(1, 2**34), st.integers(1, 2**34),
    st.sampled_from(["sgd", "adam"]), st.booleans(),
)  # fmt: skip
def test_the_largest_batch_fits_and_one_more_does_not(text, memory, more, optimizer, checkpointing):
    answer = tw.size(text)
    found = answer.largest_batch(memory, optimizer=optimizer, checkpointing=checkpointing)

    def needed(batch):
        return answer.memory(batch, "float32", optimizer, checkpointing)

    if found.training:
        assert found.training_bytes == needed(found.training).training_bytes <= memory
    else:
        assert found.training_bytes == needed(1).training_bytes > memory
        assert "does not fit even at batch 1: that needs" in found.table().to_text()
    assert needed(found.training + 1).training_bytes > memory
    assert needed(found.inference + 1).inference_bytes > memory
    larger = answer.largest_batch(memory + more, optimizer=optimizer, checkpointing=checkpointing)
    assert larger.training >= found.training
    assert larger.inference >= found.inference


lines = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**6)), min_size=1, max_size=5)


def expected_batch(lines, memory):
    """For each line by itself the division says how many fit."""
    rooms = [(memory - fixed) // each if each else (MAX_BATCH + 1) * (fixed <= memory) for fixed, each in lines]
    return None if min(rooms) > MAX_BATCH else max(0, min(rooms))


@given(lines, st.integers(1, 10**12))
def test_the_largest_batch_is_foretold_by_two_runs(lines, memory):
    tries = []

    def held(batch):
        tries.append(batch)
        return [fixed + each * batch for fixed, each in lines]

    found, needed = most_that_fit(held, memory)
    assert len(tries) == 3
    assert found == expected_batch(lines, memory)
    assert needed == max(held(found or 1))


@given(lines, st.integers(1, 10**12))
def test_a_network_that_goes_another_way_with_other_batches_is_searched(lines, memory):
    def held(batch):  # one moment more for each example
        return [0] * batch + [fixed + each * batch for fixed, each in lines] if batch < 4 else [
            max(fixed + each * batch for fixed, each in lines)
        ]  # fmt: skip

    found, needed = most_that_fit(held, memory)
    assert found == expected_batch(lines, memory)
    assert needed == max(held(found or 1))


def test_lines_that_bend_are_searched():
    def held(batch):
        return [batch if batch < 10 else 5 * batch]

    assert most_that_fit(held, 100) == (20, 100)
    assert most_that_fit(held, 8) == (8, 8)


def test_gpus_update_all_arrays_together():
    cpu, gpu = (tw.size(SPEC).memory(optimizer="adam", device=each).moments[-1].others for each in ("cpu", "cuda"))
    parameters = 3 * 16 * 9 + 16 + 16 * 32 * 9 + 32 + 2048 * 10 + 10
    assert gpu - cpu == 4 * (parameters - 2048 * 10)
    assert "float32, adam, on a GPU" in tw.size(SPEC).memory(device="CUDA").table().title


def test_networks_with_nothing_to_train_say_so():
    for text in ("input 8x8x3; conv3-4 frozen; maxpool", "input 8x8x3; maxpool"):
        answer = tw.size(text).memory()
        assert (answer.gradients, answer.optimizer_state, answer.saved) == (0, 0, 0)
        assert "There is nothing to train" in answer.table().to_text()


def test_unknown_operations_make_it_a_lower_bound():
    image = Tensor(0, (8, 8, 4), (0, 1), 2)
    answer = tw.size(Graph((image,), (Operation(Kind.UNKNOWN, "warp", (image,), (Tensor(1, (8, 8, 4)),)),)))
    assert answer.memory().complete is False
    assert "At least: some operations are not known" in answer.memory().table().to_text()
    assert "At most: some operations are not known" in answer.largest_batch("1MB").table().to_text()


@pytest.mark.parametrize(
    ("setup", "sentence"),
    [
        ({"batch": 0}, "A batch of 0 cannot be trained; give 1 to"),
        ({"batch": -3}, "A batch of -3 cannot be trained"),
        ({"batch": 2.5}, "The batch must be a whole number of examples, not 2.5."),
        ({"batch": 2**70}, "cannot be trained; give 1 to 1,099,511,627,776 examples."),
        ({"dtype": "float31"}, "There is no type of numbers named 'float31'; did you mean 'float32'?"),
        ({"dtype": 32}, "A type of numbers is given by its name, such as 'float32', not by 32."),
        ({"optimizer": "adamv"}, "There is no optimizer named 'adamv'; did you mean 'adam"),
        ({"optimizer": None}, "An optimizer is given by its name, such as 'adam', not by None."),
        ({"device": "tpu"}, "There is no device named 'tpu'; did you mean 'cpu'?"),
        ({"checkpointing": ["block"]}, "Only modules of PyTorch that can be run here are checkpointed by name"),
    ],
)
def test_mistakes_get_one_sentence(setup, sentence):
    with pytest.raises(InputError) as caught:
        tw.size(SPEC).memory(**setup)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_setup_asked_for_is_the_one_in_json():
    from thalweg.network.training_step import Setup

    answer = tw.size(SPEC)
    asked = answer.trained_with(Setup.of(16, "bf16", "sgd"))
    assert asked.to_dict()["totals"]["training_bytes"] == answer.memory(16, "bf16", "sgd").training_bytes
    assert asked == answer


def test_a_torch_module_is_rehearsed_and_where_that_fails_the_rules_answer():
    torch = pytest.importorskip("torch", reason="needs PyTorch, which CI installs")
    from thalweg.network.memory import largest_batch, memory_of
    from thalweg.network.readers.spec import read_spec
    from thalweg.network.rehearsal import rehearsal_of
    from thalweg.network.training_step import Setup

    net = torch.nn.Sequential(torch.nn.Linear(12, 40), torch.nn.ReLU(), torch.nn.Linear(40, 4))
    graph = read_spec("input 12; FC-40; relu; FC-4")
    exact, ruled = (memory_of(graph, each, Setup(8)) for each in (rehearsal_of(net, graph), None))
    assert exact.exact is True
    assert "From PyTorch's own run" in exact.table().to_text()
    assert (exact.weights, exact.saved) == (ruled.weights, ruled.saved)
    found = largest_batch(graph, rehearsal_of(net, graph), 10**6, Setup())
    for batch, fits in ((found.training, True), (found.training + 1, False)):
        assert (memory_of(graph, rehearsal_of(net, graph), Setup(batch)).training_bytes <= 10**6) is fits

    class Deciding(torch.nn.Module):
        def forward(self, x):
            return x if x.sum().item() > 0 else -x

    failed = memory_of(graph, rehearsal_of(Deciding(), graph), Setup(8))
    assert failed.exact is False
    assert "PyTorch could not rehearse the step (DataDependentOutputException" in failed.table().to_text()
    assert failed.saved == ruled.saved
