"""Outlines: the leaf of each kind of value, and exact totals."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import checkpoint, counting
from entries import index_of, map_entry, refused_entry, string_entry, tensor_entry
from hypothesis import given
from hypothesis import strategies as st
from opening import opened_over

from lazyckpt.index.name_groups import tally
from lazyckpt.model.entry import Extent
from lazyckpt.sources.base import BytesSource
from lazyckpt.views import outline
from lazyckpt.views.name_tree import Leaf, size_of_tree
from lazyckpt.views.outline import (
    EDITED,
    MOST_SHAPES,
    leaf_of,
    of_groups,
    of_index,
    of_values,
    shape_text,
    summary_of,
)

# Names that share numbers and parts, each with a shape: what trees fold and groups count.
LAYERS = st.dictionaries(st.text("ab.01", min_size=1, max_size=6), st.lists(st.integers(0, 3), max_size=2), max_size=20)


def entries_for(layers):
    """An entry for each name."""
    return [tensor_entry(name, place, tuple(shape)) for place, (name, shape) in enumerate(layers.items())]


def totals(found):
    """The number of values and their bytes."""
    return found.root.amount, found.root.nbytes


@pytest.mark.parametrize(
    ("value", "leaf"),
    [
        (tensor_entry("w", shape=(2, 3), dtype="Float16"), Leaf("Float16", "2 × 3", 12)),
        (tensor_entry("w", shape=(4,), dtype="BFloat16", extents=(Extent(40, 16),)), Leaf("BFloat16", "4", 8)),
        (string_entry("s"), Leaf("str", "4 characters", 16)),
        (map_entry("m"), Leaf("map", "2, 2 × 3, 2", 28)),
        (refused_entry("q", reason="why"), Leaf("refused", "", 0, "why")),
        (counting((2, 3)), Leaf("float32", "2 × 3", 24, EDITED)),
        ("späte", Leaf("str", "5 characters", 20, EDITED)),
        ([np.ones(2), np.ones((2, 2))], Leaf("map", "2, 2 × 2", 48, EDITED)),
        ([], Leaf("list", "", 0, EDITED)),
        (7, Leaf("int", "", 0, EDITED)),
    ],
    ids=["tensor", "widened", "string", "map", "refused", "array", "text", "arrays", "empty list", "number"],
)
def test_every_kind_of_value_has_a_leaf(value, leaf):
    """A leaf shows the dtype, shape and bytes of a value, and marks values in memory."""
    assert leaf_of(value) == leaf


def test_a_parameter_is_shown_as_its_entry_until_it_is_set():
    """A parameter is shown as its entry, and after `set_data` as its new value."""
    parameter = opened_over(BytesSource(checkpoint({"w": counting((2, 3))})))["w"]
    before = leaf_of(parameter)
    parameter.set_data(np.zeros(5, "int8"))

    assert (before, leaf_of(parameter)) == (Leaf("Float32", "2 × 3", 24), Leaf("Int8", "5", 5, EDITED))


@pytest.mark.parametrize(("shape", "text"), [((), "scalar"), ((7,), "7"), ((16, 6, 5, 5), "16 × 6 × 5 × 5")])
def test_shapes_are_written_with_crosses(shape, text):
    """Shapes are written with ×, and a scalar as `scalar`."""
    assert shape_text(shape) == text


@given(LAYERS)
def test_a_summarised_tree_has_the_totals_of_the_exact_one(layers):
    """A summarised tree has the totals of the exact tree."""
    entries = entries_for(layers)
    exact = of_values("net", ((entry.name, entry) for entry in entries))
    counted = of_groups("net", tally(index_of(entries)))

    assert totals(counted) == totals(exact) == (len(layers), sum(entry.nbytes for entry in entries))
    assert (exact.is_exact, counted.is_exact) == (True, False)


@given(LAYERS, st.text("ab.01", max_size=2))
def test_ordinals_narrow_a_tree(layers, prefix):
    """A tree shows the parameters with the given ordinals, exact and summarised."""
    entries = entries_for(layers)
    chosen = [entry.nbytes for entry in entries if entry.name.startswith(prefix)]
    only = [place for place, entry in enumerate(entries) if entry.name.startswith(prefix)]
    found = [of_index("net", index_of(entries), only)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outline, "EXACT", 0)
        found.append(of_index("net", index_of(entries), only))

    assert [totals(one) for one in found] == [(len(chosen), sum(chosen))] * 2
    assert [one.is_exact for one in found] == [True, not chosen]


def test_of_many_shapes_only_the_number_is_shown():
    """Up to a dozen shapes are listed; more are only counted."""
    many = {f"w{size}": (size,) for size in range(1, MOST_SHAPES + 2)}
    few = {f"b{size}": (size,) for size in range(1, MOST_SHAPES + 1)}
    root = of_groups("net", tally(index_of(entries_for(many | few)))).root

    assert root.children[0][:5] == ("w*", 13, 4 * 91, "Float32", "13 shapes")
    assert [child.shape for child in root.children[1].children] == [str(size) for size in range(1, MOST_SHAPES + 1)]


def test_values_in_memory_stand_among_counted_groups():
    """Values in memory and removed names are counted beside the groups."""
    found = of_groups("net", tally(index_of([tensor_entry("w0")])), [("new", np.ones(3, "int8"))], removed=2)

    assert totals(found) == (2, 27)
    assert (found.edited, found.removed) == (1, 2)
    assert found.headline() == "2 values · 27 B · 1 set in memory · 2 taken out"


def test_a_headline_says_what_there_is():
    """A headline uses the singular for one value, and omits zero counts."""
    assert of_values("net", [("w", tensor_entry("w"))]).headline() == "1 value · 24 B"


def test_only_a_summarised_tree_needs_a_remark():
    """A summarised tree has a remark, and an exact one has none."""
    exact, counted = of_values("net", []), of_groups("net", [])

    assert (exact.remark(), counted.remark().partition(":")[0]) == ("", "Summarised")


@given(LAYERS)
def test_a_summary_adds_up(layers):
    """The sums by dtype and by module equal the total; the largest values come first."""
    entries = entries_for(layers)
    facts = summary_of(of_values("net", ((entry.name, entry) for entry in entries)), [(e.name, e) for e in entries])
    sizes = sorted((entry.nbytes for entry in entries), reverse=True)
    parts = [*facts["dtypes"].values()], [*facts["modules"].values()]

    assert (facts["count"], facts["nbytes"]) == (len(entries), sum(sizes))
    assert [sum(part["nbytes"] for part in some) for some in parts] == [facts["nbytes"]] * 2
    assert [one["nbytes"] for one in facts["largest"]] == sizes[:10]


def test_a_summary_may_leave_the_largest_out():
    """Without entries, a summary has no list of the largest values."""
    assert "largest" not in summary_of(of_groups("net", tally(index_of([tensor_entry("w")]))), None)


def test_a_tree_that_is_exact_has_every_name():
    """An exact tree folds siblings that are alike, and omits no name."""
    root = of_index("net", index_of([tensor_entry("b.0"), tensor_entry("b.1"), string_entry("note")])).root

    assert size_of_tree(root) == 2
    assert [child.amount for child in root.children] == [2, 1]
