"""Trees as HTML: open if small, limited in size, without markup from names."""

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
    """The HTML of such a tree, without the style sheet."""
    made = tree_html(Outline(tree_of(names), **facts), depth)
    assert made.startswith(STYLE)
    return made.removeprefix(STYLE)


class Rows(html.parser.HTMLParser):
    """The labels that a browser shows."""

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
    """The labels of a whole tree, in order, escaped for display."""
    return [
        label
        for child in node.children
        for label in (child.label if child.label.isprintable() else repr(child.label)[1:-1], *labels_of(child))
    ]


@given(NAMES)
def test_a_browser_shows_the_labels(names):
    """A browser shows every label, with control characters escaped, and no name becomes markup."""
    assert Rows(page_of(names)).labels == labels_of(tree_of(names))


@pytest.mark.parametrize("more", [0, 1])
def test_small_trees_are_shown_open(more):
    """Trees of up to 30 nodes are open, and larger ones are closed."""
    names = [f"a.{letter}x" for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGH"[: OPEN_UP_TO - 2 + more]] + ["b"]
    page = page_of(names)

    assert page.count("<details") == 1
    assert page.count("<details open>") == (0 if more else 1)


def test_an_only_child_is_open_however_large_the_tree_is():
    """A node without siblings is open in a tree of any size."""
    names = [f"net.{part}.{letter}x" for part in ("up", "down") for letter in "abcdefghijklmnopqrst"]
    page = page_of(names)

    assert re.findall(r"<details( open)?>", page) == [" open", "", ""]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_levels_below_a_depth_are_left_out(depth):
    """`depth` limits the levels, and keeps the totals."""
    page = page_of(["a.b.c", "a.b.d", "a.e", "f"], depth)

    assert Rows(page).labels == [["a", "f"], ["a", "b", "e", "f"], ["a", "b", "c", "d", "e", "f"]][depth - 1]
    assert "3 values" in page


def test_a_page_is_never_large():
    """A page with many long names stays below the limit, and shows how many rows are missing."""
    page = page_of([f"{'&' * 150}{word}{number}x" for number in range(300) for word in "ab"])

    assert 20_000 < len((STYLE + page).encode()) <= LARGEST
    assert re.search(r"… \d+ more", page)


def test_wide_levels_are_cut():
    """The children of a node and the rows of a tree are limited."""
    wide = Rows(page_of([f"{'ab'[number % 2]}{number}x" for number in range(1000)])).labels
    both = Rows(page_of([f"{'ab'[n % 2]}{n}x.{'ab'[m % 2]}{m}x" for n in range(30) for m in range(30 + n)])).labels

    assert (len(wide), wide[-1]) == (BREADTH, f"… {1000 - BREADTH + 1:,} more")
    assert len(both) <= ROWS


@given(st.floats(0, 100))
def test_a_share_has_one_decimal_place(share):
    """A share has one decimal place, and is never 0.0 % unless it is zero."""
    text = html.unescape(percent(share))

    assert re.fullmatch(r"<0\.1 %|\d\d?\.\d %|100 %", text)
    assert (text == "0.0 %") is (share == 0)
    assert text == "<0.1 %" or abs(float(text.removesuffix(" %")) - share) < 0.051


def test_the_remark_stands_below_the_tree():
    """The remark of a summarised tree stands below it."""
    assert "<div class=n>Summarised: *" in page_of(["w*"], is_exact=False)
    assert "<div class=n>" not in page_of(["w"])
