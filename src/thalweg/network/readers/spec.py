"""Networks written the way the field writes them: `input 112x112x3; conv3-64; maxpool; FC-100`.

Statements stand on lines of their own or between semicolons; `#` starts a comment; capitals do not matter. The first
one gives the input, positions first and channels last: `112x112x3` (an image), `16000x1` (a signal), `32x64x64x1` (a
volume), `784` (a vector).

    spec       = "input" SIZE { separator statement }             SIZE = number { "x" number }
    statement  = [ label ":" ] [ layer | "(" statements ")" ] [ "x" number ]
    layer      = name [ SIZE ] [ "-" number ] [ "/" SIZE ] { option }

A SIZE of one number holds for every axis. `x3` repeats a layer or a group in parentheses. A label names the output of
its statement, or, standing alone, of what came before it; `input` is the label of the input.

| layer | meaning | options |
|---|---|---|
| `conv3-64`, `conv3x1-64/2` | convolution: window, channels, stride | padding, `dilation 2`, `groups 4`, weights |
| `depthwise3`, `depthwise3-128/2` | each channel by itself (`dwconv`) | padding, `dilation 2`, weights |
| `convt2-64/2` | transposed convolution (`deconv`, `upconv`) | the same, `groups 4`, `outpad 1` |
| `FC-100` | fully connected (`linear`, `dense`); flattens its input | weights |
| `maxpool`, `avgpool3/2` | pooling: 2x2 with stride 2, `maxpool3` with stride 3 | padding, `dilation 2`, `ceil` |
| `globalavgpool`, `globalmaxpool` | one value for each channel (`gap`, `gmp`) | |
| `upsample2`, `upsample2 bilinear` | positions repeated, or interpolated between | |
| `bn`, `layernorm`, `groupnorm 32`, `instancenorm` | normalisation with scale and shift (`lrn`: without) | `frozen` |
| `relu`, `dropout 0.5`, ... | activations and dropout, which cost nothing | |
| `add a b`, `multiply a b`, `concat a b` | joins labelled branches; with one label, joins it to what came before | |
| `from a` | goes on from a label | |
| `crop 1`, `pad 1x2`, `pad 0,1` | cuts off or adds zeros on every side; with a comma: before, after | |
| `flatten`, `reshape 7x7x64` | to a vector, and from a vector to a map | |

Padding is `same`, `valid`, `pad 1`, `pad 1x2` or, before and after, `pad 0,1`. `same` means that a stride s turns n
positions into ceil(n / s), an odd rest of the padding standing at the end (as in TensorFlow, Keras and ONNX's
SAME_UPPER; what PyTorch users write for a 3x3 with stride 2 is `pad 1`); a transposed convolution turns n into s n. It
is what convolutions do unless told otherwise; pooling is `valid`. The options of weights are `nobias`, `frozen` and
`share a` (the weights of the layer labelled a).

    >>> network = read_spec("input 224x224x3; (conv3-64 x2; maxpool); globalavgpool; FC-10")
    >>> for step in network.operations:
    ...     print(step.name, step.output.shape)
    conv3-64 (224, 224, 64)
    conv3-64 (224, 224, 64)
    maxpool (112, 112, 64)
    globalavgpool (1, 1, 64)
    FC-10 (10,)
    >>> residual = read_spec('''
    ...     input 32x32x3
    ...     conv3-16
    ...     (start:; conv3-16; relu; conv3-16; add start; relu) x2   # two blocks
    ... ''')
    >>> len(residual.operations)
    11
    >>> read_spec("input 32x32x3; conv3-64; maxpol")
    Traceback (most recent call last):
    thalweg.errors.InputError: line 1, column 26: 'maxpol' is not a layer; did you mean 'maxpool'?

A text of more than 200,000 characters, more than 10,000 layers after repeats, parentheses more than 50 deep or a
number above 1,000,000,000 are refused, so that no text takes more than seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thalweg.errors import InputError
from thalweg.network.graph import FlatMap, Graph, Kind, Operation, Piece, Tensor, Weight, Window, written
from thalweg.network.readers.spec_grammar import (
    MAX_NUMBER,
    MERGING,
    Layer,
    Size,
    Statement,
    Token,
    fail,
    nearest,
    parse,
)

MAX_LAYERS = 10_000
MAX_AXES = 3

_POOLS = {"maxpool": Kind.MAX_POOL, "avgpool": Kind.AVERAGE_POOL}
_MERGES = {"add": Kind.ADD, "multiply": Kind.MULTIPLY, "concat": Kind.CONCATENATE}
_NORMALISATIONS = {
    "bn": Kind.NORMALISATION,
    "layernorm": Kind.NORMALISATION,
    "lrn": Kind.NORMALISATION,
    "groupnorm": Kind.SPATIAL_NORMALISATION,
    "instancenorm": Kind.SPATIAL_NORMALISATION,
}


def read_spec(text: str, shape: Sequence[int] | None = None) -> Graph:
    """The network that a spec describes.

    Args:
        text: the spec, in the notation above.
        shape: the extents of the input, positions first and channels last; they take the place of those in the text.

    Raises:
        InputError: the text does not follow the grammar, or its layers do not fit together; the message says line,
            column and what was expected.
    """
    own_shape, statements = parse(text)
    shape = own_shape if shape is None else tuple(shape)
    if shape is None:
        raise InputError(
            "line 1, column 1: expected the extents of the input first, such as 'input 112x112x3' "
            "(or give them by themselves: --input 112x112x3)."
        )
    if not 1 <= len(shape) <= MAX_AXES + 1 or min(shape) < 1:
        raise InputError(
            f"The input {written(tuple(shape))} is not 1 to {MAX_AXES} positive extents and a number of channels."
        )
    builder = _Builder(shape)
    builder.run(statements)
    return Graph((builder.input,), tuple(builder.operations))


def _tensor(id: int, shape: Sequence[int]) -> Tensor:  # noqa: A002
    return Tensor(id, tuple(shape), tuple(range(len(shape) - 1)), len(shape) - 1)


class _Builder:
    """Runs the statements in order and writes down the operations."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.operations: list[Operation] = []
        self.input = self._current = _tensor(0, shape)
        self._tensors = {"input": self.input}
        self._labelled: dict[str, Operation] = {}
        self._steps = 0

    def run(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            for _ in range(statement.times):
                self._steps += 1
                if self._steps > MAX_LAYERS:
                    raise InputError(f"The spec has more than {MAX_LAYERS:,} layers; use fewer repeats.")
                if isinstance(statement.what, tuple):
                    self.run(statement.what)
                elif statement.what is not None:
                    self._run_layer(statement.what, statement.label)
            if statement.label is not None:
                self._tensors[statement.label.text.lower()] = self._current

    def _run_layer(self, layer: Layer, label: Token | None) -> None:
        if layer.name == "from":
            self._current = self._branch(layer.branches[0])
            return
        operation = self._operation(layer)
        if max(operation.output.shape) > MAX_NUMBER:
            fail(layer.at, f"{layer.text!r} makes {written(operation.output.shape)}, more than {MAX_NUMBER:,}.")
        if label is not None:
            operation = replace(operation, name=label.text)
            self._labelled[label.text.lower()] = operation
        self.operations.append(operation)
        self._current = operation.output

    def _operation(self, layer: Layer) -> Operation:
        if layer.name in ("conv", "convt", "depthwise"):
            return self._convolution(layer)
        if layer.name == "fc":
            return self._linear(layer)
        if layer.name in _POOLS:
            return self._slide(layer, _POOLS[layer.name], self._sliding_window(layer, "valid"), self._current.channels)
        if layer.name in ("globalavgpool", "globalmaxpool"):
            ones = (1,) * self._axes(layer)
            return self._make(layer, Kind.GLOBAL_POOL, self._shaped(ones, self._current.channels))
        if layer.name == "upsample":
            return self._upsample(layer)
        if layer.name in ("crop", "pad"):
            return self._crop_or_pad(layer)
        if layer.name in MERGING:
            return self._merge(layer)
        if layer.name in _NORMALISATIONS:
            return self._normalise(layer)
        if layer.name == "flatten":
            return self._flatten(layer)
        if layer.name == "reshape":
            return self._reshape(layer)
        kind = Kind.DROPOUT if layer.name == "dropout" else Kind.ACTIVATION
        return self._make(layer, kind, self._like_current())

    # Layers with weights.

    def _convolution(self, layer: Layer) -> Operation:
        window = self._sliding_window(layer, "same")
        source = self._current.channels
        units = layer.channels or source
        groups = source if layer.name == "depthwise" else self._one(layer, "groups")
        # Where the groups do not divide, the operation refuses itself; these shapes then play no part.
        outer, inner = (source, units // groups) if window.transposed else (units, source // groups)
        weights = self._weights(layer, (outer, inner, *window.kernel), units)
        return self._slide(layer, Kind.CONVOLUTION, window, units, groups, weights)

    def _linear(self, layer: Layer) -> Operation:
        units = layer.channels or 1
        weights = self._weights(layer, (units, self._current.size), units)
        return self._make(layer, Kind.LINEAR, _tensor(self._id(), (units,)), weights=weights)

    def _weights(self, layer: Layer, shape: Size, units: int) -> tuple[Weight, ...]:
        trainable = "frozen" not in layer.options
        own = [Weight(f"{len(self.operations)}.weight", shape, trainable)]
        if "nobias" not in layer.options:
            own.append(Weight(f"{len(self.operations)}.bias", (units,), trainable))
        if layer.share is None:
            return tuple(own)
        lender = self._labelled.get(layer.share.text.lower())
        if lender is None:
            fail(
                layer.share, f"no layer before this has the label {layer.share.text!r}, so it cannot lend its weights."
            )
        if [weight.shape for weight in lender.weights] != [weight.shape for weight in own]:
            lent = " and ".join(written(weight.shape) for weight in lender.weights) or "none"
            needed = " and ".join(written(weight.shape) for weight in own)
            fail(layer.share, f"the weights of {layer.share.text!r} do not fit: they are {lent}, {needed} are needed.")
        return lender.weights

    def _normalise(self, layer: Layer) -> Operation:
        channels = self._current.channels
        if layer.name == "groupnorm" and channels % (groups := (layer.size or (1,))[0]):
            fail(layer.at, f"{layer.text!r} cannot divide {channels} channels into {groups} groups.")
        trainable = "frozen" not in layer.options
        names = () if layer.name == "lrn" else ("scale", "shift")
        weights = tuple(Weight(f"{len(self.operations)}.{name}", (channels,), trainable) for name in names)
        return self._make(layer, _NORMALISATIONS[layer.name], self._like_current(), weights=weights)

    # Windows.

    def _sliding_window(self, layer: Layer, default_padding: str) -> Window:
        size = layer.size or (2,)
        kernel = self._each(layer, size, "window")
        stride = self._each(layer, layer.stride or (size if layer.name in _POOLS else (1,)), "stride")
        dilation = self._each(layer, layer.options.get("dilation", (1,)), "dilation")
        spans = [step * (taps - 1) + 1 for taps, step in zip(kernel, dilation, strict=True)]
        transposed = layer.name == "convt"
        added = self._each(layer, layer.options.get("outpad", (0,)), "output padding")
        low = high = (0,) * len(kernel)
        padding = layer.padding or default_padding
        if isinstance(padding, tuple):
            low, high = (self._each(layer, side, "padding") for side in padding)
        elif padding == "same":
            extents = self._current.extents
            if transposed:
                surplus = [span - step for span, step in zip(spans, stride, strict=True)]
                added = tuple(more + max(0, -each) for more, each in zip(added, surplus, strict=True))
            else:
                last = [(extent - 1) // step * step for extent, step in zip(extents, stride, strict=True)]
                surplus = [start + span - n for start, span, n in zip(last, spans, extents, strict=True)]
            low = tuple(max(0, each) // 2 for each in surplus)
            high = tuple(max(0, each) - before for each, before in zip(surplus, low, strict=True))
        return Window(kernel, stride, dilation, low, high, transposed, added, ceil="ceil" in layer.options)

    def _upsample(self, layer: Layer) -> Operation:
        factors = self._each(layer, layer.size or (1,), "factor")
        kernel, low = factors, (0,) * len(factors)
        if "bilinear" in layer.options:
            # Interpolation is a transposed convolution with a tent; these are the taps where the tent is positive.
            kernel = tuple(2 * factor - factor % 2 for factor in factors)
            low = tuple(factor // 2 for factor in factors)
        window = Window(kernel, factors, (1,) * len(factors), low, low, transposed=True)
        return self._slide(layer, Kind.UPSAMPLE, window, self._current.channels)

    def _crop_or_pad(self, layer: Layer) -> Operation:
        before = layer.size or (0,)
        widths = [self._each(layer, side, "width") for side in (before, layer.size_after or before)]
        sign = 1 if layer.name == "pad" else -1
        low, high = (tuple(sign * width for width in side) for side in widths)
        ones = (1,) * len(low)
        kind = Kind.PAD if layer.name == "pad" else Kind.CROP
        return self._slide(layer, kind, Window(ones, ones, ones, low, high), self._current.channels)

    def _slide(
        self,
        layer: Layer,
        kind: Kind,
        window: Window,
        channels: int,
        groups: int = 1,
        weights: tuple[Weight, ...] = (),
    ) -> Operation:
        output = self._shaped(window.output_extents(self._current.extents), channels)
        return self._make(layer, kind, output, window=window, groups=groups, weights=weights)

    # Branches and shapes.

    def _merge(self, layer: Layer) -> Operation:
        inputs = [self._branch(label) for label in layer.branches]
        if len(inputs) == 1:
            inputs.insert(0, self._current)
        shapes = [tensor.shape for tensor in inputs]
        if layer.name == "concat":
            shape = (*shapes[0][:-1], sum(each[-1] for each in shapes))
        else:
            rank = max(len(each) for each in shapes)
            shape = tuple(max(extents) for extents in zip(*(each for each in shapes if len(each) == rank), strict=True))
        flat = next((each.flat for each in inputs if each.flat), ())
        if not flat:
            return self._make(layer, _MERGES[layer.name], _tensor(self._id(), shape), inputs=inputs)
        pieces: list[Piece] = []
        if layer.name == "concat":
            axes = len(flat[0].spatial)
            flat = tuple(one for each in inputs for one in each.flat or (FlatMap(each.shape, (None,) * axes),))
            pieces = [Piece(each.size, number) for number, each in enumerate(inputs)]
        output = replace(_tensor(self._id(), shape), flat=flat)
        return self._make(layer, _MERGES[layer.name], output, inputs=inputs, flat_pieces=pieces)

    def _flatten(self, layer: Layer) -> Operation:
        source = self._current
        output = replace(_tensor(self._id(), (source.size,)), flat=source.as_flat)
        return self._make(layer, Kind.FLATTEN, output, flat_pieces=[Piece(source.size, 0)] if output.flat else [])

    def _reshape(self, layer: Layer) -> Operation:
        if self._current.spatial:
            fail(layer.at, f"{layer.text!r} starts from a vector, but its input is {written(self._current.shape)}; "
                 "put 'flatten' before it.")  # fmt: skip
        shape = layer.size or (1,)
        if len(shape) > MAX_AXES + 1:
            fail(layer.at, f"{layer.text!r} has {len(shape) - 1} axes of positions; at most {MAX_AXES} are followed.")
        output = _tensor(self._id(), shape)
        back = self._current.flat == (FlatMap(output.shape, output.spatial),)
        pieces = [Piece(output.size, 0)] if back else []
        return self._make(layer, Kind.RESHAPE, output, flat_pieces=pieces)

    def _branch(self, label: Token) -> Tensor:
        tensor = self._tensors.get(label.text.lower())
        if tensor is None:
            fail(label, f"no label {label.text[:40]!r} stands before this; {nearest(label.text, self._tensors)}")
        return tensor

    def _make(
        self,
        layer: Layer,
        kind: Kind,
        output: Tensor,
        *,
        inputs: Sequence[Tensor] = (),
        window: Window | None = None,
        groups: int = 1,
        weights: tuple[Weight, ...] = (),
        flat_pieces: Sequence[Piece] = (),
    ) -> Operation:
        sources = tuple(inputs) or (self._current,)
        try:
            return Operation(
                kind, layer.text, sources, (output,), window, groups, weights, flat_pieces=tuple(flat_pieces)
            )
        except InputError as error:
            fail(layer.at, str(error))

    def _id(self) -> int:
        return len(self.operations) + 1

    def _shaped(self, extents: Size, channels: int) -> Tensor:
        return self._current.with_extents(self._id(), extents, channels)

    def _like_current(self) -> Tensor:
        return replace(self._current, id=self._id())

    # Numbers for every axis.

    def _axes(self, layer: Layer) -> int:
        axes = len(self._current.spatial)
        if not axes:
            fail(
                layer.at,
                f"{layer.text!r} slides over positions, but its input is a vector of {self._current.size} units; "
                "put it before the layers that flatten, or 'reshape' the vector first.",
            )
        return axes

    def _each(self, layer: Layer, size: Size, what: str) -> Size:
        axes = self._axes(layer)
        if len(size) not in (1, axes):
            fail(layer.at, f"the {what} {written(size)} of {layer.text!r} has {len(size)} numbers for {axes} axes.")
        return size * axes if len(size) == 1 else size

    def _one(self, layer: Layer, option: str) -> int:
        size = layer.options.get(option, (1,))
        if len(size) != 1:
            fail(layer.at, f"expected one number for {option!r} of {layer.text!r}, not {written(size)}.")
        return size[0]
