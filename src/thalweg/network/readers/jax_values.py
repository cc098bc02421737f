"""What a value of a JAX program may yet become: the programs spell out what people call by one name.

A jaxpr knows no layer normalisation, no softmax and no gelu, only sums, quotients and exponentials. So nothing that is
computed value by value is written down at once. A value is one of three:

* `Fixed`: computed from weights and numbers alone, with its numbers where they are few and known;
* `Pointwise`: a function of each value of one array, the root, so far: perhaps half of a gelu, a scale without its
  shift, or an array centred and not yet divided by its deviation;
* `Statistic`: a sum or an extreme over some axes, which may turn out to be a mean that is subtracted again, the sum
  under a softmax, or else a pooling layer.

Only when a value meets something else, such as a convolution or an array of another origin, is it written down
(`Ledger.array`), as one operation: an activation, a normalisation, a softmax, a bias of the layer before.

A statistic belongs to a normalisation when it meets, by subtraction, division or a multiplication by an inverse root, a
value that it was computed from. A squeeze-and-excitation gate is none: a matrix product lies in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from thalweg.network.graph import Kind, Weight
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.masks import Mask, of_choice, of_product, of_sum
from thalweg.network.readers.recorder import Recorder

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]

PLAIN = frozenset({"neg", "convert_element_type", "stop_gradient", "copy", "reduce_precision", "real", "name", "pvary"})
"""Functions of one value that change no more than its sign or type."""
POINTWISE = PLAIN | frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "add",
        "add_any",
        "and",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "bessel_i0e",
        "bessel_i1e",
        "cbrt",
        "ceil",
        "clamp",
        "complex",
        "conj",
        "cos",
        "cosh",
        "digamma",
        "div",
        "eq",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "igamma",
        "imag",
        "integer_pow",
        "is_finite",
        "le",
        "lgamma",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "nextafter",
        "not",
        "or",
        "pow",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "shift_left",
        "shift_right_arithmetic",
        "shift_right_logical",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "sub",
        "tan",
        "tanh",
        "xor",
    ]
)
"""Functions of the values in the same place of their arguments."""
SHIFTS = frozenset({"add", "add_any", "sub"})
SCALES = frozenset({"mul", "div"})
_AFFINE = SHIFTS | SCALES
_CLIPS = frozenset({"max", "min", "clamp"})
_INVERSES = frozenset({"rsqrt", "sqrt", "div", "pow", "integer_pow", "reciprocal"})
_OF_STATISTICS = frozenset({"abs", "exp", "integer_pow", "log", "square"})
"""What happens to centred values inside a normalisation or a softmax."""
_DEPTH = 60
"""A function of one array that has grown so long is written down, whatever may come."""


@dataclass(slots=True, eq=False)
class Fixed:
    """A value that depends on no input.

    Args:
        array: its shape, and the weights that it was computed from.
        numbers: what it holds, where that is known.
        kept: where it is not 0, as truth values, of weights that a mask hides in part; None where that is not known.
    """

    array: Array
    numbers: NDArray[Any] | None = None
    kept: NDArray[Any] | None = None

    @property
    def shape(self) -> Shape:
        """Its extents."""
        return self.array.shape

    @property
    def weights(self) -> tuple[Weight, ...]:
        """What it was computed from."""
        return self.array.weights


@dataclass(slots=True, eq=False)
class Pointwise:
    """A function of each value of an array, and of statistics of that array.

    Args:
        root: the array.
        scope: the names around the functions.
        functions: those that leave a trace; empty for the array itself, up to a scale and a shift.
        weights: the parameters that take part.
        statistics: the statistics that take part.
        parents: the values that it was computed from, back to the root.
        written: the array that it became once it was written down.
    """

    root: Array
    scope: str = ""
    functions: frozenset[str] = frozenset()
    weights: tuple[Weight, ...] = ()
    statistics: tuple[Statistic, ...] = ()
    parents: tuple[Pointwise, ...] = ()
    written: Array | None = None
    depth: int = 0

    @property
    def shape(self) -> Shape:
        """Its extents."""
        return self.root.shape

    @property
    def is_root(self) -> bool:
        """Whether it is its root, up to plain numbers."""
        return not (self.functions or self.weights or self.statistics)

    @property
    def is_affine(self) -> bool:
        """Whether it is a scaled and shifted root, without a function in between."""
        return self.functions <= _AFFINE

    def ancestors(self) -> dict[int, Pointwise]:
        """Itself and what it was computed from, by a number that the same value always has, the latest first."""
        found: dict[int, Pointwise] = {}
        waiting = [self]
        while waiting:
            waiting.sort(key=lambda each: each.depth)
            each = waiting.pop()
            if each.written is not None:
                found.setdefault(_key(each.written), each)
            key = _key(each.root) if each.is_root else id(each)
            if key not in found:
                found[key] = each
                waiting += each.parents
        return found


@dataclass(slots=True, eq=False)
class Statistic:
    """A sum or an extreme over some axes, or what was computed from such alone.

    Args:
        shadow: its shape, and what its axes hold.
        sources: the values that it was computed from.
        write: writes it down, where it turns out to be wanted by itself.
        functions: what happened on the way.
        weights: the parameters that take part.
        everywhere: whether positions were put together.
        axes: the axes of the source that were put together, where that was the only step.
        written: what it became once it was written down.
    """

    shadow: Array
    sources: tuple[Pointwise, ...]
    write: Callable[[], Value]
    functions: frozenset[str]
    weights: tuple[Weight, ...] = ()
    everywhere: bool = False
    axes: tuple[int, ...] = ()
    written: Value | None = None

    @property
    def shape(self) -> Shape:
        """Its extents."""
        return self.shadow.shape

    @property
    def is_of_exponentials(self) -> bool:
        """Whether it is a sum of exponentials, as under a softmax."""
        return "reduce_sum" in self.functions and any("exp" in each.functions for each in self.sources)


Value = Fixed | Pointwise | Statistic


def _key(root: Array) -> int:
    """A number that no object's address is: arrays of the run are told apart by their own."""
    assert root.id is not None
    return -1 - root.id


def _are_one(values: Sequence[Pointwise]) -> bool:
    """Whether several values are functions of one array that stands the same way in all."""
    return len({(each.root.id, each.root.axes) for each in values}) == 1


@dataclass
class Ledger:
    """Keeps values until it is clear what they are, and writes them down then.

    Args:
        recorder: where they are written down.
        called: the name and the module of an operation, from its weights, the names around it, and what it does.
    """

    recorder: Recorder
    called: Callable[[Iterable[Weight], str, str], tuple[str, str]]
    _names: dict[int, str] = field(default_factory=dict)

    def array(self, value: Value) -> Array:
        """The value as an array of the run, written down if it was not yet."""
        if isinstance(value, Fixed):
            return value.array
        if isinstance(value, Statistic):
            if value.written is None:
                value.written = value.write()
            return self.array(value.written)
        if value.written is None:
            value.written = self._write(value)
        return value.written

    def fresh(self, value: Value, scope: str = "") -> Pointwise:
        """The value as the root of what follows."""
        return Pointwise(self.array(value), scope)

    def _write(self, value: Pointwise) -> Array:
        root = value.root
        if value.is_root:
            return root
        parameters = [self.recorder.constant((), value.weights)]

        def called(what: str) -> tuple[str, str]:
            return self.called(value.weights, value.scope, what)

        if value.statistics:
            summed = next((each for each in value.statistics if each.is_of_exponentials), None)
            if summed is not None and len(summed.axes) == 1 and not value.weights:
                return self.recorder.softmax(root, summed.axes[0], *called("softmax"))
            everywhere = any(each.everywhere for each in value.statistics)
            over = range(len(root.shape)) if everywhere else ()
            return self.recorder.normalise(root, over, parameters, *called("normalisation"))
        if not value.is_affine:
            name, module = called(self._names.get(id(value)) or _activation(value.functions))
            return self.recorder.elementwise([root], Kind.ACTIVATION, name, module, parameters)
        if value.functions & SHIFTS and value.functions & SCALES:
            return self.recorder.normalise(root, (), parameters, *called("scale and shift"))
        kind = Kind.ADD if value.functions & SHIFTS else Kind.MULTIPLY
        name, module = called(kind.value)
        return self.recorder.elementwise([root], kind, name, module, parameters)

    # Functions of each value.

    def pointwise(self, function: str, parts: Sequence[Value], shape: Shape, scope: str, traced: bool = True) -> Value:
        """A function of the values in the same place of several.

        Args:
            function: its name in JAX.
            parts: its arguments, at least one of which depends on an input.
            shape: of the result.
            scope: the names around it.
            traced: whether it leaves a trace at all; arithmetic of indices and truth values does not.
        """
        fixed = [each for each in parts if isinstance(each, Fixed)]
        units = [each for each in parts if not isinstance(each, Fixed)]
        statistics = [each for each in units if isinstance(each, Statistic)]
        if len(statistics) == len(units):
            return self._of_statistics(function, parts, statistics, fixed, shape, scope)
        if masked := self._masked(function, parts, units, scope):
            return masked
        # What was written down already is an array like any other.
        units = [self.fresh(each, scope) if isinstance(each, Pointwise) and each.written else each for each in units]
        if function == "mul" and len(units) == 2 and units[0] is units[1]:
            function, units = "square", units[:1]
        whole = [each for each in units if isinstance(each, Pointwise)]
        if statistics:
            joined = self._joined(function, whole, statistics, fixed, scope) if len(whole) == 1 else None
            if joined is not None and joined.shape == shape:
                return joined
            whole = [each if isinstance(each, Pointwise) else self.fresh(each, scope) for each in units]
        if whole[0].shape != shape or not _are_one(whole):
            return self._of_several(function, whole, fixed, scope, traced)
        return self._of_one(function, whole, fixed, scope, traced)

    def _masked(self, function: str, parts: Sequence[Value], units: Sequence[Value], scope: str) -> Pointwise | None:
        """What masks of known numbers leave of scores, or of positions; None where that is all."""
        name, module = self.called((), scope, "mask")
        which = parts[0]
        if function == "select_n" and len(units) == 2 and isinstance(which, Fixed) and which.numbers is not None:
            others, these = (self.array(each) for each in units)
            return Pointwise(self.recorder.choose(which.numbers != 0, these, others, name, module), scope)
        x = units[0]
        if len(units) > 1 or not isinstance(x, Pointwise):
            return None
        turns = function == "neg" or (function in ("sub", "div") and isinstance(which, Fixed))
        mask, changes = mask_of(function, parts), function in SCALES or turns
        if mask is None and not (changes and any(map(ax.hides, x.root.axes))):
            return None
        if mask is not None and not any(map(ax.holds_keys, x.root.axes)) and not self.recorder.blanks(x.root, mask):
            return None
        kind = Kind.ADD if function in SHIFTS else Kind.MULTIPLY if changes else Kind.ACTIVATION
        arrays = [self.array(each) for each in parts]
        return Pointwise(self.recorder.elementwise(arrays, kind, name, module, mask=mask, turns=turns), scope)

    def named(self, name: str, x: Pointwise, scope: str, weights: tuple[Weight, ...] = ()) -> Pointwise:
        """A function of each value that has a name of its own, such as an activation."""
        value = Pointwise(self.array(x), scope, frozenset({name}), weights)
        self._names[id(value)] = name
        return self.fresh(value, scope)

    def _of_one(self, function: str, whole: list[Pointwise], fixed: list[Fixed], scope: str, traced: bool) -> Pointwise:
        used = _weights(fixed)
        alone = len(whole) == 1
        plain = function in PLAIN or (function == "select_n" and alone) or not traced
        whole = [self._ready(each, function, bool(used), alone, plain, scope) for each in whole]
        if not _are_one(whole):
            return self._of_several(function, whole, fixed, scope, traced)
        first = whole[0]
        if alone and function in ("add", "add_any") and first.is_root and self.recorder.takes_bias(first.root, used):
            return replace(first, parents=(first,), written=None, depth=first.depth + 1)
        silent = not used and (plain or (alone and function in _AFFINE))
        statistics = tuple({id(each): each for one in whole for each in one.statistics}.values())
        value = Pointwise(
            first.root,
            scope if first.is_root else first.scope,
            frozenset().union(*(each.functions for each in whole), () if silent else (function,)),
            _once(*(each.weights for each in whole), used),
            statistics,
            tuple(whole),
            depth=1 + max(each.depth for each in whole),
        )
        # A clipped value is an activation by itself; whatever comes next is something else.
        ends = function in _CLIPS and traced and not statistics
        return self.fresh(value, scope) if ends or value.depth > _DEPTH else value

    def _ready(self, x: Pointwise, function: str, weighted: bool, alone: bool, plain: bool, scope: str) -> Pointwise:
        """The argument of a function, written down where the function begins something new."""
        if x.is_root or (plain and function != "neg"):
            return x
        if function in _OF_STATISTICS and x.is_affine and not x.weights:
            return x
        if x.statistics or (x.weights and alone):
            ends = x.scope != scope or not (alone and weighted and function in _AFFINE)
        else:
            ends = x.scope != scope or (weighted and not x.is_affine)
        return self.fresh(x, scope) if ends else x

    def _of_several(
        self, function: str, whole: list[Pointwise], fixed: list[Fixed], scope: str, traced: bool
    ) -> Pointwise:
        kind = Kind.ADD if function in SHIFTS else Kind.MULTIPLY if function in SCALES else Kind.ACTIVATION
        parts = [self.array(each) for each in whole]
        name, module = self.called(_weights(fixed), scope, kind.value if kind is not Kind.ACTIVATION else function)
        if not traced:
            return Pointwise(
                self.recorder.gather(parts, max(parts, key=lambda x: len(x.shape)).shape, (), name, module)
            )
        made = self.recorder.elementwise([*parts, *(each.array for each in fixed)], kind, name, module)
        return Pointwise(made, scope)

    # Statistics.

    def reduce(self, function: str, x: Value, axes: Sequence[int], pool: bool, scope: str) -> Value:
        """A sum or an extreme over some axes."""
        axes = tuple(axes)
        held = x.shadow if isinstance(x, Statistic) else x.array if isinstance(x, Fixed) else x.root
        shape = tuple(n for axis, n in enumerate(held.shape) if axis not in axes)
        if isinstance(x, Fixed):
            return Fixed(self.recorder.constant(shape, x.weights))
        if not axes:
            return x
        shadow = replace(held, shape=shape, axes=tuple(a for axis, a in enumerate(held.axes) if axis not in axes))
        everywhere = any(ax.has_positions(held.axes[axis]) for axis in axes)
        before = x if isinstance(x, Statistic) else None
        made = Statistic(
            shadow,
            before.sources if before else (x,) if isinstance(x, Pointwise) else (),
            lambda: self._pooled(made, x, axes, pool, scope),
            frozenset({function}) | (before.functions if before else frozenset()),
            before.weights if before else (),
            everywhere or bool(before and before.everywhere),
            () if before else axes,
        )
        return made

    def _pooled(self, made: Statistic, x: Value, axes: tuple[int, ...], pool: bool, scope: str) -> Value:
        what = next(name for name in made.functions if name.startswith(("reduce", "arg"))).partition("_")[2] or "reduce"
        name, module = self.called((), scope, "mean" if what == "sum" and pool else what)
        plain = made.functions <= {"reduce_sum", "reduce_max", "reduce_min"}
        array = self.recorder.reduce(self.array(x), axes, pool=pool, name=name, module=module, plain=plain)
        return Pointwise(array, scope)

    def moved(self, x: Value, move: Callable[[Array], Array]) -> Value:
        """The value after a move of its axes, which a statistic outlives."""
        if isinstance(x, Fixed):
            return Fixed(move(x.array))
        if isinstance(x, Statistic):
            return replace(x, shadow=move(x.shadow), write=lambda: Pointwise(move(self.array(x))), written=None)
        return Pointwise(move(self.array(x)), x.scope)

    def _of_statistics(
        self,
        function: str,
        parts: Sequence[Value],
        statistics: Sequence[Statistic],
        fixed: Sequence[Fixed],
        shape: Shape,
        scope: str,
    ) -> Statistic:
        def write() -> Value:
            written = [each if isinstance(each, Fixed) else self.fresh(each, scope) for each in parts]
            return self.pointwise(function, written, shape, scope)

        first = statistics[0]
        shadow = first.shadow if first.shape == shape else self.recorder.expand(first.shadow, shape)
        return Statistic(
            shadow,
            tuple({id(source): source for each in statistics for source in each.sources}.values()),
            write,
            frozenset({function}).union(*(each.functions for each in statistics)),
            _once(*(each.weights for each in statistics), _weights(fixed)),
            any(each.everywhere for each in statistics),
            next((each.axes for each in statistics if each.axes), ()),
        )

    def _joined(
        self,
        function: str,
        whole: Sequence[Pointwise],
        statistics: Sequence[Statistic],
        fixed: Sequence[Fixed],
        scope: str,
    ) -> Pointwise | None:
        """A value put together with a statistic of its own; None where the statistic is of something else."""
        (x,) = whole
        functions: frozenset[str] = frozenset().union(*(each.functions for each in statistics))
        by_inverse = function == "mul" and functions & _INVERSES
        if not (function in ("sub", "div") or by_inverse or (function in SHIFTS and "neg" in functions)):
            return None
        ours = x.ancestors()
        theirs = [source.ancestors() for each in statistics for source in each.sources]
        common = next((key for key in ours if all(key in each for each in theirs)), None)
        if common is None:
            return None
        origin = ours[common]
        root, before = origin.root, origin
        exponential = any(each.is_of_exponentials for each in statistics) and origin.functions <= {"exp", *_AFFINE}
        if not (origin.is_root or origin.statistics or exponential):
            root, before = self.array(origin), Pointwise(self.array(origin))
        kept = _once(
            before.weights,
            tuple([each for each in x.weights if each not in origin.weights]),
            *(each.weights for each in statistics),
            _weights(fixed),
        )
        seen = {id(each): each for each in (*x.statistics, *statistics)}
        functions = (x.functions - origin.functions) | before.functions | {function}
        return Pointwise(root, scope, functions, kept, tuple(seen.values()), (x,), depth=x.depth + 1)


def _weights(fixed: Iterable[Fixed]) -> tuple[Weight, ...]:
    return _once(*(each.weights for each in fixed))


def _once(*groups: Iterable[Weight]) -> tuple[Weight, ...]:
    return tuple({weight.identity: weight for group in groups for weight in group}.values())


def mask_of(function: str, parts: Sequence[Value]) -> Mask | None:
    """What a function hides of its only argument that depends on an input; None where it is no mask."""
    fixed = [each for each in parts if isinstance(each, Fixed)]
    if function == "select_n" and len(parts) == 3 and isinstance(parts[0], Fixed) and len(fixed) == 2:
        which, chosen = parts[0].numbers, int(isinstance(parts[1], Fixed))
        return of_choice(None if which is None else which == chosen, fixed[1].numbers)
    if len(fixed) != 1 or fixed[0].weights or math.prod(fixed[0].shape) < 2:
        return None
    if function in SHIFTS:
        known = fixed[0].numbers
        return of_sum(-known if function == "sub" and known is not None and parts[1] is fixed[0] else known)
    return of_product(fixed[0].numbers) if function == "mul" else None


def _activation(functions: frozenset[str]) -> str:
    """What people call a function that was written out."""
    for signs, name in (
        ({"erf"}, "gelu"),
        ({"erfc"}, "gelu"),
        ({"tanh", "integer_pow"}, "gelu"),
        ({"tanh", "pow"}, "gelu"),
        ({"logistic", "mul"}, "silu"),
        ({"logistic"}, "sigmoid"),
        ({"tanh"}, "tanh"),
        ({"log1p"}, "softplus"),
        ({"max"}, "relu"),
    ):
        if signs <= functions:
            return name
    return min(functions - _AFFINE)
