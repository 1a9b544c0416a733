"""The peers of a run: how each is installed, and its sides of a row. A peer writes its own form of a file itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from benchmarks.case import Case, Side
from benchmarks.processes import Processes
from benchmarks.task import Pairs, Places, arrays, calling

_CHUNK = 2**20  # bytes of a zarr chunk, about


class Peer(NamedTuple):
    """A package that reads such files too."""

    label: str  # in the table
    modules: tuple[str, ...]  # must be installed, and are imported before anything is measured
    install: str  # the command that installs it
    form: str  # of its own files, an entry of `WRITERS`; empty: it reads checkpoints


PEERS = {
    "mindspore": Peer("MindSpore", ("mindspore",), "pip install mindspore==2.10.0 'numpy<2'", ""),
    "safetensors": Peer("safetensors", ("safetensors.numpy", "numpy"), "pip install safetensors", "safetensors"),
    "safetensors-torch": Peer(
        "safetensors, torch", ("safetensors.torch", "torch"), "pip install safetensors torch", "safetensors"
    ),
    "torch": Peer("torch.load(mmap)", ("torch",), "pip install torch", "torch"),
    "numpy": Peer("numpy.load", ("numpy",), "pip install numpy", "numpy"),
    "h5py": Peer("h5py", ("h5py",), "pip install h5py", "h5py"),
    "zarr": Peer("zarr", ("zarr",), "pip install 'zarr>=3'", "zarr"),
    "tensorizer": Peer("tensorizer", ("tensorizer",), "pip install tensorizer", "tensorizer"),
}


class Peers:
    """The peers that one run asks for, installed or not."""

    def __init__(self, names: tuple[str, ...], mindspore: str | None) -> None:
        self.names = names
        self._pythons = {**dict.fromkeys(PEERS, sys.executable), "mindspore": mindspore or sys.executable}
        self._written: set[str] = set()

    def python(self, name: str) -> str | None:
        """An interpreter that has the peer, if there is one."""
        python = self._pythons[name]
        return python if _has(python, PEERS[name].modules) else None

    def absent(self) -> dict[str, str]:
        """The command that installs each peer that is asked for and not installed."""
        return {name: PEERS[name].install for name in self.names if not self.python(name)}

    def versions(self) -> dict[str, str]:
        """The versions of the peers that are installed."""
        code = "from importlib.metadata import version; print(version({!r}))"
        packages = {name.partition("-")[0]: self.python(name) for name in self.names if self.python(name)}
        return {package: _printed(python, code.format(package)) for package, python in packages.items()}

    def sides(self, case: Case, processes: Processes) -> tuple[Side, list[Side], Side | None]:
        """The sides of a row: lazyckpt's, those of the peers that are asked for, and the limit."""
        mine = Side("lazyckpt", case.task, case.of_file(), case.imports, memory=case.memory)
        asked = [peer for peer in case.peers if isinstance(peer, Side) or peer in self.names]
        peers = [peer if isinstance(peer, Side) else self._side(peer, case, processes) for peer in asked]
        return self._within(case.within, mine), peers, case.limit and self._within(case.within, case.limit)

    def _side(self, name: str, case: Case, processes: Processes) -> Side:
        label, modules, _, form = PEERS[name]
        own = f"{case.file.path}.{form}" if form else case.file.path
        side = self._within(name, Side(label, case.task, {**case.of_file(own), "by": name}, modules))
        if form and side.python and own not in self._written:
            arguments = {"path": case.file.path, "target": own, "form": form, "values": case.file.values}
            with processes.having(replace(side, task=written, arguments=arguments)) as process:
                process.ask("turn", 1)
            self._written.add(own)
        return side

    def _within(self, name: str, side: Side) -> Side:
        """A side in the Python that has a peer; without a name it stays in this one."""
        if not name:
            return side
        where = " and --mindspore PYTHON" if name == "mindspore" else ""
        return replace(side, python=self.python(name), absent=f"not here: {PEERS[name].install}{where}")


def _has(python: str, modules: tuple[str, ...]) -> bool:
    roots = sorted({module.partition(".")[0] for module in modules})
    return _printed(python, f"from importlib.util import find_spec; print(all(map(find_spec, {roots})))") == "True"


@cache
def _printed(python: str, code: str) -> str:
    """What an interpreter prints."""
    return subprocess.run([python, "-c", code], check=False, capture_output=True, text=True).stdout.strip()


@calling
def written(path: str, target: str, form: str, values: Places) -> None:
    """Write values of a file in another form, synced and in the page cache."""
    WRITERS[form](target, arrays(path, values))
    os.sync()


def _safetensors(path: str, pairs: Pairs) -> None:
    """As the format's text says, by no package."""
    header, position, kept = {}, 0, list(pairs)
    for name, array in kept:
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in kept:
            file.write(np.ascontiguousarray(array).data)


def _numpy(path: str, pairs: Pairs) -> None:
    os.mkdir(path)
    for name, array in pairs:
        np.save(f"{path}/{name}.npy", array)


def _h5py(path: str, pairs: Pairs) -> None:
    """HDF5, contiguous."""
    with import_module("h5py").File(path, "w", libver="latest") as file:
        for name, array in pairs:
            file.create_dataset(name, data=array)


def _zarr(path: str, pairs: Pairs) -> None:
    """A zarr 3 group, uncompressed, in chunks of whole rows."""
    group = import_module("zarr").create_group(path)
    for name, array in pairs:
        rows = max(1, _CHUNK * len(array) // array.nbytes) if array.ndim and array.nbytes else 1
        chunks = (min(rows, len(array)), *array.shape[1:]) if array.ndim else ()
        target = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks, compressors=None)
        target[...] = array


def _tensorizer(path: str, pairs: Pairs) -> None:
    serializer = import_module("tensorizer").TensorSerializer(path)
    serializer.write_state_dict(_tensors(pairs))
    serializer.close()


def _tensors(pairs: Pairs) -> dict[str, Any]:
    return {name: import_module("torch").from_numpy(np.array(array)) for name, array in pairs}


WRITERS: dict[str, Callable[[str, Pairs], None]] = {
    "safetensors": _safetensors,
    "torch": lambda path, pairs: import_module("torch").save(_tensors(pairs), path),
    "numpy": _numpy,
    "h5py": _h5py,
    "zarr": _zarr,
    "tensorizer": _tensorizer,
}
