"""Trees as HTML: nested `<details>`, which open and close without a script."""

from __future__ import annotations

from typing import Final

from lazyckpt.display import human_size, opening, text
from lazyckpt.views.name_tree import Node, pruned, size_of_tree
from lazyckpt.views.outline import Outline

ROWS: Final = 480  # nodes of a tree
BREADTH: Final = 100  # children of a node
LARGEST: Final = 190_000  # bytes
OPEN_UP_TO: Final = 30  # nodes of a tree that is shown open


def tree_html(outline: Outline, depth: int | None = None) -> str:
    """A tree as HTML. Cost: O(nodes shown); at most 200 kB, whatever the tree."""
    rows = ROWS
    while True:
        shown = pruned(outline.root, depth=depth, rows=rows, breadth=min(BREADTH, rows))
        made = _page(outline, shown)
        if len(made.encode(errors="replace")) <= LARGEST or rows < 4:
            return made
        rows //= 2


def _page(outline: Outline, shown: Node) -> str:
    total = max(shown.nbytes, 1)
    opened = size_of_tree(shown) <= OPEN_UP_TO
    body = "".join(_node(child, total, opened or len(shown.children) == 1, opened) for child in shown.children)
    remarks = outline.remark()
    note = f"<div class=n>{text(remarks)}</div>" if remarks else ""
    head = f"<div class=h><b>{text(shown.label)}</b> <span class=x>{text(outline.headline())}</span></div>"
    return f"{opening()}{head}{body}{note}</div>"


def _node(node: Node, total: int, opened: bool, all_opened: bool) -> str:
    row = _row(node, total)
    if not node.children:
        return f"<div class=r>{row}</div>"
    only = len(node.children) == 1
    below = "".join(_node(child, total, all_opened or (opened and only), all_opened) for child in node.children)
    return f"<details{' open' if opened else ''}><summary class=r>{row}</summary><div>{below}</div></details>"


def _row(node: Node, total: int) -> str:
    share = 100 * node.nbytes / total
    badges = f"<i>{node.alike:,} alike</i>" if node.alike > 1 else ""
    badges += f"<i>{text(node.note)}</i>" if node.note else ""
    inner = f"{node.amount:,} {'value' if node.amount == 1 else 'values'}"
    dtype, shape = (node.dtype, node.shape) if node.dtype else ("", inner)
    if node.dtype and node.amount > node.alike:
        badges += f"<i>×{node.amount:,}</i>"
    return (
        f"<span class=l>{text(node.label)}{badges}</span> <span class=d>{text(dtype)}</span>"
        f" <span class=x>{text(shape)}</span> <span class=z>{human_size(node.nbytes)}</span>"
        f" <span class=p><s><u style=width:{share:.1f}%></u></s>{percent(share)}</span>"
    )


def percent(share: float) -> str:
    """A percentage as short HTML text."""
    return "<0.1 %".replace("<", "&lt;") if 0 < share < 0.05 else f"{share:.1f} %" if share < 99.95 else "100 %"
