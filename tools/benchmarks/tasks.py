"""What is timed: each task is made ready with its arguments and gives a function to call, over and over.

The imports stand inside, because a task runs in a process that has only what it needs (lazyckpt is not there in the
one that has MindSpore). "Has an index" is true from the second call on: the first one builds it, and is not counted.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Callable
from typing import Any, NamedTuple


class Task(NamedTuple):
    """A function to time, and what has to happen before each call."""

    call: Callable[[], object]
    before: Callable[[], object] = lambda: None


def first_index(path: str, **decryption: Any) -> Task:
    """Build an index that is not there yet, sidecar written and synced."""
    import lazyckpt

    return Task(lambda: lazyckpt.build_index(path, **decryption), lambda: _forget_index(path))


def first_index_cold(path: str) -> Task:
    """The same, with no page of the file in memory."""
    import lazyckpt

    return Task(lambda: lazyckpt.build_index(path), lambda: (_forget_index(path), _forget_pages(path)))


def index_many(paths: list[str], kind: str, workers: int) -> Task:
    """Build the indexes of many files that have none, by workers of a kind, which are there already."""
    from lazyckpt.index.many import build_indexes, processes

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
            _forget_index(path)

    return Task(call, before)


def first_load(path: str) -> Task:
    """Load a checkpoint that has no index yet, sidecar written and synced."""
    import lazyckpt

    return Task(lambda: lazyckpt.load_checkpoint(path), lambda: _forget_index(path))


def first_load_all(path: str) -> Task:
    """The same, and copy every value."""
    import lazyckpt

    return Task(lambda: lazyckpt.load_checkpoint(path).load(), lambda: _forget_index(path))


def open_warm(path: str) -> Task:
    """Load a checkpoint that has an index."""
    import lazyckpt

    return Task(lambda: lazyckpt.load_checkpoint(path))


def open_and_look_up(path: str, names: list[str]) -> Task:
    """Load a checkpoint that has an index, and take a parameter out of it, each time another."""
    import lazyckpt

    turn = itertools.cycle(names)

    def call() -> object:
        checkpoint = lazyckpt.load_checkpoint(path)
        return checkpoint, checkpoint[next(turn)]

    return Task(call)


def one_row(path: str, name: str, row: int) -> Task:
    """Load a checkpoint that has an index, and add up one row of one parameter."""
    import lazyckpt

    def call() -> object:
        return lazyckpt.load_checkpoint(path)[name][row].sum()

    return Task(call)


def view(path: str, name: str) -> Task:
    """Load a checkpoint that has an index, and add up one value without copying it."""
    import lazyckpt

    return Task(lambda: lazyckpt.load_checkpoint(path)[name].asnumpy().sum())


def copy(path: str, name: str) -> Task:
    """Load a checkpoint that has an index, and copy one value."""
    import lazyckpt

    return Task(lambda: lazyckpt.load_checkpoint(path)[name].asnumpy(copy=True))


def chosen(path: str, name: str, **decryption: Any) -> Task:
    """Load one value with `choice_func`, as one does with MindSpore, and add it up."""
    import lazyckpt

    def call() -> object:
        return lazyckpt.load_checkpoint(path, choice_func=name.__eq__, **decryption)[name].asnumpy().sum()

    return Task(call)


def value(path: str, name: str, **decryption: Any) -> Task:
    """Load an encrypted checkpoint that has an index, and decrypt one value."""
    import lazyckpt

    def call() -> object:
        return lazyckpt.load_checkpoint(path, **decryption)[name].asnumpy()

    return Task(call)


def load(path: str, **decryption: Any) -> Task:
    """Load a checkpoint that has an index, and copy every value into memory of its own."""
    import lazyckpt

    return Task(lambda: lazyckpt.load_checkpoint(path, **decryption).load())


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

    return Task(lambda: lazyckpt.load_checkpoint(path).stats())


def numpy_statistics(path: str, places: list[tuple[int, int]]) -> Task:
    """The same numbers of float32 values by numpy's own functions, in float64, over a map of the file."""
    import numpy as np

    def measured(values: Any) -> tuple[float, ...]:
        mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        norm = np.sqrt(np.square(values, dtype=np.float64).sum())
        counts = np.count_nonzero(values == 0), np.count_nonzero(np.isnan(values)), np.count_nonzero(np.isinf(values))
        return values.min(), values.max(), mean, std, norm, *counts

    def call() -> object:
        mapped = np.memmap(path, np.uint8, "r")
        return [measured(mapped[offset : offset + length].view("<f4")) for offset, length in places]

    return Task(call)


def convert(path: str, target: str, how: dict[str, Any], enc_key: bytes | None = None, **decryption: Any) -> Task:
    """Write a checkpoint that has an index to another file, synced, its index along with it."""
    import lazyckpt

    def call() -> None:
        with lazyckpt.load_checkpoint(path, block_cache=64 * 2**20, **decryption) as checkpoint:
            checkpoint.save(target, enc_key=enc_key, **how)

    return Task(call, lambda: _remove(target))


def copy_file(path: str, target: str) -> Task:
    """`cp`, and the copy synced."""

    def call() -> None:
        subprocess.run(["cp", path, target], check=True)
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    return Task(call, lambda: _remove(target))


def safetensors_value(path: str, name: str, touch: bool) -> Task:
    """Open a safetensors file and take one value (always a copy); with `touch`, add it up."""
    from safetensors import safe_open

    def call() -> object:
        with safe_open(path, framework="np") as file:
            array = file.get_tensor(name)
            return array.sum() if touch else array

    return Task(call)


def mindspore_load(path: str, name: str | None = None, **decryption: Any) -> Task:
    """MindSpore's load_checkpoint: of everything, or of one value, which is added up."""
    import mindspore

    if name is None:
        return Task(lambda: mindspore.load_checkpoint(path, **decryption))

    def call() -> object:
        return mindspore.load_checkpoint(path, choice_func=name.__eq__, **decryption)[name].asnumpy().sum()

    return Task(call)


def bind(path: str, names: list[str], length: int) -> Task:
    """Load a checkpoint that has an index into a MindSpore net that has these of its values."""
    import lazyckpt

    lazyckpt.build_index(path).close()
    net = _net(names, length)
    return Task(lambda: lazyckpt.load_param_into_net(net, lazyckpt.load_checkpoint(path)))


def mindspore_bind(path: str, names: list[str], length: int) -> Task:
    """The same with MindSpore alone."""
    import mindspore

    net = _net(names, length)
    return Task(lambda: mindspore.load_param_into_net(net, mindspore.load_checkpoint(path)))


def _net(names: list[str], length: int) -> Any:
    """A MindSpore net with float32 vectors of these names, each of so many bytes, which it has taken already."""
    import mindspore
    import numpy as np

    net = mindspore.nn.Cell()
    for number, name in enumerate(names):
        data = mindspore.Tensor(np.ones(length // 4, np.float32))
        net.insert_param_to_cell(f"p{number}", mindspore.Parameter(data, name), check_name_contain_dot=False)
    return net


def openssl_frames(path: str, key: bytes, first: int = 0, count: int | None = None, threads: int = 1) -> Task:
    """OpenSSL alone on whole frames."""
    from benchmarks.encrypting import frame_decryptor

    return Task(frame_decryptor(path, key, first, count, threads))


def openssl_range(path: str, key: bytes, offset: int, length: int) -> Task:
    """OpenSSL alone on a range of a CBC file."""
    from benchmarks.encrypting import range_decryptor

    return Task(range_decryptor(path, key, offset, length))


def _forget_index(path: str) -> None:
    _remove(path + ".lmdb")


def _forget_pages(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


_ALL = (
    *(
        first_index,
        first_index_cold,
        first_load,
        first_load_all,
        open_warm,
        open_and_look_up,
        one_row,
        view,
        copy,
        chosen,
        value,
        load,
    ),
    *(iterate, html, statistics, numpy_statistics, convert, copy_file, safetensors_value, mindspore_load),
    *(bind, mindspore_bind, openssl_frames, openssl_range, index_many),
)
TASKS: dict[str, Callable[..., Task]] = {task.__name__: task for task in _ALL}
