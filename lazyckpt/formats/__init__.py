"""The file formats: how to find the parameters of a source, and how to check an index against it.

`FORMATS` is the only list of them. A format offers `scan(source)`, which yields entries without reading payloads, and
`verify_header(source, entry)`, which proves one entry against the bytes as they are now. The module of a format is
imported when the first file of that format is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from lazyckpt.errors import CorruptFile, WrongFormat
from lazyckpt.formats.detect import ENDINGS, FORMAT_NAMES, HEAD, diagnose, is_ckpt, is_safetensors
from lazyckpt.formats.protobuf_wire import Buffer
from lazyckpt.model.entry import Entry, Extent, Plain, entry_of
from lazyckpt.model.tensor_runs import UniformGroup
from lazyckpt.sources.base import Source


class Format(NamedTuple):
    """What a file format offers.

    Attributes:
        name: `ckpt` or `safetensors`.
        find: yields what there is, reading headers only, the common case in its cheapest form.
        confirm: raises `StaleIndex` unless the file has this entry where the entry says.
        header_extents: the bytes that `verify_header` looks at.
        confirm_in: `verify_header`, on those bytes alone.
        stand_alike: proves many at once, all of whose bytes (which begin at an offset) are at hand; False leaves them
            to `verify_header_in`. None where headers stand apart.
        metadata: what the file says of itself.
        checksums: the checksum that the file tells (None if it tells none), and the one that its bytes give.
        in_file_order: whether `find` comes by parameters in the order of their bytes.
    """

    name: str
    find: Callable[[Source], Iterator[Plain | Entry]]
    verify_header: Callable[[Source, Entry], None]
    header_extents: Callable[[Entry], list[Extent]]
    verify_header_in: Callable[[Buffer, Entry], None]
    matches_uniform: Callable[[memoryview, int, UniformGroup], bool] | None
    metadata: Callable[[Source], Mapping[str, str]]
    checksums: Callable[[Source], tuple[int | None, int]]
    in_file_order: bool

    def scan(self, source: Source) -> Iterator[Entry]:
        """`find`, as entries."""
        return map(entry_of, self.find(source))


__all__ = ["ENDINGS", "FORMATS", "FORMAT_NAMES", "Format", "find", "format_of", "scan"]

_BY_OFFSET: Final = frozenset({"ckpt"})  # the other formats list parameters by name


class _Formats(dict[str, Format]):
    def __missing__(self, name: str) -> Format:
        if name not in FORMAT_NAMES:
            raise KeyError(name)
        form = importlib.import_module(f"lazyckpt.formats.{name}")
        found = self[name] = Format(
            name, form.find, form.verify_header, form.header_extents, form.verify_header_in,
            getattr(form, "matches_uniform", None), form.metadata, form.checksums, name in _BY_OFFSET,
        )  # fmt: skip
        return found


FORMATS: Final[Mapping[str, Format]] = _Formats()


def format_of(source: Source) -> str:
    """The format that a source is in: as its first bytes tell, or if they tell nothing, its name; else `ckpt`."""
    head = bytes(source.read(0, min(HEAD, source.size)))
    named = source.name.endswith("safetensors") and not is_ckpt(head)
    return "safetensors" if is_safetensors(head) or named else "ckpt"


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
        other = diagnose(bytes(source.read(0, min(HEAD, source.size))), name)
        if other is not None:
            raise WrongFormat(other, file=source.name) from error
        raise
