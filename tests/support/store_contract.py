"""The contract of an index store. Test classes inherit from it and implement `make`."""

from __future__ import annotations

import itertools
import random

import pytest
from entries import MARK, map_entry, plain, refused_entry, string_entry, tensor_entry

from lazyckpt.index import write
from lazyckpt.index.footer import Meta
from lazyckpt.index.records import decode, name_of
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.index.store import MAX_PARAMETER_NAME

MIXED = [
    tensor_entry("conv.weight", 0),
    string_entry("note", 1),
    map_entry("table", 2),
    refused_entry("broken", 3),
    tensor_entry("fc.bias", 4, shape=()),
    tensor_entry("", 5),
    tensor_entry("权重.卷积", 6),
]
SHARED = "x" * 450  # longer than the prefix that an LMDB key holds
LONG = [tensor_entry(SHARED + end, place) for place, end in enumerate(["", "a", "b", "a" * 400, "é" * 300])]


def expected(entries):
    """The dict that MindSpore returns: the first position and the last value of each name."""
    held = {}
    for entry in entries:
        held[entry.name] = entry
    return held


def dump(store):
    """Everything in a store, in file order."""
    return [decode(record) for record in store.records(0, store.meta.parameters)]


class StoreContract:
    """Tests for every store. Subclasses implement `make(folder, entries, digests=False)`."""

    def make(self, folder, entries, digests=False):
        """Make a store of these entries; `folder` is available for files."""
        raise NotImplementedError

    @pytest.fixture
    def store_of(self, tmp_path):
        """A factory of stores, which are closed when the test ends."""
        made = []
        numbers = itertools.count()

        def store_of(entries, digests=False):
            folder = tmp_path / str(next(numbers))
            folder.mkdir()
            made.append(self.make(folder, entries, digests))
            return made[-1]

        yield store_of
        for store in made:
            store.close()

    def test_names_have_places_in_file_order(self, store_of):
        """The first parameter of the file has ordinal 0, the next 1, and so on."""
        store = store_of(MIXED)

        assert [store.position(entry.name) for entry in MIXED] == list(range(len(MIXED)))

    def test_an_absent_name_has_no_place(self, store_of):
        """The ordinal of a name that is absent, or that no file can have, is None."""
        store = store_of(MIXED)

        assert [store.position(name) for name in ("conv", "conv.weight ", "x" * 2000, "\ud800")] == [None] * 4

    def test_a_record_holds_its_entry(self, store_of):
        """The record at each ordinal decodes to the entry, for every kind."""
        store = store_of(MIXED)

        assert [decode(store.record(place)) for place in range(len(MIXED))] == MIXED

    def test_records_come_in_runs(self, store_of):
        """A run has the requested number of records in file order, or fewer at the end."""
        store = store_of(MIXED)
        runs = {(first, count): [*map(decode, store.records(first, count))] for first in range(9) for count in range(9)}

        assert runs == {(first, count): MIXED[first : first + count] for first, count in runs}

    @pytest.mark.parametrize("kind", ["mixed", "long", "alike"])
    def test_names_come_in_runs(self, store_of, kind):
        """The names of a run are those of its records, for every kind and mixture."""
        alike = [tensor_entry(f"layer.{place}.weight", place) for place in range(300)]
        entries = {"mixed": MIXED, "long": LONG, "alike": [*alike, *MIXED]}[kind]
        store = store_of(entries)
        runs = {(first, count): store.names(first, count) for first in range(0, 310, 3) for count in (0, 1, 2, 400)}

        assert runs == {
            (first, count): [entry.name for entry in entries[first : first + count]] for first, count in runs
        }

    def test_the_facts_are_kept(self, store_of):
        """The metadata keeps the fingerprint, the counts and the digest flag."""
        facts = [store_of(MIXED, digests).meta[:4] for digests in (False, True)]

        assert facts == [Meta(MARK, len(MIXED), 1, digests)[:4] for digests in (False, True)]

    def test_digests_are_kept(self, store_of):
        """A record includes the digest of its entry."""
        entry = tensor_entry("w", digest=bytes(range(32)))

        assert dump(store_of([entry], digests=True)) == [entry]

    def test_what_a_walk_finds_is_stored_as_its_entry(self, store_of):
        """Lightweight and full entries give the same store, with repeated and irregular names."""
        names = ["a", "b.__param_key__1", "c", "a", "n" * 1100, "é" * 600, "b.__param_key__1", "d", "e"]
        entries = [tensor_entry(name, place) for place, name in enumerate(names)]
        entries[2], entries[7] = refused_entry("c", 2), refused_entry("d", 7)
        mixed = [
            entry if entry.kind == "refused" or place % 3 == 2 else plain(entry) for place, entry in enumerate(entries)
        ]
        healed = [*mixed, plain(tensor_entry("c", 9))]

        assert dump(store_of(mixed)) == dump(store_of(entries)) == [*expected(entries).values()]
        assert store_of(mixed).irregular() == store_of(entries).irregular() == [1, 2, 3, 5]
        assert store_of(healed).irregular() == [1, 3, 5]

    def test_an_index_may_be_empty(self, store_of):
        """A file without parameters has an index without records."""
        store = store_of([])

        assert (store.meta.parameters, store.position("w"), store.records(0, 10)) == (0, None, [])
        assert (store.with_prefix(""), store.irregular()) == ([], [])

    def test_a_name_that_comes_twice_keeps_its_first_place_and_last_value(self, store_of):
        """This is the order of the dict that MindSpore returns."""
        entries = [tensor_entry(name, place) for place, name in enumerate("abacab")]
        store = store_of(entries)

        assert dump(store) == [entries[4], entries[5], entries[3]]

    def test_long_names_are_told_apart(self, store_of):
        """Names that share more bytes than a key holds are all found, and no other name is."""
        store = store_of(LONG)

        assert [store.position(entry.name) for entry in LONG] == list(range(len(LONG)))
        assert store.position(SHARED + "c") is None

    def test_names_of_each_length_around_the_key_limits_are_found(self, store_of):
        """Names of 399 to 403 and 509 to 513 bytes are all found."""
        entries = [tensor_entry("n" * size, place) for place, size in enumerate([*range(399, 404), *range(509, 514)])]
        store = store_of(entries)

        assert [store.position(entry.name) for entry in entries] == list(range(len(entries)))

    def test_a_prefix_gives_the_places_of_its_names(self, store_of):
        """The ordinals of a prefix are ascending, in any order of the names."""
        names = ["b.2", "a", "b", "b.10", "c", "b.", "bé", "B", "", "é", "b.2.x"]
        store = store_of([tensor_entry(name, place) for place, name in enumerate(names)])
        prefixes = ["", "b", "b.", "b.2", "b.2.x.", "B", "é", "z", "c", "\ud800", "b\0"]

        assert {prefix: store.with_prefix(prefix) for prefix in prefixes} == {
            prefix: [place for place, name in enumerate(names) if name.startswith(prefix)] for prefix in prefixes
        }

    @pytest.mark.parametrize("length", [0, 1, 399, 400, 401, 449, 450, 451])
    def test_a_long_prefix_leaves_no_name_out(self, store_of, length):
        """Up to 400 bytes, a prefix selects exactly its names. A longer one may select others that share 400 bytes."""
        store = store_of([*LONG, tensor_entry("x" * 300, 5), tensor_entry("y" * 450, 6)])
        prefix = (SHARED + "a")[:length]
        found = store.with_prefix(prefix)
        names = [name_of(store.record(place)) for place in found]

        assert sorted(found) == found
        assert {entry.name for entry in LONG if entry.name.startswith(prefix)} <= set(names)
        assert all(name.startswith(prefix[:400]) for name in names)

    def test_what_needs_a_look_is_listed(self, store_of):
        """Entries are irregular if refused, renamed by MindSpore, or too long for its names."""
        too_long = "n" * (MAX_PARAMETER_NAME + 1)
        entries = [
            tensor_entry("plain", 0),
            refused_entry("broken", 1),
            tensor_entry("emb.__param_key__3", 2),
            tensor_entry(too_long, 3),
            string_entry(too_long + "s", 4),
            tensor_entry("é" * MAX_PARAMETER_NAME, 5),
            string_entry("s.__param_key__", 6),
        ]
        store = store_of(entries)

        assert (store.irregular(), store.meta.irregular) == ([1, 2, 3, 6], 4)

    def test_a_sound_value_takes_the_name_of_a_refused_one_off_the_list(self, store_of):
        """Only the last value of a name counts."""
        store = store_of([refused_entry("a", 0), refused_entry("b", 1), tensor_entry("a", 2), refused_entry("a", 3)])
        healed = store_of([refused_entry("a", 0), refused_entry("b", 1), tensor_entry("a", 2)])

        assert (store.irregular(), healed.irregular()) == ([0, 1], [1])

    @pytest.mark.parametrize("seed", range(8))
    def test_many_parameters_with_names_that_come_again(self, store_of, seed):
        """A store of random names, some long, many repeated, has the contents of a dict."""
        pick = random.Random(seed)
        names = [pick.choice(["", "layer.", "x" * 440]) + str(pick.randrange(400)) for _ in range(1000)]
        entries = [tensor_entry(name, place) for place, name in enumerate(names)]
        store = store_of(entries)
        held = expected(entries)

        assert dump(store) == [*held.values()]
        assert [store.position(name) for name in held] == [*range(len(held))]

    def test_ten_thousand_parameters(self, store_of):
        """Ten thousand parameters, some of them repeated, are all found."""
        names = [f"layer{number}.weight" for number in range(10_000)]
        entries = [tensor_entry(name, place) for place, name in enumerate([*names, *names[9000::3], *names[:5000:7]])]
        store = store_of(entries)
        held = expected(entries)

        assert dump(store) == [*held.values()]
        assert store.with_prefix("layer99") == [place for place, name in enumerate(held) if name.startswith("layer99")]
        assert [store.position(name) for name in names[::97]] == [*range(0, 10_000, 97)]


class SidecarContract(StoreContract):
    """The contract of an index in an LMDB file."""

    def make(self, folder, entries, digests=False):
        """Write the entries to a file, and open it."""
        path = str(folder / "index.lmdb")
        meta = write.write(path, entries, Meta(MARK, digests=digests))
        store = Sidecar(path)
        assert store.meta == meta
        return store
