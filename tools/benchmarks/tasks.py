"""Tasks that are not an act of a reader: indexes, conversions, statistics, imports, and loading into nets."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.readers import READERS
from benchmarks.task import Places, Task, arrays, calling, remove

# A package that was never compiled, as numpy was when it was installed, would be compiled again by each process.
_COMPILING = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@calling
def chosen(path: str, name: str, by: str = "lazyckpt", **decryption: Any) -> Any:
    """Open a file with a `choice_func` for one value, as is done with MindSpore, and add the value up."""
    array = import_module(by).load_checkpoint(path, choice_func=name.__eq__, **decryption)[name].asnumpy()
    array.sum()
    return array


@calling
def index(path: str, **decryption: Any) -> Any:
    """Build an index, sidecar written and synced."""
    return import_module("lazyckpt").build_index(path, **decryption)


@calling
def convert(path: str, target: str, options: dict[str, Any], **decryption: Any) -> None:
    """Write a checkpoint that has an index to another file, synced, its index along with it."""
    with import_module("lazyckpt").load_checkpoint(path, block_cache=64 * 2**20, **decryption) as checkpoint:
        checkpoint.save(target, **options)


@calling
def numpy_statistics(path: str, values: Places) -> dict[str, Any]:
    """The numbers of `stats()` by numpy's own functions, in float64, over a map of the file."""
    found = {}
    for name, array in arrays(path, values):
        mean, std = array.mean(dtype=np.float64), array.std(dtype=np.float64)
        norm = np.sqrt(np.square(array, dtype=np.float64).sum())
        zeros, *counts = (int(np.count_nonzero(which)) for which in (array == 0, np.isnan(array), np.isinf(array)))
        found[name] = float(array.min()), float(array.max()), zeros, (*counts, mean, std, norm)
    return {name: numbers[:3] for name, numbers in found.items()}  # which `stats` of lazyckpt is compared by


def attributes(path: str, names: list[str]) -> Task:
    """Ask Parameters for their attributes."""
    checkpoint = READERS["lazyckpt"]["open"]()(path)
    parameters = [checkpoint[name] for name in names]

    def call() -> None:
        for parameter in parameters:
            parameter.name  # noqa: B018
            parameter.shape  # noqa: B018
            parameter.dtype  # noqa: B018
            parameter.nbytes  # noqa: B018

    return Task(call, count=4 * len(parameters))


def index_many(paths: list[str], kind: str, workers: int = 1) -> Task:
    """Build the indexes of many files that have none, by workers of a kind."""
    from lazyckpt.index.batch import build_indexes, processes

    executor: Any = None
    if kind == "processes":
        executor = processes(workers)
    elif kind == "dask":
        from distributed import Client, LocalCluster

        executor = Client(LocalCluster(workers, threads_per_worker=1, dashboard_address=None))

    def call() -> None:
        failed = [result for result in build_indexes(paths, executor=executor) if result.error or result.fresh]
        if failed:
            raise ValueError(f"{len(failed)} files were not indexed: {failed[0]}")

    return Task(call, lambda: [remove(f"{path}.lmdb") for path in paths])


def importing(code: str, whole: bool) -> Task:
    """Run a statement in a fresh interpreter, and time the statement, or the `whole` process."""
    timed = code if whole else f"import time; s = time.perf_counter(); {code}; print(time.perf_counter() - s)"

    def call() -> str:
        command = [sys.executable, "-c", timed]
        return subprocess.run(command, env=_COMPILING, check=True, capture_output=True, text=True).stdout

    return Task(call, seconds=None if whole else float)


def into_cell(path: str, names: list[str], shape: list[int], by: str = "lazyckpt") -> Task:
    """Load a checkpoint into a MindSpore net that has these of its values; lazyckpt has an index."""
    import mindspore

    loader, net = import_module(by), mindspore.nn.Cell()
    if by == "lazyckpt":
        loader.build_index(path).close()
    for number, name in enumerate(names):
        parameter = mindspore.Parameter(mindspore.Tensor(np.ones(shape, np.float32)), name)
        net.insert_param_to_cell(f"p{number}", parameter, check_name_contain_dot=False)
    return Task(
        lambda: loader.load_param_into_net(net, loader.load_checkpoint(path)),
        seen=lambda _: [(parameter.name, parameter) for parameter in net.get_parameters()],
    )


def into_module(path: str, names: list[str], shape: list[int], by: str = "lazyckpt") -> Task:
    """Load a file into a torch module that has these of its values; lazyckpt has an index from the second call on."""
    from torch import nn, ones

    layers = {name.split(".")[1]: nn.ParameterDict({"weight": nn.Parameter(ones(shape))}) for name in names}
    module, opener = nn.ModuleDict({"layer": nn.ModuleDict(layers)}), READERS[by]["open"]()
    load = {
        "lazyckpt": lambda: import_module("lazyckpt.frameworks.torch").load_into(module, opener(path)),
        "torch": lambda: module.load_state_dict(opener(path), strict=False),
        "safetensors-torch": lambda: import_module("safetensors.torch").load_model(module, path, strict=False),
    }
    return Task(load[by], seen=lambda _: module.state_dict().items())
