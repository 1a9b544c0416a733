"""The rooms of the package, in their order, and the table of them that the handbook shows."""

from __future__ import annotations

import ast
from pathlib import Path

import lazyckpt

PACKAGE = Path(lazyckpt.__file__).parent
# Lowest first. A room imports from itself and from what stands before it. "" is the package itself.
LAYERS = (
    "errors",
    "runtime",
    "tasks",
    "model",
    "sources",
    "formats",
    "tensors",
    "index",
    "reading",
    "display",
    "statistics",
    "parameter",
    "writing",
    "references",
    "views",  # made of entries, records and readers: no checkpoint is needed to show one
    "checkpoint",
    "frameworks",
    "sharding",
    "loading",
    "saving",
    "explore",
    "",
    "demo",
    "cli",
    "__main__",
)


def subject(room):
    """The first sentence of a room's docstring, without what stands before a colon that repeats its name."""
    path = PACKAGE / room
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring is not None, f"{room or 'lazyckpt'} has no docstring"
    return docstring.splitlines()[0]


def table():
    """The rooms and their subjects, in Markdown."""
    rows = [f"| `{room or 'lazyckpt'}` | {subject(room)} |" for room in LAYERS]
    return "\n".join(["| room | subject |", "|---|---|", *rows]) + "\n"
