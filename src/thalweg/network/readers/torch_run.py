"""A PyTorch module run once without numbers, every operation written down on the way.

The run is on the meta device, where tensors have shapes and no values, under `torch.inference_mode`, in which a
dispatch mode sees whole layers (`conv2d`, `linear`, `scaled_dot_product_attention`) before they are taken apart. The
`Run` behind that mode lets PyTorch make each result, hands the operation to its rule in `torch_operations`, and
compares the two shapes. Small tensors that depend on neither inputs nor weights keep their values beside them, so that
masks and position ids made on the way can be asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.errors import InputError
from thalweg.network.graph import Weight
from thalweg.network.readers import axes as ax
from thalweg.network.readers.arrays import Array
from thalweg.network.readers.lazy_torch import torch
from thalweg.network.readers.recorder import Recorder
from thalweg.network.readers.torch_arguments import (
    all_on_meta,
    by_name,
    held,
    is_small,
    is_written,
    on_meta,
    tensors_in,
    wanted_device,
)
from thalweg.network.readers.torch_copy import MOST_VALUES, Copied
from thalweg.network.readers.torch_entry import Entry, Shape, check_batch, check_ids, settle
from thalweg.network.readers.torch_modes import run_mode
from thalweg.network.readers.torch_numbers import (
    FEW,
    MARK,
    Traced,
    filled_with,
    is_real,
    kept_in,
    kept_of,
    low_in,
    make_room,
    numbers_of,
    places_of,
    without_numbers,
    worked_out,
    worked_out_thinly,
)
from thalweg.network.readers.torch_operations import ELEMENTWISE, RULES, Call, elementwise
from thalweg.network.readers.torch_parts import shown_by, written_into
from thalweg.network.readers.torch_quick import QUICK
from thalweg.network.readers.torch_routing import ROUTERS, Choice, Named, Supposed, choices, counted, let_through


class DependsOnDataError(InputError):
    """What the network does next depends on the values of its input."""


@dataclass(slots=True)
class _Place:
    """A module that is running."""

    path: str
    plain: bool
    """Whether it is one of PyTorch's own layers, whose operations are one row with the module's name."""
    normalises: bool


class Run:
    """Writes down what a module does.

    Args:
        recorder: where.
        is_settled: whether it is known which axes of the first input are positions.
        asks: whether modules are asked where they have the batch.

    Attributes:
        has_overwritten: whether the network has written into what depends on no input, maybe something that it keeps.
    """

    def __init__(self, recorder: Recorder, is_settled: bool, asks: bool = True) -> None:
        self.recorder = recorder
        self.mode = run_mode(self)
        self.places: list[_Place] = []
        self.is_settled = is_settled
        self.has_overwritten = False
        self._asks = asks
        self._inputs: list[int | None] = []
        self._axes: tuple[int, ...] = ()
        self._names: dict[int, str] = {}
        self._chosen = False
        self._last: Array | None = None
        self._supposed = Supposed()
        self._aliases: dict[str, list[str]] = {}

    # What goes in.

    def enter(self, entry: Entry) -> torch.Tensor:
        """An input tensor."""
        with torch.inference_mode(False):
            tensor = torch.empty(entry.shape, dtype=entry.dtype, device="meta")
        positions, channel = entry.positions, entry.channel
        if not self.is_settled:
            positions, channel = tuple([axis for axis in range(len(entry.shape)) if axis != entry.batch]), None
        if not self._inputs:
            self._axes = positions
        array = self.recorder.input(entry.shape, positions, channel)
        self._inputs.append(array.id)
        setattr(tensor, MARK, Traced(array))
        return tensor

    def know(self, names: Mapping[str, torch.Tensor], aliases: Mapping[str, list[str]]) -> None:
        """Which tensors are parameters, under which names."""
        self._aliases = dict(aliases)
        self._names = {id(tensor): name for name, tensor in names.items()}
        for tensor in names.values():
            tensor.__dict__.pop(MARK, None)  # of an earlier run

    def _mark(self, tensor: torch.Tensor) -> Traced | None:
        """What a tensor is, where it is more than a constant without a value."""
        mark: Traced | None = getattr(tensor, MARK, None)
        name = self._names.get(id(tensor)) if mark is None else None
        if name is not None and not torch.nn.parameter.is_lazy(tensor):
            mark = Traced(self.recorder.weight(name, tuple(tensor.shape), bool(tensor.requires_grad)))
            setattr(tensor, MARK, mark)
        if mark is None and name is None and not tensor.is_meta:
            mark = Traced(self.recorder.constant(tuple(tensor.shape)), tensor)
            setattr(tensor, MARK, mark)
        if mark is not None and mark.base is not None:
            self._renew(tensor, mark, mark.base)
        return mark

    def _renew(self, tensor: torch.Tensor, mark: Traced, base: torch.Tensor) -> None:
        """A view of what was written into since holds what was written."""
        of = self._mark(base)
        if of is None or of.version == mark.since:
            return
        name, module = self._row(self._place, "view")
        mark.array = shown_by(self.recorder, (base, of.array), tensor, name, module)
        mark.value = mark.choice = None
        mark.since, mark.version = of.version, mark.version + 1

    def _is_unit(self, x: Any) -> bool:
        """Whether a tensor depends on the input."""
        mark: Traced | None = getattr(x, MARK, None)
        return mark is not None and mark.array.id is not None

    def _place_of(self, tensor: torch.Tensor) -> int | None:
        """Which input a tensor is, or shows in another shape; None where it is none."""
        mark: Traced | None = getattr(tensor, MARK, None)
        return self._inputs.index(mark.array.id) if mark is not None and mark.array.id in self._inputs else None

    # One operation.

    def dispatch(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation and write it down."""
        operation: str = func.overloadpacket.__name__
        if operation == "type_as":  # the other one tells nothing but its type
            func, args, kwargs = torch.ops.aten._to_copy.default, args[:1], {"dtype": args[1].dtype}
            operation = "_to_copy"
        tensors = tensors_in(args, kwargs)
        marks = [(tensor, self._mark(tensor)) for tensor in tensors]
        constant = not any(mark is not None and mark.array.id is not None for _, mark in marks)
        if constant and not (operation in _LAYERS and self._has_weights(args)):
            return self._constant(func, operation, args, kwargs, marks)
        base = operation.rstrip("_") if operation.endswith("_") and not operation.endswith("__") else operation
        base = base.strip("_") if base.startswith("__") else base
        if base in _VALUES:
            raise DependsOnDataError(self.about_data(base))
        known = [None if mark is None else mark.choice for _, mark in marks]
        if any(known) and (numbers := counted(base, by_name(func, args, kwargs), known[0])):
            self._supposed.evenly(self._name_of(operation))
            made = [self.without_data(each) for each in numbers]
            return made if len(made) > 1 else made[0]
        if base == "masked_select":
            with self.mode:
                x, mask = torch.broadcast_tensors(*args)
                return x[mask]
        if base == "one_hot" and isinstance(known[0], Named) and args[1:] in ((), (-1,)):
            args = (args[0], known[0].out_of)
        if base in _BLANK:  # shapes and kinds of their argument, but numbers that do not depend on it
            blank = func(*args, **on_meta(kwargs))
            value = filled_with(base, by_name(func, args, kwargs), blank)
            return blank if value is None else self.without_data(value)
        check_ids(base, args, self._place_of)
        if base in ("to", "_to_copy"):  # it has no data, wherever it goes
            args, kwargs = all_on_meta(args, kwargs) or (args, kwargs)
        translate = RULES.get(base)
        if translate is None and (torch.Tag.pointwise in func.tags or base in ELEMENTWISE):
            translate = elementwise
        if translate is None and func._can_decompose():
            with self.mode:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = self._made(func, operation, args, kwargs)
        outputs = tensors_in((result,), {}) if not isinstance(result, torch.Tensor) else [result]
        names = any(known) or base in ROUTERS
        found = choices(base, by_name(func, args, kwargs), known, len(outputs)) if names else ()
        if outputs:
            self._write(base, translate, args, kwargs, marks, outputs, func)
        if found:
            for tensor, choice in zip(held(func, outputs, marks, args, kwargs), found, strict=False):
                getattr(tensor, MARK).choice = choice
        return result

    def _write(
        self, operation: str, translate: Any, args: Any, kwargs: Any, marks: Any, outputs: list[torch.Tensor], func: Any
    ) -> None:
        shapes = tuple([tuple(each.shape) for each in outputs])
        place = self._place
        name, module = self._row(place, operation)
        known = [mark for _, mark in marks if mark is not None]
        numbers, places = functools.partial(numbers_of, known), functools.partial(places_of, known)
        kept = functools.partial(kept_of, known)
        call = Call(self.recorder, operation, shapes, name, module, self._layer, numbers, places, kept)
        before = self.recorder.mark()
        answer = None
        if translate is not None:
            given = [self._given(each) for each in args]
            named = {key: self._given(each) for key, each in kwargs.items() if not is_written(func, key)}
            if not self.is_settled:
                settle(operation, given, self._axes)
            answer = None if self._chosen else translate(call, *given, **named)
        self._chosen = False
        made: list[Array] = [] if answer is None else [answer] if isinstance(answer, Array) else list(answer)
        if not made or any(array.shape != shape for array, shape in zip(made, shapes, strict=False)):
            self.recorder.forget(before)
            parts = [mark.array for _, mark in marks if mark is not None]
            first = self.recorder.unknown(
                parts, shapes[0], f"{name} ({operation})" if name != operation else name, module
            )
            made = [first, *(Array(shape, tuple(ax.lost(n) for n in shape), first.id) for shape in shapes[1:])]
        if place.normalises:
            self.recorder.demote(before)
        self._last = made[0] if made[0].id is not None else self._last
        self._mark_all(outputs, made, marks, func, args, kwargs)

    def _mark_all(
        self, outputs: list[torch.Tensor], arrays: list[Array], marks: Any, func: Any, args: Any, kwargs: Any
    ) -> None:
        given = {id(tensor): mark for tensor, mark in marks}
        source = marks[0][0] if marks else None
        view, writes = bool(func.is_view), bool(func._schema.is_mutable)
        for tensor, array in zip(held(func, outputs, marks, args, kwargs), arrays, strict=False):
            if id(tensor) in given:
                if not writes:  # as it came, such as `contiguous` of what is contiguous
                    continue
                mark = given[id(tensor)]
                self.has_overwritten |= mark is None or mark.array.is_constant
                if mark is None:
                    setattr(tensor, MARK, Traced(array, version=1))
                else:
                    mark.array, mark.value, mark.version = array, None, mark.version + 1
                    self._into_base(tensor, mark)
            else:
                setattr(tensor, MARK, Traced(array, None, *self._shown(view, tensor, source)))

    def _shown(self, view: bool, tensor: torch.Tensor, source: Any) -> tuple[torch.Tensor | None, int]:
        """What a tensor is a view of, and which version of that it shows; some operations give copies, as they can."""
        if not view or tensor.untyped_storage()._cdata != source.untyped_storage()._cdata:
            return None, 0
        mark: Traced | None = getattr(source, MARK, None)
        return source, 0 if mark is None else mark.version

    def _into_base(self, tensor: torch.Tensor, mark: Traced) -> None:
        """What was written into a view is in what it is a view of."""
        base = mark.base
        if base is None:
            return
        of = self._mark(base)
        if of is None:
            of = Traced(self.recorder.constant(tuple(base.shape)))
            setattr(base, MARK, of)
        place = self._place
        name, module = self._row(place, "copy")
        of.array = written_into(self.recorder, (base, of.array), (tensor, mark.array), name, module)
        of.value = of.choice = None
        of.version += 1
        mark.since = of.version
        self._into_base(base, of)

    # Constants.

    def _has_weights(self, args: Any) -> bool:
        mark = self._mark(args[1]) if len(args) > 1 and isinstance(args[1], torch.Tensor) else None
        return mark is not None and bool(mark.array.weights)

    def _constant(self, func: Any, operation: str, args: Any, kwargs: Any, marks: Any) -> Any:
        """An operation on weights and constants only: nothing to write down but where it came from."""
        if operation in _VALUES:
            return self._value_of(func, args, kwargs)
        if not marks and "device" in kwargs:  # made from nothing: on meta, so that units can be written into it
            kwargs = {**kwargs, "device": "meta", "pin_memory": False}
        if operation in ("to", "_to_copy") and marks and wanted_device(args, kwargs) == "cpu":
            mark = marks[0][1]
            if mark is not None and mark.value is not None:
                return mark.value
        if not marks and operation in FEW and is_small(args):  # quicker to make than to ask how it would be
            value = worked_out(func, args, {**kwargs, "device": None})
            if value is not None:
                return self.without_data(value)
        result = self._made(func, operation, args, kwargs)
        outputs = tensors_in((result,), {}) if not isinstance(result, torch.Tensor) else [result]
        weights = {each.identity: each for _, mark in marks if mark is not None for each in mark.array.weights}
        values = self._values(func, operation, args, kwargs, outputs, marks)
        # What PyTorch makes of a tensor without data holds no numbers, on whatever device it says it is.
        real = operation not in _RANDOM and all(is_real(tensor) for tensor, _ in marks)
        given = {id(tensor): mark for tensor, mark in marks}
        view, writes = bool(func.is_view) and bool(marks), bool(func._schema.is_mutable)
        for place, tensor in enumerate(held(func, outputs, marks, args, kwargs)):
            value = values[place] if values is not None else tensor if real and not tensor.is_meta else None
            mark = given.get(id(tensor))
            if id(tensor) in given and not writes:
                continue
            self.has_overwritten |= writes
            if mark is not None:
                mark.value = value
                if value is None:
                    self._forget_value(mark)
                if weights and operation.endswith("_"):
                    mark.low, mark.kept = low_in(func, args, kwargs), kept_in(func, args, kwargs, tensor.shape)
                    mark.array = self.recorder.constant(tuple(tensor.shape), tuple(weights.values()))
                    self._masked_base(tensor, mark)
            elif weights or value is not None or view or not tensor.is_meta:
                array = self.recorder.constant(tuple(tensor.shape), tuple(weights.values()))
                mark = Traced(array, value, *self._shown(view, tensor, marks[0][0] if marks else None))
                if weights:
                    mark.low, mark.kept = low_in(func, args, kwargs), kept_in(func, args, kwargs, tensor.shape)
                setattr(tensor, MARK, mark)
        return result

    def without_data(self, value: torch.Tensor) -> torch.Tensor:
        """Known numbers as the run holds them: a tensor without data, and they beside it."""
        made = torch.empty_like(value, device="meta")
        setattr(made, MARK, Traced(self.recorder.constant(tuple(value.shape)), value))
        return made

    def _masked_base(self, tensor: torch.Tensor, mark: Traced) -> None:
        """What weights are left is so in what they are seen through, such as a parameter through its `data`."""
        base = mark.base
        of = self._mark(base) if base is not None and base.shape == tensor.shape else None
        if base is not None and of is not None and of.array.weights:
            of.kept = mark.kept
            self._masked_base(base, of)

    def _forget_value(self, mark: Traced) -> None:
        base = mark.base
        of = getattr(base, MARK, None) if base is not None else None
        if of is not None:
            of.value = None
            self._forget_value(of)

    def _values(
        self, func: Any, operation: str, args: Any, kwargs: Any, outputs: list[torch.Tensor], marks: Any
    ) -> list[torch.Tensor] | None:
        """The same operation on the numbers, where they are known and few."""
        if all(is_real(each) for each in [*outputs, *(tensor for tensor, _ in marks)]):
            return None
        if operation in _RANDOM or any(mark is not None and mark.array.weights for _, mark in marks):
            return None
        if any(each.numel() > MOST_VALUES for each in outputs):
            if len(outputs) > 1 or func._schema.is_mutable:
                return None
            made = worked_out_thinly(func, args, kwargs, outputs[0].shape)
            return None if made is None else [made]
        if marks and func._schema.is_mutable:
            make_room(marks[0][0])
        made = worked_out(func, args, kwargs)
        return None if made is None else tensors_in((made,), {})

    def _value_of(self, func: Any, args: Any, kwargs: Any) -> Any:
        given = []
        for each in args:
            if isinstance(each, torch.Tensor) and not is_real(each):
                mark = getattr(each, MARK, None)
                if mark is None or mark.value is None:
                    raise DependsOnDataError(self.about_data(func.overloadpacket.__name__))
                given.append(mark.value)
            else:
                given.append(each)
        return func(*given, **kwargs)

    def about_data(self, operation: str) -> str:
        """A sentence on a network that asks for the values of its input by an operation."""
        where = f" in {self.path!r}" if self.path else ""
        return (
            f"What the network does depends on the values of its input ({operation.strip('_')!r}{where}), so it cannot "
            "be read from shapes alone; give a part of it that always does the same."
        )

    # Results.

    def _made(self, func: Any, operation: str, args: Any, kwargs: Any) -> Any:
        """What PyTorch makes of it; quick where that is plain to see, as its own way there takes a millisecond."""
        quick = QUICK.get(operation)
        first = args[0][0] if args and type(args[0]) in (list, tuple) and args[0] else args[0] if args else None
        if quick is not None and isinstance(first, torch.Tensor) and first.is_meta:
            made = quick(args, kwargs)
            if made is not None:
                return made
        try:
            return func(*args, **kwargs)
        except NotImplementedError as error:
            return self._all_of_it(func, operation, args, kwargs, error)
        except (RuntimeError, AssertionError) as error:
            mended = all_on_meta(args, kwargs)
            if mended is None and "data-dependent" in str(error):
                return self._all_of_it(func, operation, args, kwargs, error)
            if mended is None:
                raise
            try:
                return func(*mended[0], **mended[1])
            except (RuntimeError, AssertionError):
                raise error from None

    def _all_of_it(self, func: Any, operation: str, args: Any, kwargs: Any, error: Exception) -> Any:
        """A choice of values by what they are: where that is not known, as if all were chosen, or equally many."""
        from torch.fx.experimental import _config

        made = worked_out(func, args, kwargs)
        if made is not None:
            return without_numbers(made)
        made, is_supposed = let_through(func, operation, args, self._choice)
        if made is not None:
            if is_supposed:
                self._supposed.evenly(self._name_of(operation))
            return made
        if operation == "nms":  # of overlapping boxes, in torchvision
            made = torch.empty(args[0].shape[:1], dtype=torch.int64, device="meta")
        else:
            try:
                with _config.patch(meta_nonzero_assume_all_nonzero=True):
                    made = func(*args, **kwargs)
            except RuntimeError:
                raise DependsOnDataError(self.about_data(operation)) from error
        self._supposed.all_of(self._name_of(operation))
        self._chosen = True
        return made

    def _choice(self, tensor: torch.Tensor) -> Choice | None:
        mark = self._mark(tensor)
        return None if mark is None else mark.choice

    def _given(self, x: Any) -> Any:
        """An argument of a rule: arrays in the place of tensors."""
        if isinstance(x, torch.Tensor):
            mark = self._mark(x)
            return mark.array if mark is not None else self.recorder.constant(tuple(x.shape))
        if type(x) in (list, tuple):
            return [self._given(each) for each in x]
        return x

    # Names.

    @property
    def path(self) -> str:
        """The path of the module that is running."""
        return self.places[-1].path if self.places else ""

    @property
    def _place(self) -> _Place:
        return self.places[-1] if self.places else _Place("", False, False)

    def _name_of(self, operation: str) -> str:
        """What the row of an operation that runs now is called."""
        return self._row(self._place, operation)[0]

    def _row(self, place: _Place, operation: str) -> tuple[str, str]:
        if place.plain and place.path:
            return place.path, place.path.rpartition(".")[0]
        own = _WORDS.get(operation, operation.strip("_"))
        return (f"{place.path}.{own}" if place.path else own), place.path

    def _layer(self, weight: Array) -> tuple[str, str]:
        """A layer is called like the module that runs it, or where that has several, like its weight.

        The name is empty where the module is the network itself, or the weight is held elsewhere.
        """
        place = self._place
        identity = weight.weights[0].identity
        names = self._aliases.get(identity, [identity])
        inside = f"{place.path}." if place.path else ""
        name = next((each for each in names if each.startswith(inside)), None)
        if name is None:
            return "", place.path
        holder, _, own = name.rpartition(".")
        own = own.removesuffix("weight").rstrip("_")
        if own:
            holder = f"{holder}.{own}" if holder else own
        return holder, holder.rpartition(".")[0]

    # Modules.

    def watch(self, module: torch.nn.Module, path: str) -> Sequence[Any]:
        """Notice every call of a module; gives the hooks that do."""
        plain = type(module).__module__.startswith("torch.nn.") and not any(True for _ in module.children())
        place = _Place(path, plain, isinstance(module, torch.nn.LocalResponseNorm))
        depths: list[int] = []

        def before(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
            if self._asks and getattr(module, "batch_first", None) is False:
                for each in tensors_in(args, kwargs):
                    if self._is_unit(each):
                        check_batch(each)
            depths.append(len(self.places))
            self.places.append(place)

        def after(module: torch.nn.Module, args: Any, output: Any) -> None:
            del self.places[depths.pop() :]

        return (
            module.register_forward_pre_hook(before, prepend=True, with_kwargs=True),
            module.register_forward_hook(after),
        )

    def break_off(self, error: DependsOnDataError) -> None:
        """Say that what comes after this is not known."""
        last = self._last
        assert last is not None
        where = self.path or "the network"
        self.recorder.unknown([last], last.shape, f"the rest of {where}", self.path)
        self._supposed.broken_off = f"{error} What ran before that is counted."

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be supposed, in sentences."""
        return self._supposed.notes

    def stand_in(self, path: str, plain: bool) -> None:
        """Say which module is running, where none really is."""
        self.places = [_Place(path, plain, False)]

    def unknown(self, given: Sequence[Any], made: Sequence[tuple[Shape, torch.dtype]], operation: str) -> Any:
        """An operation that is not run: tensors of these shapes come out."""
        tensors = [torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in made]
        parts = [self._given(each) for each in tensors_in(given, {})]
        if tensors:
            if all(each.is_constant for each in parts):  # made from nothing: units all the same, as nobody knows
                parts = [self.recorder.source(self.recorder.constant(made[0][0]))]
            name, module = self._row(self.places[-1], operation)
            first = self.recorder.unknown(parts, made[0][0], f"{name} ({operation})", module)
            for tensor, (shape, _) in zip(tensors, made, strict=True):
                setattr(tensor, MARK, Traced(Array(shape, tuple(ax.lost(n) for n in shape), first.id)))
        return tensors

    def leave_rest(self, copied: Copied) -> None:
        """Write down the weights that were not used."""
        rest = []
        used = self.recorder.identities()
        for name, tensor in copied.names.items():
            if name not in used:
                holder = name.rpartition(".")[0]
                weight = Weight(name, tuple(tensor.shape), bool(tensor.requires_grad))
                rest.append((holder or name, holder.rpartition(".")[0], weight))
        self.recorder.unused(rest)


_WORDS = {
    "scaled_dot_product_attention": "attention", "cat": "concat", "addmm": "linear",
    "nll_loss_forward": "nll_loss",
    "nll_loss2d_forward": "nll_loss",
}  # fmt: skip
"""What people call some operations."""

_LAYERS = frozenset({"linear", "conv1d", "conv2d", "conv3d"})
"""Layers, which work also on what is the same for every example."""

_VALUES = frozenset({"_local_scalar_dense", "item", "is_nonzero", "equal", "allclose"})
"""Operations that ask for the value of a tensor."""

_RANDOM = frozenset({"rand", "randn", "randint", "randperm", "bernoulli", "rand_like", "randn_like"})

_BLANK = frozenset(
    {
        "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_zeros", "new_ones",
        "new_empty", "new_full", "new_empty_strided", "randint_like", "new_tensor",
    }
)  # fmt: skip
