"""PyTorch, imported when something of it is first asked for, so that its readers can be imported without it.

Write `from thalweg.network.readers.lazy_torch import torch` in the place of `import torch`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
else:

    class _Torch:
        """Has what PyTorch has."""

        def __getattr__(self, name: str) -> object:
            if name.startswith("__"):  # whoever asks what kind of object this is wants nothing of PyTorch
                raise AttributeError(name)
            found = getattr(importlib.import_module("torch"), name)
            setattr(self, name, found)  # the next time it is here
            return found

    torch = _Torch()

__all__ = ["torch"]
