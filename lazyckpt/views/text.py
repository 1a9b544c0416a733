"""Text for terminals: trees and tables as aligned lines, in colour where rich finds a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lazyckpt.display import human_size, printable
from lazyckpt.views.name_tree import Node, pruned
from lazyckpt.views.outline import Outline

if TYPE_CHECKING:
    from rich.text import Text

ROWS: Final = 2_000
BREADTH: Final = 400
_LONGEST_LABEL: Final = 100


class Line(NamedTuple):
    """One line of a tree: guides, label, dtype, shape, size, share of the whole, and a remark."""

    guide: str
    label: str
    dtype: str
    shape: str
    size: str
    share: str
    note: str


class TreeView:
    """A tree that prints as text (`str`, `print`), in colour with rich, and shows as HTML in a notebook."""

    def __init__(self, outline: Outline, depth: int | None = None) -> None:
        self._outline = outline
        self._depth = depth

    def __str__(self) -> str:
        lines, label, shape = self._lines()
        head = f"{printable(self._outline.root.label)}  {self._outline.headline()}"
        body = [
            f"{line.guide + line.label:<{label}}  {line.dtype:<10} {line.shape:<{shape}} {line.size:>9} {line.share:>7}"
            f"{'  ' + line.note if line.note else ''}"
            for line in lines
        ]
        remark = self._outline.remark()
        return "\n".join([head, *body, *([remark] if remark else [])])

    __repr__ = __str__

    def __rich__(self) -> Text:
        """For `rich.print`: the same lines in colour."""
        from rich.text import Text

        lines, label, shape = self._lines()
        text = Text.assemble((printable(self._outline.root.label), "bold"), f"  {self._outline.headline()}")
        for line in lines:
            note = f"  {line.note}" if line.note else ""
            padding = " " * (label - len(line.guide) - len(line.label) + 2)
            text.append_text(
                Text.assemble(
                    "\n", (line.guide, "dim"), line.label, padding, (f"{line.dtype:<10}", "cyan"),
                    f" {line.shape:<{shape}} {line.size:>9} {line.share:>7}", (note, "yellow"),
                )
            )  # fmt: skip
        remark = self._outline.remark()
        return text.append_text(Text(f"\n{remark}", "italic")) if remark else text

    def _repr_html_(self) -> str:
        from lazyckpt.views.tree_html import tree_html

        return tree_html(self._outline, self._depth)

    def to_dict(self) -> dict[str, Any]:
        """The tree as plain data, to the requested depth; nothing else is cut."""
        root = self._outline.root
        return {
            "exact": self._outline.is_exact,
            "edited": self._outline.edited,
            "removed": self._outline.removed,
            **_plain(root, -1 if self._depth is None else self._depth),
        }

    def _lines(self) -> tuple[list[Line], int, int]:
        shown = pruned(self._outline.root, depth=self._depth, rows=ROWS, breadth=BREADTH)
        lines = list(_below(shown, "", max(shown.nbytes, 1)))
        label = max((len(line.guide) + len(line.label) for line in lines), default=0)
        return lines, label, max((len(line.shape) for line in lines), default=0)


def _plain(node: Node, depth: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"label": node.label, "count": node.amount, "nbytes": node.nbytes}
    extra = {"dtype": node.dtype, "shape": node.shape, "note": node.note}
    facts |= {key: value for key, value in extra.items() if value}
    if node.alike > 1:
        facts["alike"] = node.alike
    if node.children and depth:
        facts["children"] = [_plain(child, depth - 1) for child in node.children]
    return facts


def _below(node: Node, guide: str, total: int) -> Iterator[Line]:
    for number, child in enumerate(node.children, 1):
        last = number == len(node.children)
        yield _line(child, guide + ("└─ " if last else "├─ "), total)
        yield from _below(child, guide + ("   " if last else "│  "), total)


def _line(node: Node, guide: str, total: int) -> Line:
    label = printable(node.label)
    label = label if len(label) <= _LONGEST_LABEL else f"{label[:_LONGEST_LABEL]}…"
    notes = [f"{node.alike:,} alike"] if node.alike > 1 else []
    notes += [f"×{node.amount:,}"] if node.dtype and node.amount > node.alike else []
    notes += [printable(node.note)] if node.note else []
    shape = node.shape if node.dtype else f"{node.amount:,} {'value' if node.amount == 1 else 'values'}"
    share = 100 * node.nbytes / total
    return Line(
        guide, label, printable(node.dtype), printable(shape), human_size(node.nbytes), f"{share:.1f} %",
        ", ".join(notes),
    )  # fmt: skip
