"""The handbook is complete: it has every argument, difference, command and public name."""

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
    """The mkdocs hook that writes the page of commands."""
    spec = importlib.util.spec_from_file_location("command_line", HOOK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(text, title):
    """The text under a second-level heading."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def first_cells(table):
    """The code in the first cell of each row."""
    return re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)


def slugs(text):
    """The anchors of the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("name", ["load_checkpoint", "load_param_into_net", "save_checkpoint"])
def test_the_migration_page_has_every_argument(name):
    """The page lists the arguments in the order of the signature."""
    assert first_cells(section(MIGRATION, name)) == list(inspect.signature(getattr(lazyckpt, name)).parameters)


def test_the_migration_page_has_every_intentional_difference():
    """Every recorded call that may have another result here is listed."""
    calls = [line.split()[0] for line in ALLOWED.splitlines() if line.strip()]

    assert sorted(first_cells(section(MIGRATION, "Intentional differences"))) == sorted(calls)


def test_the_page_of_commands_has_every_commands_help(hook, run):
    """The page has the help of each command, as the command prints it."""
    helps = hook.helps()
    printed = {name: "".join(run(name, "--help")[1].split()) for name in helps}  # lines break at other positions

    assert sorted(helps) == sorted(re.findall(r"^ {2}(\w+) ", run("--help")[1].partition("Commands:")[2], re.MULTILINE))
    assert {name: "".join(text.split()[2:]) for name, text in helps.items()} == {
        name: text[text.index(name) :] for name, text in printed.items()
    }


def test_the_page_of_commands_is_written_where_its_mark_is(hook):
    """The hook fills the page with the marker, and does not change other pages."""
    page = hook.on_page_markdown(ENGLISH["docs/command-line.md"])

    assert "\n## `lazyckpt verify`\n\n```text\nUsage: lazyckpt verify" in page
    assert hook.on_page_markdown(MIGRATION) == MIGRATION


def test_the_reference_has_every_public_name():
    """Every public name is listed once."""
    shown = re.findall(r"^::: lazyckpt\.(\w+)$", ENGLISH["docs/reference.md"], re.MULTILINE)

    assert sorted(shown) == sorted(lazyckpt.__all__)


def test_links_of_the_readme_lead_to_headings_that_are_there():
    """README links point to existing headings; mkdocs checks those of the handbook."""
    links = re.findall(r"\]\((docs/[^)#]+)#([^)]+)\)", PAGES["README.md"])

    assert [link for link in links if link[1] not in slugs(PAGES[link[0]])] == []
    assert links


def test_the_table_of_rooms_is_that_of_the_package():
    """The page has the table of rooms that `python tools/room_table.py` writes."""
    assert table() in PAGES["docs/concepts/data.md"]
