"""Which tensors of a file are no parameters, where PyTorch's exporter says so.

An ONNX file calls all its tensors alike. PyTorch's newer exporter adds what they were: parameters, or buffers such as
tables of positions. It also works out what follows from them, under new names: such a tensor stands for a parameter
when it is used in the module whose parameter is missing under its own name, the largest where several are. Arrays that
are equal it writes once, also those that are only equal at first, all ones or all zeros.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.network.readers.onnx.file import is_mask
from thalweg.network.readers.onnx.names import scope_of

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_ENTRY = re.compile(r"^\S+: ([A-Z_]+) target='([^']*)'", re.MULTILINE)
_PARAMETER = "PARAMETER"


class Parameters:
    """What PyTorch's exporter says about the tensors of a file.

    Args:
        graph: the whole network.
        folder: that of its file.

    Attributes:
        not_learned: the names of tensors that are known to be no parameters.
        missing: the names of parameters that the file does not hold under their own name.
    """

    def __init__(self, graph: GraphProto, folder: Path) -> None:
        said = [(info.name, entry) for info in graph.value_info for entry in info.metadata_props]
        self.not_learned = {name for name, entry in said if entry.key == _KIND and entry.value != _PARAMETER}
        signature = next((entry.value for entry in graph.metadata_props if entry.key == _SIGNATURE), "")
        parameters = {target for kind, target in _ENTRY.findall(signature) if kind == _PARAMETER}
        sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
        self.missing = parameters - set(sizes)
        masks = {tensor.name for tensor in graph.initializer if is_mask(tensor, folder)}
        if parameters:
            unsure = set(sizes) - parameters - masks
            places = Counter(name.rpartition(".")[0] for name in self.missing)
            for module, used in _used_in(graph, places).items():
                largest = sorted(used & unsure, key=lambda name: (-sizes[name], name))
                unsure.difference_update(largest[: places[module]])
            self.not_learned |= unsure

    def own_name(self, node: NodeProto, tensor: str) -> str | None:
        """The parameter of a node's own module for which a tensor of another may stand, because the two are equal."""
        scope = scope_of(node) if self.missing else None
        name = None if scope is None else f"{scope[0]}.{tensor.rpartition('.')[2]}"
        return name if name in self.missing else None


def _used_in(graph: GraphProto, modules: Container[str]) -> dict[str, set[str]]:
    """What the nodes of some modules take."""
    used: dict[str, set[str]] = {}
    for node in graph.node:
        scope = scope_of(node)
        if scope is not None and scope[0] in modules:
            used.setdefault(scope[0], set()).update(node.input)
    return used
