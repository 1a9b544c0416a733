"""Where a `.ckpt` file breaks off, as far as its protobuf tells."""

from __future__ import annotations

import contextlib

from lazyckpt.errors import CorruptFile
from lazyckpt.formats.ckpt import trailer
from lazyckpt.formats.protobuf_wire import LENGTH, fields, read_varint
from lazyckpt.sources import Source
from lazyckpt.sources.window import look


def last_whole(source: Source, stop: int, broken: int) -> int:
    """Where the last whole parameter before `broken` ends; `stop` is the end of one before it."""
    with contextlib.suppress(CorruptFile, IndexError):
        for field in fields(look(source), stop, trailer(source).body):
            if field.end > broken:
                break
            stop = field.end
    return stop


def missing_from(source: Source, start: int) -> int:
    """Bytes that the parameter at `start` announces and that are not there; 0 if that is unknown."""
    buffer = look(source)
    try:
        key, position = read_varint(buffer, start, source.size)
        length, begin = read_varint(buffer, position, source.size)
    except (CorruptFile, IndexError):
        return 0
    return max(0, begin + length - source.size) if key & 7 == LENGTH else 0
