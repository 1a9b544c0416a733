"""Trees as text: aligned lines, the same with colour, safe for any name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.views.name_tree import Leaf, grow
from lazyckpt.views.outline import EDITED, Outline
from lazyckpt.views.text import BREADTH, ROWS, TreeView

LEAVES = st.builds(Leaf, st.just("Float32"), st.text(max_size=5), st.integers(0, 10**9), st.text(max_size=5))
ANY_NAMES = st.lists(st.tuples(st.text(st.characters(), max_size=8), LEAVES), max_size=12)


def view_of(leaves, label="net.ckpt", depth=None, **facts):
    """The view of named leaves."""
    return TreeView(Outline(grow(leaves, label), **facts), depth)


def leaf(nbytes, note=""):
    """A small value."""
    return Leaf("Int8", str(nbytes), nbytes, note)


def test_a_tree_is_drawn_with_guides():
    """A tree prints as aligned columns: label, dtype, shape, size and share."""
    leaves = [("net.0.w", leaf(40)), ("net.1.w", leaf(40)), ("net.head", leaf(10)), ("step", leaf(10, EDITED))]

    assert str(view_of(leaves)).splitlines() == [
        "net.ckpt  4 values · 100 B",
        "├─ net                  3 values      90 B  90.0 %",
        "│  ├─ 0–1.w  Int8       40            80 B  80.0 %  2 alike",
        "│  └─ head   Int8       10            10 B  10.0 %",
        "└─ step      Int8       10            10 B  10.0 %  in memory",
    ]


@given(ANY_NAMES, st.text(st.characters(), max_size=8))
def test_whatever_the_names_every_line_is_printable(leaves, label):
    """Any names give printable lines, one for each node."""
    lines = str(view_of(leaves, label)).split("\n")

    assert all(line.isprintable() for line in lines)
    assert len(lines) == len(view_of(leaves, label)._lines()[0]) + 1


@given(ANY_NAMES, st.booleans())
def test_the_same_lines_are_printed_in_colour(leaves, exact):
    """Rich prints the same characters, and reads no markup from names."""
    view = view_of(leaves, is_exact=exact)
    lines = [line.rstrip() for line in view.__rich__().plain.split("\n")]

    assert lines == [line.rstrip() for line in str(view).split("\n")]


def labels(node):
    """All labels below a node of a tree's data, in order."""
    return [label for child in node.get("children", []) for label in (child["label"], *labels(child))]


@pytest.mark.parametrize(("depth", "shown"), [(1, "ab"), (2, "axyb"), (3, "axcdyb"), (None, "axcdyb")])
def test_levels_below_a_depth_are_not_shown(depth, shown):
    """`depth` limits the levels in text and data, and keeps the totals."""
    view = view_of([("a.x.c", leaf(1)), ("a.x.d", leaf(2)), ("a.y", leaf(3)), ("b", leaf(4))], depth=depth)
    lines = str(view).splitlines()[1:]

    assert [line.lstrip("│├└─ ")[0] for line in lines] == labels(view.to_dict()) == list(shown)
    assert " 3 values       6 B  60.0 %" in lines[0]


def test_a_long_label_is_cut():
    """A long label is cut in the text, and complete in the data."""
    view = view_of([("x" * 150, leaf(1))])

    assert f"└─ {'x' * 100}…  Int8" in str(view)
    assert view.to_dict()["children"][0]["label"] == "x" * 150


def test_what_is_too_much_for_a_terminal_is_cut():
    """A wide level is cut in the text, with the number of missing rows; the data have all rows."""
    view = view_of([(f"{'ab'[number % 2]}{number}x", leaf(number)) for number in range(2 * ROWS)])
    lines = str(view).splitlines()

    assert len(lines) == BREADTH + 1
    assert f"… {2 * ROWS - BREADTH + 1:,} more" in lines[-1]
    assert len(view.to_dict()["children"]) == 2 * ROWS


def test_a_tree_is_data():
    """`to_dict` omits empty facts."""
    view = view_of([("net.0.w", leaf(40)), ("net.1.w", leaf(40)), ("step", leaf(10, EDITED))], edited=1, removed=2)

    assert view.to_dict() == {
        "exact": True,
        "edited": 1,
        "removed": 2,
        "label": "net.ckpt",
        "count": 3,
        "nbytes": 90,
        "children": [
            {"label": "net.0–1.w", "count": 2, "nbytes": 80, "dtype": "Int8", "shape": "40", "alike": 2},
            {"label": "step", "count": 1, "nbytes": 10, "dtype": "Int8", "shape": "10", "note": "in memory"},
        ],
    }


def test_a_summarised_tree_ends_with_a_remark():
    """The remark of a summarised tree is its last line."""
    last = str(view_of([("w*", leaf(1))], is_exact=False)).splitlines()[-1]

    assert last.startswith("Summarised: * stands for the numbers in names")


def test_nothing_is_shown_as_nothing():
    """An empty tree is one line, and the share of no bytes is 0 %."""
    assert str(view_of([])) == "net.ckpt  0 values · 0 B"
    assert str(view_of([("w", leaf(0))])).splitlines()[1].endswith("0 B   0.0 %")
