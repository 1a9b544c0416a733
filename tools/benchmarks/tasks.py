"""Timed tasks: each is built from its arguments and returns a function to call; also tasks without a reader."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

Pairs = Iterable[tuple[str, Any]]
Places = list[tuple[str, int, list[int]]]  # name, offset and shape of float32 values of a file
# A package that was never compiled, as numpy was when it was installed, would be compiled again by each process.
_COMPILING = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def pairs(result: Any) -> Pairs | None:
    """The (name, array) pairs of a result, by which sides are compared; None if it has none."""
    if isinstance(result, dict):
        return result.items()
    return [("", result)] if hasattr(result, "tobytes") or hasattr(result, "detach") else None


class Task(NamedTuple):
    """A function to time."""

    call: Callable[[], Any]
    seen: Callable[[Any], Pairs | None] = pairs  # the values that sides are compared by
    count: int = 1  # how many of what is measured one call does
    seconds: Callable[[Any], float] | None = None  # the time that a result carries, in place of the call's


def calling(function: Callable[..., Any]) -> Callable[..., Task]:
    """Make a task of a function, which is called with the task's arguments."""
    return functools.wraps(function)(lambda **arguments: Task(functools.partial(function, **arguments)))


def forget(what: str, path: str = "", paths: Iterable[str] = (), target: str = "", **_: Any) -> None:
    """Remove the `index` beside each path, or the `target`, or drop the `pages` of a path from the page cache."""
    removed = [f"{each}.lmdb" for each in (path, *paths)] if "index" in what else []
    for file in filter(os.path.exists, removed + [target] * ("target" in what)):
        os.unlink(file)
    walked = os.walk(path) if "pages" in what else ()
    inside = [os.path.join(folder, name) for folder, _, names in walked for name in names]
    for file in filter(os.path.isfile, (*inside, path, f"{path}.lmdb") if "pages" in what else ()):
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def arrays(path: str, values: Places) -> Iterator[tuple[str, Any]]:
    """Name and array of each value, over one map of the file."""
    mapped = np.memmap(path, np.uint8, "r").view(np.ndarray)
    for name, offset, shape in values:
        yield name, mapped[offset : offset + 4 * math.prod(shape)].view("<f4").reshape(shape)


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
        counts = [int(np.count_nonzero(which)) for which in (array == 0, np.isnan(array), np.isinf(array))]
        mean, std = array.mean(dtype=np.float64), array.std(dtype=np.float64)
        norm = np.sqrt(np.square(array, dtype=np.float64).sum())
        found[name] = (float(array.min()), float(array.max()), *counts, mean, std, norm)[:3]  # as sides are compared
    return found


def attributes(path: str, names: list[str]) -> Task:
    """Ask Parameters for their attributes."""
    checkpoint = import_module("lazyckpt").load_checkpoint(path)
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
        dask = import_module("distributed")
        executor = dask.Client(dask.LocalCluster(workers, threads_per_worker=1, dashboard_address=None))

    def call() -> None:
        failed = [result for result in build_indexes(paths, executor=executor) if result.error or result.fresh]
        if failed:
            raise ValueError(f"{len(failed)} files were not indexed: {failed[0]}")

    return Task(call)


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
    from torch import load, nn, ones

    layers = {name.split(".")[1]: nn.ParameterDict({"weight": nn.Parameter(ones(shape))}) for name in names}
    module = nn.ModuleDict({"layer": nn.ModuleDict(layers)})
    nets = import_module("lazyckpt.frameworks.torch") if by == "lazyckpt" else None
    loads = {
        "lazyckpt": lambda: nets.load_into(module, import_module("lazyckpt").load_checkpoint(path)),
        "torch": lambda: module.load_state_dict(load(path, mmap=True, weights_only=True), strict=False),
        "safetensors-torch": lambda: import_module("safetensors.torch").load_model(module, path, strict=False),
    }
    return Task(loads[by], lambda _: module.state_dict().items())
