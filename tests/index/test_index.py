"""The index: a read-only mapping name -> entry, in file order."""

from __future__ import annotations

import collections.abc

import pytest
from entries import MARK, index_of, map_entry, refused_entry, string_entry, tensor_entry

from lazyckpt.errors import StaleIndex
from lazyckpt.index.records import encode

ENTRIES = {
    entry.name: entry
    for entry in [
        tensor_entry("layer1.weight", 0),
        string_entry("note", 1),
        map_entry("table", 2),
        tensor_entry("layer1.bias", 3),
        refused_entry("broken", 4),
        tensor_entry("layer10.weight", 5),
    ]
}


INDEX = index_of(ENTRIES.values())


def test_an_index_is_a_mapping():
    """An index is a Mapping and equals a dict of its entries, in the same order."""
    assert isinstance(INDEX, collections.abc.Mapping)
    assert list(INDEX.items()) == list(ENTRIES.items())
    assert ENTRIES == INDEX


@pytest.mark.parametrize("view", ["keys", "values"])
def test_the_views_of_an_index_are_those_of_a_mapping(view):
    """Keys and values are views that can be iterated repeatedly and have a length."""
    seen = getattr(INDEX, view)()

    assert (list(seen), len(seen)) == (list(getattr(ENTRIES, view)()), len(ENTRIES))
    assert list(seen) == list(seen)


def test_entries_come_in_file_order():
    """`entries` walks the whole file without looking names up."""
    assert list(INDEX.entries()) == list(ENTRIES.values())


def test_walking_fetches_records_in_runs(monkeypatch):
    """A walk holds a bounded number of records, however long the index."""
    monkeypatch.setattr("lazyckpt.index.stored._BATCH", 4)
    many = [tensor_entry(f"w{place}", place) for place in range(11)]

    assert list(index_of(many)) == [entry.name for entry in many]


@pytest.mark.parametrize("name", ["layer", "", "layer1.weight ", "\ud800", None, 0, b"note", ("note",)])
def test_what_is_not_a_name_in_it_is_not_in_it(name):
    """An absent name, or an object of another type, is not contained and raises KeyError."""
    assert name not in INDEX
    assert INDEX.get(name) is None
    with pytest.raises(KeyError):
        INDEX[name]


def test_names_with_a_prefix_come_with_their_places():
    """Pairs of name and place come in file order."""
    assert INDEX.with_prefix("layer1") == [("layer1.weight", 0), ("layer1.bias", 3), ("layer10.weight", 5)]


def test_a_prefix_of_any_length_gives_its_names_only():
    """A prefix may be longer than the store's keys."""
    names = ["x" * 500, "x" * 500 + "a", "x" * 499 + "y"]
    index = index_of([tensor_entry(name, place) for place, name in enumerate(names)])

    assert index.with_prefix("x" * 500) == [(names[0], 0), (names[1], 1)]


def test_an_entry_can_be_had_by_its_place():
    """An entry is found by its place; a name given with it must match."""
    assert INDEX.at(3) == INDEX.at(3, "layer1.bias") == ENTRIES["layer1.bias"]
    with pytest.raises(StaleIndex, match="a name leads to the record of another"):
        INDEX.at(3, "layer1.weight")


def test_irregular_entries_are_given_whole():
    """Entries that need a check before they may be loaded are returned whole."""
    assert [entry for _, entry in INDEX._irregular()] == [ENTRIES["broken"]]


def test_a_regular_index_is_not_searched_for_irregular_entries(monkeypatch):
    """The facts say that there are no irregular entries, so no search is needed."""
    index = index_of([tensor_entry("w")])
    monkeypatch.setattr(index._store, "irregular", lambda: pytest.fail("it was searched"))

    assert list(index._irregular()) == []


def test_an_index_that_holds_less_than_it_claims_is_damaged():
    """A walk that ends early raises, so the index does not pass for a shorter one."""
    index = index_of([tensor_entry("w")], parameters=2)

    with pytest.raises(StaleIndex, match="holds 1 records and claims 2"):
        list(index)


def test_a_record_that_is_none_is_damage(tmp_path):
    """An invalid record is reported as a damaged index, with what to do."""
    index = index_of([tensor_entry("w")])
    index._store._records[0] = encode(tensor_entry("w"), b"w")[:20]

    for read in (lambda: index["w"], lambda: index.at(0), lambda: list(index.entries())):
        with pytest.raises(StaleIndex, match="rebuild it"):
            read()


def test_the_repr_says_how_many_and_where():
    """The repr of an index is one line, however large the index."""
    assert repr(INDEX) == "<Index of 6 parameters in memory>"


def test_an_index_describes_its_file():
    """An index has its file's fingerprint, its own path, and whether it has digests."""
    assert (INDEX.fingerprint, INDEX.path, INDEX.has_digests) == (MARK, None, False)
