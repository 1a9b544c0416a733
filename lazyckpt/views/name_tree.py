"""Build a tree of names: split at dots, fold identical numbered siblings, sum at each node. Pure functions.

    model.layers.0.attention.weight           model                    97 parameters, 1.5 GiB
    model.layers.0.mlp.weight                   layers
    model.layers.1.attention.weight      ->       0–31                 32 alike, 64 parameters
    …                                               attention.weight   the shape of one
    model.norm.weight                               mlp.weight
                                                norm.weight

Siblings are folded if their names differ only in a number at the end, and everything below them has the same names,
dtypes, shapes and sizes. A branch that does not fork is one node (`attention.weight`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

ITSELF: Final = "(itself)"  # label of a value whose name is also a prefix of others
DEEPEST: Final = 24  # components; the rest of a name stays one component
_NUMBERED: Final = re.compile(r"(.*?)(0|[1-9][0-9]{0,14})", re.DOTALL)
_RANGES: Final = 3  # ranges; with more, only the first and the last number are shown


class Leaf(NamedTuple):
    """One value, or several that were counted together.

    Attributes:
        dtype: of its elements, as text.
        shape: as text.
        nbytes: of all.
        note: a remark, or empty.
        amount: number of values.
    """

    dtype: str
    shape: str
    nbytes: int
    note: str = ""
    amount: int = 1


class Node(NamedTuple):
    """A node of the finished tree.

    Attributes:
        label: the part of the name below its parent; for folded siblings the range of numbers.
        amount: number of values at and below it, in all folded siblings together.
        nbytes: their bytes.
        dtype: of a leaf, else empty.
        shape: of a leaf (of one of the folded ones), else empty.
        note: a remark, or empty.
        alike: number of siblings folded here.
        children: in file order.
    """

    label: str
    amount: int
    nbytes: int
    dtype: str = ""
    shape: str = ""
    note: str = ""
    alike: int = 1
    children: tuple[Node, ...] = ()


class _Draft:
    """A node under construction: children by label, and the value of exactly this name."""

    __slots__ = ("children", "leaves")

    def __init__(self) -> None:
        self.children: dict[str, _Draft] = {}
        self.leaves: list[Leaf] = []


def grow(leaves: Iterable[tuple[str, Leaf]], label: str = "") -> Node:
    """The tree of named leaves. Several leaves may have one name. Cost: a few microseconds per leaf."""
    top = _Draft()
    for name, leaf in leaves:
        here = top
        for part in name.split(".", DEEPEST - 1):
            below = here.children.get(part)
            if below is None:
                below = here.children[part] = _Draft()
            here = below
        here.leaves.append(leaf)
    return _finish("", top, {})._replace(label=label)


def _finish(label: str, draft: _Draft, seen: dict[object, int]) -> Node:
    children = [_finish(part, below, seen) for part, below in draft.children.items()]
    named = ITSELF if children else label
    own = [Node(named, leaf.amount, leaf.nbytes, leaf.dtype, leaf.shape, leaf.note) for leaf in draft.leaves]
    if not children and len(own) == 1:
        return own[0]
    folded = _folded([*own, *children], seen) if len(children) > 1 else [*own, *children]
    if len(folded) == 1 and label:  # a branch that does not fork
        return folded[0]._replace(label=f"{label}.{folded[0].label}")
    return Node(label, sum(n.amount for n in folded), sum(n.nbytes for n in folded), children=tuple(folded))


def _folded(nodes: Sequence[Node], seen: dict[object, int]) -> list[Node]:
    groups: dict[object, list[tuple[int, Node]]] = {}
    for node in nodes:
        stem, number, rest = _numbered(node.label)
        key: object = node.label if number is None else (stem, rest, _likeness(node, seen))
        if number is None and key in groups:  # two values of one name
            key = (node.label, len(groups))
        groups.setdefault(key, []).append((number or 0, node))
    return [_together(members) for members in groups.values()]


def _numbered(label: str) -> tuple[str, int | None, str]:
    """Split a label into its number and the texts around it (in an unforked branch)."""
    first, dot, rest = label.partition(".")
    found = _NUMBERED.fullmatch(first)
    return (found[1], int(found[2]), dot + rest) if found else (label, None, "")


def _likeness(node: Node, seen: dict[object, int]) -> int:
    """A number that is equal for nodes that differ only in their own label."""
    below = tuple((child.label, _likeness(child, seen)) for child in node.children)
    return seen.setdefault((node.amount, node.nbytes, node.dtype, node.shape, node.note, node.alike, below), len(seen))


def _together(members: list[tuple[int, Node]]) -> Node:
    one = members[0][1]
    if len(members) == 1:
        return one
    stem, _, rest = _numbered(one.label)
    many = _times(one, len(members))
    label = f"{stem}{ranges(sorted(number for number, _ in members))}{rest}"
    return many._replace(label=label, alike=len(members) * one.alike)


def _times(node: Node, by: int) -> Node:
    below = tuple(_times(child, by) for child in node.children)
    return node._replace(amount=node.amount * by, nbytes=node.nbytes * by, children=below)


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as short text: `0–3,7`; more than three ranges give only the ends: `0…62`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    if len(runs) > _RANGES:
        return f"{numbers[0]}…{numbers[-1]}"
    return ",".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)


def pruned(root: Node, *, depth: int | None = None, rows: int, breadth: int) -> Node:
    """A tree small enough to show: wide levels are cut, and deep ones left out; totals stay.

    Args:
        root: the whole tree.
        depth: levels below the root; None for as many as fit.
        rows: maximum number of nodes, without the root.
        breadth: maximum number of children of a node.

    Returns:
        The new root. A node whose children are left out keeps its totals. Where children are cut, the last one
        represents all the others.
    """
    shown: dict[int, int] = {}  # by identity: how many children
    queue = deque([(root, 0)])
    while queue:
        node, level = queue.popleft()
        have = len(node.children)
        take = min(have, breadth, rows)
        if not have or level == depth or take < min(have, 2):
            continue
        shown[id(node)] = take
        rows -= take
        queue.extend((child, level + 1) for child in node.children[: take if take == have else take - 1])
    return _kept(root, shown)


def _kept(node: Node, shown: dict[int, int]) -> Node:
    take = shown.get(id(node), 0)
    children = node.children
    if take < len(children) and take:
        rest = children[take - 1 :]
        count, nbytes = sum(child.amount for child in rest), sum(child.nbytes for child in rest)
        more = Node(f"… {len(rest):,} more", count, nbytes)
        return node._replace(children=(*(_kept(child, shown) for child in children[: take - 1]), more))
    return node._replace(children=tuple(_kept(child, shown) for child in children) if take else ())


def size_of_tree(node: Node) -> int:
    """The number of nodes below one."""
    return sum(1 + size_of_tree(child) for child in node.children)
