"""Arrays that values are read into: aligned, and on huge pages where these pay."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lazyckpt.model.dtypes import DType

_ALIGNMENT: Final = 64  # bytes; what SIMD code and other frameworks like best
_HUGE_PAGE: Final = 2**21  # bytes of what the system clears and maps at once, where it can
_WORTH_HUGE: Final = 2**22  # bytes from which numpy asks for huge pages
_MOST_WASTED: Final = 16  # the last huge page may have room for this part of the array again, and no more
_SHARED: Final = 2**12  # bytes of memory that several small values may share: who keeps one of them keeps all that
AnyArray = npt.NDArray[Any]


def aligned(shape: tuple[int, ...], dtype: DType) -> AnyArray:
    """An uninitialised C-ordered array, aligned to 64 bytes, or to a huge page if it is large.

    Cost: up to 2 MiB more of addresses for a large one, and at most a sixteenth more memory.
    """
    kind = dtype.numpy
    room, start = _room(math.prod(shape) * kind.itemsize)
    made: AnyArray = np.ndarray(shape, kind, room, start)
    return made


def copied(shape: tuple[int, ...], dtype: DType, data: memoryview) -> AnyArray:
    """The array that some bytes are, as `aligned` makes one."""
    room, start = _room(data.nbytes)
    room.data[start : start + data.nbytes] = data
    made: AnyArray = np.ndarray(shape, dtype.numpy, room, start)
    return made


def shared(values: AnyArray) -> list[AnyArray]:
    """Aligned arrays for many small values; neighbours share buffers of at most `_SHARED` bytes.

    Args:
        values: of shape (how many, *shape), contiguous.
    """
    count, shape, kind = len(values), values.shape[1:], values.dtype
    padded = -(-values[0].nbytes // _ALIGNMENT) * _ALIGNMENT
    strides = (padded, *values.strides[1:])
    step = max(1, _SHARED // padded)
    made: list[AnyArray] = []
    for first in range(0, count, step):
        some = values[first : first + step]
        room, start = _room(len(some) * padded)
        own: AnyArray = np.ndarray((len(some), *shape), kind, room, start, strides)
        own[...] = some
        made.extend(own[number, ...] for number in range(len(some))) if not shape else made.extend(own)
    return made


def _room(size: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Room for so many bytes, and where in it the first one goes.

    An array that begins anywhere has hundreds of small pages before its first huge one, and after its last.
    """
    alignment = _HUGE_PAGE if size >= _WORTH_HUGE and -size % _HUGE_PAGE * _MOST_WASTED <= size else _ALIGNMENT
    room = np.empty(size + alignment, np.uint8)
    return room, -room.__array_interface__["data"][0] % alignment
