"""Planned runs arrive in the answer, in bounded memory and in a number of steps that is linear."""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc
from unittest import mock

import numpy as np
import pytest
from checkpoints import array_value, counting, pattern, sliced_value
from encryption import KEY, encrypted
from hypothesis import given
from hypothesis import strategies as st
from index_keys import any_key
from steps import steps_in

from lazyckpt.formats import FORMATS
from lazyckpt.index.open_file import without_index
from lazyckpt.model.entry import Extent
from lazyckpt.parameter import Parameter
from lazyckpt.reading import extent_map, gathering, requests
from lazyckpt.reading.extent_map import ExtentMap
from lazyckpt.reading.gathering import fill_planned
from lazyckpt.reading.reader import FileReader
from lazyckpt.reading.slicing import plan
from lazyckpt.sources import base, ranges
from lazyckpt.sources.base import BaseSource, BytesSource
from lazyckpt.sources.encryption.cipher import MODES, CipherKey
from lazyckpt.sources.encryption.decryption import open_encrypted
from lazyckpt.sources.encryption.keys import Secret

SMALL = {"_TILE": 24, "_DIRECT": 12, "_FEW": 2, "_BATCH": 40, "_OBJECTS": 1}


@contextlib.contextmanager
def small_limits():
    """Limits so small that tiny values take every way."""
    with (
        mock.patch.multiple(gathering, COALESCE_GAP=3, **SMALL),
        mock.patch.object(ranges.coalesce, "__defaults__", (3,)),
    ):
        yield


class Divided(BaseSource):
    """Bytes that are read by copies, with a border every few bytes."""

    def __init__(self, data, unit=7):
        self.name, self.size, self._data, self._unit = "<divided>", len(data), data, unit
        self.batches = []

    def border(self, offset):
        """See `Source.border`."""
        return (offset // self._unit + 1) * self._unit

    def read_many(self, asked):
        """See `Source.read_many`; records the offsets and lengths."""
        asked = list(asked)
        self.batches.append([(offset, buffer.nbytes) for offset, buffer in asked])
        super().read_many(asked)

    def _fill(self, offset, destination):
        destination[:] = self._data[offset : offset + destination.nbytes]


def in_extents(data, lengths):
    """Bytes in extents of these lengths with a gap before each; the file, and the extents."""
    file, extents, done = b"", [], 0
    for length in (*lengths, len(data)):
        part = data[done : done + length]
        done += len(part)
        extents.append(Extent(len(file) + 2, len(part)))
        file += b"??" + part
    return file, tuple(extents)


def answered(array, key, source, extents):
    """The answer by plan, and the batches that were read."""
    planned = plan(array.shape, array.itemsize, key)
    answer = np.empty(planned.shape, array.dtype)
    source.batches.clear()
    fill_planned(source, [], extents, planned, answer)
    return answer, source.batches


def is_planned(shape, key):
    """Whether a key has a plan."""
    try:
        return plan(shape, 1, key) is not None
    except Exception:  # noqa: BLE001 (whatever numpy raises)
        return False


_shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)
_dtypes = st.sampled_from(["u1", "<f2", "<i4", "<c8"])


@given(
    st.randoms(use_true_random=False), _shapes, _dtypes, st.lists(st.integers(0, 30), max_size=30), st.integers(1, 50)
)
def test_any_planned_key_is_answered(choose, shape, dtype, lengths, unit):
    """With limits and slices of a few bytes, the answer is numpy's; batches are small, and end at borders."""
    array = np.frombuffer(pattern(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape)
    file, extents = in_extents(array.tobytes(), lengths)
    keys = [key for key in (any_key(choose, shape) for _ in range(8)) if is_planned(shape, key)]
    with small_limits():
        for key in keys:
            answer, read = answered(array, key, Divided(file, unit), ExtentMap(extents))

            assert answer.tobytes() == np.asarray(array[key]).tobytes()
            largest = max(SMALL["_TILE"], 40, int(np.prod(shape[1:])) * array.itemsize)
            most = max(SMALL["_BATCH"], answer.nbytes) + unit + largest + len(extents) + 40
            assert all(sum(length for _, length in batch) <= most for batch in read)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 2000])
@pytest.mark.parametrize("key", [np.s_[:, 0], np.s_[::-1, 1], np.s_[::3], np.s_[[5, 3, 3, 0]], np.s_[1:, ::2]])
def test_few_slices_and_many(count, key):
    """Slices that end inside of elements, none or thousands, change no answer."""
    array = counting((700, 3, 2), "int16")
    file, extents = in_extents(array.tobytes(), [3] * count)
    answer, _ = answered(array, key, Divided(file, 1000), ExtentMap(extents))

    np.testing.assert_array_equal(answer, array[key])


@pytest.mark.parametrize("key", [([1, 1, 0], np.s_[::2], np.s_[:3]), ([2, 2, 2, 1],), ([1, 1], 2, np.s_[::7])])
@pytest.mark.parametrize("lengths", [[], [9000, 5]])
def test_a_row_may_be_wanted_twice(key, lengths):
    """A row that is repeated is repeated in the answer, also if its runs are far apart."""
    array = counting((3, 4, 3000), "int16")
    file, extents = in_extents(array.tobytes(), lengths)
    answer, _ = answered(array, key, Divided(file, 1000), ExtentMap(extents))

    np.testing.assert_array_equal(answer, array[key])


def parameter(source):
    """The only tensor of a checkpoint."""
    (entry,) = FORMATS["ckpt"].scan(source)
    return Parameter(entry, FileReader(without_index(source, FORMATS["ckpt"])))


@pytest.mark.parametrize("key", [np.s_[:, 0], np.s_[::-1, ::2], np.s_[[1, 0, 5]], np.s_[5]])
def test_steps_grow_no_faster_than_slices(key):
    """A value in four times as many slices takes at most about four times as many steps."""
    steps = []
    for count in (250, 1000):
        array = counting((2 * count, 2500), "int16")
        param = parameter(Divided(sliced_value("w", array, [10_000] * (count - 1)), 2**22))
        steps.append(steps_in([gathering, extent_map, requests, ranges], lambda param=param: param[key]))

    assert steps[1] <= 4.4 * steps[0] + 400


def peak_of(param, key):
    """The most memory that a slice takes, and the bytes of its answer."""
    tracemalloc.start()
    try:
        answer = param[key]
        return tracemalloc.get_traced_memory()[1], answer.nbytes
    finally:
        tracemalloc.stop()


BLOCK = 2**21
OPENED = {
    "read": lambda data: Divided(data, 2**18),
    "slices": BytesSource,
    "AES-GCM": lambda data: open_encrypted(
        BytesSource(encrypted(data, "AES-GCM", block=BLOCK)), CipherKey(MODES["AES-GCM"], Secret(KEY))
    ),
    "AES-CBC": lambda data: open_encrypted(
        BytesSource(encrypted(data, "AES-CBC", block=BLOCK)), CipherKey(MODES["AES-CBC"], Secret(KEY))
    ),
}
TALL = counting((4_000_000, 2), "int8")


@pytest.mark.parametrize("opened", OPENED.values(), ids=OPENED)
@pytest.mark.parametrize("key", [np.s_[:, 0], np.s_[::-1, 1], np.s_[::2], np.s_[::-5], np.s_[7::9, 1]], ids=repr)
def test_memory_is_that_of_the_answer_and_a_block(opened, key):
    """A column or a step of a tall value takes three times the answer and one block at most, and 2 MiB."""
    slices = [3_000_001, 2_000_000] if opened is OPENED["slices"] else []
    param = parameter(opened(sliced_value("w", TALL, slices) if slices else array_value("w", TALL)))
    with mock.patch.multiple(gathering, _TILE=2**16, _BATCH=2**18), mock.patch.object(base, "_DIVIDED", 2**18):
        peak, answer = peak_of(param, key)
        found = param[key]

    assert peak <= 3 * answer + BLOCK + 2**21
    assert found.tobytes() == TALL[key].tobytes()


@pytest.mark.parametrize("key", [np.s_[:, 0], np.s_[::-1, 1:], np.s_[3::7]])
def test_a_unit_is_visited_once(key):
    """Batches end at borders: no block of an encrypted file would be decrypted for two of them."""
    source = Divided(array_value("w", counting((30_000, 11), "int16")), 50_001)
    param = parameter(source)
    source.batches.clear()
    with mock.patch.multiple(gathering, _TILE=2**12, _BATCH=2**14, _OBJECTS=0):
        answer = param[key]
    visits = [
        {place // 50_001 for offset, length in batch for place in (offset, offset + length - 1)}
        for batch in source.batches
    ]
    units = list(itertools.chain.from_iterable(visits))

    np.testing.assert_array_equal(answer, counting((30_000, 11), "int16")[key])
    assert len(visits) > 1
    assert len(units) == len(set(units))
