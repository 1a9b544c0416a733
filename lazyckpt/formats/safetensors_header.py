"""The JSON header of a safetensors file: what each tensor's item says, and where the item stands.

Strategy: the header is held against the rules of the safetensors package, item by item. An item in the form that all
writers give it is taken in by one regular expression; whatever else may stand there (escaped names, other orders, more
facts, faults) is walked as JSON. What is found is kept in columns, because a header may have a million items: their
names, the facts that many of them share, and numbers. Pure functions of bytes; offsets count from the file's beginning.
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
from lazyckpt.model.dtypes import DTYPES

METADATA: Final = "__metadata__"
LENGTH: Final = 8  # bytes of the header's length
LONGEST_HEADER: Final = 100_000_000
_LARGEST: Final = 2**64
_SPACE: Final = " \t\n\r"
_FACTS: Final = ("dtype", "shape", "data_offsets")
# Types that take less than a byte, and those that only have a name: bits of an element.
_BITS: Final = {dtype.safetensors: dtype.bits for dtype in DTYPES.values()} | {"F6_E2M3": 6, "F6_E3M2": 6}
# An item as all writers write it (~ for spaces), with what follows it.
_USUAL: Final = re.compile(
    rb'"([^"\\\x00-\x1f]*)"~:~\{~"dtype"~:~"([A-Z0-9_]+)"~,~"shape"~:~\[([0-9, \t\n\r]*)\]~,'
    rb'~"data_offsets"~:~\[~(0|[1-9][0-9]{0,18})~,~(0|[1-9][0-9]{0,18})~\]~\}()~([,}])~'.replace(b"~", rb"[ \t\n\r]*")
)


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What tensors have in common that are alike.

    Attributes:
        dtype: the header's name of it.
        shape: the dimensions.
        nbytes: bytes of the content.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class Item(NamedTuple):
    """One tensor as the header has it.

    Attributes:
        name: in UTF-8, unescaped.
        facts: dtype, shape and size.
        start: where its item begins, in bytes from the file's beginning.
        length: bytes of the item.
        begin: first byte of the content, counted from where contents begin.
        end: first byte after it.
    """

    name: bytes
    facts: Facts
    start: int
    length: int
    begin: int
    end: int


class Items:
    """All tensors of a header, in columns. Iterates as `Item`s, in the order in which they stand there."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.facts: list[Facts] = []
        self.starts, self.lengths, self.begins, self.ends = array("Q"), array("Q"), array("Q"), array("Q")

    def add(self, item: Item) -> None:
        """Take one more."""
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
        """In the order of names."""
        return map(self.__getitem__, array("Q", sorted(range(len(self)), key=self.names.__getitem__)))

    def check_names(self) -> None:
        """Make sure that no name comes twice.

        Raises:
            CorruptFile: one does.
        """
        seen: set[bytes] = set(self.names)
        if len(seen) == len(self):
            return
        for name, start in zip(self.names, self.starts, strict=True):
            if name not in seen:
                raise CorruptFile("the name comes twice", offset=start, parameter=name.decode())
            seen.remove(name)

    def check_places(self, contents: int) -> None:
        """Make sure that contents follow each other without gaps and fill the file, `contents` bytes of it.

        Raises:
            TruncatedFile: the file ends before they do.
            CorruptFile: there is a gap, an overlap, or more.
        """
        begins, ends = (np.frombuffer(column, np.uint64) for column in (self.begins, self.ends))
        order = np.lexsort((ends, begins))
        due = np.concatenate([np.zeros(1, np.uint64), ends[order]])  # where the content after it must begin
        wrong = np.flatnonzero(begins[order] != due[:-1])
        if wrong.size:
            place = int(wrong[0])
            item = self[int(order[place])]
            raise CorruptFile(
                f"its content is at {item.begin:,} of the contents, {due[place]:,} is where the one before it ends",
                offset=item.start,
                parameter=item.name.decode(),
            )
        told = int(due[-1])
        if told != contents:
            kind = TruncatedFile if contents < told else CorruptFile
            raise kind(f"the header announces {told:,} bytes of contents, the file has {contents:,}", offset=LENGTH)


class Header(NamedTuple):
    """A whole header: its bytes, its tensors, in the order in which they stand there, and the metadata."""

    size: int
    items: Items
    metadata: Mapping[str, str]


def parse(raw: bytes | memoryview) -> Header:
    """Walk a header.

    Cost: about 2 us and 200 bytes an item in its usual form; an item in another form 10 us, and the first of these
    copies the header.

    Raises:
        CorruptFile: it breaks the format's rules.
    """
    if raw[:1] != b"{":
        raise CorruptFile("this is no safetensors file: its header does not begin with '{'", offset=LENGTH)
    items = Items()
    facts: Mapping[str, str] | None = None
    text: str | None = None
    position = _after_space(str(raw[: 2**10], "latin-1"), 1)
    position, is_open = _usual(raw, position, items)
    while is_open:
        # One character a byte, so that positions in the text are positions in the file.
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
            raise CorruptFile("the header is no JSON object: ',' or '}' is needed", offset=LENGTH + position)
        position, is_open = _usual(raw, _after_space(text, position + 1), items)
    if bytes(raw[position:]).strip(_SPACE.encode()):
        raise CorruptFile("something follows the header's JSON", offset=LENGTH + position)
    items.check_names()
    return Header(len(raw), items, facts or {})


def item_at(raw: bytes | memoryview, offset: int) -> Item | None:
    """The tensor whose item these bytes are, whole and alone; None if they are something else."""
    try:
        found, stop = _item(str(raw, "latin-1"), 0, offset)
    except CorruptFile:
        return None
    return found if isinstance(found, Item) and stop == len(raw) else None


def _usual(raw: bytes | memoryview, position: int, items: Items) -> tuple[int, bool]:
    """Take in items as long as they have their usual form.

    Returns:
        Where the first other one begins, and True; or where the header's object ends, and False.
    """
    match = _USUAL.match
    known: dict[tuple[bytes, bytes], Facts | None] = {}
    while (found := match(raw, position)) is not None:
        name, dtype, shape, begin, end, _, then = found.groups()
        try:
            facts = known[dtype, shape]
        except KeyError:
            facts = known[dtype, shape] = _facts(dtype, shape)
        if facts is None or facts.nbytes != int(end) - int(begin) or name == _METADATA or not _is_text(name):
            break
        start, stop = found.start(), found.end(6)
        items.add(Item(name, facts, LENGTH + start, stop - start, int(begin), int(end)))
        position = found.end()
        if then == b"}":
            return position, False
    return position, True


_METADATA: Final = METADATA.encode()


def _facts(dtype: bytes, shape: bytes) -> Facts | None:
    """The facts of an item in its usual form; None if there is something wrong with them."""
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
    """Facts that are possible.

    Raises:
        CorruptFile: they are not; its parameter is not told yet.
    """
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise CorruptFile(f"there is no dtype {str(dtype)[:64]!r}")
    if not _are_sizes(shape):
        raise CorruptFile("shape must be a list of numbers from 0 on")
    bits = math.prod(shape) * _BITS[dtype]
    if bits >= _LARGEST or bits % 8:
        raise CorruptFile(f"shape {tuple(shape)[:64]} of {dtype} needs {bits / 8:,.10g} bytes")
    return Facts(dtype, tuple(shape), bits // 8)


def _item(text: str, position: int, offset: int) -> tuple[Item | dict[str, str], int]:
    """The item at a position: a tensor, or the metadata; and where it ends. `offset` is its place in the file."""
    try:
        if text[position : position + 1] != '"':
            raise CorruptFile("the header is no JSON object: a name is needed", offset=offset)
        _, after_name = _DECODER.raw_decode(text, position)
        colon = _after_space(text, after_name)
        if text[colon : colon + 1] != ":":
            raise CorruptFile("the header is no JSON object: ':' is needed", offset=offset + colon - position)
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
        raise CorruptFile(f"the header is no JSON of UTF-8 text: {error}", offset=offset) from None


class _Object(list[tuple[str, Any]]):
    """A JSON object with its names as they come, so that one that comes twice is seen."""


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _whole_number(text: str) -> int | float:
    """A number without a fraction; -0 is none to the package, which has floating-point numbers alone for it."""
    return -0.0 if text == "-0" else int(text)


_DECODER: Final = JSONDecoder(object_pairs_hook=_Object, parse_constant=_no_constant, parse_int=_whole_number)


def _tensor(name: str, offset: int, length: int, value: Any) -> Item:
    if not isinstance(value, _Object):
        raise CorruptFile("a tensor's facts must be an object", parameter=name)
    pairs = [pair for pair in value if pair[0] in _FACTS]
    known = dict(pairs)
    if len(known) != len(_FACTS) or len(pairs) != len(_FACTS):
        raise CorruptFile(f"{', '.join(_FACTS)} are needed, once each", parameter=name)
    offsets = known["data_offsets"]
    try:
        facts = _checked(known["dtype"], known["shape"])
        if not _are_sizes(offsets) or len(offsets) != 2:
            raise CorruptFile("data_offsets must be a list of two numbers from 0 on")
        begin, end = offsets
        if facts.nbytes != end - begin:
            raise CorruptFile(
                f"shape {facts.shape[:64]} of {facts.dtype} needs {facts.nbytes:,} bytes, data_offsets give"
                f" {end - begin:,}"
            )
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
        text.encode()  # half of a surrogate pair is no text
    return found


def _after_space(text: str, position: int) -> int:
    while text[position : position + 1] in _SPACE and position < len(text):
        position += 1
    return position


def _bytes(text: str) -> str:
    """Text of one character a byte, as the UTF-8 that it is."""
    return text if text.isascii() else text.encode("latin-1").decode()


def _text(quoted: str) -> str:
    """The name that a piece of JSON stands for."""
    plain = quoted[1:-1]
    if "\\" not in plain and plain.isascii():
        return plain
    name: str = json.loads(_bytes(quoted))
    name.encode()  # half of a surrogate pair is no text
    return name
