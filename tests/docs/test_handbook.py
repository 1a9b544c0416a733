"""The handbook leaves nothing out: every argument, difference, command and public name is in it."""

from __future__ import annotations

import importlib.util
import inspect
import re

import pytest
from documents import ENGLISH, PAGES, ROOT
from rooms import table

import lazyckpt

MIGRATION = ENGLISH["docs/migration.md"]
ALLOWED = (ROOT / "tests" / "golden" / "allowed.txt").read_text(encoding="utf-8")
HOOK = ROOT / "tools" / "site" / "command_line.py"


@pytest.fixture(scope="module")
def hook():
    """What writes the page of commands when the handbook is built."""
    spec = importlib.util.spec_from_file_location("command_line", HOOK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(text, title):
    """What stands under a heading of the second level."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def first_cells(table):
    """The code in the first cell of each row."""
    return re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)


def slugs(text):
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("name", ["load_checkpoint", "load_param_into_net", "save_checkpoint"])
def test_the_migration_page_has_every_argument(name):
    """In the order of the signature."""
    assert first_cells(section(MIGRATION, name)) == list(inspect.signature(getattr(lazyckpt, name)).parameters)


def test_the_migration_page_has_every_intentional_difference():
    """Whatever recorded call of MindSpore may end otherwise here."""
    calls = [line.split()[0] for line in ALLOWED.splitlines() if line.strip()]

    assert sorted(first_cells(section(MIGRATION, "Intentional differences"))) == sorted(calls)


def test_the_page_of_commands_has_every_commands_help(hook, run):
    """Word by word as the command prints it."""
    helps = hook.helps()
    printed = {name: "".join(run(name, "--help")[1].split()) for name in helps}  # lines are broken elsewhere

    assert sorted(helps) == sorted(re.findall(r"^ {2}(\w+) ", run("--help")[1].partition("Commands:")[2], re.MULTILINE))
    assert {name: "".join(text.split()[2:]) for name, text in helps.items()} == {
        name: text[text.index(name) :] for name, text in printed.items()
    }


def test_the_page_of_commands_is_written_where_its_mark_is(hook):
    """And other pages are left as they are."""
    page = hook.on_page_markdown(ENGLISH["docs/command-line.md"])

    assert "\n## `lazyckpt verify`\n\n```text\nUsage: lazyckpt verify" in page
    assert hook.on_page_markdown(MIGRATION) == MIGRATION


def test_the_reference_has_every_public_name():
    """Each once."""
    shown = re.findall(r"^::: lazyckpt\.(\w+)$", ENGLISH["docs/reference.md"], re.MULTILINE)

    assert sorted(shown) == sorted(lazyckpt.__all__)


def test_links_of_the_readme_lead_to_headings_that_are_there():
    """Those of the handbook are checked when it is built."""
    links = re.findall(r"\]\((docs/[^)#]+)#([^)]+)\)", PAGES["README.md"])

    assert [link for link in links if link[1] not in slugs(PAGES[link[0]])] == []
    assert links


def test_the_table_of_rooms_is_that_of_the_package():
    """The rooms in their order, each with its own first line; `python tools/room_table.py` writes it."""
    assert table() in PAGES["docs/concepts/data.md"]
