"""A checkpoint in a few numbers, as plain data."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any, Final

from lazyckpt.views.name_tree import Node
from lazyckpt.views.outline import Outline, leaf_of

LARGEST: Final = 10


def summary_of(outline: Outline, known: Iterable[tuple[str, Any]] | None) -> dict[str, Any]:
    """Counts and bytes of an outline.

    Args:
        outline: of everything.
        known: names with their entries or values, of which the largest are told; None to leave them out.
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
