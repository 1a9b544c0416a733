"""Names as a tree: similar branches are folded, and totals stay exact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.views.name_tree import ITSELF, Leaf, Node, grow, pruned, ranges, size_of_tree


def leaf(nbytes=4, shape="1", note=""):
    """Some float32 value."""
    return Leaf("Float32", shape, nbytes, note)


def outlined(node, depth=0):
    """A tree as indented lines: label, number of values, bytes."""
    lines = [f"{'  ' * depth}{child.label} {child.amount} {child.nbytes}" for child in node.children[:0]]
    for child in node.children:
        lines.append(f"{'  ' * depth}{child.label} {child.amount} {child.nbytes}")
        lines += outlined(child, depth + 1)
    return lines


def test_layers_that_are_alike_are_one():
    """Folded layers show the range of their numbers, one shape, and the totals of all."""
    names = [f"net.layers.{i}.{part}" for i in range(32) for part in ("attention.q", "attention.k", "mlp")]
    root = grow([(name, leaf(10)) for name in names] + [("net.norm", leaf(1))], "x.ckpt")

    assert outlined(root) == [
        "net 97 961",
        "  layers.0–31 96 960",
        "    attention 64 640",
        "      q 32 320",
        "      k 32 320",
        "    mlp 32 320",
        "  norm 1 1",
    ]
    assert root.children[0].children[0].alike == 32


@pytest.mark.parametrize("other", [leaf(4, "2"), leaf(8), leaf(note="in memory"), Leaf("Int8", "1", 4)])
def test_what_differs_is_not_folded(other):
    """A sibling with another shape, size, note or dtype stays apart; those on both sides of it are folded."""
    root = grow([(f"l.{i}.w", other if i == 2 else leaf()) for i in range(5)])

    assert [child.label for child in root.children[0].children] == ["0–1,3–4.w", "2.w"]


def test_a_sibling_with_another_name_below_is_not_folded():
    """Siblings are folded only if their whole branches are similar."""
    root = grow([("l.0.w", leaf()), ("l.1.w", leaf()), ("l.2.w", leaf()), ("l.2.b", leaf())])

    assert outlined(root) == ["l 4 16", "  0–1.w 2 8", "  2 2 8", "    w 1 4", "    b 1 4"]


def test_numbers_at_the_end_of_a_word_fold_too():
    """`block0` and `block1` are folded; numbers of different words are not."""
    root = grow([(f"{stem}{i}.w", leaf()) for stem in ("up", "down") for i in range(3)])

    assert [child.label for child in root.children] == ["up0–2.w", "down0–2.w"]


def test_a_value_whose_name_others_begin_with_stands_first():
    """A value is the first child of its own name."""
    root = grow([("a", leaf()), ("a.b", leaf())])

    assert outlined(root) == ["a 2 8", f"  {ITSELF} 1 4", "  b 1 4"]


def test_two_kinds_of_one_name_are_two():
    """Counted groups with two kinds of one name stay apart."""
    root = grow([("w", leaf(shape="1")), ("w", leaf(shape="2")), ("b", leaf())])

    assert outlined(root) == ["w 2 8", "  w 1 4", "  w 1 4", "b 1 4"]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([0], "0"),
        ([0, 1, 2], "0–2"),
        ([0, 1, 5], "0–1,5"),
        ([0, 2, 4, 6, 8], "0…8"),
        ([3, 4, 9, 11, 12], "3–4,9,11–12"),
    ],
)
def test_ranges(numbers, text):
    """Up to three numbers are listed."""
    assert ranges(numbers) == text


def test_names_of_many_dots_do_not_go_deeper_than_we_can():
    """Beyond the depth limit the rest of a name is one label."""
    root = grow([(".".join("a" * 5000), leaf()), (".".join("a" * 5001), leaf())])

    assert size_of_tree(root) < 30


LEAVES = st.lists(st.tuples(st.text("a.019", max_size=8), st.integers(0, 99)), max_size=40)


@given(LEAVES)
def test_totals_are_those_of_all_leaves(leaves):
    """However branches are folded, every node is the sum of its children."""
    root = grow([(name, leaf(size)) for name, size in leaves])

    def check(node: Node):
        if node.children:
            assert node.amount == sum(child.amount for child in node.children)
            assert node.nbytes == sum(child.nbytes for child in node.children)
        for child in node.children:
            check(child)

    check(root)
    assert (root.amount, root.nbytes) == (len(leaves), sum(size for _, size in leaves))


@given(LEAVES, st.integers(0, 12), st.integers(1, 6), st.none() | st.integers(0, 3))
def test_a_pruned_tree_is_small_and_its_totals_stay(leaves, rows, breadth, depth):
    """A pruned tree has at most the requested rows; one row holds the rest."""
    root = grow([(name, leaf(size)) for name, size in leaves])
    shown = pruned(root, rows=rows, breadth=breadth, depth=depth)

    def check(node: Node, level=0):
        assert len(node.children) <= breadth
        assert depth is None or level <= depth or not node.children
        if node.children:
            assert node.nbytes == sum(child.nbytes for child in node.children)
        for child in node.children:
            check(child, level + 1)

    check(shown)
    assert size_of_tree(shown) <= rows
    assert (shown.amount, shown.nbytes) == (root.amount, root.nbytes)
