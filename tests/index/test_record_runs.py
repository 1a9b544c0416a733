"""Records read as tensor runs equal the entries of the index."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting
from entries import MARK, entries_of, refused_entry, tensor_entry
from generated import files, plain_files
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import CorruptFile, StaleIndex
from lazyckpt.formats import FORMATS
from lazyckpt.index.footer import Meta
from lazyckpt.index.record_runs import tensor_runs
from lazyckpt.index.records import encode
from lazyckpt.index.store import MemoryStore
from lazyckpt.index.stored import StoredIndex
from lazyckpt.model.tensor_runs import LONGEST, SMALL, TensorRun
from lazyckpt.sources import BytesSource

FORM = FORMATS["ckpt"]
SMALL_ONES = {f"layer{number}": counting((number % 3 + 1, 5)) for number in range(60)}


def index_of(entries):
    """An index in memory."""
    return StoredIndex(MemoryStore(entries, Meta(MARK)))


def index_of_file(data):
    """The index of a file's bytes."""
    return index_of(FORM.scan(BytesSource(data)))


def opened(index):
    """The entries of all runs, and those between them."""
    for found in tensor_runs(index):
        yield from entries_of(found) if isinstance(found, TensorRun) else [found]


@given(st.one_of(plain_files, files))
def test_stretches_hold_the_entries_of_the_index(data):
    """For any file, the runs hold all entries of the index in file order."""
    try:
        index = index_of_file(data)
    except CorruptFile:
        return

    assert list(opened(index)) == list(index.entries())


@pytest.mark.parametrize("large", [SMALL, 2 * SMALL])
def test_small_ones_between_others_are_stretches(large):
    """A large value, or one that is not a tensor, ends a run and stays an entry."""
    halves = {f"{half}.{name}": value for half in "ab" for name, value in SMALL_ONES.items()}
    names = list(halves)
    values = {name: halves[name] for name in names[:60]} | {"large": np.zeros(large, "u1")} | MIXED
    values |= {name: halves[name] for name in names[60:]}
    index = index_of_file(checkpoint(values))
    stretches = [found for found in tensor_runs(index) if isinstance(found, TensorRun)]

    assert list(opened(index)) == list(index.entries())
    assert [name for found in stretches for name in found.names if name in halves] == names
    assert "large" not in {name for found in stretches for name in found.names}


def test_a_run_is_short():
    """A run has at most a mebibyte, however many small tensors there are."""
    index = index_of_file(checkpoint({f"layer{number}": counting((600,)) for number in range(2_000)}))
    sizes = [found.stop - found.start for found in tensor_runs(index)]

    assert len(sizes) > 4
    assert max(sizes) <= LONGEST


def test_what_does_not_follow_is_in_no_run():
    """Entries with bytes between them are not joined."""
    index = index_of([tensor_entry(f"layer{place}", 2 * place) for place in range(50)])

    assert list(tensor_runs(index)) == list(index.entries())


def test_digests_keep_values_apart():
    """A value with a digest to compare is not read as part of a run."""
    entries = [entry._replace(digest=bytes(32)) for entry in FORM.scan(BytesSource(checkpoint(SMALL_ONES)))]
    index = index_of(entries)

    assert list(tensor_runs(index)) == entries


@pytest.mark.parametrize("place", [0, 30, 59])
@pytest.mark.parametrize(
    "damage", [lambda record: record[:7], lambda record: record[:30], lambda record: record[:-1] + b"\xff"]
)
def test_a_damaged_record_is_reported(place, damage):
    """A truncated record and a name that is not UTF-8 are reported."""
    entries = list(FORM.scan(BytesSource(checkpoint(SMALL_ONES))))
    index = index_of([*entries, refused_entry("broken", 60)])
    index._store._records[place] = damage(encode(entries[place], entries[place].name.encode()))

    with pytest.raises(StaleIndex, match="the index is damaged"):
        list(tensor_runs(index))
