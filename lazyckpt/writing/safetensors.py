"""Encode a safetensors file: the header first, then every tensor at its offset.

    length u64 | JSON header, padded with spaces | contents without gaps

Strategy: names, dtypes and shapes are known before any content, so the header is made first; contents may then be
written in the order that is cheapest to read. The order of tensors (by dtype, then by name) and the JSON are those of
the safetensors package, so equal values give equal files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO, Final

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.formats.ckpt_header import impossible
from lazyckpt.formats.safetensors import CRC
from lazyckpt.formats.safetensors_checksum import add
from lazyckpt.formats.safetensors_header import LENGTH, LONGEST_HEADER, METADATA
from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import TENSOR
from lazyckpt.writing.items import Item

REMOVE_REDUNDANCY: Final = "remove_redundancy"
_INT4: Final = "Int4"
_UNIT: Final = 8  # bytes; a header is padded to a multiple of this or more
# Among dtypes of one width the last comes first, as in the package.
_ORDER: Final = (
    *("BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
    *("I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64"),
)
_RANK: Final = {name: -rank for rank, name in enumerate(_ORDER)}


def check(item: Item) -> None:
    """Check that the format can hold an item.

    Raises:
        ArgumentValueError: it is a string or a map, its name is reserved or not valid Unicode, or readers refuse its
            shape.
    """
    if item.kind != TENSOR:
        raise ArgumentValueError(
            f"{item.name!r} is a {item.kind}: safetensors files hold tensors only; leave it out, or save as .ckpt"
        )
    if item.name == METADATA:
        raise ArgumentValueError(f"no tensor of a safetensors file can have the name {METADATA!r}")
    try:
        item.name.encode()
    except UnicodeEncodeError:
        raise ArgumentValueError(
            f"the name {item.name!r} is not valid Unicode: it cannot be encoded in UTF-8"
        ) from None
    fault = impossible(list(item.contents[0].shape), _dtype(item))
    if fault:
        raise ArgumentValueError(f"{item.name!r} cannot be loaded again: {fault}")


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Check that the format can hold metadata.

    Raises:
        ArgumentTypeError: a key or a value is not a string.
        ArgumentValueError: it is not valid Unicode.
    """
    for text in (*metadata, *metadata.values()):
        if not isinstance(text, str):
            raise ArgumentTypeError(f"the metadata of a safetensors file are texts, not {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ArgumentValueError(f"the metadata {text!r} is not valid Unicode") from None


def layout(items: Iterable[Item]) -> list[Item]:
    """Items in the order of their contents in the file."""
    return sorted(items, key=lambda item: (_rank(_dtype(item)), item.name.encode()))


def _rank(dtype: DType) -> tuple[bool, int, int]:
    """The sort key of a dtype: widest first for alignment, Bool last, as in the package."""
    return dtype.safetensors == "BOOL", -dtype.bits, _RANK.get(dtype.safetensors, 0)


def described(items: Iterable[Item], given: Mapping[str, str]) -> dict[str, str]:
    """The given metadata without file-specific entries, plus the names of Int4 tensors."""
    kept = {name: text for name, text in given.items() if name != CRC and text != _INT4}
    return kept | {item.name: _INT4 for item in items if _dtype(item).name == _INT4}


def header(items: Sequence[Item], metadata: Mapping[str, str], align: int = 1) -> bytes:
    """The length field and the JSON header.

    Args:
        items: in the order of `layout`.
        metadata: for `__metadata__`, which is left out if this is empty.
        align: start the first content at a multiple of so many bytes (at least 8).

    Raises:
        ArgumentValueError: it is longer than readers of the format accept.
    """
    table: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
    offset = 0
    for item in items:
        facts = {"dtype": _dtype(item).safetensors, "shape": item.contents[0].shape}
        table[item.name] = facts | {"data_offsets": [offset, offset + item.nbytes]}
        offset += item.nbytes
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH + len(text)) % max(align, _UNIT))
    if len(text) > LONGEST_HEADER:
        raise ArgumentValueError(
            f"the header of {len(items):,} tensors has {len(text):,} bytes, readers of safetensors files take"
            f" {LONGEST_HEADER:,}: write a set of files (max_shard_size), or a .ckpt"
        )
    return len(text).to_bytes(LENGTH, "little") + text


def write(file: BinaryIO, items: Sequence[Item], head: bytes, order: Iterable[Item]) -> None:
    """Write a whole file.

    Args:
        file: an empty, seekable file.
        items: in the order of `layout`.
        head: their header.
        order: the same items in the order of reading.
    """
    file.write(head)
    offsets, offset = {}, len(head)
    for item in items:
        offsets[item.name] = offset
        offset += item.nbytes
    position = len(head)
    for item in order:
        if position != offsets[item.name]:
            file.seek(offsets[item.name])
        file.writelines(item.contents[0].whole())
        position = offsets[item.name] + item.nbytes


def checksum(items: Iterable[Item]) -> int:
    """MindSpore's crc32 of a file: over names and contents, sorted by name. Reads every content."""
    crc = 0
    for item in sorted(items, key=lambda item: item.name):
        content = item.contents[0]
        crc = add(crc, item.name.encode(), _dtype(item).safetensors, content.shape, content.whole())
    return crc


def _dtype(item: Item) -> DType:
    dtype = item.contents[0].dtype
    if dtype is None:
        raise TypeError(f"{item.name!r} is not a tensor")
    return dtype
