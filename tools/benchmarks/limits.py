"""The least that things take: numpy, memcpy, LMDB, OpenSSL and a bare walk, each alone and with all places known."""

from __future__ import annotations

import itertools
import mmap
import os
import subprocess
from typing import Any

from benchmarks.opened import parsed
from benchmarks.task import Task, forget_pages, remove, single


def lmdb_look_up(path: str, names: list[str]) -> Task:
    """Open the sidecar with LMDB alone, get one entry, and ask the system about the checkpoint."""
    import lmdb

    import lazyckpt

    lazyckpt.build_index(path).close()
    sidecar, turn = f"{path}.lmdb", itertools.cycle([b"\x02" + name.encode() for name in names])

    def call() -> object:
        with lmdb.open(sidecar, subdir=False, readonly=True, lock=False) as file, file.begin() as transaction:
            found = transaction.get(next(turn))
        if found is None:
            raise ValueError("no such name")
        return found, os.stat(path)

    return Task(call)


def header_walk(path: str) -> Task:
    """Go from header to header of a checkpoint of tensors, noting name and place of each; nothing is written."""

    def call() -> object:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            end, position, found = len(data), 0, []
            while position < end:
                position += 1
                length = shift = 0
                while True:
                    byte = data[position]
                    position += 1
                    length |= (byte & 127) << shift
                    if byte < 128:
                        break
                    shift += 7
                stop = position + 2 + data[position + 1]  # names of fewer than 128 bytes
                found.append((data[position + 2 : stop], stop))
                position += length
        return found

    return Task(call)


def raw_value(path: str, offset: int, shape: list[int], where: str = "", how: str = "view") -> Task:
    """Numpy on a map of the file, with the value's place known: add it up, or copy it, or a part of it."""
    import numpy as np

    array = np.memmap(path, "<f4", "r", offset, tuple(shape)).view(np.ndarray)
    if where:
        key = parsed(where)
        return Task(lambda: np.array(array[key]), seen=single)
    if how == "copy":
        return Task(array.copy, seen=single)
    return Task(lambda: (array.sum(), array), seen=lambda result: single(result[1]))


def memcpy(path: str, values: list[tuple[str, int, list[int]]], cold: bool = False) -> Task:
    """Copy values out of a map of the file, places known, each into memory of its own."""
    import numpy as np

    def call() -> dict[str, Any]:
        mapped = np.memmap(path, np.uint8, "r").view(np.ndarray)
        found = {}
        for name, offset, shape in values:
            array = np.empty(shape, "<f4")
            array.reshape(-1).view(np.uint8)[:] = mapped[offset : offset + array.nbytes]
            found[name] = array
        return found

    return Task(call, *([lambda: forget_pages(path)] if cold else []), seen=dict.items)


def one_memcpy(path: str, values: list[tuple[str, int, list[int]]]) -> Task:
    """Copy a file of many small values at once, and make an array of each, places known."""
    import numpy as np

    def call() -> dict[str, Any]:
        data = np.fromfile(path, np.uint8)
        return {name: np.ndarray(shape, "<f4", data, offset) for name, offset, shape in values}

    return Task(call, seen=dict.items)


def read_through(path: str) -> Task:
    """Read the file from the disk, eight mebibytes at a time, keeping nothing."""
    buffer = bytearray(8 * 2**20)

    def call() -> None:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    return Task(call, lambda: forget_pages(path))


def read_range(path: str, offset: int, length: int) -> Task:
    """Read a range of the file from the disk."""

    def call() -> bytes:
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    return Task(call, lambda: forget_pages(path))


def copy_file(path: str, target: str) -> Task:
    """`cp`, and the copy synced."""

    def call() -> None:
        subprocess.run(["cp", path, target], check=True)
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    return Task(call, lambda: remove(target))


def openssl_frames(path: str, key: bytes, first: int = 0, count: int | None = None, threads: int = 1) -> Task:
    """OpenSSL alone on whole frames."""
    from benchmarks.encrypting import frame_decryptor

    return Task(frame_decryptor(path, key, first, count, threads))


def openssl_range(path: str, key: bytes, offset: int, length: int) -> Task:
    """OpenSSL alone on a range of a CBC file."""
    from benchmarks.encrypting import range_decryptor

    return Task(range_decryptor(path, key, offset, length))
