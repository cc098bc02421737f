"""Whatever a person calls a network, read into a `Graph` by the reader that knows it.

A text is a spec, the name of a file, `module:callable` or `file.py:callable`; an object is handed to the reader of the
framework that it comes from. Frameworks are optional and large: no reader is imported before something of its kind is
given.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import os
import re
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg.errors import InputError
from thalweg.network.graph import Graph
from thalweg.network.readers.spec import read_spec
from thalweg.network.readers.spec_grammar import MAX_CHARACTERS, begins_with_a_layer
from thalweg.python_files import defined, importable, imported

Shape = tuple[int, ...]

_FILES: Mapping[str, str] = {".onnx": "onnx", ".keras": "keras", ".pt2": "torch_export"}
"""The module whose `read(path, shape)` reads files of a suffix."""

_FRAMEWORKS: Mapping[str, str] = {
    "keras": "keras",
    "torch": "torch",
    "flax": "flax",
    "equinox": "equinox",
    "jax": "jax",
}
"""The module whose `read(model, shape)` reads objects of a framework, by the package that must be imported already.

Its `knows(model)` says whether the object is one of its own. Those whose models are JAX programs also have
`program(model, shape)`.
"""

_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CALLABLE = re.compile(r"(?:[A-Za-z_][\w.]*|[^\n;]+\.py):[A-Za-z_][\w.]*")
_PLAIN_WORD = re.compile(r"[^\s:;#()]+")
_OF_WEIGHTS = frozenset({".bin", ".ckpt", ".npy", ".npz", ".pt", ".pth", ".safetensors"})
"""Suffixes of files that say nothing of how layers are joined, or only in a pickle."""


def opened(model: object, weights: bool = False) -> object:
    """The module that `module:callable`, `file.py:callable` or a configuration of Hugging Face stands for.

    All else stays as it is.

    Args:
        model: as for `read`.
        weights: whether what `module:callable` makes must hold its weights.

    Raises:
        InputError: it cannot be made.
        MissingPackageError: the package that makes it is not installed.
    """
    if isinstance(model, str) and _CALLABLE.fullmatch(model.strip()) and not _exists(model):
        model = made_by(model.strip(), weights)
    if isinstance(model, str | os.PathLike) and _exists(os.fspath(model)) and _holds_configuration(Path(model)):
        model = _reader("hugging_face").configuration(Path(model))
    transformers = sys.modules.get("transformers")
    if transformers is not None and isinstance(model, transformers.PretrainedConfig):
        return _reader("hugging_face").build(model)
    return model


def _holds_configuration(path: Path) -> bool:
    return path.suffix.lower() == ".json" or (path / "config.json").is_file()


def read(model: object, shape: Shape | None = None) -> Graph:
    """The network that a spec, a file, `module:callable` or an object describes.

    Args:
        model: as for `thalweg.size`.
        shape: the extents of the input without the batch, in the framework's own order of axes; None where the model
            says them itself.

    Raises:
        InputError: it cannot be read; the message says why and what to do.
        MissingPackageError: the package that reads such files is not installed.
    """
    model = opened(model)
    if isinstance(model, Graph):
        if shape is not None:
            raise InputError("A graph holds its input's extents already; leave `input` out, or give a spec.")
        return model
    if isinstance(model, str | os.PathLike):
        return _read_text(model, shape)
    reader = _reader_of(model)
    needed = _needed(model) if isinstance(model, types.FunctionType) else []
    if len(needed) > (reader is not None):  # in JAX a function of the input is a network
        raise _not_given(getattr(model, "__name__", "The function"), needed)
    if reader is not None:
        graph: Graph = reader.read(model, shape)
        return graph
    raise InputError(
        f"Cannot read a network from a value of type {type(model).__name__!r}; give a spec such as "
        "'input 112x112x3; conv3-64; maxpool; FC-10', or the path of a file that holds one."
    )


def jax_program(model: object, shape: Shape | None) -> Any:
    """The `thalweg.network.readers.jax.Program` that a model of Flax, Equinox or plain JAX is; None for all others."""
    reader = _reader_of(model)
    return reader.program(model, shape) if hasattr(reader, "program") else None


def keras_model(model: object) -> Any:
    """The Keras model that an object is, or that a `.keras` file holds, with its weights; None for all others."""
    path = _file_of("keras", model)
    if path is not None:
        return _reader("keras").with_weights(path)
    return model if "keras" in sys.modules and _reader("keras").knows(model) else None


def onnx_file(model: object) -> Path | None:
    """The path of an ONNX file; None for all others."""
    return _file_of("onnx", model)


def _file_of(reader: str, model: object) -> Path | None:
    """The path, where a model is that of a file which this reader reads."""
    named = isinstance(model, str | os.PathLike) and _FILES.get(Path(model).suffix.lower()) == reader
    return Path(model) if isinstance(model, str | os.PathLike) and named else None


def _reader_of(model: object) -> Any:
    """The reader that knows an object; None where no framework does."""
    # Whoever holds an object of a framework has imported it, and nobody else pays for that.
    imported = (_reader(reader) for package, reader in _FRAMEWORKS.items() if package in sys.modules)
    return next((reader for reader in imported if reader.knows(model)), None)


def _read_text(model: str | os.PathLike[str], shape: Shape | None) -> Graph:
    if isinstance(model, str) and not _exists(model):
        if Path(model[:1000]).suffix[1:].isalpha() and not any(sign in model for sign in " \t\n;"):
            raise InputError(
                f"There is no file {model[:200]!r}; name a text file with a spec, or write the spec itself."
            )
        return _read_written(model, shape)
    path = Path(model)
    reader = _FILES.get(path.suffix.lower())
    if reader is not None:
        graph: Graph = _reader(reader).read(path, shape)
        return graph
    if path.is_file():
        _refuse_other_files(path)
    return read_spec(_text_of(path), shape)


def _read_written(text: str, shape: Shape | None) -> Graph:
    """The network of a spec; a single word that begins with no layer was hardly meant as one."""
    word = text.strip()
    try:
        return read_spec(text, shape)
    except InputError as error:
        if not _PLAIN_WORD.fullmatch(word) or begins_with_a_layer(word):
            raise
        reason = str(error).partition("; expected one of")[0].rstrip(".?")
        raise InputError(
            f"There is no file or folder {word[:200]!r}, and as a spec it cannot be read ({reason}); a model of a "
            "framework is named by where it is made, as in torchvision.models:resnet50."
        ) from error


def _refuse_other_files(path: Path) -> None:
    """Refuse files that are known to hold no spec.

    Raises:
        InputError: it is one of Python, or of weights.
    """
    suffix = path.suffix.lower()
    if suffix == ".py":
        known = defined(path, (ast.ClassDef, ast.FunctionDef))
        which = f"; it defines {', '.join(known[:10])}" if known else ""
        raise InputError(f"{str(path)!r} does not say which model in it is meant; write {path}:NAME{which}.")
    if suffix in (".h5", ".hdf5"):
        raise InputError(f"{str(path)!r} is of an older format of Keras that is not read; save the model as .keras.")
    if suffix in _OF_WEIGHTS:
        from thalweg.network.kernels.first_layer import is_readable

        more = f", or ask thalweg filters {path} what its kernels detect" if is_readable(path) else ""
        raise InputError(
            f"{str(path)!r} holds weights, which do not say how the layers are joined (a pickled model is never "
            f"loaded); give module:callable, or a .pt2, .onnx or .keras file{more}."
        )


def _reader(name: str) -> Any:
    return importlib.import_module(f"thalweg.network.readers.{name}")


def made_by(name: str, weights: bool = False) -> object:
    """The model that `module:callable` or `file.py:callable` names; the current folder is importable.

    A class, or a function that needs no argument, is called; a function that needs some is the model itself. Beside a
    file its neighbours are importable too.

    Args:
        name: of the model.
        weights: whether what is made must hold its weights.

    Raises:
        InputError: there is no such module, file or name, a class needs arguments, or the module or the call fails; the
            message says why.
    """
    module_name, _, path = name.rpartition(":")
    is_file = module_name.endswith(".py")
    if is_file and not _exists(module_name):
        raise InputError(f"There is no file {module_name!r} (for {name!r}); check the path.")
    folders = [Path(module_name).parent, Path.cwd()] if is_file else [Path.cwd()]
    try:
        with importable(folders):
            return _made_in(module_name, path, weights)
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(
            f"There is no module {error.name!r} (for {name!r}); run from the folder that holds it, or install it."
        ) from error
    except (Exception, SystemExit) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"Making the model {name!r} failed with {type(error).__name__}: {reason}") from error


def _made_in(module_name: str, path: str, weights: bool) -> object:
    """What a name in a module, or in a file, stands for, made where it is made by a call."""
    file = Path(module_name)
    is_file = file.suffix == ".py"
    found: Any = imported(file, f"thalweg_model_{file.stem}") if is_file else importlib.import_module(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise InputError(f"{module_name!r} has no {path!r}; name a function, a class or a model in it.")
        found = getattr(found, part)
    needed = _needed(found)
    if needed and isinstance(found, type):
        raise _not_given(f"{module_name}:{path}", needed)
    if needed or not _makes_a_model(found):
        return found
    return found() if weights else _made(found)


def _made(make: Any) -> object:
    """What a function makes; a model of Keras or PyTorch without its weights, where it can be made so."""
    with contextlib.suppress(Exception), contextlib.ExitStack() as scopes:
        for framework in ("keras", "torch"):
            if framework in sys.modules:
                scopes.enter_context(_reader(framework).without_weights())
        return make()
    return make()


def _makes_a_model(found: object) -> bool:
    """Whether it is a class or a function."""
    kinds = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
    return isinstance(found, kinds)


def _needed(found: object) -> list[str]:
    """The arguments that a class or a function cannot do without, as far as it says."""
    if not _makes_a_model(found):
        return []
    try:
        parameters = inspect.signature(found).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []
    return [each.name for each in parameters if each.default is each.empty and each.kind not in _ANY_NUMBER]


def _not_given(name: str, needed: list[str]) -> InputError:
    what = " and ".join(repr(each) for each in needed)
    return InputError(
        f"{name!r} needs the argument{'s' * (len(needed) > 1)} {what}; name a function without arguments that makes "
        "the model, or in JAX a function of the input alone."
    )


def _text_of(path: str | os.PathLike[str]) -> str:
    """What a text file holds."""
    if Path(path).is_dir():
        raise InputError(
            f"{str(path)!r} is a folder without a config.json; name a folder that holds a configuration of Hugging "
            "Face, or a file."
        )
    try:
        with Path(path).open(encoding="utf-8") as stream:
            return stream.read(MAX_CHARACTERS + 1)
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except OSError as error:
        reason = error.strerror or str(error)
    raise InputError(f"Cannot read {str(path)!r}: {reason}; name a text file that holds a spec.")


def _exists(path: str) -> bool:
    try:
        return bool(path.strip()) and Path(path).exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False
