"""Zeros in place of a header, up to the end of a file: the error says that a download did not finish.

Download programs often give a file its full size first. Whatever they did not write reads as zeros. Where the format
demands a header, zeros are damage; the values before them are whole. (Zeros in place of contents parse, and may be
right. They are judged in `explore.zero_runs`.)
"""

from __future__ import annotations

import contextlib
from typing import Final

from lazyckpt.errors import CorruptFile, DamagedBlock, LazyCkptError
from lazyckpt.model.entry import REFUSED, Found, Packed, Plain, entry_of
from lazyckpt.sources.base import Source
from lazyckpt.sources.zeros import FEWEST, unfinished, zeros_begin

_REACH: Final = 16  # bytes before the zeros, in which a field that they cut off begins


def explain(source: Source, error: CorruptFile, reach: int, count: int = 0, last: Found | None = None) -> None:
    """Say so in an error if zeros up to the end of the file are its cause.

    Args:
        source: the file.
        error: why the file does not parse.
        reach: the last byte that was parsed, about.
        count: the number of values before `last`.
        last: the last value before the damage. Zeros hold no header, so no other value can reach into them.

    Cost: reads 16 bytes; and if they are zeros, about 6 MiB at the end of the file.
    """
    if isinstance(error, DamagedBlock):
        return
    with contextlib.suppress(LazyCkptError):
        begin = zeros_begin(source, sampled=True)
        if source.size - begin < min(FEWEST, source.size) or begin > reach + _REACH:
            return
        is_whole = last is not None and stands_before(last, begin) and (isinstance(last, Plain) or last.kind != REFUSED)
        error.what, error.offset, error.parameter = unfinished(begin, count + is_whole, "value"), begin, None


def zeros_of(source: Source, error: CorruptFile) -> int | None:
    """Where the zeros begin that are the cause of an error; None if they are not the cause."""
    begin = zeros_begin(source, sampled=True)
    return begin if error.offset == begin and source.size - begin >= min(FEWEST, source.size) else None


def stands_before(found: Found, begin: int) -> bool:
    """Whether a value ends before a run of zeros that begins at an offset.

    Its last element may end in zeros by itself, as small integers do.
    """
    if found.stop <= begin:
        return True
    whole = entry_of(found) if isinstance(found, Packed) else found
    offset = whole.offset if isinstance(whole, Plain) else min((each.offset for each in whole.all_extents), default=0)
    return offset < begin and found.stop - begin < (1 if found.dtype is None else found.dtype.itemsize)
