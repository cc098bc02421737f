"""The layers of a network as people read them: by module, repeated blocks once.

A list of five hundred operations tells nobody anything. Here the operations stand under the modules that hold them, at
every depth of their paths; those that are no layers of neurons (activations, normalisation, sums) are left out but for
their parameters, which are in the sums of their modules; and what repeats, block after block or layer after layer, is
told once with the number of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from thalweg.network.layer_size import LayerSize

MOST_PLAIN = 30
"""So many operations or fewer are simply listed."""
_LONGEST_PATTERN = 16
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a grouped table.

    Args:
        label: what it is called under the rows above it.
        path: what it is called by itself.
        depth: how many modules it stands under.
        places: the operations that it sums over; in repeated blocks those of the first.
        everywhere: the same in all blocks that are told as one.
        leaf: whether it is a layer and not a module.
    """

    label: str
    path: str
    depth: int
    places: tuple[int, ...]
    everywhere: tuple[int, ...]
    leaf: bool


@dataclass(slots=True)
class _Node:
    label: str
    note: str = ""
    places: list[int] = field(default_factory=list)
    everywhere: list[int] = field(default_factory=list)
    children: list[_Node] = field(default_factory=list)
    leaf: bool = False
    digest: int = 0


def is_shown(layer: LayerSize) -> bool:
    """Whether it is a layer of neurons, a product of units such as attention, or unknown."""
    return layer.neurons != 0 or layer.connections != 0


def grouped(layers: Sequence[LayerSize]) -> list[Row]:
    """The rows of a grouped table, in the order of the network."""
    root = _tree(layers)
    digests: dict[Hashable, int] = {}
    _digest(root, layers, digests)
    _fold(root)
    return [row for child in root.children for row in _rows(child, 0, "")]


def _tree(layers: Sequence[LayerSize]) -> _Node:
    """The operations under their modules; modules without a layer that is shown are left out."""
    told = {path for layer in layers if is_shown(layer) for path in _paths(layer.module)}
    root = _Node("")
    groups: dict[str, _Node] = {}
    for place, layer in enumerate(layers):
        around = [root]
        for path in _paths(layer.module):
            if path not in told:
                break
            if path not in groups:
                groups[path] = _Node(path.rpartition(".")[2])
                around[-1].children.append(groups[path])
            around.append(groups[path])
        for node in around:
            node.places.append(place)
            node.everywhere.append(place)
        if is_shown(layer):
            label = layer.name.removeprefix(f"{layer.module}.") or layer.name
            around[-1].children.append(_Node(label, "", [place], [place], leaf=True))
    return root


def _paths(module: str) -> list[str]:
    """A module's path and those of the modules around it, outermost first."""
    parts = module.split(".") if module else []
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _digest(node: _Node, layers: Sequence[LayerSize], digests: dict[Hashable, int]) -> int:
    """A number that two nodes share if they look the same but for numbers in their names."""
    if node.leaf:
        layer = layers[node.places[0]]
        costs = (layer.neurons, layer.parameters, layer.connections, layer.macs)
        what: Hashable = (node.label, layer.kind, layer.output, costs)
    else:
        label = "#" if _NUMBER.fullmatch(node.label) else node.label
        parameters = sum(layers[place].parameters or 0 for place in node.places)
        what = (label, parameters, tuple([_digest(child, layers, digests) for child in node.children]))
    node.digest = digests.setdefault(what, len(digests))
    return node.digest


def _fold(node: _Node) -> None:
    """Tell repeated children once."""
    folded, at = [], 0
    digests = [each.digest for each in node.children]
    while at < len(digests):
        length, times = _repeat(digests, at)
        later_length, later_times = _repeat(digests, at + 1)
        if later_length * later_times > length * times + 1:  # a longer pattern begins with the next
            length = times = 1
        block = node.children[at : at + length * times]
        at += len(block)
        folded.append(block[0] if times == 1 else _merged(block, length, times))
    node.children = folded
    for child in folded:
        _fold(child)


def _repeat(digests: Sequence[int], at: int) -> tuple[int, int]:
    """The length of the pattern that begins here and how often it stands, where most is told by it."""
    best, length, times = 1, 1, 1
    for period in range(1, min(_LONGEST_PATTERN, (len(digests) - at) // 2) + 1):
        count, end = 1, at + period
        while digests[end : end + period] == digests[at : at + period]:
            count, end = count + 1, end + period
        if count > 1 and period * count > best:
            best, length, times = period * count, period, count
    return length, times


def _merged(block: Sequence[_Node], length: int, times: int) -> _Node:
    places = [place for each in block for place in each.places]
    everywhere = [place for each in block for place in each.everywhere]
    members = [_together(block[start::length]) for start in range(length)]
    first, last = block[0].label, block[-1].label
    if length == 1 and block[0].leaf:
        return _Node(first, f"({times} x)", places, everywhere, leaf=True)
    sign = "-" if _NUMBER.fullmatch(first) else " ... "
    label = first if first == last else f"{first}{sign}{last}"
    return _Node(label, f"({times} x)", places, everywhere, members[0].children if length == 1 else members)


def _together(nodes: Sequence[_Node]) -> _Node:
    """Nodes that look the same as one, which stands for all and shows the first."""
    first = nodes[0]
    children = [_together(same) for same in zip(*(each.children for each in nodes), strict=True)]
    everywhere = [place for each in nodes for place in each.everywhere]
    return _Node(first.label, first.note, first.places, everywhere, children, first.leaf, first.digest)


def _rows(node: _Node, depth: int, around: str) -> Iterator[Row]:
    prefix = ""
    while not node.leaf and not node.note and len(node.children) == 1:  # a module with one part is a step of the path
        prefix += f"{node.label}."
        node = node.children[0]
    label, path = prefix + node.label, around + prefix + node.label
    yield Row(f"{label} {node.note}".rstrip(), path, depth, tuple(node.places), tuple(node.everywhere), node.leaf)
    for child in node.children:
        yield from _rows(child, depth + 1, f"{path}.")


def at_most(rows: Sequence[Row], most: int) -> list[Row]:
    """The rows that a picture with room for so many shows: layers, or the modules around them, or runs of those."""
    for deepest in range(max((row.depth for row in rows), default=0), -1, -1):
        shown = [row for row in rows if row.depth == deepest or (row.leaf and row.depth < deepest)]
        if len(shown) <= most:
            return shown
    shown = [row for row in rows if row.depth == 0]
    length = -(-len(shown) // most)
    return [_run(shown[start : start + length]) for start in range(0, len(shown), length)]


def _run(rows: Sequence[Row]) -> Row:
    label = rows[0].path if len(rows) == 1 else f"{rows[0].path} ... {rows[-1].path}"

    def joined(pick: Callable[[Row], tuple[int, ...]]) -> tuple[int, ...]:
        return tuple(place for row in rows for place in pick(row))

    return Row(
        label, label, 0, joined(lambda row: row.places), joined(lambda row: row.everywhere), all(r.leaf for r in rows)
    )
