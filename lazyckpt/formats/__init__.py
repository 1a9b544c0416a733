"""`.ckpt` and safetensors: detect, find parameters, check headers; protobuf's messages.

`FORMATS` is the table of formats. A format offers `scan(source)`, which yields entries without reading payloads, and
`verify_header(source, entry)`, which verifies one entry against the current bytes of the file. The module of a format
is imported when the first file of that format is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from lazyckpt.errors import CorruptFile, WrongFormat
from lazyckpt.formats.detect import ENDINGS, FORMAT_NAMES, HEAD, diagnose, is_ckpt, is_safetensors
from lazyckpt.formats.protobuf_wire import Buffer
from lazyckpt.model.entry import Entry, Extent, Found, entry_of
from lazyckpt.model.tensor_runs import UniformGroup
from lazyckpt.sources.base import Source


class Format(NamedTuple):
    """The operations of a file format.

    Attributes:
        name: `ckpt` or `safetensors`.
        find: yields the parameters, reading headers only; most of them as a cheaper form.
        find_whole: `find` for a damaged file: before it raises, it yields all that is known (refused if not whole).
        verify_header: raises `StaleIndex` unless the file has the entry's header at the entry's offset.
        header_extents: the ranges that `verify_header` reads.
        verify_header_in: `verify_header` on bytes that have been read.
        matches_uniform: verifies a group of small tensors in bytes that have been read; False means "use
            `verify_header_in`". None for formats that store headers apart from contents.
        metadata: the metadata stored in the file.
        checksums: the checksum stored in the file (None if there is none), and the checksum of its bytes.
        in_file_order: whether `find` yields parameters in the order of their offsets.
    """

    name: str
    find: Callable[[Source], Iterator[Found]]
    find_whole: Callable[[Source], Iterator[Found]]
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
            name, form.find, form.find_whole, form.verify_header, form.header_extents, form.verify_header_in,
            getattr(form, "matches_uniform", None), form.metadata, form.checksums, name in _BY_OFFSET,
        )  # fmt: skip
        return found


FORMATS: Final[Mapping[str, Format]] = _Formats()


def format_of(source: Source) -> str:
    """The format of a source: by its first bytes, else by its name, else `ckpt`."""
    head = bytes(source.snapshot(0, min(HEAD, source.size)))
    named = source.name.endswith("safetensors") and not is_ckpt(head)
    return "safetensors" if is_safetensors(head) or named else "ckpt"


def scan(source: Source, name: str) -> Iterator[Entry]:
    """`find`, as entries."""
    return map(entry_of, find(source, name))


def find(source: Source, name: str) -> Iterator[Found]:
    """Yield the parameters of a source in a format. If it has another one, the error names it.

    Raises:
        WrongFormat: the bytes have another format that is recognised.
        CorruptFile: the bytes break the format's rules.
    """
    fault = CorruptFile  # a name of its own: a walk that is left in a global outlives this module
    try:
        yield from FORMATS[name].find(source)
    except fault as error:
        error.file = source.name
        other = diagnose(bytes(source.snapshot(0, min(HEAD, source.size))), name)
        if other is not None:
            raise WrongFormat(other, file=source.name) from error
        raise
