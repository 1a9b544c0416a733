"""Two values that stand beside each other in a comparison: what is known of them, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NamedTuple

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.explore.compare import Difference, compare, same_bytes
from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import MAP, STRING, TENSOR, Entry
from lazyckpt.reading.handles import hold_of
from lazyckpt.reading.reader import Payloads
from lazyckpt.writing.items import Item, stored

_SMALL: Final = 2**16  # bytes of a tensor that is read at once
_LONGEST_TEXT: Final = 40  # characters of a string that are told
Types = tuple[tuple[DType | None, tuple[int, ...]], ...]  # of the arrays that make up a value: one, three of a map
Read = tuple[Difference | None, str]  # how far two values are apart, and what else is to be said


class Side(NamedTuple):
    """What is known of a value before it is read."""

    name: str
    kind: str
    types: Types
    nbytes: int
    digest: bytes
    reason: str
    item: Callable[[], Item]
    content: Callable[[], bytes] | None = None  # of a small tensor, if nothing else is to be checked of it
    is_of_file: bool = True

    @property
    def described(self) -> str:
        """Its facts, for people."""
        if self.kind == TENSOR:
            return f"{self.types[0][0]} {self.types[0][1]}"
        if self.kind == MAP:
            return "map of " + ", ".join(f"{dtype} {shape}" for dtype, shape in self.types)
        return {STRING: "str"}.get(self.kind, self.kind)


class Pair(NamedTuple):
    """Two values whose contents must be read."""

    outcome: str  # what they are if the contents do not differ: `equal`, or `dtype`
    a: Side
    b: Side


def side_of(checkpoint: Checkpoint, name: str, known: Any) -> Side:
    """A value of a checkpoint, of which this is known."""
    if isinstance(known, Entry):
        return side_of_entry(checkpoint.payloads, name, known)
    item = checkpoint.item(name, name)
    types = tuple((content.dtype, content.shape) for content in item.contents)
    types = ((None, ()),) if item.kind == STRING else types
    return Side(name, item.kind, types, item.nbytes, b"", "", lambda: item, is_of_file=False)


def side_of_entry(payloads: Payloads, name: str, entry: Entry) -> Side:
    """A value as it is in its file."""
    types = tuple((array.dtype, array.shape) for array in entry.arrays) or ((entry.dtype, entry.shape),)
    is_small = entry.kind == TENSOR and entry.stored <= _SMALL and not entry.digest
    return Side(
        name, entry.kind, types, entry.stored, entry.digest, entry.reason, lambda: stored(name, entry, payloads),
        (lambda: payloads.view(entry).tobytes()) if is_small else None,
    )  # fmt: skip


def read_task(one: Payloads, two: Payloads, pairs: list[tuple[str, int, int]]) -> list[Read]:
    """What a worker does: read pairs that are given by what they are if alike, and their places in both indexes."""
    ours, theirs = hold_of(one).entries, hold_of(two).entries
    found = []
    for outcome, a, b in pairs:
        left, right = ours.at(a), theirs.at(b)
        pair = Pair(outcome, side_of_entry(one, left.name, left), side_of_entry(two, right.name, right))
        found.append(read(pair))
    return found


def read(pair: Pair) -> Read:
    """How far two values are apart, and what else is to be said."""
    if _are_alike_at_once(pair):
        return None, ""
    one, two = pair.a.item(), pair.b.item()
    if pair.a.kind == STRING:
        return None, "" if same_bytes(one.contents[0], two.contents[0]) else f"{_text(one)} => {_text(two)}"
    if pair.a.kind == MAP:
        parts = zip(("keys", "values", "status"), one.contents, two.contents, strict=False)
        found = {name: difference for name, left, right in parts if (difference := compare(left, right)) is not None}
        values = found.get("values")
        return values or next(iter(found.values()), None), f"in its {', '.join(found)}" if found else ""
    return compare(one.contents[0], two.contents[0]), ""


def _are_alike_at_once(pair: Pair) -> bool:
    """Whether two values are small, and the same."""
    a, b = pair.a.content, pair.b.content
    return pair.outcome == "equal" and a is not None and b is not None and a() == b()


def _text(item: Item) -> str:
    """The beginning of a string."""
    data = b"".join(bytes(piece) for piece in islice(item.contents[0].pieces(), 1))
    text = data[: 4 * (_LONGEST_TEXT + 1)].decode("utf-32-le", "replace").rstrip("\0")
    return repr(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…")
