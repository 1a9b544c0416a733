"""Zeros at the end of a source, and holes: where they begin and end, and how much is read to find out."""

from __future__ import annotations

import os

import pytest
from checkpoints import pattern
from hypothesis import given
from hypothesis import strategies as st
from tracing import TracingSource

from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.zeros import holes, unfinished, zeros_before, zeros_begin, zeros_end

MIB = 2**20


@given(st.binary(max_size=40).map(lambda data: data.rstrip(b"\0")), st.integers(0, 40), st.booleans())
def test_zeros_begin_after_the_last_other_byte(data, zeros, sampled):
    """Exactly, or by samples: the offset of the first of the zeros at the end."""
    source = BytesSource(data + bytes(zeros))

    assert zeros_begin(source, sampled=sampled) == len(data)
    assert zeros_before(source, len(data)) == len(data)
    assert zeros_before(source, source.size) == len(data)


@pytest.mark.parametrize("begin", [0, 1, 5 * MIB - 1, 5 * MIB, 9 * MIB + 4095, 19 * MIB, 20 * MIB - 1])
def test_a_long_run_is_found_by_samples(begin):
    """Samples lead to the exact beginning of a run that is longer than what is always read."""
    data = bytearray(20 * MIB)
    data[:begin] = b"\x01" * begin

    assert zeros_begin(BytesSource(data), sampled=True) == begin
    assert zeros_begin(BytesSource(data)) == begin


def test_samples_are_few():
    """Of a run of 200 MiB, samples read 6 MiB; and of a file that does not end in zeros, 16 bytes are read."""
    long, other = map(TracingSource, (bytes(200 * MIB), pattern(9 * MIB)))
    zeros_begin(long, sampled=True)
    zeros_begin(other)

    assert sum(length for _, length in long.reads) < 6 * MIB
    assert [length for _, length in other.reads] == [16]


@pytest.mark.parametrize("zeros", [0, 1, 4095, 4096, 5000, 2 * MIB])
def test_the_end_of_zeros_is_looked_for_in_one_mebibyte(zeros):
    """The zeros at an offset are followed to the next other byte, or for 1 MiB."""
    source = BytesSource(b"abc" + bytes(zeros) + b"xyz")

    assert zeros_end(source, 3) == 3 + min(zeros, MIB)
    assert zeros_before(source, 3 + zeros) == 3 + max(0, zeros - MIB)


@pytest.fixture
def sparse(tmp_path):
    """Make a file with data in some ranges and holes elsewhere; skip where the file system keeps none."""

    def make(size, *written):
        path = tmp_path / "sparse"
        with open(path, "wb") as file:
            for start, stop in written:
                file.seek(start)
                file.write(b"\x01" * (stop - start))
            file.truncate(size)
        with open(path, "rb") as file:
            if size and not written and os.lseek(file.fileno(), 0, os.SEEK_HOLE) >= size:
                pytest.skip("the file system keeps no holes")
        return str(path)

    return make


def test_holes_of_a_file(sparse):
    """A hole in the middle and one at the end; none in a whole or empty file, or where there is no file."""
    empty = list(holes(sparse(4 * MIB)))
    both = list(holes(sparse(4 * MIB, (0, MIB), (2 * MIB, 3 * MIB))))

    assert empty == [(0, 4 * MIB)]
    assert both == [(MIB, MIB), (3 * MIB, MIB)]
    assert list(holes(sparse(MIB, (0, MIB)))) == list(holes(sparse(0))) == list(holes("nowhere")) == []


def test_a_pipe_has_no_holes(tmp_path):
    """What cannot be searched has no holes, and is not waited for."""
    os.mkfifo(tmp_path / "pipe")

    assert list(holes(str(tmp_path / "pipe"))) == []


@pytest.mark.parametrize(
    ("count", "words"), [(0, "no value is whole"), (1, "1 value is whole"), (4321, "4,321 values are whole")]
)
def test_the_sentence_counts(count, words):
    """The sentence has the offset, and what is whole."""
    assert unfinished(5000, count, "value") == f"zeros from byte 5,000 on: the download did not finish; {words}"
