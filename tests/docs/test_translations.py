"""The Chinese pages match their English sources."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest
from documents import CHINESE, ENGLISH, FENCE, ROOT

TOOL = ROOT / "tools" / "translations.py"
TRANSLATED = [
    name
    for name in ENGLISH
    if name.startswith("docs/guides/")
    or name in {"docs/index.md", "docs/start.md", "docs/remote.md", "docs/scale.md", "docs/migration.md"}
]


@pytest.fixture
def translations(tmp_path):
    """The tool, applied to a folder with one page and its translation."""
    spec = importlib.util.spec_from_file_location("translations", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ROOT = tmp_path
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Title\n\nSome text.\n")
    (tmp_path / "docs" / "a.zh.md").write_text("# 标题\n")
    return module


def headings(text):
    """The levels of the headings of a page, in order."""
    return [len(marks) for marks in re.findall(r"^(#+) ", FENCE.sub("", text), re.MULTILINE)]


def rows(text):
    """The number of column separators in each table row of a page."""
    return [line.count(" | ") for line in FENCE.sub("", text).splitlines() if line.startswith("|")]


def test_the_pages_of_users_are_in_chinese():
    """Every page for users has a translation, and every translation has a source."""
    assert set(CHINESE) == {name.removesuffix(".md") + ".zh.md" for name in TRANSLATED}


def test_no_page_is_behind():
    """The tool lists no outdated page."""
    told = subprocess.run([sys.executable, TOOL], capture_output=True, encoding="utf-8", check=False)

    assert (told.returncode, told.stdout) == (0, "")


@pytest.mark.parametrize("name", CHINESE)
def test_code_is_the_same_in_both_languages(name):
    """Code blocks are identical in both languages."""
    assert FENCE.findall(CHINESE[name]) == FENCE.findall(ENGLISH[name.replace(".zh.md", ".md")])


@pytest.mark.parametrize("name", CHINESE)
def test_nothing_is_left_out(name):
    """Headings have the same levels, and tables have the same rows and columns."""
    english = ENGLISH[name.replace(".zh.md", ".md")]

    assert (headings(CHINESE[name]), rows(CHINESE[name])) == (headings(english), rows(english))


@pytest.mark.parametrize("name", CHINESE)
def test_headings_have_the_english_anchors(name):
    """Links to a section work in both languages."""
    english = re.findall(r"^#+ (.*)$", FENCE.sub("", ENGLISH[name.replace(".zh.md", ".md")]), re.MULTILINE)
    slugs = [re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in english]

    assert re.findall(r"^#+ .* \{ #(\S+) \}$", FENCE.sub("", CHINESE[name]), re.MULTILINE) == slugs


def test_a_page_is_behind_until_it_is_stamped_and_when_its_source_changes(translations):
    """Changes of white space do not make a page outdated."""
    source, page = (translations.ROOT / "docs" / name for name in ("a.md", "a.zh.md"))
    unstamped = translations.pages_behind()
    translations.stamp(page)
    stamped = translations.pages_behind()
    source.write_text("# Title\n\nSome\ntext.\n")
    wrapped = translations.pages_behind()
    source.write_text("# Title\n\nOther text.\n")

    assert (unstamped, stamped, wrapped, translations.pages_behind()) == ([page], [], [], [page])
    translations.stamp(page)
    assert page.read_text().count("source:") == 1
