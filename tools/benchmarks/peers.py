"""The peers: how each is installed, writes its own form of a file, and reads it.

Readers, lazyckpt among them, are tables of expressions, so that no surrounding code is measured.
Peers are imported on first use: a process loads only the modules that its side needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np

from benchmarks.case import Case, Side
from benchmarks.tasks import Pairs, Places, Task, arrays, calling, pairs

Acts = dict[str, Callable[..., Any]]  # `open` gives the function that opens a path; all others take what that opened
TIMES = {"access": 1000, "sums": 32}  # that an act does its work in one call; others do it once


class Peer(NamedTuple):
    """A package that reads such files too."""

    label: str  # shown in the table
    modules: tuple[str, ...]  # must be installed, and are imported before anything is measured
    install: str  # the command that installs it
    form: str = ""  # the form of its own files, an entry of `WRITERS`; empty: it reads checkpoints


PEERS = {
    "mindspore": Peer("MindSpore", ("mindspore",), "pip install mindspore==2.10.0 'numpy<2'"),
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
        python, roots = self._pythons[name], sorted({module.partition(".")[0] for module in PEERS[name].modules})
        code = f"from importlib.util import find_spec; print(all(map(find_spec, {roots})))"
        return python if _printed(python, code) == "True" else None

    def absent(self) -> dict[str, str]:
        """The command that installs each peer that is asked for and not installed."""
        return {name: PEERS[name].install for name in self.names if not self.python(name)}

    def versions(self) -> dict[str, str]:
        """The versions of the peers that are installed."""
        code = "from importlib.metadata import version; print(version({!r}))"
        packages = {name.partition("-")[0]: self.python(name) for name in self.names if self.python(name)}
        return {package: _printed(python, code.format(package)) for package, python in packages.items()}

    def sides(self, case: Case, once: Callable[[Side], object]) -> list[Side]:
        """The sides of a row: lazyckpt's, the peers', whose files are written (`once` does a task), and the limit."""
        mine = Side("lazyckpt", case.task, case.of_file(), case.imports, case.forget, memory=case.memory)
        asked = [peer for peer in case.peers if isinstance(peer, Side) or peer in self.names]
        peers = [peer if isinstance(peer, Side) else self._side(peer, case, once) for peer in asked]
        limits = [self._within(case.within, case.limit)] if case.limit else []
        return [self._within(case.within, mine), *peers, *limits]

    def _side(self, name: str, case: Case, once: Callable[[Side], object]) -> Side:
        label, modules, _, form = PEERS[name]
        own = f"{case.file.path}.{form}" if form else case.file.path
        side = self._within(name, Side(label, case.task, {**case.of_file(own), "by": name}, modules, case.forget))
        if form and side.python and own not in self._written:
            arguments = {"path": case.file.path, "target": own, "form": form, "values": case.file.values}
            once(replace(side, task=written, arguments=arguments, forget=""))
            self._written.add(own)
        return side

    def _within(self, name: str, side: Side) -> Side:
        """A side in the Python that has a peer; without a name it stays in this one."""
        if not name:
            return side
        where = " and --mindspore PYTHON" if name == "mindspore" else ""
        return replace(side, python=self.python(name), absent=f"not here: {PEERS[name].install}{where}")


@cache
def _printed(python: str, code: str) -> str:
    """The output of an interpreter."""
    return subprocess.run([python, "-c", code], check=False, capture_output=True, text=True).stdout.strip()


@calling
def written(path: str, target: str, form: str, values: Places) -> None:
    """Write values of a file in another form, synced and in the page cache."""
    WRITERS[form](target, arrays(path, values))
    os.sync()


def _numpy(path: str, values: Pairs) -> None:
    os.mkdir(path)
    for name, array in values:
        np.save(f"{path}/{name}.npy", array)


def _h5py(path: str, values: Pairs) -> None:
    """HDF5, contiguous."""
    with import_module("h5py").File(path, "w", libver="latest") as file:
        for name, array in values:
            file.create_dataset(name, data=array)


def _zarr(path: str, values: Pairs) -> None:
    """A zarr 3 group, uncompressed, in chunks of whole rows, about a mebibyte each."""
    group = import_module("zarr").create_group(path)
    for name, array in values:
        rows = max(1, 2**20 * len(array) // array.nbytes) if array.ndim and array.nbytes else 1
        chunks = (min(rows, len(array)), *array.shape[1:]) if array.ndim else ()
        target = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks, compressors=None)
        target[...] = array


def _tensorizer(path: str, values: Pairs) -> None:
    serializer = import_module("tensorizer").TensorSerializer(path)
    serializer.write_state_dict(_tensors(values))
    serializer.close()


def _tensors(values: Pairs) -> dict[str, Any]:
    return {name: import_module("torch").from_numpy(np.array(array)) for name, array in values}


WRITERS: dict[str, Callable[[str, Pairs], None]] = {
    "safetensors": lambda path, values: import_module("safetensors.numpy").save_file(dict(values), path),
    "torch": lambda path, values: import_module("torch").save(_tensors(values), path),
    "numpy": _numpy,
    "h5py": _h5py,
    "zarr": _zarr,
    "tensorizer": _tensorizer,
}


def _npy(folder: str, name: str) -> np.ndarray:
    return np.load(f"{folder}/{name}.npy", mmap_mode="r")


_PLAIN: Acts = {
    "at": lambda file: file.__getitem__,  # gives what stands for a value before it is read
    "shape": lambda file, name: tuple(file[name].shape),
    "view": lambda file, name: file[name],  # the cheapest access
    "copy": lambda file, name: file[name],  # a copy, as parts and loads are
    "part": lambda file, name, key: file[name][key],
}
_SAFETENSORS: Acts = {
    "at": lambda file: file.get_slice,
    "shape": lambda file, name: tuple(file.get_slice(name).get_shape()),
    "view": lambda file, name: file.get_tensor(name),
}
READERS: dict[str, Acts] = {
    "lazyckpt": {
        **_PLAIN,
        "open": lambda: import_module("lazyckpt").load_checkpoint,
        "view": lambda file, name: file[name].asnumpy(),
        "copy": lambda file, name: file[name].asnumpy(copy=True),
        "part": lambda file, name, key: file[name][key].copy(),
        "load": lambda file, path: file.load(),
        "names": list,
        "select": lambda file, names: list(file.select(next(names))),
        "row": lambda file, name, row: file[name][row].sum(),
        "iterate": lambda file: deque((parameter.asnumpy() for parameter in file.values()), maxlen=0),  # keeps none
        "html": lambda file: file._repr_html_(),
        "stats": lambda file: file.stats(),
    },
    "mindspore": {
        "open": lambda: import_module("mindspore").load_checkpoint,  # reads and decrypts everything
        "load": lambda file, path: file,
    },
    "safetensors": {
        **_SAFETENSORS,
        "open": lambda: partial(import_module("safetensors").safe_open, framework="np"),  # copies
        "copy": lambda file, name: file.get_tensor(name),
        "part": lambda file, name, key: file.get_slice(name)[key],
        "load": lambda file, path: import_module("safetensors.numpy").load_file(path),
    },
    "safetensors-torch": {
        **_SAFETENSORS,
        "open": lambda: partial(import_module("safetensors").safe_open, framework="pt"),  # maps
        "copy": lambda file, name: file.get_tensor(name).clone(),
        "part": lambda file, name, key: file.get_slice(name)[key].clone(),
        "load": lambda file, path: {name: file.get_tensor(name).clone() for name in file.keys()},  # noqa: SIM118
    },
    "torch": {
        **_PLAIN,
        "open": lambda: partial(import_module("torch").load, mmap=True, weights_only=True),
        "copy": lambda file, name: file[name].clone(),
        "part": lambda file, name, key: file[name][key].clone(),
        "load": lambda file, path: {name: tensor.clone() for name, tensor in file.items()},
    },
    "numpy": {
        "open": lambda: str,  # a folder is not opened
        "at": lambda folder: partial(_npy, folder),
        "shape": lambda folder, name: _npy(folder, name).shape,
        "view": _npy,
        "copy": lambda folder, name: np.load(f"{folder}/{name}.npy"),
        "part": lambda folder, name, key: _npy(folder, name)[key].copy(),
        "load": lambda file, path: {name[:-4]: np.load(f"{path}/{name}") for name in os.listdir(path)},
    },
    "h5py": {
        **_PLAIN,
        "open": lambda: partial(import_module("h5py").File, mode="r"),
        "view": lambda file, name: file[name][()],
        "copy": lambda file, name: file[name][()],
        "load": lambda file, path: {name: value[()] for name, value in file.items()},
    },
    "zarr": {
        **_PLAIN,
        "open": lambda: partial(import_module("zarr").open_group, mode="r"),
        "view": lambda file, name: file[name][...],
        "copy": lambda file, name: file[name][...],
        "load": lambda file, path: {name: value[...] for name, value in file.arrays()},
    },
    "tensorizer": {
        **_PLAIN,
        "open": lambda: partial(import_module("tensorizer").TensorDeserializer, device="cpu", lazy_load=True),
        "load": lambda file, path: {name: file[name] for name in file},
    },
}


def _sum(acts: Acts, file: Any, name: str) -> Any:
    array = acts["view"](file, name)
    array.sum()
    return array


def _access(acts: Acts, file: Any, names: Iterator[str]) -> None:
    at = acts["at"](file)
    for name in islice(names, TIMES["access"]):
        at(name)


_COMMON: Acts = {  # acts of every reader, made of its own
    "nothing": lambda acts, file: None,
    "sum": _sum,
    "sums": lambda acts, file, names: deque((_sum(acts, file, name) for name in islice(names, TIMES["sums"])), 0),
    "access": _access,
    "look_up": lambda acts, file, names: {(name := next(names)): acts["shape"](file, name)},
}


def opening(path: str, act: str, by: str = "lazyckpt", **arguments: Any) -> Task:
    """Open a file, and do something with it, an entry of `READERS`."""
    options = arguments.pop("options", {})  # options of the opening function
    opener, do = READERS[by]["open"](), _act(path, act, by, arguments)

    def call() -> tuple[Any, Any]:
        file = opener(path, **options)
        return file, do(file)

    return Task(call, lambda result: _seen(act, *result))


def opened(path: str, act: str, by: str = "lazyckpt", **arguments: Any) -> Task:
    """Do something with a file that is open."""
    file = READERS[by]["open"]()(path)
    return Task(partial(_act(path, act, by, arguments), file), lambda value: _seen(act, file, value), TIMES.get(act, 1))


def parsed(text: str) -> Any:
    """The key of an array given as text, such as `1:5, ::2`."""
    parts = (part.strip().split(":") for part in text.split(","))
    keys = [slice(*(int(end) if end else None for end in ends)) if len(ends) > 1 else int(*ends) for ends in parts]
    return keys[0] if len(keys) == 1 else tuple(keys)


def _act(path: str, act: str, by: str, arguments: dict[str, Any]) -> Callable[[Any], Any]:
    given = {"names": cycle, "key": parsed}  # names are taken one after the other
    arguments = {name: given.get(name, lambda value: value)(value) for name, value in arguments.items()}
    if act == "load":
        arguments["path"] = path
    return partial(_COMMON[act], READERS[by], **arguments) if act in _COMMON else partial(READERS[by][act], **arguments)


def _seen(act: str, file: Any, value: Any) -> Pairs | None:
    if act == "nothing":
        return [(name, "") for name in file]
    if act == "stats":
        return [(name, (row["min"], row["max"], row["zeros"])) for name, row in value.to_dict().items()]
    return pairs(value)
