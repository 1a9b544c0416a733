"""How far two values of one shape are apart, read side by side.

Strategy: first the bytes are compared, up to the first that differ, which costs no arithmetic and settles the common
case. Only values that differ are read for figures: both sides in steps of 2^17 elements, in double precision, so that
the size of a value does not matter. Integers are subtracted exactly. Sums of squares of doubles are kept beside a power
of two, so that neither very large nor very small numbers fall out of range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import MAP, MAP_PARTS, STRING, TENSOR, Entry
from lazyckpt.reading.handles import hold_of
from lazyckpt.reading.reader import Payloads
from lazyckpt.writing.items import Content, Item, stored

STEP: Final = 2**17  # elements that are looked at together
_SAFE: Final = 300  # powers of two whose squares a double holds with room to spare
_BIGGEST_INT64: Final = "u8"  # the one integer type that int64 cannot hold
AnyArray = npt.NDArray[Any]
_SMALL: Final = 2**16  # bytes of a tensor that is read at once
_LONGEST_TEXT: Final = 40  # characters of a string that are told
Types = tuple[tuple[DType | None, tuple[int, ...]], ...]  # of the arrays that make up a value: one, three of a map


class Difference(NamedTuple):
    """How far two values are apart.

    Attributes:
        differing: elements that differ. Of one type: whose bits differ, so that NaNs of the same bits are equal and
            0.0 and -0.0 are not; of two types: whose numbers differ, NaNs being equal.
        size: elements in all.
        max_abs: the largest absolute difference of two finite elements; None if there are none.
        relative_l2: the L2 norm of the difference over that of the first value, of elements that are finite on both
            sides; None if only the first value is zero there.
        cosine: the cosine of the angle between the two, likewise; None if either is zero.
        nonfinite: differing elements of which at least one is NaN or infinite.
    """

    differing: int
    size: int
    max_abs: float | int | None
    relative_l2: float | None
    cosine: float | None
    nonfinite: int


def compare(one: Content, two: Content) -> Difference | None:
    """How far two arrays of one shape are apart; None if they are equal.

    Raises:
        ValueError: of the files, as `Payloads.stored` does.

    Cost: reads equal values once, others up to twice, in pieces of 8 MiB of each at once.
    """
    if one.dtype is two.dtype and same_bytes(one, two):
        return None
    sums = _Sums()
    exact = one.dtype is two.dtype
    for left, right in _paired(_arrays(one), _arrays(two)):
        sums.add(left, right, exact)
    return sums.difference() if sums.differing else None


def same_bytes(one: Content, two: Content) -> bool:
    """Whether two contents are the same bytes. Cost: reads both up to the first step that differs."""
    if one.nbytes != two.nbytes:
        return False
    pairs = _paired(_raw(one), _raw(two), 8 * STEP)
    return all(_are_same(left, right) for left, right in pairs)


def _are_same(left: AnyArray, right: AnyArray) -> bool:
    whole = left.size // 8 * 8
    words = left[:whole].view("<u8") == right[:whole].view("<u8")
    return bool(words.all()) and bytes(left[whole:]) == bytes(right[whole:])


def _raw(content: Content) -> Iterator[AnyArray]:
    return (np.frombuffer(piece, np.uint8) for piece in content.pieces())


def _arrays(content: Content) -> Iterator[AnyArray]:
    """Elements of a content, flat; of a packed type one by one, of a string its characters."""
    for piece in content.pieces():
        data = np.frombuffer(piece, np.uint8)
        if content.dtype is None:
            yield data.view("<u4")
        elif content.dtype.is_packed:
            yield np.stack([data & 0xF, data >> 4], axis=1).reshape(-1).view(content.dtype.numpy)
        else:
            yield data.view(content.dtype.numpy)


def _paired(one: Iterable[AnyArray], two: Iterable[AnyArray], step: int = STEP) -> Iterator[tuple[AnyArray, AnyArray]]:
    """Two rows of pieces, cut at the same places."""
    ones, twos = iter(one), iter(two)
    nothing = np.empty(0, np.uint8)
    left, right = next(ones, nothing), next(twos, nothing)
    while left.size and right.size:
        count = min(left.size, right.size)
        for start in range(0, count, step):
            yield left[start : min(start + step, count)], right[start : min(start + step, count)]
        left, right = left[count:], right[count:]
        left = left if left.size else next(ones, nothing)
        right = right if right.size else next(twos, nothing)


class _Sums:
    """What is known of two values so far."""

    def __init__(self) -> None:
        self.differing = self._size = self._nonfinite = 0
        self._max: float | int | None = None
        self._dot, self._first, self._second, self._change = (_Total() for _ in range(4))

    def add(self, left: AnyArray, right: AnyArray, exact: bool) -> None:
        """Take the next elements of both."""
        self._size += left.size
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            one, two = _wide(left), _wide(right)
            finite = np.isfinite(one) & np.isfinite(two)
            if exact:
                bits = np.dtype(f"u{left.dtype.itemsize}")
                unlike = left.view(bits) != right.view(bits)
            else:
                unlike = (one != two) & ~(np.isnan(one) & np.isnan(two))
            self.differing += int(np.count_nonzero(unlike))
            if not finite.all():
                self._nonfinite += int(np.count_nonzero(unlike & ~finite))
                left, right, one, two = left[finite], right[finite], one[finite], two[finite]
            if one.size:
                self._take(one, two, _exact_gap(left, right))

    def _take(self, one: AnyArray, two: AnyArray, gap: int | None) -> None:
        power = _power(np.maximum(np.abs(one), np.abs(two)))
        change = np.ldexp(one, -power) - np.ldexp(two, -power) if power else one - two
        largest = _times_power(float(np.abs(change).max()), power) if gap is None else gap
        self._max = largest if self._max is None else max(self._max, largest)
        (one, first), (two, second), (change, third) = map(_scaled, (one, two, change))
        self._dot.add(_dot(one, two), first + second)
        self._first.add(_dot(one, one), 2 * first)
        self._second.add(_dot(two, two), 2 * second)
        self._change.add(_dot(change, change), 2 * (third + power))

    def difference(self) -> Difference:
        """The figures."""
        (dot, at), (first, one), (second, two), (change, gap) = (
            total.told() for total in (self._dot, self._first, self._second, self._change)
        )
        relative = (
            _times_power(math.sqrt(change) / math.sqrt(first), (gap - one) // 2) if first else None if change else 0.0
        )
        cosine = (
            _times_power(dot / (math.sqrt(first) * math.sqrt(second)), at - (one + two) // 2)
            if first and second
            else None
        )
        cosine = None if cosine is None else max(-1.0, min(1.0, cosine))
        return Difference(self.differing, self._size, self._max, relative, cosine, self._nonfinite)


class _Total:
    """A sum of numbers of any size, each with the power of two that it is to be multiplied by."""

    def __init__(self) -> None:
        self._parts: dict[int, float] = {}

    def add(self, number: float, power: int) -> None:
        if number:  # a zero has no size, and must not decide that of the sum
            self._parts[power] = self._parts.get(power, 0.0) + number

    def told(self) -> tuple[float, int]:
        """The sum as a number and the even power of two that it is to be multiplied by."""
        top = max(self._parts, default=0)
        top += top % 2
        return sum(math.ldexp(number, power - top) for power, number in self._parts.items()), top


def _power(array: AnyArray) -> int:
    """The power of two by which real numbers should be divided before they are squared; 0 if their squares are safe."""
    if array.dtype.kind != "f":
        return 0
    power = math.frexp(float(np.abs(array).max()))[1]
    return power if abs(power) > _SAFE else 0


def _scaled(array: AnyArray) -> tuple[AnyArray, int]:
    power = _power(array)
    return (np.ldexp(array, -power) if power else array), power


def _dot(one: AnyArray, two: AnyArray) -> float:
    """The scalar product; not by BLAS, whose sums depend on how many threads it has."""
    left = one.conj() if one.dtype.kind == "c" else one
    return float(np.einsum("i,i->", left, two).real)


def _wide(array: AnyArray) -> AnyArray:
    """Elements in double precision."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _exact_gap(left: AnyArray, right: AnyArray) -> int | None:
    """The largest difference of integers, which a double may not hold; None for others, and for uint64 beside int64."""
    kinds = {left.dtype.kind, right.dtype.kind}
    if not kinds <= {"b", "i", "u"}:
        return None
    unsigned = [array.dtype == np.dtype(_BIGGEST_INT64) for array in (left, right)]
    if any(unsigned) and "i" in kinds:
        return None
    kind = np.uint64 if any(unsigned) else np.int64
    one, two = left.astype(kind), right.astype(kind)
    upper, lower = np.maximum(one, two).view(np.uint64), np.minimum(one, two).view(np.uint64)
    return int((upper - lower).max())


def _times_power(number: float, power: int) -> float:
    try:
        return math.ldexp(number, power)
    except OverflowError:
        return math.inf


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
        parts = zip(MAP_PARTS, one.contents, two.contents, strict=False)
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
