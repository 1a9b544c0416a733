"""Every kind of value that can be sliced, in random layouts: functions that store an array in each way."""

from __future__ import annotations

import contextlib
import itertools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np
from checkpoints import NAMES, array_value, checkpoint, counting, sliced_value, tensor_value
from encryption import KEY, encrypted
from safetensors_files import item, raw
from tracing import TracingSource

from lazyckpt.formats import FORMATS
from lazyckpt.index.open_file import OpenFile, without_index
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.parameter import Parameter
from lazyckpt.reading import gathering
from lazyckpt.reading.reader import FileReader
from lazyckpt.sharding.layout import Box
from lazyckpt.sharding.shard_reader import ShardReader
from lazyckpt.sources import open_source, ranges
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.concatenated import ConcatenatedSource
from lazyckpt.sources.encryption.cipher import MODES, CipherKey
from lazyckpt.sources.encryption.decryption import open_encrypted
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.sources.remote import Facts, RemoteSource

FOUR_BITS = DTYPES["Float4E2M1FN"]
EIGHT_BITS = DTYPES["Float8E4M3FN"]


class Kind(NamedTuple):
    """A kind of value.

    Attributes:
        make: stores an array; the random numbers choose the layout.
        dtypes: of the arrays that it can hold.
    """

    make: Callable[[random.Random, np.ndarray], Parameter]
    dtypes: tuple[str, ...] = ("int16", "float64", "bool", "bfloat16", "uint8")


class Store:
    """An object in memory, in place of a remote store."""

    name = "<stored>"
    head = memoryview(b"")
    is_walked = False
    mark = None

    def __init__(self, data):
        self.facts = Facts(len(data), "")
        self._data = data

    def fetch(self, wanted):
        """See `RemoteObject.fetch`."""
        return [self._data[start:stop] for start, stop in wanted]

    def settle(self):
        """Do nothing."""


@contextlib.contextmanager
def random_limits(choose):
    """Limits of a few bytes, so that small values are read in every way that large ones are."""
    limits = {
        "_TILE": choose.choice((1, 24, 200)),
        "_DIRECT": choose.choice((1, 12, 100)),
        "_FEW": choose.choice((1, 2, 50)),
        "_BATCH": choose.choice((1, 40, 500)),
        "_OBJECTS": choose.choice((0, 20)),
    }
    gap = choose.choice((0, 3, 60))
    with (
        mock.patch.multiple(gathering, COALESCE_GAP=gap, **limits),
        mock.patch.object(ranges.coalesce, "__defaults__", (gap,)),
    ):
        yield


def filled(shape, dtype):
    """An array of a checkpoint's dtype with as many different elements as possible."""
    if dtype == FOUR_BITS.numpy_name:
        codes = np.arange(int(np.prod(shape)), dtype="u1") % 16
        return codes.view(FOUR_BITS.numpy).reshape(shape)
    if dtype == EIGHT_BITS.numpy_name:
        return counting(shape, "uint8").view(EIGHT_BITS.numpy)
    return counting(shape, "int16").astype(DTYPES[NAMES[dtype]].numpy)


def parameter(source, form="ckpt"):
    """The first tensor of a source."""
    return Parameter(next(iter(FORMATS[form].scan(source))), FileReader(without_index(source, FORMATS[form])))


def plain(array):
    """The bytes of a checkpoint, with values around the one."""
    return array_value("w", array) + array_value("v", counting((3,)))


def in_slices(choose, array):
    """The bytes of a value in slices that end anywhere."""
    count = choose.choice((1, 1, 2, 3, 6))  # every one costs its header with every key
    lengths = [choose.randint(0, choose.choice((1, 7, array.nbytes // count + 3))) for _ in range(count)]
    return sliced_value("w", array, lengths)


def in_file(array, access):
    """A value of a file. On Linux the file may be removed once it is open."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.ckpt")
        path.write_bytes(plain(array))
        return parameter(open_source(str(path), access=access).source)


def under_key(choose, data, mode):
    """A source of encrypted data in blocks of random size, whose decrypted blocks are kept or not."""
    raw_bytes = encrypted(data, mode, block=choose.choice((16, 100, 1000)))
    cache = choose.choice((0, 150, 2**20))
    return open_encrypted(BytesSource(raw_bytes), CipherKey(MODES[mode], Secret(KEY)), cache=cache)


def in_boxes(choose, array, source_of=BytesSource):
    """A value cut into a grid of boxes, each a value of its own, perhaps in slices."""
    cuts = []
    for size in array.shape:
        inner = choose.sample(range(1, size), min(size - 1, choose.choice((0, 1, 1, 3)))) if size > 1 else []
        edges = [0, *sorted(inner), size]
        cuts.append(list(itertools.pairwise(edges)))
    places = [()]
    for parts in cuts:
        places = [(*place, part) for place in places for part in parts]
    choose.shuffle(places)
    parts = [array[tuple(slice(*end) for end in place)] for place in places]
    values = [
        sliced_value(f"w{number}", np.array(part, order="C"), [choose.randint(0, 30)] * choose.choice((0, 0, 3)))
        for number, part in enumerate(parts)
    ]
    source = source_of(b"".join(values))
    entries = FORMATS["ckpt"].scan(source)
    boxes = [Box(tuple(start for start, _ in place), entry) for place, entry in zip(places, entries, strict=True)]
    (whole,) = FORMATS["ckpt"].scan(BytesSource(array_value("w", array)))
    index = SimpleNamespace(boxes_of=lambda name: tuple(boxes))  # all that a reader asks of it
    return Parameter(whole, ShardReader(OpenFile(source, FORMATS["ckpt"], index)))


def in_parts(choose, array):
    """A value in a source that is two sources, one after the other; the border is anywhere."""
    data = plain(array)
    border = choose.randint(0, len(data))
    return parameter(ConcatenatedSource("<two>", [TracingSource(data[:border]), BytesSource(data[border:])]))


def widened(choose, array):
    """A bfloat16 as old versions of MindSpore wrote it: as float32, in slices or not."""
    stored = array.astype("<f4").tobytes()
    cut = choose.choice((0, 0, 6, len(stored) // 8 * 4))
    pieces = [stored[:cut], stored[cut:]] if cut else [stored]
    data = b"".join(tensor_value("w", array.shape, "BFloat16", piece) for piece in pieces)
    return parameter(choose.choice((TracingSource, BytesSource))(data))


def packed(choose, array):
    """A value of a safetensors file with two elements in a byte."""
    codes = array.view("u1").reshape(-1)
    data = (codes[::2] | codes[1::2] << 4).tobytes()
    made = raw({"w": item("F4", array.shape, 0, len(data))}, data)
    return parameter(choose.choice((TracingSource, BytesSource))(made), "safetensors")


def in_safetensors(choose, array, source_of):
    """A value of a safetensors file."""
    name = next(dtype.safetensors for dtype in DTYPES.values() if dtype.numpy_name == array.dtype.name)
    data = array.tobytes()
    made = raw({"w": item(name, array.shape, 3, 3 + len(data)), "v": item("U8", (3,), 0, 3)}, b"abc" + data)
    source = source_of(made)
    (entry,) = (entry for entry in FORMATS["safetensors"].scan(source) if entry.name == "w")
    return Parameter(entry, FileReader(without_index(source, FORMATS["safetensors"])))


def edited(choose, array):
    """A value set in memory."""
    param = parameter(BytesSource(checkpoint({"w": counting((1,))})))
    param.set_data(array)
    return param


KINDS = {
    "map": Kind(lambda choose, array: in_file(array, "mmap")),
    "pread": Kind(lambda choose, array: in_file(array, "pread")),
    "memory": Kind(lambda choose, array: parameter(BytesSource(plain(array)))),
    "remote": Kind(lambda choose, array: parameter(RemoteSource(Store(plain(array)), 0))),
    "remote, kept": Kind(lambda choose, array: parameter(RemoteSource(Store(plain(array)), 2**20))),
    "AES-GCM": Kind(lambda choose, array: parameter(under_key(choose, plain(array), "AES-GCM"))),
    "AES-CBC": Kind(lambda choose, array: parameter(under_key(choose, plain(array), "AES-CBC"))),
    "SM4-CBC": Kind(lambda choose, array: parameter(under_key(choose, plain(array), "SM4-CBC"))),
    "slices": Kind(lambda choose, array: parameter(BytesSource(in_slices(choose, array)))),
    "slices, remote": Kind(lambda choose, array: parameter(TracingSource(in_slices(choose, array)))),
    "slices, AES-GCM": Kind(lambda choose, array: parameter(under_key(choose, in_slices(choose, array), "AES-GCM"))),
    "slices, AES-CBC": Kind(lambda choose, array: parameter(under_key(choose, in_slices(choose, array), "AES-CBC"))),
    "boxes": Kind(in_boxes),
    "boxes, remote": Kind(lambda choose, array: in_boxes(choose, array, TracingSource)),
    "boxes, AES-GCM": Kind(
        lambda choose, array: in_boxes(choose, array, lambda data: under_key(choose, data, "AES-GCM"))
    ),
    "parts": Kind(in_parts),
    "safetensors": Kind(
        lambda choose, array: in_safetensors(choose, array, BytesSource), ("uint8", "float32", EIGHT_BITS.numpy_name)
    ),
    "safetensors, remote": Kind(
        lambda choose, array: in_safetensors(choose, array, TracingSource), ("int64", EIGHT_BITS.numpy_name)
    ),
    "widened": Kind(widened, ("bfloat16",)),
    "edited": Kind(edited),
}
if FOUR_BITS.is_known_here:  # not in every version of ml_dtypes
    KINDS["packed"] = Kind(packed, (FOUR_BITS.numpy_name,))


def made(name, choose, shape):
    """An array of this shape (for packed values, one of an even number of elements), and a parameter that holds it."""
    kind = KINDS[name]
    shape = (*shape, 2) if name == "packed" and (not shape or shape[-1] % 2) else tuple(shape)
    array = filled(shape, choose.choice(kind.dtypes))
    return array, kind.make(choose, array)
