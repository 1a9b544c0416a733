"""The checkpoints that are measured, each written on first need, byte for byte as MindSpore writes them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
from checkpoints import varint

from benchmarks.output import memory

MIB = 2**20
SMALL_VALUE = (16, 4)
# How many values of which shape (all float32) a file has, at full size and in a quick run.
FILES = {
    "terabyte": ((10_240, (5_120, 5_120)), (64, (5_120, 5_120))),  # 100 MiB each, holes: 1,000 GiB
    "holes": ((256, (2_048, 2_048)), (256, (2_048, 2_048))),  # 16 MiB each, holes: 4 GiB
    "many": ((1_000_000, SMALL_VALUE), (10_000, SMALL_VALUE)),
    "hundred_thousand": ((100_000, SMALL_VALUE), (1_000, SMALL_VALUE)),
    "thousand": ((1_000, SMALL_VALUE), (1_000, SMALL_VALUE)),
    "big": ((1, (8_192, 8_192)), (1, (512, 512))),  # 256 MiB
    "large": ((64, (2_048, 2_048)), (64, (2_048, 136))),  # 16 MiB each: 1 GiB; quick: 68 MiB, which is two frames
    "half": ((128, (1_024, 1_024)), (128, (128, 128))),  # 4 MiB each: 512 MiB
    "parts": ((64, (2**21,)), (64, (2**14,))),  # 8 MiB each: 512 MiB
    "whole": ((128, (2**22,)), (128, (2**14,))),  # 16 MiB each: 2 GiB
}
HOLES = ("terabyte", "holes")
LENET = {"conv1": (6, 1, 5, 5), "conv2": (16, 6, 5, 5), "fc1": (120, 400), "fc2": (84, 120), "fc3": (10, 84)}
Shape = tuple[int, ...]
Content = Callable[[int, int], memoryview]  # number of the value, bytes it takes -> its bytes


class Placed(NamedTuple):
    """Where a float32 value's content is in its file."""

    name: str
    offset: int
    shape: Shape

    @property
    def length(self) -> int:
        """Bytes of the value."""
        return 4 * math.prod(self.shape)


class Made(NamedTuple):
    """A finished file."""

    path: str
    values: list[Placed]

    @property
    def names(self) -> list[str]:
        """The names of the values."""
        return [value.name for value in self.values]

    @property
    def count(self) -> str:
        """How many values it has, as rows are named."""
        return f"{len(self.values):,}"

    @property
    def sizes(self) -> str:
        """How many values of which size it has, as rows are named."""
        return f"{self.count} x {memory(self.values[0].length)}"

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return sum(value.length for value in self.values)


class Files:
    """The files of one run, all in one folder."""

    def __init__(self, folder: str, full: bool) -> None:
        self.full = full  # the sizes that bars are about, else small ones
        self.key = os.urandom(16)  # the key of all encrypted files
        self._folder = folder
        self._made: dict[str, Made] = {}

    def __getitem__(self, name: str) -> Made:
        """A file of `FILES`."""
        count, shape = FILES[name][0 if self.full else 1]
        return self._once(f"{name}.ckpt", named(count, shape), None if name in HOLES else noise)

    @property
    def lenet(self) -> Made:
        """A LeNet with its optimiser: 21 parameters, half a megabyte."""
        net = {f"{layer}.weight": shape for layer, shape in LENET.items()}
        net |= {f"{layer}.bias": shape[:1] for layer, shape in LENET.items() if layer.startswith("fc")}
        scalars = dict.fromkeys(("scale_sense", "learning_rate", "momentum", "loss", "beta1_power"), ())
        moments = {f"moments.{name}": shape for name, shape in net.items()}
        return self._once("lenet.ckpt", {**net, **scalars, **moments}.items(), noise)

    def tree(self, what: str, count: int, parameters: int) -> list[str]:
        """Paths of so many files of so many small values."""
        shapes = list(named(parameters, SMALL_VALUE))
        return [self._once(f"{what}-{number}.ckpt", shapes, noise).path for number in range(count)]

    def encrypted(self, mode: str) -> Made:
        """`large`, encrypted with `key` as MindSpore does, synced; offsets are those in the plain file."""
        import encryption

        plain = self["large"]
        file = Made(os.path.join(self._folder, f"large-{mode}.ckpt"), plain.values)
        if mode not in self._made:
            with open(plain.path, "rb") as source, open(file.path, "wb") as target:
                while piece := source.read(encryption.WHOLE):
                    target.write(encryption.frame(piece, mode, self.key, os.urandom(16)))
                target.flush()
                os.fsync(target.fileno())
        return self._made.setdefault(mode, file)

    def _once(self, name: str, shapes: Iterable[tuple[str, Shape]], content: Content | None) -> Made:
        if name not in self._made:
            path = os.path.join(self._folder, name)
            self._made[name] = Made(path, write_ckpt(path, shapes, content))
        return self._made[name]


def named(count: int, shape: Shape) -> Iterable[tuple[str, Shape]]:
    """Names with a shape each; small values have long names, as in a net of many layers."""
    for i in range(count):
        deep = f"model.layers.{i // 100}.block.{i // 10 % 10}.{i % 10}.weight"
        flat = f"layer.{i}.weight" if count > 1 else "big.weight"
        yield deep if shape == SMALL_VALUE else flat, shape


def write_ckpt(path: str, shapes: Iterable[tuple[str, Shape]], content: Content | None) -> list[Placed]:
    """Write float32 tensors, synced; without `content` their bytes are holes, which take no disk."""
    placed, position = [], 0
    with open(path, "wb", buffering=MIB) as file:
        for number, (name, shape) in enumerate(shapes):
            length = 4 * math.prod(shape)
            position += file.write(header(name, shape, length))
            placed.append(Placed(name, position, shape))
            if content is None:
                file.seek(length, os.SEEK_CUR)
            else:
                file.write(content(number, length))
            position += length
        file.truncate(position)
        file.flush()
        os.fsync(file.fileno())
    return placed


def header(name: str, shape: Shape, length: int) -> bytes:
    """The bytes from a float32 value's start to its content."""
    dims = b"".join(b"\x08" + varint(dim) for dim in shape)
    inner = dims + b"\x12\x07Float32\x1a" + varint(length)
    outer = b"\x0a" + varint(len(name)) + name.encode() + b"\x12" + varint(len(inner) + length) + inner
    return b"\x0a" + varint(len(outer) + length) + outer


def noise(number: int, length: int) -> memoryview:
    """Normally distributed numbers; each value is another window of them, the same in each run."""
    start, numbers = number * 61 % 2**16, _numbers()
    window = numbers[start : start + length // 4]
    return memoryview(window if window.nbytes == length else np.resize(numbers[: 2**22], length // 4))


@cache
def _numbers() -> np.ndarray:
    return np.random.default_rng(20_24).standard_normal(2**22 + 2**16, np.float32)
