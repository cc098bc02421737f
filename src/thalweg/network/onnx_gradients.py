"""The derivatives of one unit of an ONNX file by its input, for one input after the other.

The file is run as a function of JAX (`thalweg.network.onnx_program`), with the weights that it holds or that lie beside
it, up to the value that is the layer's result.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError
from thalweg.network.given_inputs import examples
from thalweg.network.graph import Graph, Kind, written
from thalweg.network.onnx_program import Program
from thalweg.network.readers.onnx.run import run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto

_FEW = 1024
"""Up to so many numbers are known ones, from which shapes may be made."""
_MEANS = (Kind.AVERAGE_POOL, Kind.GLOBAL_POOL)


def gradients(
    path: Path, graph: Graph, place: int, unit: tuple[int | slice, ...], given: Any, samples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """The derivatives of a unit, summed over its channels, by the first input, in the shape of that input.

    Args:
        path: of the file.
        graph: what was read of it.
        place: the operation that the unit belongs to.
        unit: where it is in the result of that, without the batch.
        given: a batch for every input, or the batch of the only one; None for standard normal numbers.
        samples: how many random inputs.
        seed: of the random inputs.

    Raises:
        InputError: as for `thalweg.network.measured_field.measured_field`.
    """
    import jax
    import numpy as np

    model = _with_weights(path)
    through = run(model, path.parent, tuple(each.shape for each in graph.given))
    if through.batch:
        raise InputError(
            f"The file was written for a batch of {through.batch}, and a gradient is that of one example; write it "
            "with a batch of 1, or an open one."
        )
    operation = graph.operations[place]
    wanted = (1, *operation.output.shape)
    names = [name for name, each in through.scope.values.items() if each.array.id == operation.output.id]
    fitting = [name for name in names if through.scope.values[name].shape == wanted]
    if not fitting:
        raise InputError(
            f"Where the file makes {operation.name!r} as an array of {written(wanted)} (batch included) cannot be "
            "told; ask about another layer."
        )
    # A mean may first be a sum; elsewhere what comes next belongs to the next layer.
    name = fitting[-1 if operation.kind in _MEANS else 0]
    program, (known, weights) = Program(model), _numbers(model, path)
    takes = [each for each in model.graph.input if each.name not in known.keys() | weights.keys()]
    kinds = [_kind(each.type.tensor_type.elem_type) for each in takes]

    def value(first: Any, others: list[Any], weights: dict[str, Any]) -> Any:
        inputs = dict(zip([each.name for each in takes], [first, *others], strict=True))
        return program.made(name, {**known, **weights, **inputs})[(0, *unit)].sum()

    derivatives = jax.jit(jax.grad(value))
    for each in examples(given, graph.given, graph.looked_up, samples, seed):
        first, *others = (x.astype(kind) for x, kind in zip(each, kinds, strict=True))
        yield np.asarray(derivatives(first, others, weights)[0], np.float64)


def _with_weights(path: Path) -> ModelProto:
    """The model with the data that it keeps elsewhere."""
    import onnx

    try:
        return onnx.load(path)
    except Exception as error:  # whatever a damaged file or a missing one of weights may lead to
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise InputError(f"The weights of {str(path)[:200]!r} cannot be read: {reason}.") from error


def _numbers(model: ModelProto, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors in the file by name: those from which shapes may be made, and the weights."""
    from onnx import numpy_helper

    known: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor, str(path.parent))
        (weights if array.dtype.kind == "f" and array.size > _FEW else known)[tensor.name] = array
    return known, weights


def _kind(element: int) -> Any:
    """The type of an input's numbers."""
    from onnx import helper

    return helper.tensor_dtype_to_np_dtype(element)
