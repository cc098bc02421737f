"""Which layer a model failed in, as the frames of its error tell: frameworks seldom say so themselves."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import Any

from thalweg.errors import InputError
from thalweg.network.graph import written

_FRAMEWORKS = frozenset({"equinox", "flax", "keras"})
_LAYERS = frozenset({"Module", "Layer"})
_LIBRARIES = _FRAMEWORKS | {"contextlib", "functools", "jax", "jaxlib", "jaxtyping", "tensorflow", "thalweg", "torch"}


def failed(what: str, shape: tuple[int, ...], error: Exception, reason: str = "") -> InputError:
    """The error for a model that fails on an input: where in the model, and why.

    Args:
        what: was done with the model.
        shape: of the input.
        error: what the model raised.
        reason: why, if its first line does not say it.
    """
    said = (reason or str(error).strip().partition("\n")[0]).rstrip(".") or "it does not say why"
    place = _place(error)
    answer = InputError(
        f"{what} on an input of {written(shape)} failed{f' in {place}' if place else ''} with {type(error).__name__}: "
        f"{said}."
    )
    answer.__cause__ = error
    return answer


def _place(error: Exception) -> str:
    """The layer that was at work, or the line of the user's own code where there is none deeper in it."""
    frames = max((list(_frames(each)) for each in _chain(error)), key=len)
    owners = [_owner(frame) for frame, _ in frames]
    layers = [(depth, owner) for depth, owner in enumerate(owners) if _is_layer(owner)]
    depth, name = -1, ""
    if layers:
        depth, layer = layers[-1]
        name = _name(layer, layers[0][1])
    own = [place for place, (frame, _) in enumerate(frames) if _package(frame) not in _LIBRARIES]
    if own and (own[-1] >= depth or not name):
        frame, line = frames[own[-1]]
        code = f"line {line} of {frame.f_code.co_qualname!r}"
        return f"{name!r}, {code}," if name else code
    return f"{name!r}" if name else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those behind it; JAX cuts the frames of the first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _owner(frame: FrameType) -> Any:
    """The object whose method runs, or whatever comes first."""
    code = frame.f_code
    return frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None


def _is_layer(owner: Any) -> bool:
    kinds = type(owner).__mro__
    return any(kind.__name__ in _LAYERS and kind.__module__.partition(".")[0] in _FRAMEWORKS for kind in kinds)


def _name(layer: Any, root: Any) -> str:
    """What a layer is called in the model: by itself, as in Keras and Linen, or by where it is held."""
    scope = getattr(layer, "scope", None)
    if scope is not None and hasattr(scope, "path"):
        return ".".join(scope.path)
    if isinstance(getattr(layer, "name", None), str):
        return str(layer.name)
    waiting, seen = [("", root)], set[int]()
    while waiting:
        path, held = waiting.pop(0)
        if held is layer:
            return path
        if id(held) not in seen:
            seen.add(id(held))
            waiting += [(f"{path}.{name}" if path else f"{name}", part) for name, part in _parts(held)]
    return ""


def _parts(held: Any) -> list[tuple[Any, Any]]:
    if isinstance(held, dict):
        return list(held.items())
    if isinstance(held, list | tuple):
        return list(enumerate(held))
    return list(vars(held).items()) if hasattr(held, "__dict__") else []
