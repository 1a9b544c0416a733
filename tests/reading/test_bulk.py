"""Bulk reads: in file order, each value in its own memory, on threads where that pays."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting
from tracing import TracingSource

from lazyckpt.formats import FORMATS
from lazyckpt.index.open_file import without_index
from lazyckpt.reading import bulk
from lazyckpt.reading.bulk import read_all
from lazyckpt.reading.reader import FileReader
from lazyckpt.runtime import workers
from lazyckpt.sources import BytesSource

FORM = FORMATS["ckpt"]
VALUES = {f"layer{number}": counting((number + 1, 7)) for number in range(40)}
DATA = checkpoint(VALUES)
ENTRIES = {entry.name: entry for entry in FORM.scan(BytesSource(DATA))}
SHUFFLED = {name: ENTRIES[name] for name in sorted(ENTRIES, key=lambda name: name[::-1])}


@pytest.mark.parametrize("workers", [None, 0, 1, 2, 16])
@pytest.mark.parametrize("kind", [BytesSource, TracingSource], ids=["addressable", "copying"])
def test_values_come_in_file_order_whatever_the_number_of_workers(kind, workers):
    """For any number of workers, the same arrays come by name, in file order."""
    found = read_all(FileReader(without_index(kind(DATA), FORM)), SHUFFLED, workers, None)

    assert list(found) == list(VALUES)
    for name, array in found.items():
        np.testing.assert_array_equal(array, VALUES[name], strict=True)


def test_values_are_in_memory_of_their_own():
    """Arrays own their memory: none is a view of the file or of another value."""
    found = read_all(FileReader(without_index(BytesSource(DATA), FORM)), ENTRIES, None, None)

    assert all(array.flags.writeable and array.ctypes.data % 64 == 0 for array in found.values())


def test_strings_and_maps_are_read_too():
    """Strings and maps are read together with tensors."""
    entries = {entry.name: entry for entry in FORM.scan(BytesSource(checkpoint(MIXED)))}
    found = read_all(FileReader(without_index(BytesSource(checkpoint(MIXED)), FORM)), entries, None, None)

    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in MIXED.items()}


@pytest.mark.parametrize("workers", [1, 4])
def test_progress_counts_the_bytes_in_file_order(workers):
    """After each value `progress` gets the number of bytes done and the total."""
    heard = []
    read_all(
        FileReader(without_index(BytesSource(DATA), FORM)),
        SHUFFLED,
        workers,
        lambda done, total: heard.append((done, total)),
    )
    sizes = np.cumsum([array.nbytes for array in VALUES.values()]).tolist()

    assert heard == [(size, sizes[-1]) for size in sizes]


def test_a_copying_source_is_asked_in_batches(monkeypatch):
    """Neighbours share a request, up to a bounded number of bytes, so that a block is decrypted once."""
    monkeypatch.setattr(bulk, "BATCH_BYTES", 1000)
    source = TracingSource(DATA)
    batches = []
    source.read_many = lambda requests: (batches.append(len(requests)), TracingSource.read_many(source, requests))
    found = read_all(FileReader(without_index(source, FORM)), ENTRIES, None, None)

    assert len(found) == len(VALUES)
    assert 1 < len(batches) < len(VALUES) // 2


@pytest.fixture
def threads_used(monkeypatch):
    """The names of the threads that read values."""
    used = set()
    real = FileReader.values

    def values(self, entries):
        used.add(threading.current_thread().name)
        return real(self, entries)

    monkeypatch.setattr(FileReader, "values", values)
    return used


def test_a_few_bytes_are_read_without_threads(threads_used):
    """For a small file threads cost more than they save."""
    read_all(FileReader(without_index(BytesSource(DATA), FORM)), ENTRIES, None, None)

    assert threads_used == {threading.current_thread().name}


def test_many_bytes_are_read_on_threads(threads_used, monkeypatch):
    """Above a certain size copies run on threads, unless one worker is requested."""
    monkeypatch.setattr(workers, "PARALLEL_FROM", 1)
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 4)
    read_all(FileReader(without_index(BytesSource(DATA), FORM)), ENTRIES, None, None)

    assert threads_used
    assert all(name.startswith("lazyckpt") for name in threads_used)


def test_nothing_to_read_is_nothing(threads_used):
    """Without names there are no values and no progress."""
    heard = []

    assert (
        read_all(FileReader(without_index(BytesSource(DATA), FORM)), {}, None, lambda *done: heard.append(done)) == {}
    )
    assert (heard, threads_used) == ([], set())
