"""Will it fit: the memory that a network needs to be trained and to be used, and the largest batch for a given one.

For PyTorch modules the numbers come from a rehearsed run (`thalweg.network.rehearsal`), for all others from rules over
the graph (`thalweg.network.estimate`), which the answer says of itself.

    >>> import thalweg as tw
    >>> answer = tw.size("input 112x112x3; conv3-64; relu; maxpool; FC-10").memory(batch=32, optimizer="momentum")
    >>> answer.weights, answer.optimizer_state, answer.saved
    (8035368, 8035368, 184647680)
    >>> tw.size("input 112x112x3; conv3-64; relu; maxpool; FC-10").largest_batch("1GiB").training
    106
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from thalweg.errors import InputError, ThalwegError
from thalweg.network.byte_sizes import UNITS, written_bytes
from thalweg.network.estimate import estimated_inference, estimated_step
from thalweg.network.graph import Graph, Kind
from thalweg.network.training_step import MAX_BATCH, PHASES, Moment, Setup, TrainingStep
from thalweg.report import Cell, Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

_COLOURS = {
    "weights": "#30638e",
    "optimizer state": "#9aa5b1",
    "gradients": "#d1495b",
    "activations and working space": "#edae49",
}


class Source(Protocol):
    """What can say how much memory a network needs."""

    def train(self, setup: Setup) -> TrainingStep:
        """The memory of one training step."""

    def infer(self, setup: Setup) -> TrainingStep:
        """The memory while a batch is run forward only."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory by rule from a graph."""

    graph: Graph

    def train(self, setup: Setup) -> TrainingStep:
        """The memory of one training step."""
        return estimated_step(self.graph, setup)

    def infer(self, setup: Setup) -> TrainingStep:
        """The memory while a batch is run forward only."""
        return estimated_inference(self.graph, setup)


@dataclass(frozen=True, repr=False)
class Memory(Result):
    """What a network needs to be trained and to be used.

    Args:
        batch: how many examples a step sees.
        dtype: the type of numbers; where it is mixed, weights, gradients and optimizer state are float32.
        optimizer: what updates the weights.
        checkpointing: whether activations are computed again instead of kept.
        device: where it is thought to run.
        weights: bytes of parameters, and of running means and the like where they are known.
        gradients: bytes of their gradients.
        optimizer_state: bytes of what the optimizer remembers.
        saved: bytes of activations kept from the forward pass for the backward pass.
        training_bytes: the most bytes held at one moment of a training step.
        inference_bytes: the same while a batch is run forward only.
        moments: when the most is held in each phase of a step.
        exact: whether PyTorch rehearsed the step; otherwise all but the weights is an estimate by rule.
        complete: whether every operation is known to the rules; if not, at least so much is needed.
        reason: why there is only an estimate where a run was tried; empty otherwise.
    """

    batch: int
    dtype: str
    optimizer: str
    checkpointing: bool
    device: str
    weights: int
    gradients: int
    optimizer_state: int
    saved: int
    training_bytes: int
    inference_bytes: int
    moments: tuple[Moment, ...]
    exact: bool
    complete: bool
    reason: str = ""

    def table(self) -> Table:
        """What training needs, part by part, and the most at one moment."""
        peak = max(self.moments, key=lambda each: each.held)
        parts: list[tuple[str, int]] = [
            ("weights", self.weights),
            ("gradients", self.gradients),
            (f"optimizer state ({self.optimizer})", self.optimizer_state),
            ("activations kept for the backward pass", self.saved),
            (f"training: the most at one moment, in the {peak.phase}", self.training_bytes),
            ("inference: the most at one moment", self.inference_bytes),
        ]
        rows: list[tuple[Cell, ...]] = [(what, count, written_bytes(count)) for what, count in parts]
        return Table(f"Memory for {self.setting()}", ("what", "bytes", "size"), rows, self._notes())

    def tables(self) -> list[Table]:
        """That, and what is held at the worst moment of each phase."""
        rows: list[tuple[Cell, ...]] = [
            (
                each.phase,
                *map(written_bytes, (self.weights, self.optimizer_state, each.gradients, each.others)),
                written_bytes(self.weights + self.optimizer_state + each.held),
            )
            for each in self.moments
        ]
        columns = ("phase", "weights", "state", "gradients", "activations etc.", "together")
        return [self.table(), Table("Held at the worst moment of each phase", columns, rows)]

    def setting(self) -> str:
        """The setup in words."""
        return f"a batch of {self.batch:,}, {_how(self)}"

    def _notes(self) -> list[str]:
        notes = [
            "From PyTorch's own run of a training step with tensors that hold no data; what kernels need inside "
            "themselves is not in it."
            if self.exact
            else "An estimate, by rule: what PyTorch would keep of each operation."
        ]
        if self.reason:
            notes.append(self.reason)
        if not self.complete:
            notes.append("At least: some operations are not known, and what they keep is not in it.")
        if not self.gradients:
            notes.append("There is nothing to train: no weight, or all are frozen.")
        if self.dtype.startswith("mixed"):
            notes.append(
                "Mixed: weights, gradients and optimizer state are float32; activations are half, "
                "as are the copies of weights kept with them."
            )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Keys: the setup, bytes of each part, and `phases` with the bytes held at the worst moment of each."""
        return {
            "batch": self.batch,
            "dtype": self.dtype,
            "optimizer": self.optimizer,
            "checkpointing": self.checkpointing,
            "device": self.device,
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer_state": self.optimizer_state,
            "saved": self.saved,
            "training_bytes": self.training_bytes,
            "inference_bytes": self.inference_bytes,
            "phases": {each.phase: self.weights + self.optimizer_state + each.held for each in self.moments},
            "exact": self.exact,
            "complete": self.complete,
        }

    def figure(self) -> go.Figure:
        """What is held at the worst moment of each phase, one stack for each."""
        import plotly.graph_objects as go

        phases = [each.phase for each in self.moments]
        stacks = {
            "weights": [self.weights for _ in phases],
            "optimizer state": [self.optimizer_state for _ in phases],
            "gradients": [each.gradients for each in self.moments],
            "activations and working space": [each.others for each in self.moments],
        }
        unit, factor = _axis_unit(self.training_bytes)
        figure = go.Figure()
        for what, values in stacks.items():
            texts = [written_bytes(value) if value else "" for value in values]
            figure.add_trace(
                go.Bar(
                    x=[value / factor for value in values], y=phases, orientation="h", name=what, text=texts,
                    textposition="inside", insidetextanchor="middle", textangle=0, constraintext="inside",
                    marker_color=_COLOURS[what], hovertemplate="%{text}",
                )
            )  # fmt: skip
        return figure.update_layout(
            barmode="stack", template="plotly_white", height=320, title=self.table().title, xaxis_title=unit,
            yaxis={"autorange": "reversed"}, legend={"orientation": "h", "y": -0.3, "traceorder": "normal"},
        )  # fmt: skip


@dataclass(frozen=True, repr=False)
class LargestBatch(Result):
    """The largest batches that fit into some memory.

    Args:
        memory: how many bytes there are.
        dtype: the type of numbers.
        optimizer: what updates the weights.
        checkpointing: whether activations are computed again instead of kept.
        device: where it is thought to run.
        training: the largest batch that can be trained with; 0 where not even one example fits, None for any.
        inference: the largest that can be run forward.
        training_bytes: what training with that batch needs, with one example where none fits.
        inference_bytes: what running it forward needs.
        exact: whether PyTorch rehearsed the steps; otherwise these are estimates by rule.
        complete: whether every operation is known to the rules.
        reason: why there are only estimates where runs were tried; empty otherwise.
    """

    memory: int
    dtype: str
    optimizer: str
    checkpointing: bool
    device: str
    training: int | None
    inference: int | None
    training_bytes: int
    inference_bytes: int
    exact: bool
    complete: bool
    reason: str = ""

    def table(self) -> Table:
        """One row for training and one for inference."""
        rows: list[tuple[Cell, ...]] = []
        notes = [] if self.exact else ["Estimates, by rule."]
        if self.reason:
            notes.append(self.reason)
        if not self.complete:
            notes.append("At most: some operations are not known, and what they keep is not in it.")
        for what, batch, needed in (
            ("training", self.training, self.training_bytes),
            ("inference", self.inference, self.inference_bytes),
        ):
            rows.append((what, "any" if batch is None else batch, written_bytes(needed)))
            if batch == 0:
                notes.append(f"For {what} it does not fit even at batch 1: that needs {written_bytes(needed)}.")
        title = f"Largest batch in {written_bytes(self.memory)}: {_how(self)}"
        return Table(title, ("for", "largest batch", "needs"), rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """Keys: its attributes, but for the reason."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "reason"}

    def figure(self) -> go.Figure:
        """What the largest batches need, beside the memory that there is."""
        import plotly.graph_objects as go

        needed = [self.training_bytes, self.inference_bytes]
        unit, factor = _axis_unit(self.memory)
        texts = [
            f"batch {'any' if batch is None else f'{max(1, batch):,}'}: {written_bytes(count)}"
            for batch, count in zip((self.training, self.inference), needed, strict=True)
        ]
        bars = go.Bar(
            x=[count / factor for count in needed], y=["training", "inference"], orientation="h", text=texts,
            textposition="auto", marker_color=["#d1495b" if count > self.memory else "#30638e" for count in needed],
        )  # fmt: skip
        figure = go.Figure([bars])
        figure.add_vline(x=self.memory / factor, line_dash="dash", annotation_text=written_bytes(self.memory))
        return figure.update_layout(
            template="plotly_white", height=260, title=self.table().title, xaxis_title=unit,
            yaxis={"autorange": "reversed"},
        )  # fmt: skip


def _axis_unit(count: int) -> tuple[str, int]:
    """The unit in which an axis up to so many bytes is marked, and its bytes."""
    unit = written_bytes(max(count, 1024)).split()[1]
    return unit, UNITS[unit]


def _how(answer: Memory | LargestBatch) -> str:
    """A setup in words, without the batch."""
    checkpointed = ", with checkpointing" if answer.checkpointing else ""
    gpu = ", on a GPU" if answer.device == "cuda" else ""
    return f"{answer.dtype}, {answer.optimizer}{checkpointed}{gpu}"


def memory_of(graph: Graph, rehearsal: Source | None, setup: Setup) -> Memory:
    """What a network needs, rehearsed where that is possible and by rule elsewhere.

    Raises:
        InputError: modules to checkpoint are named that are not there.
    """

    def answer(source: Source, exact: bool, complete: bool, reason: str) -> Memory:
        step = source.train(setup)
        return Memory(
            setup.batch,
            setup.dtype,
            setup.optimizer,
            bool(setup.checkpointing),
            setup.device,
            step.weights,
            step.gradients,
            step.state,
            step.saved,
            step.peak,
            source.infer(setup).peak,
            tuple(step.worst(phase) for phase in PHASES if any(each.phase == phase for each in step.moments)),
            exact,
            complete,
            reason,
        )

    return _first_that_works(graph, rehearsal, setup, answer)


def training_bytes_of(graph: Graph, rehearsal: Source | None, setup: Setup) -> int:
    """The most bytes held at one moment of a training step, and nothing else."""

    def answer(source: Source, exact: bool, complete: bool, reason: str) -> int:
        return source.train(setup).peak

    return _first_that_works(graph, rehearsal, setup, answer)


def largest_batch(graph: Graph, rehearsal: Source | None, memory: int, setup: Setup) -> LargestBatch:
    """The largest batches with which training and inference fit into so many bytes.

    Raises:
        InputError: modules to checkpoint are named that are not there.
    """

    def answer(source: Source, exact: bool, complete: bool, reason: str) -> LargestBatch:
        training, training_bytes = most_that_fit(lambda batch: source.train(replace(setup, batch=batch)).held, memory)
        inference, inference_bytes = most_that_fit(lambda batch: source.infer(replace(setup, batch=batch)).held, memory)
        return LargestBatch(
            memory,
            setup.dtype,
            setup.optimizer,
            bool(setup.checkpointing),
            setup.device,
            training,
            inference,
            training_bytes,
            inference_bytes,
            exact,
            complete,
            reason,
        )

    return _first_that_works(graph, rehearsal, setup, answer)


_Answer = TypeVar("_Answer")


def _first_that_works(
    graph: Graph, rehearsal: Source | None, setup: Setup, answer: Callable[[Source, bool, bool, str], _Answer]
) -> _Answer:
    """The answer of a rehearsal, or by rule where there is none or it fails."""
    reason = ""
    if rehearsal is not None:
        try:
            return answer(rehearsal, True, True, "")
        except ThalwegError:
            raise
        except Exception as error:  # whatever the model's own code raises
            first_line = str(error).strip().partition("\n")[0][:200]
            reason = f"PyTorch could not rehearse the step ({type(error).__name__}: {first_line})."
    if isinstance(setup.checkpointing, tuple):
        raise InputError("Only modules of PyTorch that can be run here are checkpointed by name; write True instead.")
    return answer(Estimate(graph), False, all(each.kind is not Kind.UNKNOWN for each in graph.operations), reason)


def most_that_fit(held: Callable[[int], Sequence[int]], memory: int) -> tuple[int | None, int]:
    """The largest batch for which no more is held at any moment, and the most that is held with it.

    What is held at one moment grows with the batch along a straight line, so two runs foretell every other; a third
    one, with the batch that they name, confirms it. Where it does not, because the network does something else with
    other batches, batches are tried until the largest is found.

        >>> most_that_fit(lambda batch: (100 + 3 * batch, 7 * batch), 1000)
        (142, 994)

    Args:
        held: the bytes at every moment with a batch.
        memory: how many there are.

    Returns:
        The batch, 0 where not even one example fits and None where any batch does; and the bytes that it needs, or
        that one example needs.
    """
    two, three = held(2), held(3)
    if len(two) == len(three):
        found, needed = _foretold(two, three, memory)
        if found is None or found < 2:
            at_one = max(held(1))
            return (None if found is None else int(at_one <= memory)), at_one
        if max(held(found)) == needed:
            return found, needed
    return _searched(lambda batch: max(held(batch)), memory)


def _foretold(two: Sequence[int], three: Sequence[int], memory: int) -> tuple[int | None, int]:
    """The largest batch on the lines through the moments with two and with three examples, and what it needs."""
    lines = [(3 * before - 2 * after, after - before) for before, after in zip(two, three, strict=True)]
    if any(fixed > memory for fixed, slope in lines if slope == 0):
        return 0, 0
    rooms = [(memory - fixed) // slope for fixed, slope in lines if slope > 0]
    most = min(rooms, default=MAX_BATCH + 1)
    if most > MAX_BATCH:
        return None, 0
    return most, max(fixed + slope * most for fixed, slope in lines)


def _searched(needed: Callable[[int], int], memory: int) -> tuple[int | None, int]:
    """The same by trying: doubling, then halving what is between."""
    fits = (1, needed(1))
    if fits[1] > memory:
        return 0, fits[1]
    too_much: int | None = None
    while too_much is None or too_much - fits[0] > 1:
        guess = 2 * fits[0] if too_much is None else (fits[0] + too_much) // 2
        if guess > MAX_BATCH:
            return None, needed(1)
        value = needed(guess)
        if value <= memory:
            fits = (guess, value)
        else:
            too_much = guess
    return fits
