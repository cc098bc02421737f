"""thalweg tells people about a training run before they pay for it.

Where will it end up (`limits`), which learning rates are best (`rates`), and what does the network cost and see
(`size`, `filters`)? Under them lies a textbook whose every fact can be run (`facts`) and argued with (`check`).

The names below load on first use, so that `import thalweg` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.adapters import from_equinox as from_equinox
    from thalweg.adapters import from_flax as from_flax
    from thalweg.data import Dataset as Dataset
    from thalweg.data import load as load
    from thalweg.errors import InputError as InputError
    from thalweg.errors import MissingPackageError as MissingPackageError
    from thalweg.errors import OutputError as OutputError
    from thalweg.errors import ThalwegError as ThalwegError
    from thalweg.implicit_bias.verdict import Limits as Limits
    from thalweg.implicit_bias.verdict import limits as limits
    from thalweg.learning_rate.ask import rates as rates
    from thalweg.learning_rate.curve import Rates as Rates
    from thalweg.learning_rate.forecast import NetworkRates as NetworkRates
    from thalweg.least_squares import LeastSquares as LeastSquares
    from thalweg.network.filters import Filters as Filters
    from thalweg.network.filters import filters as filters
    from thalweg.network.size import Size as Size
    from thalweg.network.size import size as size
    from thalweg.tasks import Task as Task
    from thalweg.textbook.check import Check as Check
    from thalweg.textbook.check import check as check
    from thalweg.textbook.facts import Facts as Facts
    from thalweg.textbook.facts import facts as facts
    from thalweg.training import Stream as Stream
    from thalweg.training import Training as Training

__version__ = "0.1.0"

_HOMES = {
    "Check": "textbook.check",
    "Dataset": "data",
    "Facts": "textbook.facts",
    "Filters": "network.filters",
    "InputError": "errors",
    "LeastSquares": "least_squares",
    "Limits": "implicit_bias.verdict",
    "MissingPackageError": "errors",
    "NetworkRates": "learning_rate.forecast",
    "OutputError": "errors",
    "Rates": "learning_rate.curve",
    "Size": "network.size",
    "Stream": "training",
    "Task": "tasks",
    "ThalwegError": "errors",
    "Training": "training",
    "check": "textbook.check",
    "facts": "textbook.facts",
    "filters": "network.filters",
    "from_equinox": "adapters",
    "from_flax": "adapters",
    "limits": "implicit_bias.verdict",
    "load": "data",
    "rates": "learning_rate.ask",
    "size": "network.size",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'thalweg' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"thalweg.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
