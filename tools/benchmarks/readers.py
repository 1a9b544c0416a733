"""How lazyckpt and its peers read a file: a table of expressions for each, and the task that uses them.

Expressions, because nobody should pay for code around what is measured. Peers are imported on first use: a process has
only the modules that its side needs.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import cycle, islice
from typing import Any

import numpy as np

from benchmarks.task import Pairs, Task, forgetting, pairs

Acts = dict[str, Callable[..., Any]]  # `open` gives the function that opens a path; all others take what that opened
TIMES = {"access": 1000, "sums": 32}  # that an act does its work in one call; others do it once


class NpyFolder:
    """A folder of .npy files, each mapped on look-up."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __getitem__(self, name: str) -> np.ndarray:
        return np.load(f"{self.path}/{name}.npy", mmap_mode="r")


_PLAIN: Acts = {
    "at": lambda file: file.__getitem__,  # gives what stands for a value before it is read
    "shape": lambda file, name: tuple(file[name].shape),
    "view": lambda file, name: file[name],  # as cheap as it gets
    "copy": lambda file, name: file[name],  # in memory of its own, as are parts and loads
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
        **_PLAIN,
        "open": lambda: NpyFolder,
        "copy": lambda file, name: np.load(f"{file.path}/{name}.npy"),
        "part": lambda file, name, key: file[name][key].copy(),
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


def opening(path: str, act: str, by: str = "lazyckpt", forget: str = "", **arguments: Any) -> Task:
    """Open a file, and do something with it, an entry of `READERS`.

    Before each call the file's `pages` in the page cache, or lazyckpt's `index`, are dropped if `forget` names them.
    """
    options = arguments.pop("options", {})  # of the function that opens
    opener, do = READERS[by]["open"](), _act(path, act, by, arguments)

    def call() -> tuple[Any, Any]:
        file = opener(path, **options)
        return file, do(file)

    return Task(call, forgetting(forget, path), lambda result: _seen(act, *result))


def opened(path: str, act: str, by: str = "lazyckpt", **arguments: Any) -> Task:
    """Do something with a file that is open."""
    file = READERS[by]["open"]()(path)
    do = partial(_act(path, act, by, arguments), file)
    return Task(do, seen=lambda value: _seen(act, file, value), count=TIMES.get(act, 1))


def parsed(text: str) -> Any:
    """The key of an array that a text such as `1:5, ::2` stands for."""
    return eval(f"np.s_[{text}]", {"np": np})


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
