"""The same arrays as each peer keeps them: a function a form, from (name, array) pairs to a file or a folder.

They are written by the worker's processes, not by the tool's own, which stays free of what the peers import and start.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.task import Task

Arrays = Iterable[tuple[str, Any]]
_CHUNK = 2**20  # bytes of a zarr chunk, about


def written(path: str, target: str, form: str, values: list[tuple[str, int, list[int]]]) -> Task:
    """Write float32 values of a file, places known, in another form, synced and in the page cache."""
    mapped = np.memmap(path, np.uint8, "r").view(np.ndarray)

    def arrays() -> Arrays:
        for name, offset, shape in values:
            yield name, mapped[offset : offset + 4 * math.prod(shape)].view("<f4").reshape(shape)

    def call() -> None:
        WRITERS[form](target, arrays())
        os.sync()

    return Task(call)


def safetensors(path: str, arrays: Arrays) -> None:
    """float32, written as the format's text says, by no package."""
    header, position, kept = {}, 0, list(arrays)
    for name, array in kept:
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in kept:
            file.write(np.ascontiguousarray(array).data)


def torch(path: str, arrays: Arrays) -> None:
    """`torch.save` of a dict of tensors."""
    import torch

    torch.save({name: torch.from_numpy(np.array(array)) for name, array in arrays}, path)


def numpy(path: str, arrays: Arrays) -> None:
    """A folder with a .npy file for each."""
    os.mkdir(path)
    for name, array in arrays:
        np.save(f"{path}/{name}.npy", array)


def h5py(path: str, arrays: Arrays) -> None:
    """HDF5, contiguous."""
    import h5py

    with h5py.File(path, "w", libver="latest") as file:
        for name, array in arrays:
            file.create_dataset(name, data=array)


def zarr(path: str, arrays: Arrays) -> None:
    """A zarr 3 group, uncompressed, in chunks of whole rows."""
    import zarr

    group = zarr.create_group(path)
    for name, array in arrays:
        rows = max(1, _CHUNK * len(array) // array.nbytes) if array.ndim and array.nbytes else 1
        chunks = (min(rows, len(array)), *array.shape[1:]) if array.ndim else ()
        target = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks, compressors=None)
        target[...] = array


def tensorizer(path: str, arrays: Arrays) -> None:
    """`TensorSerializer`."""
    import torch
    from tensorizer import TensorSerializer

    serializer = TensorSerializer(path)
    serializer.write_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays})
    serializer.close()


WRITERS: dict[str, Callable[[str, Arrays], None]] = {
    "safetensors": safetensors,
    "torch": torch,
    "numpy": numpy,
    "h5py": h5py,
    "zarr": zarr,
    "tensorizer": tensorizer,
}
