"""The least that things take: numpy, memcpy, LMDB, cp, torch, OpenSSL, a bare walk, each alone, all offsets known."""

from __future__ import annotations

import itertools
import mmap
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import encryption
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from benchmarks.peers import parsed
from benchmarks.tasks import Places, Task, arrays, calling

FRAME_PLAINTEXT = encryption.WHOLE
PIECE = 16  # bytes of one AES or SM4 block
_READ = bytearray(8 * 2**20)


def lmdb_look_up(path: str, names: list[str]) -> Task:
    """Open the sidecar with LMDB alone, get one entry, and ask the system about the checkpoint."""
    import_module("lazyckpt").build_index(path).close()
    lmdb, sidecar = import_module("lmdb"), f"{path}.lmdb"
    turn = itertools.cycle([b"\x02" + name.encode() for name in names])

    def call() -> object:
        with lmdb.open(sidecar, subdir=False, readonly=True, lock=False) as file, file.begin() as transaction:
            found = transaction.get(next(turn))
        if found is None:
            raise ValueError("no such name")
        return found, os.stat(path)

    return Task(call)


@calling
def header_walk(path: str) -> object:
    """Go from header to header of a checkpoint of tensors, noting name and offset of each; nothing is written."""
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


def numpy_on_map(path: str, offset: int, shape: list[int], act: str, key: str = "") -> Task:
    """Numpy on a map of one value: `sum` it up, `copy` it, or copy a `part` of it."""
    ((_, array),) = arrays(path, [("", offset, shape)])
    part = parsed(key) if act == "part" else None
    calls = {"sum": lambda: (array.sum(), array)[1], "copy": array.copy, "part": lambda: np.array(array[part])}
    return Task(calls[act])


@calling
def memcpy(path: str, values: Places) -> dict[str, Any]:
    """Copy values out of a map of the file, each into memory of its own."""
    return {name: array.copy() for name, array in arrays(path, values)}


@calling
def one_memcpy(path: str, values: Places) -> dict[str, Any]:
    """Copy a file of many small values at once, and make an array of each."""
    data = np.fromfile(path, np.uint8)
    return {name: np.ndarray(shape, "<f4", data, offset) for name, offset, shape in values}


@calling
def read_through(path: str) -> None:
    """Read the file, eight mebibytes at a time, keeping nothing."""
    with open(path, "rb", buffering=0) as file:
        while file.readinto(_READ):
            pass


@calling
def read_range(path: str, offset: int, length: int) -> bytes:
    """Read a range of the file."""
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), length, offset)


@calling
def copy_file(path: str, target: str) -> None:
    """`cp`, and the copy synced."""
    subprocess.run(["cp", path, target], check=True)
    with open(target, "rb") as copy:
        os.fsync(copy.fileno())


def torch_copies(path: str, values: Places) -> Task:
    """Torch's own copies out of a map of the file into tensors that exist."""
    import torch

    with open(path, "rb") as file:
        mapped = torch.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), dtype=torch.uint8)
    tensors = {name: torch.ones(shape) for name, _, shape in values}

    def call() -> dict[str, Any]:
        for name, offset, _ in values:
            whole = tensors[name].view(torch.uint8).reshape(-1)
            whole.copy_(mapped[offset : offset + len(whole)])
        return tensors

    return Task(call)


def openssl_frames(path: str, mode: str, key: bytes, threads: int, first: int = 0, count: int | None = None) -> Task:
    """OpenSSL alone on `count` mapped frames (None: all), tags verified, into buffers that were touched before."""
    buffers, size = threading.local(), FRAME_PLAINTEXT + 2 * PIECE

    def decrypt(frame: memoryview) -> None:
        head = bytes(frame[: encryption.HEADER[mode]])
        cipher = _decryptor(mode, key, head[-20:-4], head[4:20])
        cipher.update_into(frame[len(head) :], buffers.own)
        cipher.finalize()

    wanted = _frames(path, mode)[first:][:count]
    pool = ThreadPoolExecutor(threads, initializer=lambda: setattr(buffers, "own", _buffer(size)))
    return Task(lambda: list(pool.map(decrypt, wanted)))


def openssl_range(path: str, mode: str, key: bytes, offset: int, length: int) -> Task:
    """OpenSSL alone on `length` bytes of a CBC file's plaintext, which lie in one frame."""
    number, start = divmod(offset, FRAME_PLAINTEXT)
    frame, head = _frames(path, mode)[number], encryption.HEADER[mode]
    begin, end = start // PIECE * PIECE, -(-(start + length) // PIECE) * PIECE
    iv = bytes(frame[head + begin - PIECE : head + begin] if begin else frame[head - 20 : head - 4])
    ciphertext = frame[head + begin : head + end]
    buffer = _buffer(len(ciphertext) + PIECE)
    return Task(lambda: _decryptor(mode, key, iv).update_into(ciphertext, buffer))


def _frames(path: str, mode: str) -> list[memoryview]:
    with open(path, "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return encryption.split(data, mode)


def _decryptor(mode: str, key: bytes, iv: bytes, tag: bytes = b"") -> CipherContext:
    if mode == "AES-GCM":
        return Cipher(algorithms.AES(key), modes.GCM(iv[:12], tag)).decryptor()  # MindSpore uses 12 of the 16 bytes
    return Cipher((algorithms.AES if mode == "AES-CBC" else algorithms.SM4)(key), modes.CBC(iv)).decryptor()


def _buffer(size: int) -> bytearray:
    buffer = bytearray(size)
    buffer[:: mmap.PAGESIZE] = b"\x01" * len(range(0, size, mmap.PAGESIZE))  # so that its pages exist
    return buffer
