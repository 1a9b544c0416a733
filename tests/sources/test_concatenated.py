"""Several files as one source: the contract of a source, and reads across borders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from checkpoints import pattern
from source_contract import SIZE, SourceContract
from tracing import TracingSource

from lazyckpt.sources import open_source
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.concatenated import ConcatenatedSource

CUTS = (0, 4096, 4100, 4100, 30_000, 69_999, SIZE)  # with an empty part


def parts_of(data):
    """The bytes of the parts."""
    return [data[start:stop] for start, stop in itertools.pairwise(CUTS)]


class TestJoinedBytes(SourceContract):
    """The contract of a source, for parts that are not addressable: every read is a copy."""

    def make(self, data, folder):
        """See `SourceContract`."""
        return ConcatenatedSource("whole", [TracingSource(part, window=64) for part in parts_of(data)])


class TestJoinedFiles(SourceContract):
    """The contract of a source, for one mapped file, so that all of it is addressable."""

    def make(self, data, folder):
        """See `SourceContract`."""
        path = folder / "part"
        path.write_bytes(data)
        return ConcatenatedSource("whole", [open_source(str(path)).source])


def test_a_range_in_one_part_is_not_copied():
    """A view of one addressable part is that part's own view."""
    parts = [BytesSource(pattern(100)), BytesSource(pattern(50))]
    joined = ConcatenatedSource("whole", parts)

    assert joined.is_addressable
    mine, theirs = (np.frombuffer(view, np.uint8) for view in (joined.read(110, 20), parts[1].read(10, 20)))
    assert np.shares_memory(mine, theirs)


def test_each_part_is_asked_once():
    """Many requests become one call to each part, with offsets in it."""
    parts = [TracingSource(part) for part in (pattern(10), pattern(20), pattern(30))]
    joined = ConcatenatedSource("whole", parts)
    rooms = [(8, memoryview(bytearray(4))), (40, memoryview(bytearray(5))), (0, memoryview(bytearray(1)))]
    joined.read_many(rooms)

    assert [part.reads for part in parts] == [[(8, 2), (0, 1)], [(0, 2)], [(10, 5)]]


@pytest.mark.parametrize(("offset", "part"), [(0, 0), (9, 0), (10, 1), (29, 1), (30, 2), (59, 2)])
def test_the_part_of_a_byte_is_known(offset, part):
    """A border belongs to the part that begins there."""
    joined = ConcatenatedSource("whole", [BytesSource(bytes(size)) for size in (10, 20, 30)])

    assert joined.part_at(offset) == part


def test_a_private_map_lies_in_one_part(tmp_path):
    """A private map exists inside a mapped file, but not across a border."""
    sources = []
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(pattern(8192))
        sources.append(open_source(str(tmp_path / name)).source)
    joined = ConcatenatedSource("whole", sources)
    inside, over = joined.map_private(8192 + 100, 50), joined.map_private(8190, 4)

    assert (bytes(inside), over) == (pattern(8192)[100:150], None)
    del inside
    joined.close()
