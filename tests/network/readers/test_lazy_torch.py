"""The readers of PyTorch can be imported where it is not, and import it only when they are used."""

from __future__ import annotations

import subprocess
import sys

READERS = ("torch", "torch_copy", "torch_export", "torch_inputs", "torch_operations", "torch_quick", "torch_run")


def test_readers_are_imported_without_pytorch():
    code = "import sys; sys.modules['torch'] = None\nimport importlib\n"
    code += "".join(f"importlib.import_module('thalweg.network.readers.{name}')\n" for name in READERS)
    code += "from thalweg.network.readers.lazy_torch import torch\n"
    code += "assert not hasattr(torch, '__wrapped__')\n"
    code += "try:\n    torch.nn\nexcept ImportError:\n    print('asked for')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "asked for\n"
