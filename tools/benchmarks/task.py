"""What is timed: each task is made ready with its arguments and gives a function to call, over and over."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

MODULES = ("tasks", "opened", "limits", "nets", "forms")


class Task(NamedTuple):
    """A function to time.

    Attributes:
        call: the function.
        before: what has to happen before each call, untimed.
        seen: turns what a call gave into (name, array) pairs, by which sides are compared; None: there are none.
        count: how many of what is measured one call does.
    """

    call: Callable[[], Any]
    before: Callable[[], object] = lambda: None
    seen: Callable[[Any], Iterable[tuple[str, Any]]] | None = None
    count: int = 1


def resolve(name: str) -> Callable[..., Task]:
    """The task of a name such as `opened.value`: a function from arguments to a `Task`."""
    module, _, function = name.partition(".")
    if module not in MODULES:
        raise ValueError(f"no tasks are in {module!r}")
    found: Callable[..., Task] = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    return found


def single(value: Any) -> list[tuple[str, Any]]:
    """`Task.seen` of one value."""
    return [("", value)]


def forget_pages(path: str) -> None:
    """Take a file, all files of a folder, and the index beside it out of the page cache."""
    for folder, _, names in os.walk(path):
        for name in names:
            _forget(os.path.join(folder, name))
    for file in (path, f"{path}.lmdb"):
        if os.path.isfile(file):
            _forget(file)


def forget_index(path: str) -> None:
    """Take the index beside a file away."""
    remove(f"{path}.lmdb")


def remove(path: str) -> None:
    """Take a file away if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _forget(file: str) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
