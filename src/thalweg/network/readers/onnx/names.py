"""What people call the operations of a file, and the modules they stand in.

PyTorch writes the path of the module into the name of a node (`/layer1/layer1.0/conv1/Conv`) or into its metadata, and
into the names of weights (`layer1.0.conv1.weight`); all give `layer1.0.conv1`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from thalweg.network.graph import Weight
from thalweg.network.readers.onnx.file import shortened
from thalweg.network.readers.onnx.node import operators

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

QUIET = operators(
    "Cast CastLike Concat Constant ConstantOfShape DequantizeLinear Expand Flatten Gather Identity QuantizeLinear "
    "Range Reshape Shape Size Slice Split Squeeze Tile Transpose Unsqueeze"
)
"""Operations that only move values: a module of one other operation is called like that operation."""

_SCOPES = "pkg.torch.onnx.name_scopes"
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_OF_WEIGHTS = ".weight"


class Names:
    """The names of all nodes.

    Args:
        graph: the whole network.
    """

    def __init__(self, graph: GraphProto) -> None:
        scopes = [(node, found) for node in graph.node if (found := scope_of(node)) is not None]
        self._holding = {part for _, (path, _) in scopes for part in _parents(path)}
        self._alone = Counter(path for node, (path, _) in scopes if node.op_type not in QUIET)

    def of(self, node: NodeProto, weights: Iterable[Weight]) -> tuple[str, str]:
        """The name of a node and the path of the module that holds it.

        Args:
            node: as it stands in the file.
            weights: those that it uses.
        """
        named = next((each.identity for each in weights if each.identity.endswith(_OF_WEIGHTS)), None)
        if named is not None and len(named) > len(_OF_WEIGHTS):
            return _with_module(named[: -len(_OF_WEIGHTS)])
        scope = scope_of(node)
        if scope is None:
            name = node.name or node.op_type or "nameless"
            return shortened(name), shortened(name.rpartition("/")[0])
        path, label = scope
        if path and path not in self._holding and self._alone[path] <= 1:
            return _with_module(path)
        return shortened(f"{path}.{label}" if path else label), shortened(path)


def _with_module(path: str) -> tuple[str, str]:
    return shortened(path), shortened(path.rpartition(".")[0])


def scope_of(node: NodeProto) -> tuple[str, str] | None:
    """The path of the module that a node stands in, and what it is called there; None where it does not say."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES and len(entry.value) < 10_000:
            scopes = [one or other for one, other in _QUOTED.findall(entry.value)]
            if len(scopes) > 1:
                return scopes[-2], scopes[-1]
    name: str = node.name
    if not name.startswith("/") or len(name) > 1000:
        return None
    *parts, label = name[1:].split("/")
    path: list[str] = []
    for part in parts:
        # A module inside a list is written once more after its list: layer1/layer1.0.
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path), label


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
