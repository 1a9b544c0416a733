"""Copies of tensors that lie in one piece of a file: header and content in one read, and no page of a map is touched.

A file that is truncated while it is copied from a map ends the process; from `pread` it is an error.
"""

from __future__ import annotations

from types import EllipsisType
from typing import Any, Final

import numpy as np

from lazyckpt.formats import Format
from lazyckpt.model.entry import Entry
from lazyckpt.reading.allocation import AnyArray, aligned, copied
from lazyckpt.reading.decoding import bytes_of, dtype_of
from lazyckpt.sources.base import Source, allocate
from lazyckpt.sources.window import SparseBuffer

LONGEST_HEADER: Final = 2**20  # bytes of unknown fields beyond which a header is looked at in place
_SMALL: Final = 2**14  # bytes of a value up to which two copies cost less than a read into two buffers
_BASIC: Final = (int, slice, EllipsisType, type(None), np.integer)


def copy_in_one_piece(source: Source, form: Format, entry: Entry) -> AnyArray:
    """An aligned copy of a plain tensor with one extent, whose bounds were validated.

    Raises:
        StaleIndex: the file does not have this entry.
        ChangedFile: the file shrank.
    """
    start, (offset, length), dtype = entry.start, entry.extents[0], dtype_of(entry)
    if entry.apart or offset + length != entry.stop or offset - start > LONGEST_HEADER or not source.window:
        form.verify_header(source, entry)
        made = aligned(entry.shape, dtype)
        source.read_into(offset, bytes_of(made))
    elif entry.stop - start <= _SMALL:
        run = bytes_at(source, start, entry.stop - start)
        form.verify_header_in(SparseBuffer([(start, run)]), entry)
        made = copied(entry.shape, dtype, run[offset - start :])
    else:
        header, made = memoryview(bytearray(offset - start)), aligned(entry.shape, dtype)
        source.read_many([(start, header), (offset, bytes_of(made))])
        form.verify_header_in(SparseBuffer([(start, header)]), entry)
    return made


def bytes_at(source: Source, offset: int, length: int) -> memoryview:
    """The bytes of a range, in memory that a change of the file does not reach."""
    data = allocate(length)
    source.read_into(offset, data)
    return data


def is_basic(key: Any) -> bool:
    """Whether numpy answers a key with a view (or one element), and copies nothing else of the array."""
    kind = type(key)
    if kind is slice or kind is int:
        return True
    parts = key if kind is tuple else (key,)
    return all(isinstance(part, _BASIC) and not isinstance(part, bool) for part in parts)
