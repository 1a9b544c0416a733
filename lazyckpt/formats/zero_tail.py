"""Zeros in place of a header, up to the end of a file: the error says that a download did not finish.

Download programs often give a file its full size first. Whatever they did not write reads as zeros. Where the format
demands a header, zeros are damage; the values before them are whole. (Zeros in place of contents parse, and may be
right. They are judged in `explore.zero_runs`.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Final

from lazyckpt.errors import CorruptFile
from lazyckpt.model.entry import REFUSED, Found, Packed, Plain, entry_of
from lazyckpt.sources.base import Source
from lazyckpt.sources.zeros import FEWEST, unfinished, zeros_begin

_SIZE: Final = 8  # bytes of the number that says how long the header of a safetensors file is
_REACH: Final = 16  # bytes before the zeros, in which a field that they cut off begins


def explain(source: Source, name: str, found: Iterable[Found], error: CorruptFile) -> int | None:
    """Say so in an error if zeros up to the end of the file are its cause.

    Args:
        source: the file.
        name: its format.
        found: the values before the damage; the iteration may raise the error again.
        error: why the file does not parse.

    Returns:
        Where the zeros begin; None if they are not the cause.

    Cost: reads about 5 MiB at the end of the file; and if there are zeros, walks the headers before them.
    """
    begin = zeros_begin(source, sampled=True)
    if source.size - begin < min(FEWEST, source.size) or begin > _last_byte_parsed(source, name, error):
        return None
    count = 0
    with contextlib.suppress(CorruptFile):
        for one in found:
            count += stands_before(one, begin) and (isinstance(one, Plain) or one.kind != REFUSED)
    error.what, error.offset, error.parameter = unfinished(begin, count, "value"), begin, None
    return begin


def _last_byte_parsed(source: Source, name: str, error: CorruptFile) -> int:
    if name != "safetensors":
        return (error.offset or 0) + _REACH
    return int.from_bytes(source.read(0, _SIZE), "little") + _SIZE if source.size >= _SIZE else source.size


def stands_before(found: Found, begin: int) -> bool:
    """Whether a value ends before a run of zeros that begins at an offset.

    Its last element may end in zeros by itself, as small integers do.
    """
    if found.stop <= begin:
        return True
    whole = entry_of(found) if isinstance(found, Packed) else found
    offset = whole.offset if isinstance(whole, Plain) else min((each.offset for each in whole.all_extents), default=0)
    return offset < begin and found.stop - begin < (1 if found.dtype is None else found.dtype.itemsize)
