"""Parse and validate the JSON header of a safetensors file; keep the offset of each item.

Strategy: the header is checked by the rules of the safetensors package, item by item. An item in the form that all
writers use is matched by one regular expression; anything else (escaped names, another order, more keys, errors) is
parsed as JSON. The result is kept in columns, because a header may have a million items: names, facts (shared by many
items), and numbers. All functions are pure; offsets count from the start of the file.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any, Final, NamedTuple

import numpy as np

from lazyckpt.errors import CorruptFile, TruncatedFile
from lazyckpt.formats.ckpt_header import MAX_NDIM
from lazyckpt.model.dtypes import DTYPES

METADATA: Final = "__metadata__"
LENGTH: Final = 8  # a file begins with the size of its header, in 8 bytes
LONGEST_HEADER: Final = 100_000_000
_LARGEST: Final = 2**64
_SPACE: Final = " \t\n\r"
_FACTS: Final = ("dtype", "shape", "data_offsets")
# Bits of an element of each type of the format, also of those that no dtype here can hold.
_BITS: Final = {dtype.safetensors: dtype.bits for dtype in DTYPES.values()} | {"F6_E2M3": 6, "F6_E3M2": 6}
# An item in the form that all writers use (~ stands for spaces), and the character after it.
_USUAL: Final = re.compile(
    rb'"([^"\\\x00-\x1f]*)"~:~\{~"dtype"~:~"([A-Z0-9_]+)"~,~"shape"~:~\[([0-9, \t\n\r]*)\]~,'
    rb'~"data_offsets"~:~\[~(0|[1-9][0-9]{0,18})~,~(0|[1-9][0-9]{0,18})~\]~\}()~([,}])~'.replace(b"~", rb"[ \t\n\r]*")
)


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """The facts of a tensor that many tensors share.

    Attributes:
        dtype: its name in the header.
        shape: the dimensions.
        nbytes: bytes of the content; None if there are more dimensions than any array has, which are not multiplied.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int | None

    def fit(self, begin: int, end: int) -> bool:
        """Whether the content may be from one offset to another."""
        return begin <= end if self.nbytes is None else self.nbytes == end - begin


class Item(NamedTuple):
    """One tensor of the header.

    Attributes:
        name: the name in UTF-8, unescaped.
        facts: dtype, shape and size.
        start: the offset of the item in the file.
        length: bytes of the item.
        begin: first byte of the content, counted from the end of the header.
        end: first byte after the content.
    """

    name: bytes
    facts: Facts
    start: int
    length: int
    begin: int
    end: int


class Items:
    """The tensors of a header, stored in columns; iterates over `Item`s in header order."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.facts: list[Facts] = []
        self.starts, self.lengths, self.begins, self.ends = array("Q"), array("Q"), array("Q"), array("Q")

    def add(self, item: Item) -> None:
        """Append an item."""
        name, facts, start, length, begin, end = item
        self.names.append(name)
        self.facts.append(facts)
        self.starts.append(start)
        self.lengths.append(length)
        self.begins.append(begin)
        self.ends.append(end)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Item]:
        return map(Item, self.names, self.facts, self.starts, self.lengths, self.begins, self.ends)

    def __getitem__(self, number: int) -> Item:
        return Item(
            self.names[number], self.facts[number], self.starts[number], self.lengths[number], self.begins[number],
            self.ends[number],
        )  # fmt: skip

    def by_name(self) -> Iterator[Item]:
        """Iterate in the order of names."""
        return map(self.__getitem__, array("Q", sorted(range(len(self)), key=self.names.__getitem__)))

    def check_names(self) -> None:
        """Check that the names are unique.

        Raises:
            CorruptFile: a name comes twice.
        """
        seen: set[bytes] = set(self.names)
        if len(seen) == len(self):
            return
        for name, start in zip(self.names, self.starts, strict=True):
            if name not in seen:
                raise CorruptFile("the name comes twice", offset=start, parameter=name.decode())
            seen.remove(name)

    def check_places(self, contents: int) -> None:
        """Check that contents fill the rest of the file, `contents` bytes, without gaps and overlaps.

        The format requires both: bytes that belong to no tensor could hide anything.

        Raises:
            TruncatedFile: the file ends before the contents do.
            CorruptFile: there is a gap, an overlap, or bytes after the last content.
        """
        begins, ends = (np.frombuffer(column, np.uint64) for column in (self.begins, self.ends))
        order = np.lexsort((ends, begins))
        due = np.concatenate([np.zeros(1, np.uint64), ends[order]])  # where the next content must begin
        wrong = np.flatnonzero(begins[order] != due[:-1])
        if wrong.size:
            place = int(wrong[0])
            item = self[int(order[place])]
            raise CorruptFile(
                f"its content is at {item.begin:,} of the contents, {due[place]:,} is where the one before it ends",
                offset=item.start,
                parameter=item.name.decode(),
            )
        announced = int(due[-1])
        if announced != contents:
            kind = TruncatedFile if contents < announced else CorruptFile
            raise kind(
                f"the header announces {announced:,} bytes of contents, the file has {contents:,}", offset=LENGTH
            )


class Header(NamedTuple):
    """A header: its size in bytes, its tensors in header order, and its metadata."""

    size: int
    items: Items
    metadata: Mapping[str, str]


def parse(raw: bytes | memoryview) -> Header:
    """Parse and validate a header.

    Cost: about 2 us and 200 bytes for each item in the usual form; 10 us in another form, and the first of these copies
    the header.

    Raises:
        CorruptFile: the header breaks a rule of the format.
    """
    if raw[:1] != b"{":
        raise CorruptFile("this is not a safetensors file: its header does not begin with '{'", offset=LENGTH)
    items = Items()
    facts: Mapping[str, str] | None = None
    text: str | None = None
    position = _after_space(str(raw[: 2**10], "latin-1"), 1)
    position, is_open = _usual(raw, position, items)
    while is_open:
        # latin-1 maps each byte to one character, so positions in the text are offsets in the header.
        text = str(raw, "latin-1") if text is None else text
        position = _after_space(text, position)
        if not len(items) and facts is None and text[position : position + 1] == "}":
            position += 1
            break
        found, position = _item(text, position, LENGTH + position)
        if isinstance(found, Item):
            items.add(found)
        elif facts is not None:
            raise CorruptFile(f"{METADATA} comes twice", offset=LENGTH + position)
        else:
            facts = found
        position = _after_space(text, position)
        if text[position : position + 1] == "}":
            position += 1
            break
        if text[position : position + 1] != ",":
            raise CorruptFile("the header is not a JSON object: expected ',' or '}'", offset=LENGTH + position)
        position, is_open = _usual(raw, _after_space(text, position + 1), items)
    if bytes(raw[position:]).strip(_SPACE.encode()):
        raise CorruptFile("something follows the header's JSON", offset=LENGTH + position)
    items.check_names()
    return Header(len(raw), items, facts or {})


def item_at(raw: bytes | memoryview, offset: int) -> Item | None:
    """The tensor whose item is exactly these bytes; None if they are anything else."""
    try:
        found, stop = _item(str(raw, "latin-1"), 0, offset)
    except CorruptFile:
        return None
    return found if isinstance(found, Item) and stop == len(raw) else None


def _usual(raw: bytes | memoryview, position: int, items: Items) -> tuple[int, bool]:
    """Match items as long as they have the usual form.

    Returns:
        The position of the first other item, and True; or the position after the header's object, and False.
    """
    match = _USUAL.match
    known: dict[tuple[bytes, bytes], Facts | None] = {}
    while (found := match(raw, position)) is not None:
        name, dtype, shape, begin, end, _, then = found.groups()
        try:
            facts = known[dtype, shape]
        except KeyError:
            facts = known[dtype, shape] = _facts(dtype, shape)
        if facts is None or not facts.fit(int(begin), int(end)) or name == _METADATA or not _is_text(name):
            break
        start, stop = found.start(), found.end(6)
        items.add(Item(name, facts, LENGTH + start, stop - start, int(begin), int(end)))
        position = found.end()
        if then == b"}":
            return position, False
    return position, True


_METADATA: Final = METADATA.encode()


def _facts(dtype: bytes, shape: bytes) -> Facts | None:
    """The facts of an item in the usual form; None if they are invalid."""
    try:
        return _checked(dtype.decode(), json.loads(b"[%b]" % shape))
    except (CorruptFile, ValueError):
        return None


def _is_text(name: bytes) -> bool:
    if name.isascii():
        return True
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _checked(dtype: Any, shape: Any) -> Facts:
    """Validate the facts of a tensor.

    Raises:
        CorruptFile: they are invalid; the caller adds the parameter.
    """
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise CorruptFile(f"the format has no dtype {str(dtype)[:64]!r}")
    if not _are_sizes(shape):
        raise CorruptFile("shape must be a list of integers, none of them negative")
    if len(shape) > MAX_NDIM:  # a header may hold a million dimensions
        return Facts(dtype, tuple(shape), None)
    bits = math.prod(shape) * _BITS[dtype]
    if bits >= _LARGEST or bits % 8:
        needed = "more than any memory has" if bits >= _LARGEST else f"{bits / 8:,.10g} bytes"
        raise CorruptFile(f"shape {tuple(shape)} of {dtype} needs {needed}")
    return Facts(dtype, tuple(shape), bits // 8)


def _item(text: str, position: int, offset: int) -> tuple[Item | dict[str, str], int]:
    """The item at a position (a tensor, or the metadata), and its end. `offset` is its offset in the file."""
    try:
        if text[position : position + 1] != '"':
            raise CorruptFile("the header is not a JSON object: expected a name", offset=offset)
        _, after_name = _DECODER.raw_decode(text, position)
        colon = _after_space(text, after_name)
        if text[colon : colon + 1] != ":":
            raise CorruptFile("the header is not a JSON object: expected ':'", offset=offset + colon - position)
        begin = _after_space(text, colon + 1)
        value, end = _DECODER.raw_decode(text, begin)
        name = _text(text[position:after_name])
        if name == METADATA:
            return _metadata(json.loads(_bytes(text[begin:end]), object_pairs_hook=_Object)), end
        return _tensor(name, offset, end - position, value), end
    except CorruptFile as error:
        error.offset = offset if error.offset is None else error.offset
        raise
    except (JSONDecodeError, UnicodeError, ValueError, RecursionError) as error:
        raise CorruptFile(f"the header is not JSON in UTF-8: {error}", offset=offset) from None


class _Object(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, so that a repeated name is noticed."""


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _whole_number(text: str) -> int | float:
    """An integer. The safetensors package parses -0 as a float, and so refuses it as a size; so does this."""
    return -0.0 if text == "-0" else int(text)


_DECODER: Final = JSONDecoder(object_pairs_hook=_Object, parse_constant=_no_constant, parse_int=_whole_number)


def _tensor(name: str, offset: int, length: int, value: Any) -> Item:
    if not isinstance(value, _Object):
        raise CorruptFile("a tensor's facts must be an object", parameter=name)
    pairs = [pair for pair in value if pair[0] in _FACTS]
    known = dict(pairs)
    if len(known) != len(_FACTS) or len(pairs) != len(_FACTS):
        raise CorruptFile(f"a tensor needs {', '.join(_FACTS)}, once each", parameter=name)
    offsets = known["data_offsets"]
    try:
        facts = _checked(known["dtype"], known["shape"])
        if not _are_sizes(offsets) or len(offsets) != 2:
            raise CorruptFile("data_offsets must be a list of two integers, none of them negative")
        begin, end = offsets
        if not facts.fit(begin, end):
            needed = (
                "" if facts.nbytes is None else f"shape {facts.shape} of {facts.dtype} needs {facts.nbytes:,} bytes, "
            )
            raise CorruptFile(f"{needed}data_offsets give {end - begin:,}")
    except CorruptFile as error:
        error.parameter = name
        raise
    return Item(name.encode(), facts, offset, length, begin, end)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < _LARGEST for number in value)


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, _Object) or not all(isinstance(text, str) for _, text in value):
        raise CorruptFile(f"{METADATA} must be an object of texts")
    found: dict[str, str] = dict(value)
    for text in (*found, *found.values()):
        text.encode()  # a lone surrogate cannot be encoded
    return found


def _after_space(text: str, position: int) -> int:
    while text[position : position + 1] in _SPACE and position < len(text):
        position += 1
    return position


def _bytes(text: str) -> str:
    """Decode text that has one character for each byte of UTF-8."""
    return text if text.isascii() else text.encode("latin-1").decode()


def _text(quoted: str) -> str:
    """Decode a quoted JSON string."""
    plain = quoted[1:-1]
    if "\\" not in plain and plain.isascii():
        return plain
    name: str = json.loads(_bytes(quoted))
    name.encode()  # a lone surrogate cannot be encoded
    return name
