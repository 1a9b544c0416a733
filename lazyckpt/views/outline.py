"""Build a tree from entries, values in memory, or counted groups. Reads no payload."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from lazyckpt.display import human_size
from lazyckpt.index import Index
from lazyckpt.index.name_groups import CUT, NUMBER, Group, tally
from lazyckpt.model.entry import MAP, REFUSED, STRING, TENSOR, Entry
from lazyckpt.parameter import Parameter
from lazyckpt.views.name_tree import Leaf, Node, grow

EXACT: Final = 20_000  # parameters; above, they are counted in groups
MOST_SHAPES: Final = 12  # of summarised values; above, shapes are only counted
EDITED: Final = "in memory"
_KINDS: Final = {STRING: "str", MAP: "map", REFUSED: "refused"}
LARGEST: Final = 10


class Outline(NamedTuple):
    """A tree, and the facts for its headline.

    Attributes:
        root: of the whole tree; its label is the name of the file.
        is_exact: whether it has every name; otherwise numbers in names are `*`, and totals are still exact.
        edited: number of values that are only in memory.
        removed: number of the file's names that were taken out.
    """

    root: Node
    is_exact: bool = True
    edited: int = 0
    removed: int = 0

    def headline(self) -> str:
        """The totals in a few words."""
        root = self.root
        parts = [f"{root.amount:,} {'value' if root.amount == 1 else 'values'}", human_size(root.nbytes)]
        parts += [f"{self.edited:,} set in memory"] if self.edited else []
        parts += [f"{self.removed:,} taken out"] if self.removed else []
        return " · ".join(parts)

    def remark(self) -> str:
        """An explanation for readers of a summarised tree; empty for an exact one."""
        if self.is_exact:
            return ""
        return (
            f"Summarised: {NUMBER} stands for the numbers in names, {CUT} for names too unlike to be listed."
            " Totals are exact; select(pattern) shows a part."
        )


def of_values(label: str, known: Iterable[tuple[str, Entry | Any]], *, removed: int = 0) -> Outline:
    """The outline of names with their entries, or their values in memory."""
    edited = 0

    def leaves() -> Iterable[tuple[str, Leaf]]:
        nonlocal edited
        for name, value in known:
            leaf = leaf_of(value)
            edited += leaf.note == EDITED
            yield name, leaf

    root = grow(leaves(), label)
    return Outline(root, True, edited, removed)


def of_groups(label: str, groups: Iterable[Group], added: Iterable[tuple[str, Any]] = (), removed: int = 0) -> Outline:
    """The outline of counted groups, and of values in memory."""
    leaves = list(_leaves_of_groups(groups))
    extra = [(name, leaf_of(value)) for name, value in added]
    return Outline(grow([*leaves, *extra], label), False, sum(leaf.note == EDITED for _, leaf in extra), removed)


def of_index(label: str, index: Index, only: Collection[int] | None = None) -> Outline:
    """The outline of a file, including parameters that cannot be loaded.

    Args:
        label: the label of the root.
        index: of the file.
        only: the ordinals to show; None for all.
    """
    if only is not None and len(only) > EXACT:
        return of_groups(label, tally(index, only=set(only)))
    if only is not None:
        return of_values(label, ((entry.name, entry) for entry in map(index.at, sorted(only))))
    if len(index) > EXACT:
        return of_groups(label, tally(index))
    return of_values(label, ((entry.name, entry) for entry in index.entries()))


def leaf_of(value: Entry | Any) -> Leaf:
    """The leaf for an entry, or for a value in memory."""
    if isinstance(value, Entry):
        return _leaf_of_entry(value)
    if isinstance(value, Parameter):
        note = EDITED if value.origin is None else ""
        return Leaf(value.dtype.name, shape_text(value.shape), value.nbytes, note)
    if isinstance(value, str):
        return Leaf("str", f"{len(value):,} characters", 4 * len(value), EDITED)
    if isinstance(value, np.ndarray):
        return Leaf(value.dtype.name, shape_text(value.shape), value.nbytes, EDITED)
    if isinstance(value, list) and value and all(isinstance(part, np.ndarray) for part in value):
        return Leaf("map", ", ".join(shape_text(part.shape) for part in value), sum(p.nbytes for p in value), EDITED)
    return Leaf(type(value).__name__, "", getattr(value, "nbytes", 0), EDITED)


def _leaf_of_entry(entry: Entry) -> Leaf:
    if entry.kind == TENSOR and entry.dtype is not None:
        return Leaf(entry.dtype.name, shape_text(entry.shape), entry.nbytes)
    if entry.kind == MAP:
        return Leaf("map", ", ".join(shape_text(array.shape) for array in entry.arrays), entry.nbytes)
    if entry.kind == STRING:
        return Leaf("str", f"{entry.stored // 4:,} characters", entry.nbytes)
    return Leaf(_KINDS[entry.kind], "", entry.nbytes, entry.reason)


def _leaves_of_groups(groups: Iterable[Group]) -> Iterator[tuple[str, Leaf]]:
    """A leaf for each group; groups of one name and dtype with too many shapes share a leaf."""
    alike: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        dtype = group.dtype.name if group.dtype is not None else _KINDS.get(group.kind, group.kind)
        alike.setdefault((group.name, dtype), []).append(group)
    for (name, dtype), members in alike.items():
        if len(members) > MOST_SHAPES:
            amount, nbytes = sum(group.amount for group in members), sum(group.nbytes for group in members)
            yield name, Leaf(dtype, f"{len(members):,} shapes", nbytes, amount=amount)
            continue
        for group in members:
            shape = "" if group.shape is None else shape_text(group.shape)
            yield name, Leaf(dtype, shape, group.nbytes, amount=group.amount)


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as people write it: `16 × 6 × 5 × 5`; a scalar is `scalar`."""
    return " × ".join(map(str, shape)) or "scalar"


def summary_of(outline: Outline, known: Iterable[tuple[str, Any]] | None) -> dict[str, Any]:
    """Counts and bytes of an outline.

    Args:
        outline: the whole outline.
        known: names with their entries or values, to list the largest; None to leave those out.
    """
    root = outline.root
    dtypes: dict[str, dict[str, int]] = {}
    for leaf in _leaves(root):
        totals = dtypes.setdefault(leaf.dtype, {"count": 0, "nbytes": 0})
        totals["count"] += leaf.amount
        totals["nbytes"] += leaf.nbytes
    facts: dict[str, Any] = {
        "name": root.label,
        "count": root.amount,
        "nbytes": root.nbytes,
        "edited": outline.edited,
        "removed": outline.removed,
        "dtypes": dict(sorted(dtypes.items(), key=lambda item: -item[1]["nbytes"])),
        "modules": {child.label: {"count": child.amount, "nbytes": child.nbytes} for child in root.children},
    }
    if known is not None:
        sized = ((leaf_of(value), name) for name, value in known)
        found = heapq.nlargest(LARGEST, sized, key=lambda item: item[0].nbytes)
        facts["largest"] = [
            {"name": name, "dtype": leaf.dtype, "shape": leaf.shape, "nbytes": leaf.nbytes} for leaf, name in found
        ]
    return facts


def _leaves(node: Node) -> Iterable[Node]:
    if not node.children:
        yield node
    for child in node.children:
        yield from _leaves(child)
