"""Bytes in memory are a source, and the base class checks the bounds of every read."""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from checkpoints import pattern
from source_contract import SourceContract
from tracing import TracingSource

from lazyckpt.errors import ChangedFile
from lazyckpt.sources.base import _WORTH_UNLOCKING, BaseSource, BytesSource, copy


class TestBytesSource(SourceContract):
    """The contract of a source, for bytes in memory."""

    def make(self, data, folder):
        """Makes a source in memory."""
        return BytesSource(data)


class TestCopyingSource(SourceContract):
    """The contract of a source that implements only `_fill`, as those of decryption and of networks do."""

    def make(self, data, folder):
        """Makes a source in memory."""
        return TracingSource(data, window=4096)


@pytest.mark.parametrize(
    "data", [bytearray(b"abcdefgh"), memoryview(b"abcdefgh"), np.frombuffer(b"abcdefgh", "<u4").data]
)
def test_anything_with_a_buffer_is_bytes(data):
    """A buffer of any element type is read as bytes."""
    source = BytesSource(data)

    assert (source.size, bytes(source.read(1, 6))) == (8, b"bcdefg")


def test_bytes_that_can_be_written_are_handed_out_read_only():
    """A caller's bytearray cannot be changed through a view of its source."""
    assert BytesSource(bytearray(8)).read(0, 8).readonly


def test_a_source_may_be_empty():
    """In an empty source the empty range is valid, and one byte is not."""
    source = BytesSource(b"")

    assert bytes(source.read(0, 0)) == b""
    with pytest.raises(ChangedFile, match="there are 0"):
        source.read(0, 1)


def test_a_message_has_the_name_of_the_source():
    """The message has the requested range, the size, and the file."""
    with pytest.raises(ChangedFile, match=r"^model\.ckpt: bytes 1,000 to 3,000 were requested, but there are 2,000$"):
        BytesSource(pattern(2000), "model.ckpt").read(1000, 2000)


def test_an_impossible_length_allocates_nothing():
    """Bounds are checked before memory is allocated."""
    source = TracingSource(pattern(100))
    tracemalloc.start()
    with pytest.raises(ChangedFile):
        source.read(0, 2**50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 100_000


def test_fill_is_never_called_for_nothing():
    """Empty reads and empty destinations never call `_fill`."""
    source = TracingSource(pattern(100))
    source.read(50, 0)
    source.read_into(50, memoryview(bytearray(0)))
    source.read_many([(100, memoryview(bytearray(0)))])

    assert source.reads == []


def test_a_source_without_fill_is_no_source():
    """A subclass must implement `_fill`."""
    source = BaseSource()
    source.name, source.size = "<nothing>", 10

    with pytest.raises(NotImplementedError):
        source.read(0, 1)


@pytest.mark.parametrize("length", [0, 1, _WORTH_UNLOCKING - 1, _WORTH_UNLOCKING, 3 * _WORTH_UNLOCKING + 1])
def test_bytes_are_copied(length):
    """Any number of bytes is copied, and bytes beside them do not change."""
    data, target = memoryview(pattern(length)), bytearray(length + 2)
    copy(memoryview(target)[1:-1], data)

    assert bytes(target) == b"\0" + bytes(data) + b"\0"


@pytest.fixture
def polite():
    """Threads are not interrupted: a waiting one runs only when another releases the lock."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(interval)


def test_other_threads_go_on_while_much_is_copied(polite):
    """The interpreter's lock is released during a large copy."""
    data, target = memoryview(bytes(2**23)), memoryview(bytearray(2**23))
    done, steps = threading.Event(), []

    def walk():
        while not done.is_set():
            steps.append(None)
            time.sleep(0)

    other = threading.Thread(target=walk)
    other.start()
    before = len(steps)
    for _ in range(2000):
        copy(target, data)
        if len(steps) > before:
            break
    after = len(steps)
    done.set()
    other.join()

    assert after > before
