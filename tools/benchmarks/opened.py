"""The same few things done by everything that opens files: lazyckpt and its peers behind one form (`Opened`).

Imports stand inside, because a task runs in a process that has only what it needs.
"""

from __future__ import annotations

import itertools
import os
from typing import Any, Protocol

from benchmarks.task import Task, forget_pages, single

Key = Any  # what stands in brackets behind an array
_COPIES = 1000  # look-ups in one call


class Opened(Protocol):
    """A file that has been opened."""

    def at(self, name: str) -> Any:
        """What stands for a value before it is read."""

    def shape(self, name: str) -> tuple[int, ...]:
        """A value's shape, nothing read."""

    def view(self, name: str) -> Any:
        """A value as an array, as cheap as it gets."""

    def copy(self, name: str) -> Any:
        """A value as an array of its own."""

    def part(self, name: str, key: Key) -> Any:
        """A part of a value, as an array of its own."""

    def load(self) -> dict[str, Any]:
        """All values as arrays of their own."""


class _Lazyckpt:
    """lazyckpt itself."""

    def __init__(self, path: str, **decryption: Any) -> None:
        import lazyckpt

        self._file = lazyckpt.load_checkpoint(path, **decryption)
        self.at = self._file.__getitem__
        self.load = self._file.load

    def shape(self, name: str) -> tuple[int, ...]:
        return self._file[name].shape

    def view(self, name: str) -> Any:
        return self._file[name].asnumpy()

    def copy(self, name: str) -> Any:
        return self._file[name].asnumpy(copy=True)

    def part(self, name: str, key: Key) -> Any:
        return self._file[name][key].copy()


class _Safetensors:
    """`safe_open` for numpy, which copies."""

    framework = "np"

    def __init__(self, path: str) -> None:
        from safetensors import safe_open

        self._file = safe_open(path, framework=self.framework)
        self.at = self._file.get_slice
        self.view = self.copy = self._file.get_tensor
        self._path = path

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())

    def part(self, name: str, key: Key) -> Any:
        return self._file.get_slice(name)[key]

    def load(self) -> dict[str, Any]:
        from safetensors.numpy import load_file

        return load_file(self._path)


class _SafetensorsTorch(_Safetensors):
    """`safe_open` for torch, which maps."""

    framework = "pt"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.copy = lambda name: self._file.get_tensor(name).clone()

    def part(self, name: str, key: Key) -> Any:
        return self._file.get_slice(name)[key].clone()

    def load(self) -> dict[str, Any]:
        return {name: self._file.get_tensor(name).clone() for name in self._file.keys()}  # noqa: SIM118


class _Torch:
    """`torch.load(mmap=True)`."""

    def __init__(self, path: str) -> None:
        import torch

        self._file = torch.load(path, mmap=True, weights_only=True)
        self.at = self.view = self._file.__getitem__

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file[name].shape)

    def copy(self, name: str) -> Any:
        return self._file[name].clone()

    def part(self, name: str, key: Key) -> Any:
        return self._file[name][key].clone()

    def load(self) -> dict[str, Any]:
        return {name: tensor.clone() for name, tensor in self._file.items()}


class _Numpy:
    """A folder of .npy files: `numpy.load`, mapped where a view will do."""

    def __init__(self, path: str) -> None:
        import numpy as np

        self._load = np.load
        self._path = path

    def at(self, name: str) -> Any:
        return self._load(f"{self._path}/{name}.npy", mmap_mode="r")

    view = at

    def shape(self, name: str) -> tuple[int, ...]:
        return self.at(name).shape

    def copy(self, name: str) -> Any:
        return self._load(f"{self._path}/{name}.npy")

    def part(self, name: str, key: Key) -> Any:
        return self.at(name)[key].copy()

    def load(self) -> dict[str, Any]:
        return {name[:-4]: self.copy(name[:-4]) for name in os.listdir(self._path)}


class _H5py:
    """HDF5, contiguous."""

    def __init__(self, path: str) -> None:
        import h5py

        self._file = h5py.File(path, "r")
        self.at = self._file.__getitem__

    def shape(self, name: str) -> tuple[int, ...]:
        return self._file[name].shape

    def copy(self, name: str) -> Any:
        return self._file[name][()]

    view = copy

    def part(self, name: str, key: Key) -> Any:
        return self._file[name][key]

    def load(self) -> dict[str, Any]:
        return {name: value[()] for name, value in self._file.items()}


class _Zarr:
    """zarr 3, uncompressed chunks of about a mebibyte."""

    def __init__(self, path: str) -> None:
        import zarr

        self._file = zarr.open_group(path, mode="r")
        self.at = self._file.__getitem__

    def shape(self, name: str) -> tuple[int, ...]:
        return self._file[name].shape

    def copy(self, name: str) -> Any:
        return self._file[name][...]

    view = copy

    def part(self, name: str, key: Key) -> Any:
        return self._file[name][key]

    def load(self) -> dict[str, Any]:
        return {name: value[...] for name, value in self._file.arrays()}


class _Tensorizer:
    """tensorizer's `TensorDeserializer`, lazy, into memory of the CPU."""

    def __init__(self, path: str) -> None:
        from tensorizer import TensorDeserializer

        self._file = TensorDeserializer(path, device="cpu", lazy_load=True)
        self.at = self.view = self.copy = self._file.__getitem__

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file[name].shape)

    def part(self, name: str, key: Key) -> Any:
        return self._file[name][key]

    def load(self) -> dict[str, Any]:
        return {name: self._file[name] for name in self._file}


OPENERS: dict[str, Any] = {
    "lazyckpt": _Lazyckpt,
    "safetensors": _Safetensors,
    "safetensors-torch": _SafetensorsTorch,
    "torch": _Torch,
    "numpy": _Numpy,
    "h5py": _H5py,
    "zarr": _Zarr,
    "tensorizer": _Tensorizer,
}


def look_up(by: str, path: str, names: list[str], **decryption: Any) -> Task:
    """Open the file, and ask for the shape of one value, each time another."""
    turn, opener = itertools.cycle(names), OPENERS[by]

    def call() -> Any:
        opened, name = opener(path, **decryption), next(turn)
        return opened, (name, opened.shape(name))

    return Task(call, seen=lambda result: [result[1]])


def access(by: str, path: str, names: list[str]) -> Task:
    """What `file[name]` takes in a file that is open."""
    at = OPENERS[by](path).at
    asked = list(itertools.islice(itertools.cycle(names), _COPIES))

    def call() -> None:
        for name in asked:
            at(name)

    return Task(call, count=_COPIES)


def value(by: str, path: str, name: str, how: str, cold: bool = False, **decryption: Any) -> Task:
    """Open the file, and have one value as a `view`, which is added up, or as a `copy`; `cold`: from the disk."""
    opener = OPENERS[by]

    def call() -> Any:
        opened = opener(path, **decryption)
        if how == "copy":
            return opened, opened.copy(name)
        array = opened.view(name)
        array.sum()
        return opened, array

    return Task(call, *([lambda: forget_pages(path)] if cold else []), seen=lambda result: single(result[1]))


def part(by: str, path: str, name: str, where: str) -> Task:
    """Have a part of a value of a file that is open as an array of its own."""
    opened, key = OPENERS[by](path), parsed(where)
    return Task(lambda: opened.part(name, key), seen=single)


def load(by: str, path: str, cold: bool = False, **decryption: Any) -> Task:
    """Open the file, and have all values as arrays of their own; `cold`: from the disk."""
    opener = OPENERS[by]

    def call() -> Any:
        opened = opener(path, **decryption)
        return opened, opened.load()

    return Task(call, *([lambda: forget_pages(path)] if cold else []), seen=lambda result: result[1].items())


def random_values(by: str, path: str, names: list[str], seed: int) -> Task:
    """Add up values of a file that is open, in a random order: what a worker of a DataLoader does."""
    import random

    opened, drawn = OPENERS[by](path), random.Random(seed)

    def call() -> Any:
        for name in drawn.choices(names, k=32):
            opened.view(name).sum()

    return Task(call, count=32)


def parsed(text: str) -> Key:
    """`1:5, ::2` as what brackets are given."""
    parts = [
        slice(*(int(end) if end else None for end in each.split(":"))) if ":" in each else int(each)
        for each in text.replace(" ", "").split(",")
    ]
    return parts[0] if len(parts) == 1 else tuple(parts)
