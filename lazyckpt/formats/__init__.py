"""Formats: where the parameters are in a source, and whether an index still tells the truth about it.

`FORMATS` is the only list of them. A format offers `scan(source)`, which yields entries without reading payloads, and
`confirm(source, entry)`, which proves one entry against the bytes as they are now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lazyckpt.entry import Entry, Extent, Plain, entry_of
from lazyckpt.errors import CorruptFile, WrongFormat
from lazyckpt.formats import ckpt
from lazyckpt.formats.sniff import HEAD, diagnose
from lazyckpt.formats.wire import Buffer
from lazyckpt.sources.base import Source


class Format(NamedTuple):
    """What a file format offers.

    Attributes:
        find: yields what there is in file order, reading headers only, the common case in its cheapest form.
        confirm: raises `StaleIndex` unless the file has this entry where the entry says.
        header_extents: the bytes that `confirm` looks at.
        confirm_in: `confirm`, on those bytes alone.
    """

    find: Callable[[Source], Iterator[Plain | Entry]]
    confirm: Callable[[Source, Entry], None]
    header_extents: Callable[[Entry], list[Extent]]
    confirm_in: Callable[[Buffer, Entry], None]

    def scan(self, source: Source) -> Iterator[Entry]:
        """`find`, as entries."""
        return map(entry_of, self.find(source))


FORMATS = {"ckpt": Format(ckpt.find, ckpt.confirm, ckpt.header_extents, ckpt.confirm_in)}


def scan(source: Source, name: str) -> Iterator[Entry]:
    """`find`, as entries."""
    return map(entry_of, find(source, name))


def find(source: Source, name: str) -> Iterator[Plain | Entry]:
    """Yield what there is in a source in the format called `name`, or tell what it is instead.

    Raises:
        WrongFormat: the bytes are of another, recognised format.
        CorruptFile: the bytes break the format's rules.
    """
    try:
        yield from FORMATS[name].find(source)
    except CorruptFile as error:
        error.file = source.name
        other = diagnose(bytes(source.read(0, min(HEAD, source.size))))
        if other is not None:
            raise WrongFormat(other, file=source.name) from error
        raise
