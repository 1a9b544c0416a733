"""mkdocs hook that inserts the help of every command into the handbook.

The line `<!-- commands -->` in a page is replaced by a section for each command of `lazyckpt`, in alphabetical order.
"""

from __future__ import annotations

import os
from typing import Any

MARK = "<!-- commands -->"
_WIDTH = 96


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    return markdown.replace(MARK, sections()) if MARK in markdown else markdown


def sections() -> str:
    """The help of every command, as Markdown."""
    return "\n".join(f"## `lazyckpt {name}`\n\n```text\n{text}\n```\n" for name, text in helps().items())


def helps() -> dict[str, str]:
    """The help of every command by name, wrapped to a fixed width."""
    import typer

    from lazyckpt.cli import app

    os.environ["TERMINAL_WIDTH"] = str(_WIDTH)
    group = typer.main.get_command(app)
    root = group.make_context("lazyckpt", [], resilient_parsing=True)
    texts = {}
    for name in sorted(group.list_commands(root)):
        command = group.get_command(root, name)
        inside = command.context_class(command, parent=root, info_name=name, max_content_width=_WIDTH)
        inside.terminal_width = _WIDTH
        texts[name] = command.get_help(inside).strip()
    return texts
