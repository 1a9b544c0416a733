"""The rooms of the package in import order, and the table of them for the handbook."""

from __future__ import annotations

import ast
from pathlib import Path

import lazyckpt

PACKAGE = Path(lazyckpt.__file__).parent
# Lowest first. A room imports only from itself and from earlier rooms. "" is the package itself.
LAYERS = (
    "display",  # errors quote names
    "errors",
    "runtime",
    "tasks",
    "model",
    "sources",
    "formats",
    "tensors",
    "index",
    "reading",
    "statistics",
    "parameter",
    "writing",
    "references",
    "views",  # needs entries, records and readers, but no Checkpoint
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
    """The first line of the docstring of a room. The package's own greets users, so it has a line here."""
    if not room:
        return "The package: its public names, each imported on first use."
    path = PACKAGE / room
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring is not None, f"{room} has no docstring"
    return docstring.splitlines()[0]


def table():
    """The rooms and their subjects, as a Markdown table."""
    rows = [f"| `{room or 'lazyckpt'}` | {subject(room)} |" for room in LAYERS]
    return "\n".join(["| room | subject |", "|---|---|", *rows]) + "\n"
