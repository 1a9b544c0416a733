"""A concatenated index behaves as one index of all the files' entries."""

from __future__ import annotations

import itertools

import pytest
from entries import index_of, map_entry, refused_entry, string_entry, tensor_entry
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.index import Index
from lazyckpt.index.name_groups import tally
from lazyckpt.index.stored import StoredIndex
from lazyckpt.model.entry import Extent, moved
from lazyckpt.sharding.concatenated import ConcatenatedIndex, RefusedNames

SIZES = (1000, 0, 500, 700)  # the sizes of the files; the second is empty
BASES = (0, 1000, 1000, 1500)
PARTS = [
    [tensor_entry("layer1.weight", 0), string_entry("note", 1), map_entry("table", 2)],
    [],
    [tensor_entry("layer1.bias", 0), refused_entry("broken", 1), tensor_entry("emb.__param_key__1", 2)],
    [tensor_entry("layer10.weight", 0), tensor_entry("", 1), tensor_entry("a", 2, apart=30)],
]
WHOLE = [moved(entry, base) for part, base in zip(PARTS, BASES, strict=True) for entry in part]
NAMES = [entry.name for entry in WHOLE]
PREFIXES = ["", "layer1", "layer1.", "layer10.weight", "none", "e", "\ud800"]


def joined(parts=PARTS, bases=BASES, homes=None, **facts):
    """A concatenated index of the parts."""
    return ConcatenatedIndex([index_of(part, **facts) for part in parts], bases, homes)


def contents_of(index):
    """Everything that an index reports about its entries."""
    return {
        "length": len(index),
        "names": list(index),
        "items": list(index.items()),
        "entries": list(index.entries()),
        "positions": [index.position(name) for name in [*NAMES, "none", "\ud800"]],
        "by place": [index.at(place) for place in range(len(index))],
        "by place and name": [index.at(place, name) for place, name in enumerate(index)],
        "found": [name in index for name in [*NAMES, "none", 5, None]],
        "prefixes": [index.with_prefix(prefix) for prefix in PREFIXES],
        "irregular": list(index._irregular()),
        "tally": tally(index),
        "tally of some": tally(index, only=range(1, 6), without={2}),
    }


def test_a_concatenated_index_equals_an_index_of_the_whole():
    """All entries are equal, with positions in the whole."""
    assert contents_of(joined()) == contents_of(index_of(WHOLE))


def test_a_joined_index_is_an_index():
    """It is accepted as an index and equals the equivalent mapping, on either side."""
    assert isinstance(joined(), Index)
    assert joined() == {entry.name: entry for entry in WHOLE}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_however_many_parts_the_whole_is_the_same(counts):
    """Parts may have any number of entries, also none."""
    number = itertools.count()
    parts = [[tensor_entry(f"n{next(number)}", place) for place in range(count)] for count in counts]
    bases = [1000 * place for place in range(len(parts))]
    whole = [moved(entry, base) for part, base in zip(parts, bases, strict=True) for entry in part]

    assert contents_of(joined(parts, bases)) == contents_of(index_of(whole))


def test_places_are_those_of_the_whole():
    """Extents, arrays of maps and headers are shifted behind the preceding files."""
    entry = joined()["layer1.bias"]

    assert (entry.start, entry.extents) == (1000, (Extent(1040, 24),))


@pytest.mark.parametrize("name", ["none", 5, None, b"note", "\ud800"])
def test_a_name_that_is_not_there_is_a_key_error(name):
    """Any absent key raises KeyError."""
    with pytest.raises(KeyError):
        joined()[name]


def test_the_first_part_that_has_a_name_gives_it():
    """By default the first part with the name counts; a given part may lack it."""
    twice = [[tensor_entry("a", 0)], [tensor_entry("a", 0)]]
    starts = {str(homes): joined(twice, (0, 1000), homes)["a"].start for homes in (None, {}, {"a": 0}, {"a": 1})}

    assert starts == {"None": 0, "{}": 0, "{'a': 0}": 0, "{'a': 1}": 1000}
    assert joined(homes={"note": 2}).position("note") is None


def test_its_fingerprint_is_of_all_files():
    """Another order or set of files has another fingerprint."""
    marks = [index_of(part).fingerprint for part in PARTS]
    marks = [mark._replace(size=size, sample=bytes([size % 251]) * 16) for mark, size in zip(marks, SIZES, strict=True)]
    prints = {
        order: ConcatenatedIndex([index_of([], fingerprint=marks[n]) for n in order], BASES).fingerprint
        for order in [(0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 2, 2)]
    }

    assert len(set(prints.values())) == 3
    assert prints[0, 1, 2, 3].size == sum(SIZES)


@pytest.mark.parametrize("digests", [False, True])
def test_digests_are_there_if_all_parts_have_them(digests):
    """One part without digests is enough to have none."""
    parts = [index_of(PARTS[0], digests=True), index_of(PARTS[2], digests=digests)]

    assert ConcatenatedIndex(parts, BASES).has_digests is digests


def test_it_says_how_many_files_it_is_of():
    """It has no path, and the repr has the number of its files instead."""
    assert (repr(joined()), joined().path) == ("<Index of 9 parameters in 4 files>", None)


def test_closing_it_closes_the_parts():
    """All parts are closed."""

    class Counted(StoredIndex):
        closed = 0

        def close(self):
            Counted.closed += 1

    ConcatenatedIndex([Counted(index_of(part)._store) for part in PARTS], BASES).close()

    assert Counted.closed == len(PARTS)


def test_refused_names_are_an_index_of_their_own():
    """They have a place in the order, a reason, and no bytes."""
    index = RefusedNames({"a": "is in no part", "ab": "is in two parts"})

    assert (list(index), len(index), index.position("ab"), index.position("c")) == (["a", "ab"], 2, 1, None)
    assert index.with_prefix("ab") == [("ab", 1)]
    assert [(entry.kind, entry.reason, entry.extents) for entry in index.entries()] == [
        ("refused", "is in no part", ()),
        ("refused", "is in two parts", ()),
    ]
    assert [len(batch) for batch in index._record_batches()] == [2]
    assert (list(index._irregular()), index["a"]) == (list(enumerate(index.entries())), index.at(0))
