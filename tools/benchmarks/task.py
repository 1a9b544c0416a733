"""What is timed: a task is made from its arguments, and gives a function to call over and over."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

Pairs = Iterable[tuple[str, Any]]
Places = list[tuple[str, int, list[int]]]  # name, offset and shape of float32 values of a file


def pairs(result: Any) -> Pairs | None:
    """The (name, array) pairs of a result, by which sides are compared; None if it has none."""
    if isinstance(result, dict):
        return result.items()
    return [("", result)] if hasattr(result, "tobytes") or hasattr(result, "detach") else None


class Task(NamedTuple):
    """A function to time."""

    call: Callable[[], Any]
    before: Callable[[], object] = lambda: None  # happens before each call, untimed
    seen: Callable[[Any], Pairs | None] = pairs  # what sides are compared by
    count: int = 1  # how many of what is measured one call does
    seconds: Callable[[Any], float] | None = None  # the time that a result carries, in place of the call's


def calling(function: Callable[..., Any]) -> Callable[..., Task]:
    """Make a task of a function, which is called with the task's arguments."""

    @functools.wraps(function)
    def task(forget: str = "", **arguments: Any) -> Task:
        return Task(functools.partial(function, **arguments), forgetting(forget, **arguments))

    return task


def forgetting(what: str, path: str = "", target: str = "", **_: Any) -> Callable[[], None]:
    """A `Task.before`: no `index` beside the file, no `target`, no `pages` of the file in the page cache."""

    def before() -> None:
        for kind, file in (("index", f"{path}.lmdb"), ("target", target)):
            if kind in what:
                remove(file)
        if "pages" in what:
            forget_pages(path)

    return before


def forget_pages(path: str) -> None:
    """Drop from the page cache: a file, or all files of a folder, and the index beside it."""
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    for file in filter(os.path.isfile, (*files, path, f"{path}.lmdb")):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove a file if it exists."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def arrays(path: str, values: Places) -> Iterator[tuple[str, Any]]:
    """Name and array of each value, over one map of the file."""
    import numpy as np

    mapped = np.memmap(path, np.uint8, "r").view(np.ndarray)
    for name, offset, shape in values:
        yield name, mapped[offset : offset + 4 * math.prod(shape)].view("<f4").reshape(shape)
