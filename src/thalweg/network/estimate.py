"""The memory of a training step and of inference, by rule from a graph: for networks that PyTorch cannot run here.

The step is walked through operation by operation, as a framework without a compiler runs it. Forward, a tensor is held
until the last operation that reads it is done, or as long as it is kept for the way back (`thalweg.network.saved`).
Backward, every operation lets go of what it kept; the gradients of its inputs and weights come, that of its output
goes. The caller holds the inputs all the time. Where layers compute with half-precision copies of their weights, the
copies are held from their forward to their backward pass. Adaptive optimizers need room for one more copy of the
largest array while they update it; on a GPU, of all arrays, which they update together.

With checkpointing the operations fall into segments, as many as the square root of their number (T. Chen et al.,
"Training deep nets with sublinear memory cost", 2016). Only what goes into a segment is kept; the rest is computed
again when the way back comes to it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator

from thalweg.network.graph import Graph, Kind, Operation, Tensor
from thalweg.network.optimizers import optimizer_named, state_size
from thalweg.network.saved import VIEWS, kept, needing_gradients, weights_of
from thalweg.network.training_step import BACKWARD, FORWARD, INFERENCE, UPDATE, Moment, Setup, TrainingStep

_COPIED = frozenset({Kind.CONVOLUTION, Kind.LINEAR, Kind.RECURRENT, Kind.ATTENTION})
"""The kinds that compute in half precision, with copies of their weights."""
_SINGLE = 4  # bytes of a single-precision number
_INDEX = 8  # and of an index


def estimated_step(graph: Graph, setup: Setup) -> TrainingStep:
    """The memory of one training step."""
    return _Walk(graph, setup).train()


def estimated_inference(graph: Graph, setup: Setup) -> TrainingStep:
    """The memory while a batch is run forward only."""
    return _Walk(graph, setup).infer()


class _Heap:
    """What is held, each thing as long as somebody holds it."""

    def __init__(self) -> None:
        self.now = 0
        self._holders: Counter[Hashable] = Counter()
        self._sizes: dict[Hashable, int] = {}

    def hold(self, key: Hashable, size: int) -> None:
        if not self._holders[key]:
            self._sizes[key] = size
            self.now += size
        self._holders[key] += 1

    def hold_too(self, key: Hashable) -> None:
        self.hold(key, self._sizes[key])

    def release(self, key: Hashable) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            self.now -= self._sizes[key]


class _Walk:
    """Goes through the operations of a graph and writes down what is held after each."""

    def __init__(self, graph: Graph, setup: Setup) -> None:
        self._operations, self._setup, self._precision = graph.operations, setup, setup.precision
        self._needing = needing_gradients(graph)
        self._roots, self._sizes = _roots(graph)
        self._moments: list[Moment] = []
        self._heap = _Heap()
        self._weights = weights_of(graph)
        self._learned: set[str] = set()  # the weights whose gradients exist
        self._gradients = 0
        self._again: set[int] = set()  # the tensors that are computed a second time
        self._pending: dict[int, Hashable] = {}  # the gradients of tensors whose makers are still to come
        self._arrivals = 0
        looked_up = graph.looked_up
        self._inputs = {
            tensor.id: tensor.size * setup.batch * (_INDEX if tensor.id in looked_up else self._precision.unit)
            for tensor in graph.inputs
        }
        for key, size in self._inputs.items():
            self._heap.hold(key, size)

    def infer(self) -> TrainingStep:
        self._note(INFERENCE)
        self._forward(range(len(self._operations)), INFERENCE, lambda place: iter(()))
        return TrainingStep(self._weight_bytes(), 0, 0, 0, tuple(self._moments))

    def train(self) -> TrainingStep:
        count = len(self._operations)
        segments = _segments(count) if self._setup.checkpointing else [range(count)]
        begins = {segment.start: segment for segment in segments}
        checkpointed = bool(self._setup.checkpointing)

        def keeps(place: int) -> Iterator[tuple[Hashable, int]]:
            if not checkpointed:
                return self._kept(place)
            return self._entering(begins[place]) if place in begins else iter(())

        saved = dict(each for place in range(count) for each in keeps(place))
        self._forward(range(count), FORWARD, keeps)
        for segment in reversed(segments):
            if checkpointed:
                self._forward(segment, BACKWARD, self._kept, again=True)
            self._backward(segment)
            if checkpointed:
                self._again = set()
                for key, _ in self._entering(segment):
                    self._heap.release(key)
        trained = {name: each for name, each in self._weights.items() if each.trainable}
        optimizer = optimizer_named(self._setup.optimizer)
        state = sum(state_size(optimizer.name, each.shape) for each in trained.values()) * self._precision.weight
        sizes = [each.size for each in trained.values()]
        room = (sum(sizes) if self._setup.device == "cuda" else max(sizes, default=0)) * self._precision.weight
        self._note(UPDATE, room if optimizer.counts else 0)
        gradients = sum(each.size for each in trained.values()) * self._precision.weight
        return TrainingStep(self._weight_bytes(), gradients, state, sum(saved.values()), tuple(self._moments))

    def _weight_bytes(self) -> int:
        return sum(each.size for each in self._weights.values()) * self._precision.weight

    def _note(self, phase: str, room: int = 0) -> None:
        self._moments.append(Moment(phase, self._gradients, self._heap.now + room))

    def _key(self, tensor: Tensor) -> Hashable:
        root = self._roots[tensor.id]
        return ("again", root) if root in self._again else root

    def _bytes(self, tensor: Tensor) -> int:
        root = self._roots[tensor.id]
        return self._inputs.get(root, self._sizes[root] * self._setup.batch * self._precision.unit)

    def _kept(self, place: int) -> Iterator[tuple[Hashable, int]]:
        """What an operation keeps for its backward pass, and how large that is."""
        operation, batch = self._operations[place], self._setup.batch
        what = kept(operation, self._needing)
        for tensor in what.tensors:
            yield self._key(tensor), self._bytes(tensor)
        yield (
            ("besides", place),
            batch * (what.numbers * self._precision.unit + what.statistics * _SINGLE + what.bytes)
            + what.common * _SINGLE,
        )
        if operation.output.id in self._needing:
            yield from self._copies(operation)

    def _copies(self, operation: Operation) -> Iterator[tuple[Hashable, int]]:
        if self._precision.mixed and operation.kind in _COPIED:
            for weight in operation.weights:
                yield ("copy", weight.identity), weight.size * self._precision.unit

    def _entering(self, segment: range) -> Iterator[tuple[Hashable, int]]:
        """The tensors that a segment reads and does not make."""
        made = {tensor.id for place in segment for tensor in self._operations[place].outputs}
        sources = (tensor for place in segment for tensor in self._operations[place].operands)
        outside = {self._roots[each.id]: each for each in sources if self._roots[each.id] not in made}
        for root, tensor in outside.items():
            yield root, self._bytes(tensor)

    def _forward(
        self,
        places: range,
        phase: str,
        keeps: Callable[[int], Iterator[tuple[Hashable, int]]],
        again: bool = False,
    ) -> None:
        uses = Counter(self._roots[each.id] for place in places for each in self._operations[place].operands)
        left: list[Hashable] = []
        for place in places:
            operation = self._operations[place]
            made = [each for each in operation.outputs if self._roots[each.id] == each.id]
            if again:
                self._again.update(each.id for each in made)
            copies = list(self._copies(operation))
            for key, size in [*((self._key(each), self._bytes(each)) for each in made), *copies, *keeps(place)]:
                self._heap.hold(key, size)
            self._note(phase)
            left += [key for key, _ in copies]
            for tensor in made:
                if not uses[tensor.id]:  # an answer of the network, or of the part that is computed again
                    left.append(self._key(tensor))
            for tensor in operation.operands:
                root = self._roots[tensor.id]
                uses[root] -= 1
                if not uses[root] and root not in self._inputs and (not again or root in self._again):
                    self._heap.release(self._key(tensor))
        for key in left:
            self._heap.release(key)

    def _backward(self, places: range) -> None:
        for place in reversed(places):
            operation = self._operations[place]
            if operation.output.id in self._needing and operation.kind not in VIEWS:
                arrived = {self._arrived(each) for each in operation.outputs}
                outdated = self._send(operation, next(iter(arrived)))
                for weight in operation.weights:
                    if weight.trainable and weight.identity not in self._learned:
                        self._learned.add(weight.identity)
                        self._gradients += weight.size * self._precision.weight
                self._note(BACKWARD)
                for key in [*outdated, *arrived]:
                    self._heap.release(key)
            for key, _ in self._kept(place):
                self._heap.release(key)

    def _arrived(self, tensor: Tensor) -> Hashable:
        """The gradient of an output: what its readers sent, or what the loss sends."""
        found = self._pending.pop(self._roots[tensor.id], None)
        return self._gradient_of(tensor) if found is None else found

    def _gradient_of(self, tensor: Tensor) -> Hashable:
        self._arrivals += 1
        key = ("gradient", self._arrivals)
        self._heap.hold(key, self._sizes[self._roots[tensor.id]] * self._setup.batch * self._precision.unit)
        return key

    def _send(self, operation: Operation, arrived: Hashable) -> list[Hashable]:
        """Hand gradients to the inputs of an operation; returns those that a sum has taken the place of."""
        outdated = []
        for tensor in {self._roots[each.id]: each for each in operation.operands if each.id in self._needing}.values():
            root = self._roots[tensor.id]
            earlier = self._pending.get(root)
            same = operation.kind is Kind.ADD and tensor.size == operation.output.size
            if earlier is None and same:
                self._heap.hold_too(arrived)
                self._pending[root] = arrived
                continue
            self._pending[root] = self._gradient_of(tensor)
            if earlier is not None:
                outdated.append(earlier)
                if not same:  # what was sent now is added up with what was there
                    outdated.append(self._gradient_of(tensor))
        return outdated


def _roots(graph: Graph) -> tuple[dict[int, int], dict[int, int]]:
    """For every tensor the one whose memory it looks at, and the sizes of those."""
    roots = {tensor.id: tensor.id for tensor in graph.inputs}
    sizes = {tensor.id: tensor.size for tensor in graph.inputs}
    for operation in graph.operations:
        for tensor in operation.outputs:
            roots[tensor.id] = roots[operation.input.id] if operation.kind in VIEWS else tensor.id
            sizes[tensor.id] = tensor.size
    return roots, sizes


def _segments(count: int) -> list[range]:
    """So many operations in as many segments as the square root of their number."""
    length = math.isqrt(max(0, count - 1)) + 1
    return [range(start, min(start + length, count)) for start in range(0, count, length)]
