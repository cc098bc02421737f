"""Models of Hugging Face from their configuration alone: no weights, no network.

A configuration is a `config.json`, the folder that holds one, or an object of `transformers`. The model is built on the
meta device and read like any other PyTorch module. Code that a configuration names outside `transformers` is not run.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thalweg.errors import InputError, missing_package
from thalweg.network.graph import Graph

_MOST_BYTES = 10_000_000

_ELSEWHERE = ("quantization_config", "_attn_implementation", "attn_implementation", "auto_map", "transformers_version")
"""What says how to load or to run a model, not what it is."""


def read(path: Path, shape: Sequence[Any] | None = None) -> Graph:
    """The model that a `config.json`, or the folder of one, describes.

    Raises:
        InputError: the file describes no model that `transformers` knows.
        MissingPackageError: `transformers` or PyTorch is not installed.
    """
    return read_config(configuration(path), shape)


def configuration(path: Path) -> Any:
    """The configuration that a `config.json`, or the folder of one, holds.

    Raises:
        InputError: the file describes no model that `transformers` knows.
        MissingPackageError: `transformers` or PyTorch is not installed.
    """
    file = path / "config.json" if path.is_dir() else path
    settings = _settings(file)
    transformers = _transformers()
    kind = settings.pop("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        near = difflib.get_close_matches(kind, list(transformers.CONFIG_MAPPING), n=1, cutoff=0.75)
        hint = f"did you mean {near[0]!r}?" if near else "check the name, or install a newer transformers."
        raise InputError(
            f"{str(file)!r} is of a model of type {kind[:60]!r}, which transformers {transformers.__version__} does "
            f"not know; {hint}"
        )
    try:
        config: Any = transformers.AutoConfig.for_model(kind, **settings)
    except Exception as error:
        raise InputError(f"{str(file)!r} describes no model that transformers can build: {_first(error)}.") from error
    return config


def read_config(config: Any, shape: Sequence[Any] | None = None) -> Graph:
    """The model that a configuration object of `transformers` describes."""
    from thalweg.network.readers.torch import read as read_module

    return read_module(build(config), shape)


def build(config: Any) -> Any:
    """The model of a configuration, on the meta device.

    Its `architectures` say which; without them it is the model that predicts the next word, where that is all there is
    for its type, and else the model without a head. The configuration of a part (the text encoder of a CLIP) gives that
    part.
    """
    transformers = _transformers()
    from transformers.models.auto import modeling_auto as auto

    from thalweg.network.readers.torch_modes import building

    named = next(iter(config.architectures or ()), None)
    head = getattr(transformers, named, None) if named else None
    causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if head is None:
        others = config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES or config.is_encoder_decoder
        only_causal = config.model_type in causal and not others
        head = transformers.AutoModelForCausalLM if only_causal else _part(config) or transformers.AutoModel
    try:
        with building():
            return (getattr(head, "_from_config", None) or head.from_config)(config)
    except Exception as error:
        raise InputError(f"Building the model of this {type(config).__name__} failed: {_first(error)}.") from error


def _part(config: Any) -> Any:
    """The model in the module of `transformers` beside that of a configuration which `AutoModel` does not know."""
    from transformers import MODEL_MAPPING, PreTrainedModel

    home = type(config).__module__
    if type(config) in MODEL_MAPPING or not home.startswith("transformers.models."):
        return None
    try:
        beside = importlib.import_module(home.replace(".configuration_", ".modeling_"))
    except ImportError:
        return None
    fitting: dict[str, Any] = {
        name: each
        for name, each in vars(beside).items()
        if isinstance(each, type)
        and issubclass(each, PreTrainedModel)
        and getattr(each, "config_class", None) is type(config)
        and not name.endswith("PreTrainedModel")
    }
    plain = type(config).__name__.removesuffix("Config") + "Model"
    return fitting.get(plain) or next(reversed(fitting.values()), None)


def _transformers() -> Any:
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise missing_package(
            error.name or "transformers", "reading a model of Hugging Face", "transformers"
        ) from error
    return transformers


def _settings(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(f"{str(file)!r} is too large for a configuration of Hugging Face.")
        settings = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {str(file)!r}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(file)!r} is not JSON ({_first(error)}); give a config.json of Hugging Face.") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("model_type"), str):
        raise InputError(f"{str(file)!r} has no 'model_type', so it is no configuration of Hugging Face.")
    return {key: value for key, value in settings.items() if key not in _ELSEWHERE}


def _first(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0][:300] or type(error).__name__).rstrip(".")
