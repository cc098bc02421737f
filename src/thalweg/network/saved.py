"""What a framework keeps of every operation until its backward pass, by rule.

The rules are those of PyTorch's derivatives, which other frameworks share in the main: products keep both factors,
convolutions and fully connected layers their inputs, activations their outputs where the derivative follows from those
(ReLU, sigmoid, tanh, softmax) and else, or where the name does not tell, their inputs, normalisation its inputs and
statistics, maximum pooling its inputs and where the maxima stand, attention its queries, keys, values and outputs and
one logarithm for each query (T. Dao et al., "FlashAttention", 2022), dropout one byte for each unit. Sums, reshapes,
padding, concatenation and averages over an axis keep nothing. Nothing is kept that no trained weight needs.

    >>> from thalweg.network.readers.spec import read_spec
    >>> graph = read_spec("input 8x8x3; conv3-4; relu; maxpool; FC-10")
    >>> [(op.name, sum(tensor.size for tensor in kept(op, set(range(5))).tensors)) for op in graph.operations]
    [('conv3-4', 192), ('relu', 256), ('maxpool', 256), ('FC-10', 64)]
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

from thalweg.network.graph import Graph, Kind, Operation, Tensor, Weight

VIEWS = frozenset({Kind.FLATTEN, Kind.RESHAPE, Kind.REARRANGE, Kind.CROP})
"""The kinds whose outputs are their inputs, looked at in another way."""

_KEEP_INPUTS = frozenset({Kind.MATMUL, Kind.MULTIPLY})
_KEEP_INPUT_FOR_WEIGHTS = frozenset({Kind.CONVOLUTION, Kind.LINEAR})
_FROM_OUTPUT = re.compile(
    r"(?<!p)(?<!leaky)(?<!leaky_)(?<!leaky_re_)re_?lu(?!6)"
    r"|(?<!hard)(?<!hard_)(?<!log)(?<!log_)sigmoid|(?<!hard)(?<!hard_)tanh|softmax|sqrt"
)
"""Activations whose derivative follows from their output: ReLU, but not ReLU6, PReLU or leaky ReLU, and others."""
_OF_POSITIONS = re.compile(r"layer_?norm|rms|(?:^|[._])ln")
"""Normalisations with statistics for each position instead of each channel."""
_GATES = 4
"""Numbers kept for each unit and position of a recurrent layer besides its output, as for an LSTM's four gates."""
_INDEX = 8
"""Bytes of an index: frameworks use 64 bits."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What one operation keeps.

    Args:
        tensors: units that exist anyway; where several operations keep the same ones they are held once.
        numbers: of the type of the activations, for each example.
        statistics: single-precision numbers, for each example.
        common: single-precision numbers for the whole batch.
        bytes: masks and indices, for each example.
    """

    tensors: tuple[Tensor, ...] = ()
    numbers: int = 0
    statistics: int = 0
    common: int = 0
    bytes: int = 0


def needing_gradients(graph: Graph) -> set[int]:
    """The tensors through which a trained weight acts: those that get a gradient."""
    found: set[int] = set()
    for operation in graph.operations:
        trained = any(weight.trainable for weight in operation.weights)
        if trained or any(tensor.id in found for tensor in operation.inputs):
            found.update(tensor.id for tensor in operation.outputs)
    return found


def kept(operation: Operation, needing: Set[int]) -> Kept:
    """What an operation keeps, given which tensors get a gradient."""
    if operation.output.id not in needing:
        return Kept()
    kind, source, output = operation.kind, operation.input, operation.output
    if kind in _KEEP_INPUT_FOR_WEIGHTS:
        trained = any(weight.trainable for weight in operation.weights)
        return Kept(operation.inputs if trained else ())
    if kind in _KEEP_INPUTS:
        return Kept(operation.inputs)
    if kind is Kind.ATTENTION:
        queries = output.size // output.shape[-1] if output.shape else 1
        return Kept((*operation.inputs, output), statistics=queries)
    if kind is Kind.ACTIVATION:
        return Kept((output,) if _FROM_OUTPUT.search(operation.name.lower()) else (source,))
    if kind is Kind.DROPOUT:
        return Kept(bytes=output.size)
    if kind is Kind.MAX_POOL:
        return Kept((source,), bytes=_INDEX * output.size)
    if kind is Kind.AVERAGE_POOL:
        return Kept((source,))
    if kind is Kind.GLOBAL_POOL and "max" in operation.name.lower():
        return Kept((source, output))
    if kind is Kind.NORMALISATION:
        if _OF_POSITIONS.search(operation.name.lower()):
            return Kept((source,), statistics=2 * source.size // source.channels)
        return Kept((source,), common=2 * source.channels)
    if kind is Kind.SPATIAL_NORMALISATION:
        return Kept((source,), statistics=2 * output.channels)
    if kind is Kind.EMBEDDING:
        return Kept(bytes=_INDEX * source.size)
    if kind is Kind.RECURRENT:
        return Kept((source, output), numbers=_GATES * output.size)
    return Kept()


def weights_of(graph: Graph) -> dict[str, Weight]:
    """Every array of weights by its identity, each once."""
    return {weight.identity: weight for operation in graph.operations for weight in operation.weights}
