"""The checkpoints that are measured, and the same values in the form of each peer, all written on first need.

Checkpoints are byte for byte what MindSpore writes.

A value without content is a hole: it has an offset and a length in the file, and takes no disk.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from benchmarks import encrypting

MIB = 2**20
LENET = {
    "conv1.weight": (6, 1, 5, 5),
    "conv2.weight": (16, 6, 5, 5),
    "fc1.weight": (120, 400),
    "fc1.bias": (120,),
    "fc2.weight": (84, 120),
    "fc2.bias": (84,),
    "fc3.weight": (10, 84),
    "fc3.bias": (10,),
}
Shapes = Iterable[tuple[str, tuple[int, ...]]]
Content = Callable[[int, int], bytes | memoryview]  # number of the value, bytes it takes -> its bytes


class Placed(NamedTuple):
    """Where a value's content went."""

    name: str
    offset: int
    length: int
    shape: tuple[int, ...]


class Made(NamedTuple):
    """A finished file."""

    path: str
    values: list[Placed]

    @property
    def names(self) -> list[str]:
        """Of the values."""
        return [value.name for value in self.values]

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return sum(value.length for value in self.values)

    @property
    def places(self) -> list[tuple[str, int, tuple[int, ...]]]:
        """Name, offset and shape of each value."""
        return [(value.name, value.offset, value.shape) for value in self.values]


class Checkpoints:
    """The files of one run, all in one folder. `full` are the sizes that the bars speak of, else small ones.

    Attributes:
        key: of all that are encrypted.
        others: files and folders in the forms of peers that are there.
    """

    def __init__(self, folder: str, full: bool) -> None:
        self._folder = folder
        self._full = full
        self.others: set[str] = set()
        self.key = os.urandom(16)

    @cached_property
    def terabyte(self) -> Made:
        """10,240 parameters (small: 64) of 100 MiB each, all holes: 1,000 GiB."""
        count = 10_240 if self._full else 64
        return self._write("terabyte.ckpt", ((f"layer.{i}.weight", (5_120, 5_120)) for i in range(count)))

    @cached_property
    def many(self) -> Made:
        """1,000,000 parameters (small: 10,000) of 16 x 4 numbers."""
        return self._many("many.ckpt", 1_000_000 if self._full else 10_000)

    @cached_property
    def thousand(self) -> Made:
        """The first 1,000 of `many`."""
        return self._many("thousand.ckpt", 1_000)

    @cached_property
    def holes(self) -> Made:
        """4 GiB in 256 values, all holes."""
        return self._write("holes.ckpt", ((f"layer.{i}.weight", (2_048, 2_048)) for i in range(256)))

    @cached_property
    def large(self) -> Made:
        """64 values of 16 MiB (small: 1.1 MiB, so that there are two frames)."""
        return self._write("large.ckpt", self._large_shapes(), _noise())

    @cached_property
    def big(self) -> Made:
        """One value of 256 MiB (small: 1 MiB)."""
        shape = (8_192, 8_192) if self._full else (512, 512)
        return self._write("big.ckpt", [("big.weight", shape)], _noise())

    @cached_property
    def hundred_thousand(self) -> Made:
        """The first 100,000 (small: 1,000) of `many`."""
        return self._many("hundred-thousand.ckpt", 100_000 if self._full else 1_000)

    @cached_property
    def half(self) -> Made:
        """128 values of 4 MiB (small: 64 KiB): 512 MiB."""
        shape = (1_024, 1_024) if self._full else (128, 128)
        return self._write("half.ckpt", ((f"layer.{i}.weight", shape) for i in range(128)), _noise())

    @cached_property
    def parts(self) -> Made:
        """64 values of 8 MiB (small: 64 KiB): 512 MiB."""
        shape = (2**21,) if self._full else (2**14,)
        return self._write("parts.ckpt", ((f"layer.{i}.weight", shape) for i in range(64)), _noise())

    @cached_property
    def whole(self) -> Made:
        """128 values of 16 MiB (small: 64 KiB): 2 GiB."""
        shape = (2**22,) if self._full else (2**14,)
        return self._write("whole.ckpt", ((f"layer.{i}.weight", shape) for i in range(128)), _noise())

    @cached_property
    def four(self) -> Made:
        """256 values of 16 MiB (small: 64 KiB): 4 GiB."""
        shape = (2**22,) if self._full else (2**14,)
        return self._write("four.ckpt", ((f"layer.{i}.weight", shape) for i in range(256)), _noise())

    @cached_property
    def lenet(self) -> Made:
        """A LeNet with its optimiser: 21 parameters, half a megabyte."""
        moments = {f"moments.{name}": shape for name, shape in LENET.items()}
        scalars = dict.fromkeys(("scale_sense", "learning_rate", "momentum", "loss", "beta1_power"), ())
        return self._write("lenet.ckpt", {**LENET, **scalars, **moments}.items(), _noise())

    @cache  # noqa: B019 (lives as long as the run)
    def tree(self, what: str, count: int, parameters: int) -> list[str]:
        """So many files (small: at most 20) of so many parameters (small: at most 1,000) of 16 x 4 numbers."""
        if not self._full:
            count, parameters = min(count, 20), min(parameters, 1_000)
        return [self._many(f"{what}-{number}.ckpt", parameters).path for number in range(count)]

    @cache  # noqa: B019 (lives as long as the run)
    def encrypted(self, mode: str) -> str:
        """`large`, encrypted with `key`."""
        path = self._path(f"large-{mode}.ckpt")
        encrypting.encrypt(self.large.path, path, mode, self.key)
        return path

    def _large_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        shape = (2_048, 2_048) if self._full else (2_048, 136)
        return ((f"layer.{i}.weight", shape) for i in range(64))

    def _many(self, name: str, count: int) -> Made:
        names = (f"model.layers.{i // 100}.block.{i // 10 % 10}.{i % 10}.weight" for i in range(count))
        return self._write(name, ((name, (16, 4)) for name in names), _noise())

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _write(self, name: str, shapes: Shapes, content: Content | None = None) -> Made:
        path = self._path(name)
        return Made(path, write_ckpt(path, shapes, content))


def write_ckpt(path: str, shapes: Shapes, content: Content | None = None) -> list[Placed]:
    """Write float32 tensors; without `content` their bytes are holes. The file is synced and in the page cache."""
    placed, position = [], 0
    with open(path, "wb", buffering=MIB) as file:
        for number, (name, shape) in enumerate(shapes):
            length = 4 * math.prod(shape)
            head = header(name, shape, length)
            file.write(head)
            position += len(head)
            placed.append(Placed(name, position, length, shape))
            if content is None:
                file.seek(length, os.SEEK_CUR)
            else:
                file.write(content(number, length))
            position += length
        file.truncate(position)
        file.flush()
        os.fsync(file.fileno())
    return placed


def header(name: str, shape: tuple[int, ...], length: int) -> bytes:
    """The bytes from a float32 value's start to its content."""
    kind = b"Float32"
    dims = b"".join(b"\x08" + _varint(dim) for dim in shape)
    inner = dims + b"\x12" + _varint(len(kind)) + kind + b"\x1a" + _varint(length)
    tag = name.encode()
    outer = b"\x0a" + _varint(len(tag)) + tag + b"\x12" + _varint(len(inner) + length) + inner
    return b"\x0a" + _varint(len(outer) + length) + outer


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _noise() -> Content:
    """Normally distributed numbers; each value is another window of them, the same in each run."""
    numbers = np.random.default_rng(20_24).standard_normal(2**22 + 2**16, np.float32)
    data = memoryview(numbers).cast("B")

    def content(number: int, length: int) -> bytes | memoryview:
        start = 4 * (number * 61 % 2**16)
        if start + length <= len(data):
            return data[start : start + length]
        whole, rest = divmod(length, 4 * 2**22)
        return b"".join([*[data[: 4 * 2**22]] * whole, data[:rest]])

    return content
