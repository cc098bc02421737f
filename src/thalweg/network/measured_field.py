"""What a unit sees most of with the weights that the network has: the gradient of the unit, measured.

Path counts (`thalweg.network.effective_field`) take all weights to be alike. Where a network holds weights, the
derivatives of a unit by the values of an image say how much each position really counts: for one image we take the
derivatives of the unit, summed over its channels (a gradient of 1 arrives at its position in every channel), add up
their absolute values over the channels of the image, and average this over several images, as rectifiers and the
winners of pools let other paths through for each. The network runs as it does after training, with dropout off.

After W. Luo, Y. Li, R. Urtasun and R. Zemel, "Understanding the effective receptive field in deep convolutional neural
networks", NeurIPS 2016, who send a gradient of 1 to the unit in the middle and average over random images.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError
from thalweg.network.effective_field import COLUMNS, MOST, Profile, axis_rows, needed, profiles_of, spread_figure
from thalweg.network.graph import Graph, Tensor
from thalweg.network.layer_call import Call
from thalweg.network.readers.reading import jax_program, keras_model, onnx_file
from thalweg.network.receptive_field import ReceptiveFields
from thalweg.network.units import seat_of, units_of
from thalweg.report import Result, Table

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SAMPLES = 16
"""Over how many random images the gradient is averaged where nobody says."""
_ROUNDING = 1e-3
"""The share of the gradient that rounding in fast convolutions may leave where a unit sees nothing."""


@dataclass(frozen=True, repr=False)
class MeasuredField(Result):
    """How the gradient of one unit is spread over the input.

    Args:
        layer: the layer that the unit belongs to.
        index: its position there.
        shares: the share of the gradient at each position, in the extents of the input; None where it is zero
            everywhere.
        gradient: the sum of the absolute derivatives, the mean over the images.
        profiles: the spread along every axis.
        within: how many positions hold `MOST` of the gradient, taken by their shares from the largest down.
        seen: at how many positions it is not zero.
        samples: over how many images it was averaged.
        seed: of the random images; None where they were given.
        notes: what had to be decided.
    """

    layer: str
    index: tuple[int, ...]
    shares: Array | None
    gradient: float
    profiles: tuple[Profile, ...]
    within: int
    seen: int
    samples: int
    seed: int | None
    notes: tuple[str, ...]

    def table(self) -> Table:
        """One row for each axis."""
        if self.shares is None:
            first = "No gradient of this unit reaches the input."
        else:
            first = f"{MOST:.0%} of the gradient lies at {self.within:,} of the {self.seen:,} positions that have any."
        images = "given inputs" if self.seed is None else f"inputs of standard normal numbers (seed {self.seed})"
        how = f"Absolute derivatives, summed over channels, the mean over {self.samples:,} {images}."
        unit = ", ".join(map(str, self.index))
        title = f"Gradient of unit ({unit}) of {self.layer}"
        return Table(title, COLUMNS, axis_rows(self.profiles), (first, how, *self.notes))

    def to_dict(self) -> dict[str, Any]:
        """Keys: layer, index, axes, gradient, within, seen, samples, seed."""
        return {
            "layer": self.layer,
            "index": self.index,
            "axes": [profile.to_dict() for profile in self.profiles],
            "gradient": self.gradient,
            "within": self.within,
            "seen": self.seen,
            "samples": self.samples,
            "seed": self.seed,
        }

    def figure(self) -> go.Figure:
        """The shares along every axis, and over the plane where there are two."""
        return spread_figure(self.shares, self.profiles, self.table().title)


def measured_field(
    model: object,
    graph: Graph,
    fields: ReceptiveFields,
    place: int,
    index: Sequence[int],
    inputs: Any = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> MeasuredField:
    """How the gradient of one unit of a module is spread over the input.

    Args:
        model: what `graph` was read from, with its weights: a PyTorch module, a Keras model or its file, an ONNX
            file, or a model of Flax, Equinox or JAX; neither it nor its gradients are changed.
        graph: the network.
        fields: its receptive fields.
        place: which operation.
        index: as for `thalweg.network.size.Size.unit`.
        inputs: a batch of inputs; for a network that takes several, a sequence of batches; None for random ones.
        samples: how many random inputs.
        seed: of the random inputs.

    Raises:
        InputError: the model is none of these or holds no weights, the operation has no such unit, its result cannot
            be taken hold of (in PyTorch it must be that of a module), or the inputs do not fit.
    """
    samples, seed = _whole("samples", samples, 1), _whole("seed", seed, 0)
    where, tensor, seat = seat_of(graph, fields, place, index)
    name = graph.operations[place].name
    each = _gradients(model, graph, place, _places(tensor, where, name), inputs, samples, seed)
    total, count = _mean_of(each, graph.inputs[0])
    total = _inside(total, fields, tensor, seat, name)
    notes = ("Its tokens are taken to be positions row by row.",) if tensor.positions is not None else ()
    given = None if inputs is not None else seed
    whole = float(total.sum())
    if whole == 0:
        return MeasuredField(name, where, None, 0.0, (), 0, 0, count, given, notes)
    shares = total / whole
    seen = int((shares > 0).sum())
    return MeasuredField(
        name, where, shares, whole, profiles_of(shares), needed(shares), seen, count, given, notes
    )  # fmt: skip


def _gradients(
    model: object, graph: Graph, place: int, unit: tuple[int | slice, ...], inputs: Any, samples: int, seed: int
) -> Iterable[Array]:
    """The derivatives of a unit by the first input, for one input after the other."""
    image = graph.inputs[0]
    if image.id in graph.looked_up and model is not None:
        raise InputError("The input is looked up by number, so that nothing has a derivative by it.")
    layers = keras_model(model)
    if layers is not None:
        from thalweg.network import keras_gradients

        return keras_gradients.gradients(layers, graph, Call.of(graph, place, unit), inputs, samples, seed)
    torch = sys.modules.get("torch")  # whoever holds a module has imported it
    if torch is not None and isinstance(model, torch.nn.Module):
        from thalweg.network import torch_gradients

        return torch_gradients.gradients(model, graph, Call.of(graph, place, unit), inputs, samples, seed)
    file = onnx_file(model)
    if file is not None:
        from thalweg.network import onnx_gradients

        return onnx_gradients.gradients(file, graph, place, unit, inputs, samples, seed)
    program = None if model is None else jax_program(model, image.shape)
    if program is None:
        raise InputError(
            "The gradient of a unit needs a network that holds its weights; give a torch.nn.Module, a Keras model, an "
            "ONNX file, or a model of Flax, Equinox or JAX with its parameters, or ask for the spread without weights."
        )
    from thalweg.network import jax_gradients

    return jax_gradients.gradients(program, graph, place, unit, inputs, samples, seed)


def _places(tensor: Tensor, where: tuple[int, ...], name: str) -> tuple[int | slice, ...]:
    """What a unit is in the array of its layer: an index, in which axes that hold no positions are whole."""
    import numpy as np

    whole: list[int | slice] = [slice(None)] * len(tensor.shape)
    if not tensor.extents and not tensor.flat:
        return tuple(int(each) for each in np.unravel_index(where[0], tensor.shape))
    if tensor.positions is None and not tensor.flat:
        for axis, unit in zip(tensor.spatial, where, strict=True):
            if axis is not None:
                whole[axis] = unit
        return tuple(whole)
    (tokens,) = units_of(tensor) if tensor.flat else (int(np.prod(tensor.extents)),)
    holding = [axis for axis, extent in enumerate(tensor.shape) if extent == tokens and axis != tensor.channel]
    if len(holding) != 1:
        raise InputError(f"Where the positions of {name!r} are in its array cannot be told; ask about another layer.")
    whole[holding[0]] = where[0] if tensor.flat else int(np.ravel_multi_index(where, tensor.extents))
    return tuple(whole)


def _mean_of(each: Iterable[Array], image: Tensor) -> tuple[Array, int]:
    """The mean of absolute derivatives, summed over all axes that are no positions; and of how many."""
    import numpy as np

    axes = [axis for axis in image.spatial if axis is not None]
    others = tuple(axis for axis in range(len(image.shape)) if axis not in axes)
    total, count = np.zeros(image.extents), 0
    for derivatives in each:
        # Of what is left the axes stand in the order of the array, not in that of the positions.
        summed = np.abs(derivatives).sum(axis=others)
        total += np.transpose(summed, np.argsort(np.argsort(axes))).reshape(image.extents)
        count += 1
    if not np.isfinite(total).all():
        raise InputError("The gradient is not finite; look for weights or inputs that are not.")
    return total / count, count


def _inside(total: Array, fields: ReceptiveFields, tensor: Tensor, seat: tuple[int, ...], name: str) -> Array:
    """Nothing outside of what the unit sees but rounding, which is left out; gates see everything."""
    import numpy as np

    clipped = fields.clipped(tensor)
    if clipped is None or clipped.gated:
        return total
    inside = np.zeros_like(total)
    ends = clipped.ends(seat)
    if ends is not None:
        part = tuple(slice(first, last + 1) for first, last in ends)
        inside[part] = total[part]
    if float(total.sum() - inside.sum()) > _ROUNDING * float(total.sum()):
        raise InputError(
            f"The module {name!r} gives something else than the layer of that name: its gradient reaches beyond what "
            "the layer sees; ask about another layer."
        )
    return inside


def _whole(what: str, number: int, least: int) -> int:
    try:
        found = operator.index(number)
    except TypeError:
        found = least - 1
    if not least <= found < 2**63:
        raise InputError(f"`{what}` must be a whole number of at least {least}, not {number!r}.")
    return found
