"""The contract of a source. Test classes inherit from it and implement `make`."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from checkpoints import pattern

from lazyckpt.errors import ChangedFile
from lazyckpt.sources.window import as_buffer

SIZE = 70_001  # more than a page, and not a multiple of any block size


def ranges(size, seed=0, count=60):
    """Ranges inside a source: the edge cases, and some random ones."""
    pick = random.Random(seed)
    edges = [(0, 0), (0, 1), (0, size), (size - 1, 1), (size, 0), (1, size - 1), (4095, 2), (4096, 4096)]
    return edges + [(start, pick.randint(0, size - start)) for start in (pick.randint(0, size) for _ in range(count))]


class SourceContract:
    """Tests for every source. Subclasses implement `make(data, folder)`, and may set `data`."""

    data = pattern(SIZE)

    def make(self, data, folder):
        """Make a source of these bytes; `folder` is available for files."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, tmp_path):
        """A source of `data`, closed when the test ends."""
        made = self.make(self.data, tmp_path)
        yield made
        made.close()

    def test_it_knows_its_size(self, source):
        """`size` is the number of bytes."""
        assert source.size == len(self.data)

    def test_it_has_a_name_and_a_window(self, source):
        """A source has a name for messages, and the size of a useful request."""
        assert isinstance(source.name, str)
        assert source.name
        assert source.window or source.is_addressable  # 0 is for bytes in memory
        assert source.window_limit >= 0

    def test_any_range_is_read(self, source):
        """Every range inside the source returns its bytes, including empty ranges at the end."""
        asked = ranges(source.size)

        assert [bytes(source.read(*range_)) for range_ in asked] == [
            self.data[start : start + length] for start, length in asked
        ]

    def test_any_range_is_taken(self, source):
        """Every snapshot has the bytes of its range."""
        asked = ranges(source.size)

        assert [bytes(source.snapshot(*range_)) for range_ in asked] == [
            self.data[start : start + length] for start, length in asked
        ]

    def test_views_are_bytes_and_read_only(self, source):
        """`read` returns a flat, read-only view of bytes."""
        views = [read(*at) for read in (source.read, source.snapshot) for at in ((10, 100), (0, 0), (0, source.size))]

        assert {(view.format, view.ndim, view.contiguous, view.readonly) for view in views} == {("B", 1, True, True)}

    def test_a_destination_is_filled(self, source):
        """`read_into` fills the given memory and nothing around it."""
        found = []
        for start, length in ranges(source.size):
            room = bytearray(b"\xee" * (length + 2))
            source.read_into(start, memoryview(room)[1 : 1 + length])
            found.append(bytes(room))

        assert found == [b"\xee" + self.data[start : start + length] + b"\xee" for start, length in ranges(source.size)]

    def test_memory_of_an_array_is_filled(self, source):
        """The destination may be the memory of a numpy array."""
        room = np.zeros(1000, np.uint8)
        source.read_into(5, room.data)

        assert room.tobytes() == self.data[5:1005]

    def test_many_destinations_are_filled_at_once(self, source):
        """`read_many` fills all its requests, in any order and with overlaps."""
        asked = ranges(source.size, seed=1)
        requests = [(start, memoryview(bytearray(length))) for start, length in asked]
        source.read_many(iter(requests))

        assert [bytes(room) for _, room in requests] == [self.data[start : start + length] for start, length in asked]

    def test_no_requests_are_no_work(self, source):
        """`read_many` accepts an empty list."""
        assert source.read_many([]) is None

    @pytest.mark.parametrize(
        ("offset", "length"), [(-1, 1), (0, -1), (0, 1 << 62), (1 << 62, 0), ("size", 1), ("size", -1), (1, "size")]
    )
    def test_a_range_outside_is_refused(self, source, offset, length):
        """A range that is not fully inside raises ChangedFile with the size, before any allocation."""
        asked = [source.size if number == "size" else number for number in (offset, length)]

        for read in (source.read, source.snapshot):
            with pytest.raises(ChangedFile, match=f"{source.size:,}"):
                read(*asked)

    def test_a_destination_that_reaches_past_the_end_is_refused(self, source):
        """`read_into` and `read_many` raise ChangedFile instead of filling a destination partly."""
        room = memoryview(bytearray(20))

        with pytest.raises(ChangedFile):
            source.read_into(source.size - 19, room)
        with pytest.raises(ChangedFile):
            source.read_many([(0, room), (source.size, room)])

    def test_addressable_means_that_nothing_is_copied(self, source):
        """Two reads of a range of an addressable source share memory; other sources may copy."""
        views = [np.frombuffer(source.read(3, 5000), np.uint8) for _ in range(2)]

        assert not source.is_addressable or np.shares_memory(*views)

    def test_the_whole_can_be_looked_at_byte_by_byte(self, source):
        """`as_buffer` returns an object that is indexed like the bytes."""
        seen = as_buffer(source)
        offsets = [0, 1, 4095, 4096, len(self.data) // 2, len(self.data) - 1, 7]

        assert [seen[offset] for offset in offsets] == [self.data[offset] for offset in offsets]

    def test_released_ranges_can_be_read_again(self, source):
        """`release` is only a hint: later reads return the same bytes."""
        source.read(0, source.size)
        for start, length in ranges(source.size, seed=2, count=10):
            source.drop_pages(start, length)

        assert source.read(0, source.size) == self.data

    def test_a_border_lies_ahead(self, source):
        """From any offset the next border is further on, so that a reader which stops at borders reaches the end."""
        offsets = [0, 1, 4095, 4096, source.size // 2, source.size - 1]

        assert [offset for offset in offsets if source.border(offset) <= offset] == []

    def test_a_hint_changes_no_byte(self, source):
        """`scattered` only affects speed: reads during and after it return the same bytes."""
        found = []
        for whether in (True, False):
            source.advise_random(whether)
            found += [bytes(source.read(start, length)) for start, length in ranges(source.size, seed=5, count=10)]

        assert found == 2 * [
            self.data[start : start + length] for start, length in ranges(source.size, seed=5, count=10)
        ]

    def test_many_threads_read_at_once(self, source):
        """A source has no cursor, so threads that read different ranges get the right bytes."""
        asked = ranges(source.size, seed=3, count=400)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda range_: bytes(source.read(*range_)), asked))

        assert found == [self.data[start : start + length] for start, length in asked]

    def test_many_threads_fill_at_once(self, source):
        """Threads that fill their own memory at the same time do not interfere."""
        asked = ranges(source.size, seed=4, count=400)
        rooms = [memoryview(bytearray(length)) for _, length in asked]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(source.read_into, [start for start, _ in asked], rooms))

        assert rooms == [self.data[start : start + length] for start, length in asked]

    def test_views_outlive_the_source(self, tmp_path):
        """Views stay valid after `close`, which may be called twice."""
        source = self.make(self.data, tmp_path)
        view = source.read(7, len(self.data) - 20)
        source.close()
        source.close()
        del source

        assert view == self.data[7:-13]
