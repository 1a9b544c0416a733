"""A part of a value equals numpy's answer for the key, over every source; other keys raise numpy's own errors."""

from __future__ import annotations

import array
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import NAMES, array_value, checkpoint, counting, sliced_value, tensor_value
from encryption import KEY, encrypted
from hypothesis import given
from hypothesis import strategies as st
from index_keys import ArrayLike, any_key, outcome
from safetensors_files import item, raw
from tracing import TracingSource

from lazyckpt.formats import FORMATS
from lazyckpt.index.open_file import OpenFile, without_index
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.parameter import Parameter
from lazyckpt.reading.reader import FileReader
from lazyckpt.sharding.layout import Box
from lazyckpt.sharding.shard_reader import ShardReader
from lazyckpt.sources import open_source
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.cipher import MODES, CipherKey
from lazyckpt.sources.encryption.decryption import open_encrypted
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.sources.remote import Facts, RemoteSource

BLOCK = 100  # bytes of plaintext in a block
FOUR_BITS = DTYPES["Float4E2M1FN"]


class Store:
    """An object in memory, in place of a remote store."""

    name = "<stored>"
    head = memoryview(b"")
    is_walked = False
    mark = None

    def __init__(self, data):
        self.facts = Facts(len(data), "")
        self._data = data

    def fetch(self, ranges):
        """See `RemoteObject.fetch`."""
        return [self._data[start:stop] for start, stop in ranges]

    def settle(self):
        """Do nothing."""


def parameter(source, form="ckpt"):
    """The first tensor of a source."""
    return Parameter(next(iter(FORMATS[form].scan(source))), FileReader(without_index(source, FORMATS[form])))


def in_file(array, access):
    """A value of a file. On Linux the file may be removed once it is open."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.ckpt")
        path.write_bytes(array_value("w", array))
        return parameter(open_source(str(path), access=access).source)


def under_key(array, mode):
    """A value of an encrypted file of many blocks."""
    data = encrypted(array_value("w", array), mode, block=BLOCK)
    return parameter(open_encrypted(BytesSource(data), CipherKey(MODES[mode], Secret(KEY))))


def in_boxes(array, source_of=BytesSource):
    """A value cut along its first and its last axis, in two each."""
    places = [()]
    for axis, size in enumerate(array.shape):
        middle = size // 2 if axis in {0, array.ndim - 1} else 0
        ends = [(0, middle), (middle, size)] if middle else [(0, size)]
        places = [(*place, end) for place in places for end in ends]
    pieces = [array[tuple(slice(*end) for end in place)] for place in places]
    source = source_of(checkpoint({f"w{number}": piece for number, piece in enumerate(pieces)}))
    entries = FORMATS["ckpt"].scan(source)
    boxes = [Box(tuple(start for start, _ in place), entry) for place, entry in zip(places, entries, strict=True)]
    (whole,) = FORMATS["ckpt"].scan(BytesSource(array_value("w", array)))
    index = SimpleNamespace(boxes_of=lambda name: tuple(boxes))  # all that a reader asks of it
    return Parameter(whole, ShardReader(OpenFile(source, FORMATS["ckpt"], index)))


def packed(array):
    """The values of a safetensors file with two elements in a byte."""
    codes = array.view("u1").reshape(-1)
    data = (codes[::2] | codes[1::2] << 4).tobytes()
    return parameter(BytesSource(raw({"w": item("F4", array.shape, 0, len(data))}, data)), "safetensors")


def edited(array):
    """A value set in memory."""
    param = parameter(BytesSource(array_value("w", counting((1,)))))
    param.set_data(array)
    return param


def pieces(array):
    """The bytes of a value in slices that end anywhere."""
    return sliced_value("w", array, [7, 0, 30, 1])


WAYS = {
    "map": lambda array: in_file(array, "mmap"),
    "pread": lambda array: in_file(array, "pread"),
    "memory": lambda array: parameter(BytesSource(array_value("w", array))),
    "remote": lambda array: parameter(RemoteSource(Store(array_value("w", array)), 0)),
    "remote, kept": lambda array: parameter(RemoteSource(Store(array_value("w", array)), 2**20)),
    "AES-GCM": lambda array: under_key(array, "AES-GCM"),
    "AES-CBC": lambda array: under_key(array, "AES-CBC"),
    "SM4-CBC": lambda array: under_key(array, "SM4-CBC"),
    "slices": lambda array: parameter(BytesSource(pieces(array))),
    "slices, remote": lambda array: parameter(TracingSource(pieces(array))),
    "boxes": in_boxes,
    "boxes, remote": lambda array: in_boxes(array, TracingSource),
    "edited": edited,
}
_DTYPES = ("int16", "float64", "bool", "bfloat16")


def filled(shape, dtype):
    """An array of a checkpoint's dtype with as many different elements as possible."""
    return counting(shape, "int16").astype(DTYPES[NAMES[dtype]].numpy)


def widened(shape):
    """A bfloat16 as written by old versions of MindSpore, and the equivalent array."""
    array = filled(shape, "bfloat16")
    stored = array.astype("<f4").tobytes()
    return parameter(TracingSource(tensor_value("w", shape, "BFloat16", stored))), array


def halved(shape):
    """A value with four-bit elements in the file, and the equivalent array."""
    codes = np.arange(2 * int(np.prod(shape)), dtype="u1") % 16
    array = codes.view(FOUR_BITS.numpy).reshape((*shape, 2))
    return packed(array), array


_shapes = st.lists(st.sampled_from([0, 1, 2, 3, 3, 5, 7]), max_size=4).map(tuple)
_choices = st.randoms(use_true_random=False)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@given(_choices, _shapes, st.sampled_from(_DTYPES))
def test_any_key_gives_what_numpy_gives(way, choose, shape, dtype):
    """Type, dtype, shape and values equal numpy's answer, or the error equals numpy's."""
    expected = filled(shape, dtype)
    param = way(expected)
    keys = [any_key(choose, shape) for _ in range(8)]

    assert [(key, outcome(param, key)) for key in keys] == [(key, outcome(expected, key)) for key in keys]


@pytest.mark.parametrize(
    "made",
    [
        widened,
        pytest.param(halved, marks=pytest.mark.skipif(not FOUR_BITS.is_known_here, reason="this ml_dtypes has none")),
    ],
)
@given(_choices, _shapes.filter(all))
def test_any_key_of_a_converted_value_gives_what_numpy_gives(made, choose, shape):
    """The same holds for values stored in another form than the array's."""
    param, expected = made(shape)
    keys = [any_key(choose, expected.shape) for _ in range(8)]

    assert [(key, outcome(param, key)) for key in keys] == [(key, outcome(expected, key)) for key in keys]


SEQUENCES = {
    "a range": range(3),
    "a tuple on the second axis": (slice(None), (1, 2)),
    "a tuple on the first axis": ((5,), slice(None)),
    "a range on the second axis": (slice(None), range(2)),
    "an array of Python's": array.array("l", [1]),
    "bytes in an array": bytearray(b"\1\2"),
    "an object with an array": ArrayLike([1, 2]),
    "an object with an array, on the second axis": (0, ArrayLike([1, 2])),
    "an empty tuple": ((), 0),
    "tuples in a list": [(1, 2), (3, 4)],
    "an object with a mask": ArrayLike([True, False] * 3),
}


@pytest.mark.parametrize(
    "key", [(np.array(2**63, "u8"), slice("a")), (99, slice("a")), (slice("a"), 99), ([99], slice(0, 1, 0))], ids=repr
)
def test_of_two_errors_the_same_one_is_raised(key):
    """If two parts of a key are wrong, the error is about the part that numpy reports."""
    array = counting((6, 4), "int32")

    assert outcome(parameter(TracingSource(array_value("w", array))), key) == outcome(array, key)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("key", SEQUENCES.values(), ids=SEQUENCES)
def test_sequences_are_arrays(key, way):
    """A sequence that numpy converts to an integer array or a mask selects the same elements."""
    expected = counting((6, 4), "int32")

    np.testing.assert_array_equal(way(expected)[key], expected[key], strict=True)


@pytest.mark.parametrize("key", [10**6, (0, -5), [10**6], (0, 0, 0), 1.5, "w", slice(0, 1, 0), [1.5], 2**70], ids=repr)
@pytest.mark.parametrize("made", [pieces, lambda data: array_value("w", data)], ids=["slices", "one"])
def test_a_refused_key_reads_nothing_of_the_value(made, key):
    """A key that numpy refuses reads no byte of the value."""
    source = TracingSource(made(counting((6, 4), "int32")))
    param = parameter(source)
    source.reads.clear()
    with pytest.raises((IndexError, ValueError)):
        param[key]

    assert source.reads == []


def test_a_row_far_back_is_found():
    """A tuple of one row, many pages after the first, gives the row."""
    array = np.zeros((300_000, 64), "u1")
    array[-2] = 7

    assert parameter(BytesSource(pieces(array)))[(299_998,), :].tolist() == [[7] * 64]
