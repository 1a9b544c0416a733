"""Thread counts for parallel work, and the type of progress callbacks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

MAX_WORKERS: Final = 8  # more threads than this do not read or decrypt faster: memory bandwidth is the limit
PARALLEL_FROM: Final = 2**25  # bytes; starting threads costs more than it saves for less work than this

Progress = Callable[[int, int], object]  # called as `progress(done, total)`


def processors() -> int:
    """The number of processors of this machine, at least 1."""
    return os.cpu_count() or 1


def worker_count(wanted: int | None = None, *, nbytes: int | None = None) -> int:
    """The number of threads to use, at least 1.

    Args:
        wanted: the caller's choice, which is respected; None to choose here.
        nbytes: the size of the work in bytes, if it is known: small work gets one thread.
    """
    if wanted is not None:
        return max(1, wanted)
    if nbytes is not None and nbytes < PARALLEL_FROM:
        return 1
    return min(MAX_WORKERS, processors())
