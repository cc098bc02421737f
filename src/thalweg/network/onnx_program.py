"""An ONNX file as a function that JAX differentiates.

Each operation that depends on the input is one line or a few of JAX; those that ONNX itself defines by others
(`LayerNormalization`, `Gelu`, `Attention`, ...) are run by that definition. What depends on no input, such as the shape
of a reshape, is worked out by ONNX's own reference implementation, in numbers. Operations of neither kind are refused
by name.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from thalweg.errors import InputError
from thalweg.network.readers.onnx.file import shortened

if TYPE_CHECKING:
    from onnx import FunctionProto, ModelProto, NodeProto

Values = dict[str, Any]


class Program:
    """The main graph of a model.

    Args:
        model: with the data of its weights.
    """

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._functions = {(each.domain, each.name, each.overload): each for each in model.functions}
        self._opsets = {_plain(each.domain): each.version for each in model.opset_import}

    def made(self, name: str, values: Mapping[str, Any]) -> Any:
        """The value of a name.

        Args:
            name: of what an operation makes.
            values: the inputs and weights by name; arrays of NumPy are known numbers, all others may be traced.

        Raises:
            InputError: an operation on the way cannot be differentiated here.
        """
        found = dict(values)
        self._run(self._needed(name), found, {}, self._opsets)
        return found[name]

    def _needed(self, name: str) -> list[NodeProto]:
        """The nodes on which a value depends, in order."""
        wanted, nodes = {name}, []
        for node in reversed(self._model.graph.node):
            if wanted.intersection(node.output):
                nodes.append(node)
                wanted.update(node.input)
        return nodes[::-1]

    def _run(
        self, nodes: Sequence[NodeProto], values: Values, given: Mapping[str, Any], opsets: Mapping[str, int]
    ) -> None:
        for node in nodes:
            step = Step(_with_attributes(node, given), opsets)
            inputs = [values[name] if name else None for name in node.input]
            made = self._made(step, inputs)
            values.update(zip(node.output, made, strict=False))

    def _made(self, step: Step, inputs: list[Any]) -> Sequence[Any]:
        import numpy as np

        node = step.node
        function = self._functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            return self._called(function, step, inputs, {each.name: each for each in function.attribute_proto})
        if not step.is_whole:
            self._refuse(step)
        if all(each is None or isinstance(each, np.ndarray | np.generic) for each in inputs):
            return _by_reference(step, inputs)
        if node.op_type in ("Shape", "Size") and not step.domain:
            return [step.extents(inputs[0])]
        rule = _RULES.get(node.op_type) if not step.domain else None
        if rule is not None:
            made = rule(step, *inputs)
            return made if isinstance(made, tuple | list) else [made]
        defined = _definition(step, inputs)
        if defined is None:
            self._refuse(step)
        return self._called(defined, step, inputs, step.defaults())

    def _refuse(self, step: Step) -> NoReturn:
        raise InputError(
            f"The operation {step.title!r} ({shortened(step.node.op_type)}) is none that is differentiated here; ask "
            "about a layer before it, or about the model that the file was made of."
        )

    def _called(
        self, function: FunctionProto, step: Step, inputs: list[Any], defaults: Mapping[str, Any]
    ) -> Sequence[Any]:
        values: Values = dict.fromkeys(function.input)
        values.update(zip(function.input, inputs, strict=False))
        given = {**defaults, **{each.name: each for each in step.node.attribute}}
        own = {_plain(each.domain): each.version for each in function.opset_import}
        opsets = {**step.opsets, **own}
        self._run(function.node, values, given, opsets)
        return [values.get(name) for name in function.output]  # some are left out on request


class Step:
    """One operation.

    Args:
        node: it, with its attributes.
        opsets: the versions of the sets of operations.
    """

    def __init__(self, node: NodeProto, opsets: Mapping[str, int]) -> None:
        from onnx.helper import get_attribute_value

        self.node = node
        self.domain = _plain(node.domain)
        self.opset = opsets.get(self.domain, 1)
        self.opsets = opsets
        self._attributes = {each.name: get_attribute_value(each) for each in node.attribute}

    @property
    def title(self) -> str:
        """What to call it in a message."""
        return shortened(self.node.name or self.node.op_type)

    @property
    def is_whole(self) -> bool:
        """Whether it does all that it does itself: no graph in it, nothing learned while it runs."""
        graphs = any(each.HasField("g") or each.graphs for each in self.node.attribute)
        return not graphs and not self.get("training_mode", 0)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def defaults(self) -> dict[str, Any]:
        """The attributes that ONNX gives where a node has none."""
        from onnx import defs

        schema = defs.get_schema(self.node.op_type, self.opset, self.domain)
        return {name: each.default_value for name, each in schema.attributes.items() if each.default_value.name}

    def extents(self, x: Any) -> Any:
        """What Shape or Size say of an array."""
        import numpy as np

        if self.node.op_type == "Size":
            return np.array(math.prod(x.shape), np.int64)
        return np.array(x.shape[self.get("start", 0) : self.get("end", len(x.shape))], np.int64)

    def integers(self, attribute: str, given: Any) -> list[int] | None:
        """Whole numbers that are an attribute, or in later versions an input; None where they are neither.

        Raises:
            InputError: the input depends on the network's.
        """
        import numpy as np

        if given is None:
            value = self.get(attribute)
            return None if value is None else [int(each) for each in value]
        if not isinstance(given, np.ndarray | np.generic):
            raise InputError(
                f"The {attribute} of {self.title!r} depend on the input, so that "
                "nothing has a derivative there; ask about a layer before it."
            )
        return [int(each) for each in np.asarray(given).reshape(-1)]


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _with_attributes(node: NodeProto, given: Mapping[str, Any]) -> NodeProto:
    """The node, with the attributes that it takes from the function around it."""
    if not any(each.ref_attr_name for each in node.attribute):
        return node
    made = type(node)()
    made.CopyFrom(node)
    del made.attribute[:]
    for each in node.attribute:
        if not each.ref_attr_name:
            made.attribute.append(each)
        elif each.ref_attr_name in given:
            made.attribute.append(given[each.ref_attr_name])
            made.attribute[-1].name = each.name
    return made


def _by_reference(step: Step, inputs: list[Any]) -> Sequence[Any]:
    """What ONNX's own implementation makes of numbers."""
    import numpy as np
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    infos = [helper.make_value_info(name, helper.make_tensor_type_proto(0, None)) for name in step.node.input if name]
    outputs = [helper.make_value_info(name, helper.make_tensor_type_proto(0, None)) for name in step.node.output]
    graph = helper.make_graph([step.node], "step", infos, outputs)
    opsets = [helper.make_opsetid(domain, version) for domain, version in step.opsets.items()]
    feeds = {name: np.asarray(value) for name, value in zip(step.node.input, inputs, strict=True) if name}
    made = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, feeds)
    assert isinstance(made, list)
    return made


def _definition(step: Step, inputs: Sequence[Any]) -> FunctionProto | None:
    """How ONNX defines an operation by others; None where it does not."""
    import numpy as np
    from onnx import FunctionProto, defs, helper

    try:
        schema: Any = defs.get_schema(step.node.op_type, step.opset, step.domain)
    except defs.SchemaError:
        return None
    if not (schema.has_function or schema.has_context_dependent_function):
        # Some got their definition in a later version of the same operation.
        schema = defs.get_schema(step.node.op_type, step.domain)
    function = FunctionProto()
    if schema.has_function:
        versions = [each for each in schema.function_opset_versions if each <= step.opset]
        version = max(versions, default=min(schema.function_opset_versions))
        function.ParseFromString(schema.get_function_with_opset_version(version))
        return function
    if not schema.has_context_dependent_function:
        return None
    types = []
    for each in inputs:
        kind = 0 if each is None else helper.np_dtype_to_tensor_dtype(np.dtype(each.dtype))
        types.append(helper.make_tensor_type_proto(kind, None if each is None else each.shape).SerializeToString())
    versions = [each for each in schema.context_dependent_function_opset_versions if each <= step.opset]
    version = max(versions, default=min(schema.context_dependent_function_opset_versions))
    body = schema.get_context_dependent_function_with_opset_version(version, step.node.SerializeToString(), types)
    function.ParseFromString(body)
    return function


# One operation each.


def _jnp(name: str) -> Callable[..., Any]:
    def rule(step: Step, *inputs: Any) -> Any:
        import jax.numpy as jnp

        return getattr(jnp, name)(*inputs)

    return rule


def _nn(name: str) -> Callable[..., Any]:
    def rule(step: Step, x: Any) -> Any:
        import jax

        return getattr(jax.nn, name)(x)

    return rule


def _of_all(name: str) -> Callable[..., Any]:
    def rule(step: Step, *inputs: Any) -> Any:
        import jax.numpy as jnp

        return functools.reduce(getattr(jnp, name), inputs)

    return rule


def _same(step: Step, x: Any, *others: Any) -> Any:
    return x


def _erf(step: Step, x: Any) -> Any:
    import jax

    return jax.lax.erf(x)


def _mean_of_all(step: Step, *inputs: Any) -> Any:
    return sum(inputs[1:], start=inputs[0]) / len(inputs)


def _divided(step: Step, x: Any, y: Any) -> Any:
    import jax
    import jax.numpy as jnp

    x, y = jnp.asarray(x), jnp.asarray(y)
    if jnp.issubdtype(x.dtype, jnp.integer):  # cut towards zero
        return jax.lax.div(*jnp.broadcast_arrays(x, y))
    return x / y


def _power(step: Step, x: Any, y: Any) -> Any:
    import jax.numpy as jnp
    import numpy as np

    if isinstance(y, np.ndarray) and y.size == 1 and float(y.reshape(-1)[0]).is_integer():
        return jnp.asarray(x) ** int(y.reshape(-1)[0])  # also where x is negative or zero
    return jnp.power(x, y).astype(x.dtype)


def _clipped(step: Step, x: Any, low: Any = None, high: Any = None) -> Any:
    import jax.numpy as jnp

    return jnp.clip(x, step.get("min", low), step.get("max", high))


def _cast(step: Step, x: Any, like: Any = None) -> Any:
    import jax
    from onnx import helper

    kind = like.dtype if like is not None else helper.tensor_dtype_to_np_dtype(step.get("to"))
    return x.astype(jax.dtypes.canonicalize_dtype(kind))


def _normal(log: bool) -> Callable[..., Any]:
    def rule(step: Step, x: Any) -> Any:
        import jax

        function = jax.nn.log_softmax if log else jax.nn.softmax
        if step.opset >= 13:
            return function(x, step.get("axis", -1))
        axis = step.get("axis", 1) % x.ndim  # all axes from that one on are one
        return function(x.reshape(math.prod(x.shape[:axis]), -1), 1).reshape(x.shape)

    return rule


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    def rule(step: Step, x: Any, axes: Any = None) -> Any:
        over = step.integers("axes", axes)
        if not over and step.get("noop_with_empty_axes", 0):
            over = []
        elif not over:
            over = list(range(x.ndim))
        return function(x, tuple(over), step.get("keepdims", 1) == 1)

    return rule


def _reduction(name: str) -> Callable[..., Any]:
    def function(x: Any, axes: tuple[int, ...], keep: bool) -> Any:
        import jax.numpy as jnp

        return getattr(jnp, name)(x, axis=axes, keepdims=keep)

    return _reduced(function)


def _sum_of(before: str, after: str) -> Callable[..., Any]:
    """A sum of functions of the elements, and a function of that sum."""

    def function(x: Any, axes: tuple[int, ...], keep: bool) -> Any:
        import jax.numpy as jnp

        return getattr(jnp, after)(getattr(jnp, before)(x).sum(axis=axes, keepdims=keep))

    return _reduced(function)


def _reshaped(step: Step, x: Any, shape: Any = None) -> Any:
    target = step.integers("shape", shape) or []
    if not step.get("allowzero", 0):
        target = [x.shape[axis] if extent == 0 else extent for axis, extent in enumerate(target)]
    return x.reshape(target)


def _flattened(step: Step, x: Any) -> Any:
    axis = step.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _transposed(step: Step, x: Any) -> Any:
    return x.transpose(step.get("perm", tuple(range(x.ndim))[::-1]))


def _squeezed(step: Step, x: Any, axes: Any = None) -> Any:
    over = step.integers("axes", axes)
    return x.squeeze(tuple(over) if over is not None else None)


def _unsqueezed(step: Step, x: Any, axes: Any = None) -> Any:
    import jax.numpy as jnp

    return jnp.expand_dims(x, step.integers("axes", axes) or [])


def _joined(step: Step, *inputs: Any) -> Any:
    import jax.numpy as jnp

    return jnp.concatenate(inputs, step.get("axis", 1))


def _split(step: Step, x: Any, sizes: Any = None) -> Any:
    import jax.numpy as jnp
    import numpy as np

    axis = step.get("axis", 0)
    each = step.integers("split", sizes)
    if each is None:
        parts = step.get("num_outputs", len(step.node.output))
        size = -(-x.shape[axis] // parts)
        each = [size] * parts
    return jnp.split(x, np.cumsum(each)[:-1], axis)


def _sliced(step: Step, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    first, last = step.integers("starts", starts) or [], step.integers("ends", ends) or []
    over = step.integers("axes", axes) or range(len(first))
    places: list[slice] = [slice(None)] * x.ndim
    for axis, start, stop, by in zip(over, first, last, step.integers("steps", steps) or [1] * len(first), strict=True):
        begin, end, by = slice(start, stop, by).indices(x.shape[axis])
        places[axis] = slice(begin, end if end >= 0 else None, by)
    return x[tuple(places)]


def _gathered(step: Step, x: Any, places: Any) -> Any:
    import jax.numpy as jnp

    axis = step.get("axis", 0)
    places = jnp.where(places < 0, places + x.shape[axis], places)
    return jnp.take(x, places, axis)


def _gathered_elements(step: Step, x: Any, places: Any) -> Any:
    import jax.numpy as jnp

    axis = step.get("axis", 0)
    return jnp.take_along_axis(x, jnp.where(places < 0, places + x.shape[axis], places), axis)


def _expanded(step: Step, x: Any, shape: Any) -> Any:
    import jax.numpy as jnp
    import numpy as np

    return jnp.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(step.integers("shape", shape) or ())))


def _tiled(step: Step, x: Any, times: Any) -> Any:
    import jax.numpy as jnp

    return jnp.tile(x, step.integers("repeats", times))


def _padded(step: Step, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    import jax.numpy as jnp
    import numpy as np

    given = step.integers("pads", pads) or []
    over = step.integers("axes", axes) or list(range(x.ndim))
    widths = [(0, 0)] * x.ndim
    for place, axis in enumerate(over):
        widths[axis] = (given[place], given[place + len(over)])
    kept = [slice(max(0, -low), extent - max(0, -high)) for (low, high), extent in zip(widths, x.shape, strict=True)]
    x = x[tuple(kept)]
    widths = [(max(0, low), max(0, high)) for low, high in widths]
    mode = step.get("mode", "constant")
    if mode == "constant":
        fill = step.get("value", 0.0) if value is None else np.asarray(value).reshape(-1)[0]
        return jnp.pad(x, widths, constant_values=fill)
    return jnp.pad(x, widths, mode=mode)


def _depth_to_space(step: Step, x: Any) -> Any:
    n, c, h, w = x.shape
    b = step.get("blocksize")
    if step.get("mode", "DCR") == "DCR":
        return x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)
    return x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(step: Step, x: Any) -> Any:
    n, c, h, w = x.shape
    b = step.get("blocksize")
    order = (0, 3, 5, 1, 2, 4) if step.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).transpose(order).reshape(n, c * b**2, h // b, w // b)


def _triangle(step: Step, x: Any, shift: Any = None) -> Any:
    import jax.numpy as jnp

    (by,) = step.integers("k", shift) or [0]
    return jnp.triu(x, by) if step.get("upper", 1) else jnp.tril(x, by)


def _einsum(step: Step, *inputs: Any) -> Any:
    import jax.numpy as jnp

    return jnp.einsum(step.get("equation"), *inputs)


def _product_plus(step: Step, a: Any, b: Any, c: Any = None) -> Any:
    a = a.T if step.get("transA", 0) else a
    b = b.T if step.get("transB", 0) else b
    made = step.get("alpha", 1.0) * (a @ b)
    return made if c is None else made + step.get("beta", 1.0) * c


def _batch_normalised(step: Step, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    scale, bias, mean, variance = (each.reshape(shape) for each in (scale, bias, mean, variance))
    return (x - mean) / (variance + step.get("epsilon", 1e-5)) ** 0.5 * scale + bias


def _instance_normalised(step: Step, x: Any, scale: Any, bias: Any) -> Any:
    over, shape = tuple(range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
    mean, variance = x.mean(over, keepdims=True), x.var(over, keepdims=True)
    return (x - mean) / (variance + step.get("epsilon", 1e-5)) ** 0.5 * scale.reshape(shape) + bias.reshape(shape)


def _neighbours_normalised(step: Step, x: Any) -> Any:
    import jax

    size = step.get("size")
    window = (1, size) + (1,) * (x.ndim - 2)
    pads = [(0, 0), ((size - 1) // 2, size - 1 - (size - 1) // 2)] + [(0, 0)] * (x.ndim - 2)
    summed = jax.lax.reduce_window(x**2, 0.0, jax.lax.add, window, (1,) * x.ndim, pads)
    return x / (step.get("bias", 1.0) + step.get("alpha", 1e-4) / size * summed) ** step.get("beta", 0.75)


# Windows.


def _window(
    step: Step, extents: Sequence[int], kernel: Sequence[int], ceil: bool = True
) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """The strides, the dilations and the padding of a window, with or without what `ceil_mode` adds at the end."""
    axes = len(extents)
    strides = list(step.get("strides", [1] * axes))
    dilations = list(step.get("dilations", [1] * axes))
    spans = [gap * (taps - 1) + 1 for gap, taps in zip(dilations, kernel, strict=True)]
    auto = step.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        missing = [
            max(0, (-(-extent // by) - 1) * by + span - extent)
            for extent, by, span in zip(extents, strides, spans, strict=True)
        ]
        small, large = [each // 2 for each in missing], [each - each // 2 for each in missing]
        low, high = (small, large) if auto == "SAME_UPPER" else (large, small)
    else:
        given = step.get("pads", [0] * 2 * axes) if auto == "NOTSET" else [0] * 2 * axes
        low, high = list(given[:axes]), list(given[axes:])
    if ceil and step.get("ceil_mode", 0):
        for axis, (extent, by, span) in enumerate(zip(extents, strides, spans, strict=True)):
            room = extent + low[axis] + high[axis] - span
            places = -(-room // by)
            if places * by >= extent + low[axis]:  # the last window would begin behind the input
                places -= 1
            high[axis] += max(0, places * by - room)
    return strides, dilations, list(zip(low, high, strict=True))


def _convolved(step: Step, x: Any, kernel: Any, bias: Any = None) -> Any:
    import jax

    strides, dilations, pads = _window(step, x.shape[2:], kernel.shape[2:])
    made = jax.lax.conv_general_dilated(
        x, kernel, strides, pads, rhs_dilation=dilations, feature_group_count=step.get("group", 1)
    )
    return made if bias is None else made + bias.reshape(1, -1, *(1,) * (x.ndim - 2))


def _convolved_back(step: Step, x: Any, kernel: Any, bias: Any = None) -> Any:
    import jax

    groups, axes = step.get("group", 1), x.ndim - 2
    strides, dilations = step.get("strides", [1] * axes), step.get("dilations", [1] * axes)
    more = step.get("output_padding", [0] * axes)
    spans = [gap * (taps - 1) + 1 for gap, taps in zip(dilations, kernel.shape[2:], strict=True)]
    whole = [
        by * (extent - 1) + extra + span
        for by, extent, extra, span in zip(strides, x.shape[2:], more, spans, strict=True)
    ]
    auto = step.get("auto_pad", "NOTSET")
    wanted = step.get("output_shape")
    if wanted is None and auto.startswith("SAME"):
        wanted = [extent * by for extent, by in zip(x.shape[2:], strides, strict=True)]
    if wanted is not None:
        cut = [extent - each for extent, each in zip(whole, wanted[-axes:], strict=True)]
        low = [each // 2 if auto == "SAME_UPPER" else each - each // 2 for each in cut]
        high = [each - first for each, first in zip(cut, low, strict=True)]
    else:
        given = step.get("pads", [0] * 2 * axes)
        low, high = list(given[:axes]), list(given[axes:])
    pads = [
        (span - 1 - first, span - 1 - last + extra)
        for span, first, last, extra in zip(spans, low, high, more, strict=True)
    ]
    # Weights are (channels in, channels out of a group, taps): turned round, they are those of a convolution.
    inner, outer = kernel.shape[:2]
    parts = kernel.reshape(groups, inner // groups, outer, *kernel.shape[2:]).swapaxes(1, 2)
    turned = parts.reshape(groups * outer, inner // groups, *kernel.shape[2:])
    turned = turned[(slice(None), slice(None)) + (slice(None, None, -1),) * axes]
    made = jax.lax.conv_general_dilated(
        x, turned, (1,) * axes, pads, lhs_dilation=strides, rhs_dilation=dilations, feature_group_count=groups
    )
    return made if bias is None else made + bias.reshape(1, -1, *(1,) * axes)


def _over_windows(step: Step, x: Any, first: Any, function: Any, pads: Sequence[tuple[int, int]] = ()) -> Any:
    import jax

    kernel = step.get("kernel_shape")
    strides, dilations, usual = _window(step, x.shape[2:], kernel)
    return jax.lax.reduce_window(
        x, first, function, (1, 1, *kernel), (1, 1, *strides), [(0, 0), (0, 0), *(pads or usual)],
        window_dilation=(1, 1, *dilations),
    )  # fmt: skip


def _largest(step: Step, x: Any) -> Any:
    import jax
    import numpy as np

    least = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    if len(step.node.output) > 1 and step.node.output[1]:
        raise InputError(f"Where the maxima of {step.title!r} are has no derivative.")
    return _over_windows(step, x, np.array(least, x.dtype), jax.lax.max)


def _average(step: Step, x: Any) -> Any:
    import jax
    import jax.numpy as jnp
    import numpy as np

    zero, ones = np.zeros((), x.dtype), jnp.ones(x.shape, x.dtype)
    summed = _over_windows(step, x, zero, jax.lax.add)
    if not step.get("count_include_pad", 0):
        return summed / _over_windows(step, ones, zero, jax.lax.add)
    # The padding counts, but not what `ceil_mode` adds behind it.
    kernel = step.get("kernel_shape")
    declared = _window(step, x.shape[2:], kernel, ceil=False)[2]
    whole = _window(step, x.shape[2:], kernel)[2]
    rest = [(low - a, high - b) for (low, high), (a, b) in zip(whole, declared, strict=True)]
    counted = jnp.pad(ones, [(0, 0), (0, 0), *declared], constant_values=1)
    return summed / _over_windows(step, counted, zero, jax.lax.add, rest)


def _pooled_globally(name: str) -> Callable[..., Any]:
    def rule(step: Step, x: Any) -> Any:
        return getattr(x, name)(tuple(range(2, x.ndim)), keepdims=True)

    return rule


def _resized(step: Step, x: Any, *others: Any) -> Any:
    """Linear along every axis, so that ONNX's own implementation tells the matrix: it resizes unit vectors."""
    import jax.numpy as jnp
    import numpy as np
    from onnx import helper

    refused = ("tf_crop_and_resize", "not_larger", "not_smaller")
    ways = (step.get("coordinate_transformation_mode"), step.get("keep_aspect_ratio_policy"))
    if any(each in refused for each in ways) or step.get("antialias", 0):
        raise InputError(f"How {step.title!r} resizes is not differentiated here.")
    sizes = others[2] if len(others) > 2 else None
    scales = step.get("scales") if not others else others[min(1, len(others) - 1)]
    kept = ("mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "exclude_outside")
    options = {name: step.get(name) for name in kept if step.get(name) is not None}
    if step.opset < 11:
        options |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    inputs = ["units", "", "", "sizes"] if sizes is not None else ["units", "", "scales"]
    alone = Step(helper.make_node("Resize", inputs, ["matrix"], **options), {"": max(step.opset, 13)})
    factors = np.asarray(scales if sizes is None else sizes).tolist()
    for axis, factor in zip(step.get("axes", range(x.ndim)), factors, strict=True):
        extent = x.shape[axis]
        if factor == (1 if sizes is None else extent):
            continue
        along = np.array([1, factor], np.float32) if sizes is None else np.array([extent, factor], np.int64)
        units = np.eye(extent, dtype=np.float32)
        (matrix,) = _by_reference(alone, [units, *(None for _ in inputs[2:]), along])
        x = jnp.moveaxis(jnp.moveaxis(x, axis, -1) @ matrix.astype(x.dtype), -1, axis)
    return x


_RULES: Mapping[str, Callable[..., Any]] = {
    **{
        operator: _jnp(function)
        for operator, function in {
            "Abs": "abs", "Neg": "negative", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Reciprocal": "reciprocal",
            "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "arcsin", "Acos": "arccos", "Atan": "arctan",
            "Sinh": "sinh", "Cosh": "cosh", "Tanh": "tanh", "Asinh": "arcsinh", "Acosh": "arccosh", "Atanh": "arctanh",
            "Floor": "floor", "Ceil": "ceil", "Round": "round", "Sign": "sign", "Not": "logical_not", "IsNaN": "isnan",
            "Add": "add", "Sub": "subtract", "Mul": "multiply", "Equal": "equal", "Greater": "greater", "Less": "less",
            "GreaterOrEqual": "greater_equal", "LessOrEqual": "less_equal", "And": "logical_and", "Or": "logical_or",
            "Xor": "logical_xor", "Where": "where", "MatMul": "matmul",
        }.items()
    },
    "Max": _of_all("maximum"), "Min": _of_all("minimum"), "Sum": _of_all("add"),
    **{
        f"Reduce{name}": _reduction(function)
        for name, function in {"Sum": "sum", "Mean": "mean", "Max": "max", "Min": "min", "Prod": "prod"}.items()
    },
    "ReduceL1": _sum_of("abs", "positive"), "ReduceL2": _sum_of("square", "sqrt"),
    "ReduceSumSquare": _sum_of("square", "positive"), "ReduceLogSum": _sum_of("positive", "log"),
    "ReduceLogSumExp": _sum_of("exp", "log"),
    "Relu": _nn("relu"), "Sigmoid": _nn("sigmoid"), "Softplus": _nn("softplus"), "Softsign": _nn("soft_sign"),
    "Identity": _same, "Dropout": _same, "Erf": _erf, "Mean": _mean_of_all, "Div": _divided, "Pow": _power,
    "Clip": _clipped, "Cast": _cast, "CastLike": _cast, "Softmax": _normal(log=False), "LogSoftmax": _normal(log=True),
    "Reshape": _reshaped, "Flatten": _flattened, "Transpose": _transposed, "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed, "Concat": _joined, "Split": _split, "Slice": _sliced, "Gather": _gathered,
    "GatherElements": _gathered_elements, "Expand": _expanded, "Tile": _tiled, "Pad": _padded,
    "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth, "Trilu": _triangle, "Einsum": _einsum,
    "Gemm": _product_plus, "BatchNormalization": _batch_normalised, "InstanceNormalization": _instance_normalised,
    "LRN": _neighbours_normalised, "Conv": _convolved, "ConvTranspose": _convolved_back, "MaxPool": _largest,
    "AveragePool": _average, "GlobalAveragePool": _pooled_globally("mean"), "GlobalMaxPool": _pooled_globally("max"),
    "Resize": _resized, "Upsample": _resized,
}  # fmt: skip
