"""Trees as HTML: open where they are small, never large, and nothing but what they show."""

from __future__ import annotations

import html
import html.parser
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.display import STYLE
from lazyckpt.views.name_tree import Leaf, grow
from lazyckpt.views.outline import Outline
from lazyckpt.views.tree_html import BREADTH, LARGEST, OPEN_UP_TO, ROWS, percent, tree_html

NAMES = st.lists(st.text("ab.<>&\"'$\x1b", max_size=8), max_size=12)


def tree_of(names):
    """A tree of small values."""
    leaves = [(name, Leaf("Int8", str(number), number + 1)) for number, name in enumerate(names)]
    return grow(leaves, "net.ckpt")


def page_of(names, depth=None, **facts):
    """Its HTML, without the style sheet."""
    made = tree_html(Outline(tree_of(names), **facts), depth)
    assert made.startswith(STYLE)
    return made.removeprefix(STYLE)


class Rows(html.parser.HTMLParser):
    """Labels as a browser shows them."""

    def __init__(self, page):
        super().__init__()
        self.labels = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        """A label begins; `i` in it is a remark."""
        if attrs == [("class", "l")]:
            self.labels.append("")
            self._inside = True
        elif tag in ("i", "span"):
            self._inside = False

    def handle_endtag(self, tag):
        """A label ends."""
        self._inside = False

    def handle_data(self, data):
        """Its text."""
        if self._inside:
            self.labels[-1] += data


def labels_of(node):
    """Labels of a whole tree, in order, as they may be shown."""
    return [
        label
        for child in node.children
        for label in (child.label if child.label.isprintable() else repr(child.label)[1:-1], *labels_of(child))
    ]


@given(NAMES)
def test_a_browser_shows_the_labels(names):
    """Every one as it is, control characters as escapes; no name is markup."""
    assert Rows(page_of(names)).labels == labels_of(tree_of(names))


@pytest.mark.parametrize("more", [0, 1])
def test_small_trees_are_shown_open(more):
    """Up to so many nodes; larger ones closed, so that what they are is seen at once."""
    names = [f"a.{letter}x" for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGH"[: OPEN_UP_TO - 2 + more]] + ["b"]
    page = page_of(names)

    assert page.count("<details") == 1
    assert page.count("<details open>") == (0 if more else 1)


def test_an_only_child_is_open_however_large_the_tree_is():
    """A click that shows one line would be wasted."""
    names = [f"net.{part}.{letter}x" for part in ("up", "down") for letter in "abcdefghijklmnopqrst"]
    page = page_of(names)

    assert re.findall(r"<details( open)?>", page) == [" open", "", ""]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_levels_below_a_depth_are_left_out(depth):
    """Their totals are not."""
    page = page_of(["a.b.c", "a.b.d", "a.e", "f"], depth)

    assert Rows(page).labels == [["a", "f"], ["a", "b", "e", "f"], ["a", "b", "c", "d", "e", "f"]][depth - 1]
    assert "3 values" in page


def test_a_page_is_never_large():
    """Rows are cut until it is small enough, and how many are missing is said."""
    page = page_of([f"{'&' * 150}{word}{number}x" for number in range(300) for word in "ab"])

    assert 20_000 < len((STYLE + page).encode()) <= LARGEST
    assert re.search(r"… \d+ more", page)


def test_wide_levels_are_cut():
    """And all levels together."""
    wide = Rows(page_of([f"{'ab'[number % 2]}{number}x" for number in range(1000)])).labels
    both = Rows(page_of([f"{'ab'[n % 2]}{n}x.{'ab'[m % 2]}{m}x" for n in range(30) for m in range(30 + n)])).labels

    assert (len(wide), wide[-1]) == (BREADTH, f"… {1000 - BREADTH + 1:,} more")
    assert len(both) <= ROWS


@given(st.floats(0, 100))
def test_a_share_is_told_in_few_characters(share):
    """As near as one digit tells it, and never as nothing if it is something."""
    told = html.unescape(percent(share))

    assert re.fullmatch(r"<0\.1 %|\d\d?\.\d %|100 %", told)
    assert (told == "0.0 %") is (share == 0)
    assert told == "<0.1 %" or abs(float(told.removesuffix(" %")) - share) < 0.051


def test_what_must_be_known_is_said_below():
    """Of a tree that is not exact."""
    assert "<div class=n>Summarised: *" in page_of(["w*"], is_exact=False)
    assert "<div class=n>" not in page_of(["w"])
