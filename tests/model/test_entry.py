"""Entries give the sizes of values, in the file and in memory."""

from __future__ import annotations

import pickle

import pytest
from entries import map_entry, refused_entry, string_entry, tensor_entry

from lazyckpt.model.entry import Extent, Fingerprint

ENTRIES = [tensor_entry("w"), string_entry("note"), map_entry("table"), refused_entry("broken")]


def test_what_is_stored_is_the_sum_of_the_extents():
    """Content may be one piece, several, the arrays of a map, or nothing."""
    assert [(entry.kind, entry.stored, entry.nbytes) for entry in ENTRIES] == [
        ("tensor", 24, 24),
        ("string", 16, 16),
        ("map", 28, 28),
        ("refused", 0, 0),
    ]


@pytest.mark.parametrize(
    ("changes", "stored", "nbytes"),
    [
        ({"shape": (2, 3), "dtype": "Float64"}, 48, 48),
        ({"shape": (), "dtype": "Int16"}, 2, 2),
        ({"shape": (0, 5)}, 0, 0),
        ({"shape": (4,), "extents": (Extent(40, 4), Extent(60, 12))}, 16, 16),
        ({"shape": (3,), "dtype": "BFloat16", "extents": (Extent(40, 12),)}, 12, 6),
        ({"shape": (), "extents": ()}, 0, 4),
    ],
    ids=["matrix", "scalar", "empty", "slices", "bfloat16 as float32", "empty or scalar"],
)
def test_a_tensor_takes_what_shape_and_dtype_say(changes, stored, nbytes):
    """A tensor's size in memory follows from shape and dtype; in the file, the format has two exceptions."""
    entry = tensor_entry("w", **changes)

    assert (entry.stored, entry.nbytes) == (stored, nbytes)


def test_all_extents_are_those_of_the_arrays_of_a_map():
    """A map's extents come in the order keys, values, status; other kinds have their own."""
    assert map_entry("table").all_extents == (
        Extent(20, 8),
        Extent(40, 6),
        Extent(60, 6),
        Extent(80, 8),
    )
    assert tensor_entry("w").all_extents == tensor_entry("w").extents


def test_entries_are_values():
    """Entries are equal if all fields are, usable in sets, and unchanged by pickling."""
    again = pickle.loads(pickle.dumps(ENTRIES))

    assert again == ENTRIES
    assert len({*ENTRIES, *again}) == len(ENTRIES)


def test_a_fingerprint_is_a_value():
    """Two fingerprints of a file in the same state are equal."""
    mark = Fingerprint(10, 20, b"0" * 16)

    assert mark == Fingerprint(10, 20, b"0" * 16)
    assert mark != mark._replace(mtime_ns=21)
