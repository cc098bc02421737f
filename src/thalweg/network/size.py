"""What a network costs and what its units see: `size`.

>>> answer = size("input 112x112x3; conv3-64; maxpool; FC-10")
>>> answer.totals.parameters
2008842
>>> answer.layers[1].receptive_field, answer.layers[1].stride
((4, 4), (2, 2))
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from thalweg.errors import InputError, unknown_name
from thalweg.network.byte_sizes import parse_bytes
from thalweg.network.comparison import Comparison, compare
from thalweg.network.counts import Counts, count
from thalweg.network.field_views import Misalignment
from thalweg.network.graph import Graph, Kind
from thalweg.network.grouping import MOST_PLAIN, Row, grouped
from thalweg.network.layer_size import LayerSize
from thalweg.network.memory import LargestBatch, Memory, Source, largest_batch, memory_of, training_bytes_of
from thalweg.network.readers.reading import opened, read
from thalweg.network.readers.spec_grammar import parse_shape
from thalweg.network.receptive_field import ReceptiveFields
from thalweg.network.rehearsal import rehearsal_of
from thalweg.network.size_table import listed, main_table, work_table
from thalweg.network.training_step import Setup
from thalweg.network.units import Unit, axis_names, numbered, unit_of
from thalweg.report import Result, Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thalweg.network.effective_field import EffectiveField
    from thalweg.network.measured_field import MeasuredField
    from thalweg.network.reach import Reach


@dataclass(frozen=True, repr=False)
class Size(Result):
    """What a network costs and sees.

    Args:
        input: the extents of its input; of several, of the first.
        layers: one for each operation, in the order they run.
        totals: the sums over all layers whose kind is known, weights that are shared counted once; the parameters of
            all layers.
        complete: whether every operation is known.
        unknown: the names of those that are not.
        misaligned: where branches meet that are centred on different places of the input.
        setup: how the network is trained, where bytes are asked for: one example, float32, Adam by default.
    """

    input: tuple[int, ...]
    layers: tuple[LayerSize, ...]
    totals: Counts
    complete: bool
    unknown: tuple[str, ...]
    misaligned: tuple[Misalignment, ...]
    _graph: Graph = field(repr=False, compare=False)
    _fields: ReceptiveFields = field(repr=False, compare=False)
    _rehearsal: Source | None = field(default=None, repr=False, compare=False)
    _model: object = field(default=None, repr=False, compare=False)
    _every: bool = field(default=False, repr=False, compare=False)
    setup: Setup = field(default=Setup(), repr=False, compare=False)
    _memories: dict[Setup, Memory] = field(default_factory=dict, repr=False, compare=False)

    def unit(self, layer: str | int, index: Sequence[int] = ()) -> Unit:
        """What one unit sees, with and without the borders of the image.

        Args:
            layer: its name, `name#2` for the second of that name, or its place in `layers`.
            index: its position along every spatial axis of the layer, counted from 0; where flattened maps stand in a
                row, as tokens behind a class token, its place there; for a vector the number of the unit, which may be
                left out.

        Raises:
            InputError: there is no such layer, several have that name, or it has no such unit.
        """
        place = self._place(layer)
        return replace(unit_of(self._graph, self._fields, place, index), layer=self._name_of(place))

    def effective(self, layer: str | int, index: Sequence[int] = ()) -> EffectiveField:
        """How the paths to one unit are spread over the input: see `thalweg.network.effective_field`.

        Args:
            layer: as for `unit`.
            index: as for `unit`.

        Raises:
            InputError: as for `unit`.
        """
        from thalweg.network.effective_field import effective_field

        place = self._place(layer)
        return replace(effective_field(self._graph, self._fields, place, index), layer=self._name_of(place))

    def measured(
        self, layer: str | int, index: Sequence[int] = (), inputs: Any = None, samples: int = 16, seed: int = 0
    ) -> MeasuredField:
        """How the gradient of one unit is spread over the input, with the weights that the model holds.

        The mean over some inputs of the absolute derivatives: see `thalweg.network.measured_field`. For models of
        PyTorch, Keras, Flax, Equinox and JAX, which stay as they are, and `.keras` and ONNX files. In PyTorch the layer
        must be a module of the network; what is added or joined between modules is none.

        Args:
            layer: as for `unit`.
            index: as for `unit`.
            inputs: a batch of inputs, batch first (for a network that takes several, one batch for each); None for
                standard normal numbers.
            samples: how many random inputs.
            seed: of the random inputs.

        Raises:
            InputError: as for `unit`; or the network is none of these or holds no weights, the layer cannot be taken
                hold of, or the inputs do not fit.
        """
        from thalweg.network.measured_field import measured_field

        place = self._place(layer)
        found = measured_field(self._model, self._graph, self._fields, place, index, inputs, samples, seed)
        return replace(found, layer=self._name_of(place))

    def middle_unit(self, layer: str | int) -> Unit:
        """What the unit in the middle of a layer sees.

        Raises:
            InputError: as for `unit`.
        """
        place = self._place(layer)
        extents = self._graph.operations[place].output.extents
        return self.unit(place, tuple(extent // 2 for extent in extents))

    def changes(self, layer: str | int | None = None, progress: Callable[[float], None] | None = None) -> Reach:
        """What a larger kernel, dilation or stride, one more convolution or pool would do: see `thalweg.network.reach`.

        Args:
            layer: the layer that should see more, named as for `unit`; None for the last that does not see everything.
            progress: called with the share of the changes tried.

        Raises:
            InputError: there is no such layer, or it sees everything.
        """
        from thalweg.network.reach import changes

        return changes(self._graph, None if layer is None else self._place(layer), progress)

    def reach(
        self, positions: int, layer: str | int | None = None, progress: Callable[[float], None] | None = None
    ) -> Reach:
        """The cheapest changes with which a layer sees so many positions along every axis.

        Args:
            positions: how many it should see.
            layer: as for `changes`.
            progress: called with the share of the places tried.

        Raises:
            InputError: `positions` is not a whole number of at least 1; or as for `changes`.
        """
        from thalweg.network.reach import reach

        return reach(self._graph, positions, None if layer is None else self._place(layer), progress)

    def _name_of(self, place: int) -> str:
        """What `_place` takes for it: its name, with a number where several have the same one."""
        return numbered(self._graph.operations)[place]

    def _place(self, layer: str | int) -> int:
        if isinstance(layer, int):
            if not -len(self.layers) <= layer < len(self.layers):
                raise InputError(f"There is no layer {layer}; the network has {len(self.layers)}, counted from 0.")
            return range(len(self.layers))[layer]
        name, sign, number = layer.strip().rpartition("#")
        if not (sign and number.isdecimal()):
            name, number = layer.strip(), ""
        places = [place for place, each in enumerate(self.layers) if each.name.lower() == name.lower()]
        if not places:
            raise unknown_name("layer", name, dict.fromkeys(each.name for each in self.layers))
        if not number and len(places) > 1:
            raise InputError(f"{len(places)} layers are named {name!r}; say which: {name}#1 to {name}#{len(places)}.")
        if number and not 1 <= int(number[:9]) <= len(places):
            raise InputError(f"There is no {name}#{number[:9]}; layers named {name!r}: {len(places)}.")
        return places[int(number or 1) - 1]

    def in_full(self) -> Size:
        """The same, whose tables have a row for every operation."""
        return replace(self, _every=True)

    def table(self) -> Table:
        """One row for each layer, in the columns of a textbook, and what its units see; in large networks by module."""
        return main_table(self, self._rows())

    def tables(self) -> list[Table]:
        """The main table, and one of connections without padding, multiply-accumulates, strides and first positions."""
        rows = self._rows()
        return [main_table(self, rows), work_table(self, rows)]

    def rows_of_a_file(self) -> Table:
        """One row for every operation."""
        return main_table(self, listed(self.layers))

    def _rows(self) -> list[Row]:
        few = len(self.layers) <= MOST_PLAIN
        return listed(self.layers) if few or self._every else grouped(self.layers)

    def memory(
        self,
        batch: int = 1,
        dtype: str = "float32",
        optimizer: str = "adam",
        checkpointing: bool | Sequence[str] = False,
        device: str = "cpu",
    ) -> Memory:
        """What the network needs to be trained and to be used.

        Exact for PyTorch modules, whose training step is rehearsed without data (see `thalweg.network.rehearsal`); an
        estimate by rule for all others (see `thalweg.network.saved` and `thalweg.network.estimate`).

        Args:
            batch: how many examples a step sees.
            dtype: `"float32"`, `"float64"`, `"bfloat16"`, `"float16"`: all numbers; `"mixed-bfloat16"` (`"mixed"`) or
                `"mixed-float16"`: weights, gradients and optimizer state in float32, layers in half precision.
            optimizer: a name in `thalweg.network.optimizers.OPTIMIZERS`.
            checkpointing: whether activations are computed again instead of kept; for PyTorch modules also the paths
                of the modules that do so, such as `["layer1.*"]`.
            device: `"cpu"`, or `"cuda"`: there optimizers update all arrays together and need more room for it, and
                where PyTorch has a GPU the kernels are those that it would choose.

        Raises:
            InputError: the batch is not a positive whole number, a name is not known, or there is no such module.
        """
        return self.trained_with(Setup.of(batch, dtype, optimizer, checkpointing, device)).asked_memory()

    def trained_with(self, setup: Setup) -> Size:
        """The same, whose `training_bytes` and comparisons are for another setup than `Setup()`."""
        return replace(self, setup=setup)

    def asked_memory(self) -> Memory:
        """The memory for this answer's setup."""
        if self.setup not in self._memories:
            self._memories[self.setup] = memory_of(self._graph, self._rehearsal, self.setup)
        return self._memories[self.setup]

    @property
    def training_bytes(self) -> int:
        """The most bytes held at one moment of a training step with this answer's setup."""
        known = self._memories.get(self.setup)
        return training_bytes_of(self._graph, self._rehearsal, self.setup) if known is None else known.training_bytes

    def compare(self, other: Size, names: Sequence[str] = ("1", "2")) -> Comparison:
        """This network and another side by side.

        Args:
            other: the other one.
            names: what to call the two.

        Raises:
            InputError: there are not two names.
        """
        return compare(self, other, names)

    def largest_batch(
        self,
        memory: str | int,
        dtype: str = "float32",
        optimizer: str = "adam",
        checkpointing: bool | Sequence[str] = False,
        device: str = "cpu",
    ) -> LargestBatch:
        """The largest batches that fit into some memory, for training and for inference.

        Args:
            memory: such as `"24GiB"`, or a number of bytes.
            dtype: as for `memory`.
            optimizer: as for `memory`.
            checkpointing: as for `memory`.
            device: as for `memory`.

        Raises:
            InputError: this is no amount of memory; or as for `memory`.
        """
        setup = Setup.of(1, dtype, optimizer, checkpointing, device)
        return largest_batch(self._graph, self._rehearsal, parse_bytes(memory), setup)

    @property
    def inputs(self) -> tuple[tuple[int, ...], ...]:
        """The extents of all its inputs; `input` are those of the first, of which receptive fields are positions."""
        return tuple(tensor.shape for tensor in self._graph.inputs)

    @property
    def extents(self) -> tuple[int, ...]:
        """The extents of the input's spatial axes."""
        return self._graph.inputs[0].extents

    @property
    def notes(self) -> tuple[str, ...]:
        """What its reader had to decide, in sentences."""
        return self._graph.notes

    @property
    def lost(self) -> tuple[str, ...]:
        """The operations behind which what units see cannot be followed."""
        return tuple(self._fields.lost)

    @property
    def gated(self) -> str | None:
        """The first operation from which on a gate or a normalisation depends on the whole image besides."""
        seen = ((each.name, self._fields.of(each.output)) for each in self._graph.operations)
        return next((name for name, field in seen if field is not None and field.gated), None)

    def axis_name(self, axis: int) -> str:
        """What a spatial axis of the input is called."""
        return axis_names(len(self._graph.inputs[0].spatial))[axis]

    def to_dict(self) -> dict[str, Any]:
        """Keys: layers, totals, complete, unknown; `training_bytes` are for `setup`."""
        totals = self.totals
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "totals": {
                "neurons": totals.neurons,
                "parameters": totals.parameters,
                "connections": totals.connections,
                "connections_inside": totals.connections_inside,
                "macs": totals.macs,
                "training_bytes": self.training_bytes,
            },
            "complete": self.complete,
            "unknown": self.unknown,
        }

    def figure(self) -> go.Figure:
        """Each layer's share of neurons, parameters and connections, beside what its middle unit sees."""
        from thalweg.network.size_figure import figure

        return figure(self)


def size(model: Any, input: str | Sequence[Any] | None = None) -> Size:  # noqa: A002
    """What a network costs and what its units see: neurons, parameters, connections, receptive fields.

    All counts are exact integers for one example, and receptive fields are exact (see
    `thalweg.network.receptive_field`; `Unit.masked` says where a mask could not be followed).

    Args:
        model: one of

            - a spec such as `"input 112x112x3; conv3-64; maxpool; FC-10"` (the notation is described in
              `thalweg.network.readers.spec`), or the path of a text file that holds one;
            - a PyTorch module, with or without weights, a program of `torch.export` or the path of its `.pt2` file;
            - a configuration of Hugging Face, its `config.json`, or the folder that holds one;
            - the path of an `.onnx` file; the files of its weights are not needed;
            - a Flax module (Linen or NNX) or an Equinox module, or `(function, parameters)` in plain JAX: see
              `thalweg.network.readers.jax`;
            - a Keras 3 model, or the path of a `.keras` file;
            - `"module:callable"` or `"file.py:callable"`, which makes or is one of these; or a `Graph`.
        input: the extents of the input without the batch, `"112x112x3"` or `(112, 112, 3)`, in the framework's own
            order of axes (`"3x224x224"` in PyTorch, positions first and channels last in specs and Keras); for several
            inputs one of them each. Where the model says them itself it may be left out; those of a spec are replaced.

    Raises:
        InputError: the model cannot be read (a spec: with line and column), its layers do not fit together or do not
            run on this input, or the file or the type of `model` cannot be used.
        MissingPackageError: a package that reads such models is not installed.
    """
    model = opened(model)
    graph = read(model, _shape(input))
    return _size_of(graph, rehearsal_of(model, graph), model)


def _size_of(graph: Graph, rehearsal: Source | None, model: object) -> Size:
    seen = ReceptiveFields(graph)
    layers, counts = [], count(graph)
    for operation, each in zip(graph.operations, counts, strict=True):
        views = seen.view(operation.output)
        known = operation.kind is not Kind.UNKNOWN
        layers.append(
            LayerSize(
                operation.name,
                operation.kind.value,
                operation.output.shape,
                each.neurons if known else None,
                each.parameters if known or operation.weights else None,
                each.connections if known else None,
                each.connections_inside if known else None,
                each.macs if known else None,
                None if views is None else tuple(view.size for view in views),
                None if views is None else tuple(view.stride for view in views),
                None if views is None else tuple(view.first for view in views),
                None if views is None else tuple(view.phases for view in views),
                operation.module,
            )
        )
    unknown = tuple(dict.fromkeys(each.name for each in graph.operations if each.kind is Kind.UNKNOWN))
    return Size(
        graph.inputs[0].shape,
        tuple(layers),
        sum(counts, Counts()),
        not unknown,
        unknown,
        tuple(seen.misaligned),
        graph,
        seen,
        rehearsal,
        model,
    )


def _shape(input: str | Sequence[Any] | None) -> tuple[Any, ...] | None:  # noqa: A002
    """The extents of one input, or of several, each in parentheses of its own or behind a comma."""
    if input is None:
        return None
    given: Any = input.split(",") if isinstance(input, str) and "," in input else input
    if isinstance(given, str):
        try:
            return parse_shape(given)
        except InputError:
            raise InputError(f"{given[:60]!r} is not the extents of an input; write them as '112x112x3'.") from None
    if isinstance(given, tuple | list) and given and all(isinstance(each, str | tuple | list) for each in given):
        return tuple([_shape(each) for each in given])
    try:
        return tuple(operator.index(extent) for extent in given)
    except TypeError:
        raise InputError("The extents of the input must be whole numbers, such as (112, 112, 3).") from None
