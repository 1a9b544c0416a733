"""What only lazyckpt does, and what MindSpore and numpy do of it.

"Has an index" is true from the second call on: the first one builds it, and is not counted.
"""

from __future__ import annotations

from typing import Any

from benchmarks.task import Task, forget_index, forget_pages, remove, single

_TIMES = 1000  # attributes asked for in one call


def first_index(path: str, cold: bool = False, **decryption: Any) -> Task:
    """Build an index that is not there yet, sidecar written and synced; `cold`: no page of the file in memory."""
    import lazyckpt

    def before() -> None:
        forget_index(path)
        if cold:
            forget_pages(path)

    return Task(lambda: lazyckpt.build_index(path, **decryption), before)


def index_many(paths: list[str], kind: str, workers: int) -> Task:
    """Build the indexes of many files that have none, by workers of a kind, which are there already."""
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

    def before() -> None:
        for path in paths:
            forget_index(path)

    return Task(call, before)


def first_load(path: str) -> Task:
    """Load a checkpoint that has no index yet, sidecar written and synced."""
    import lazyckpt

    return Task(lambda: lazyckpt.load_checkpoint(path), lambda: forget_index(path), seen=_names)


def first_load_all(path: str) -> Task:
    """The same, and copy every value."""
    import lazyckpt

    return Task(
        lambda: lazyckpt.load_checkpoint(path).load(), lambda: forget_index(path), seen=lambda result: result.items()
    )


def open_warm(path: str) -> Task:
    """Load a checkpoint that has an index."""
    import lazyckpt

    return Task(lambda: lazyckpt.load_checkpoint(path), seen=_names)


def attributes(path: str, names: list[str]) -> Task:
    """What an attribute of a Parameter takes."""
    import lazyckpt

    checkpoint = lazyckpt.load_checkpoint(path)
    parameters = [checkpoint[name] for name in names][:_TIMES]

    def call() -> None:
        for parameter in parameters:
            parameter.name  # noqa: B018
            parameter.shape  # noqa: B018
            parameter.dtype  # noqa: B018
            parameter.nbytes  # noqa: B018

    return Task(call, count=4 * len(parameters))


def all_names(path: str) -> Task:
    """Load a checkpoint that has an index, and list its names."""
    import lazyckpt

    return Task(lambda: list(lazyckpt.load_checkpoint(path)))


def select(path: str, prefixes: list[str]) -> Task:
    """Narrow a checkpoint that is open to a prefix, each time another, and list the names."""
    import itertools

    import lazyckpt

    checkpoint, turn = lazyckpt.load_checkpoint(path), itertools.cycle(prefixes)
    return Task(lambda: list(checkpoint.select(next(turn))))


def one_row(path: str, name: str, row: int) -> Task:
    """Load a checkpoint that has an index, and add up one row of one parameter."""
    import lazyckpt

    def call() -> object:
        return lazyckpt.load_checkpoint(path)[name][row].sum()

    return Task(call)


def chosen(path: str, name: str, **decryption: Any) -> Task:
    """Load one value with `choice_func`, as one does with MindSpore, and add it up."""
    import lazyckpt

    def call() -> Any:
        array = lazyckpt.load_checkpoint(path, choice_func=name.__eq__, **decryption)[name].asnumpy()
        array.sum()
        return array

    return Task(call, seen=single)


def iterate(path: str, **decryption: Any) -> Task:
    """Load a checkpoint that has an index, and look at every value in file order, keeping none."""
    import lazyckpt

    def call() -> None:
        for parameter in lazyckpt.load_checkpoint(path, **decryption).values():
            parameter.asnumpy()

    return Task(call)


def html(path: str) -> Task:
    """Load a checkpoint that has an index, and make the HTML that a notebook shows of it."""
    import lazyckpt

    return Task(lambda: lazyckpt.load_checkpoint(path)._repr_html_())


def statistics(path: str) -> Task:
    """Load a checkpoint that has an index, and measure every value."""
    import lazyckpt

    def seen(table: Any) -> list[tuple[str, Any]]:
        return [(name, (row["min"], row["max"], row["zeros"])) for name, row in table.to_dict().items()]

    return Task(lambda: lazyckpt.load_checkpoint(path).stats(), seen=seen)


def numpy_statistics(path: str, values: list[tuple[str, int, list[int]]]) -> Task:
    """The same numbers of float32 values by numpy's own functions, in float64, over a map of the file."""
    import math

    import numpy as np

    def measured(values: Any) -> tuple[float, ...]:
        mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        norm = np.sqrt(np.square(values, dtype=np.float64).sum())
        counts = (int(np.count_nonzero(found)) for found in (values == 0, np.isnan(values), np.isinf(values)))
        return float(values.min()), float(values.max()), *counts, mean, std, norm

    def call() -> list[tuple[str, Any]]:
        mapped = np.memmap(path, np.uint8, "r").view(np.ndarray)
        return [
            (name, measured(mapped[offset : offset + 4 * math.prod(shape)].view("<f4")))
            for name, offset, shape in values
        ]

    return Task(call, seen=lambda found: [(name, each[:3]) for name, each in found])


def convert(path: str, target: str, how: dict[str, Any], enc_key: bytes | None = None, **decryption: Any) -> Task:
    """Write a checkpoint that has an index to another file, synced, its index along with it."""
    import lazyckpt

    def call() -> None:
        with lazyckpt.load_checkpoint(path, block_cache=64 * 2**20, **decryption) as checkpoint:
            checkpoint.save(target, enc_key=enc_key, **how)

    return Task(call, lambda: remove(target))


def mindspore_load(path: str, **decryption: Any) -> Task:
    """MindSpore's load_checkpoint of everything."""
    import mindspore

    return Task(
        lambda: mindspore.load_checkpoint(path, **decryption),
        seen=lambda found: [(name, value.asnumpy()) for name, value in found.items()],
    )


def mindspore_names(path: str) -> Task:
    """The same, of which only the names matter."""
    import mindspore

    return Task(lambda: mindspore.load_checkpoint(path), seen=_names)


def mindspore_chosen(path: str, name: str, **decryption: Any) -> Task:
    """MindSpore's load_checkpoint of one value, which is added up."""
    import mindspore

    def call() -> Any:
        array = mindspore.load_checkpoint(path, choice_func=name.__eq__, **decryption)[name].asnumpy()
        array.sum()
        return array

    return Task(call, seen=single)


def _names(checkpoint: Any) -> list[tuple[str, Any]]:
    return [(name, "") for name in checkpoint]
