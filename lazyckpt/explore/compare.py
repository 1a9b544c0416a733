"""The distance between two values of one shape.

Strategy: first compare the bytes, up to the first that differ, which needs no arithmetic and settles the common case.
Only values that differ are read for figures: both sides in steps of 2^17 elements, in double precision, so that memory
does not grow with the size of a value. Integers are subtracted exactly. Each sum of squares is kept with a power of two
as its scale, so that it neither overflows nor underflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyckpt.checkpoint.access import CheckpointAccess
from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import MAP, MAP_PARTS, STRING, TENSOR, Entry
from lazyckpt.reading.reader import Reader
from lazyckpt.writing.items import Content, Item, stored

STEP: Final = 2**17  # elements per step
_SAFE: Final = 300  # a double holds the sum of squares of numbers up to 2^300
_BIGGEST_INT64: Final = "u8"  # the one integer type that int64 cannot hold
AnyArray = npt.NDArray[Any]
_SMALL: Final = 2**16  # bytes; a tensor up to this size is read at once
_LONGEST_TEXT: Final = 40  # characters of a string that are shown
Types = tuple[tuple[DType | None, tuple[int, ...]], ...]  # one per array: a map has three


class Difference(NamedTuple):
    """The distance between two values.

    Attributes:
        differing: number of elements that differ. With equal dtypes, bits are compared: NaNs with the same bits are
            equal, 0.0 and -0.0 are not. With different dtypes, numbers are compared, and NaNs are equal.
        size: number of elements.
        max_abs: the largest absolute difference of two finite elements; None if there are none.
        relative_l2: the L2 norm of the difference divided by that of the first value, over elements that are finite on
            both sides; None if only the first value is zero there.
        cosine: the cosine of the angle between the two, over the same elements; None if either is zero.
        nonfinite: number of differing pairs with a NaN or an infinity.
    """

    differing: int
    size: int
    max_abs: float | int | None
    relative_l2: float | None
    cosine: float | None
    nonfinite: int


def compare(one: Content, two: Content) -> Difference | None:
    """The distance between two arrays of one shape; None if they are equal.

    Raises:
        ValueError: a file is damaged or has changed.

    Cost: reads equal values once, others up to twice, with 8 MiB of each in memory.
    """
    if one.dtype is two.dtype and same_bytes(one, two):
        return None
    sums = _Sums()
    exact = one.dtype is two.dtype
    for left, right in _paired(_arrays(one), _arrays(two)):
        sums.add(left, right, exact)
    return sums.difference() if sums.differing else None


def same_bytes(one: Content, two: Content) -> bool:
    """Whether two contents have the same bytes. Cost: reads both up to the first step that differs."""
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
    """The elements of a content, flat: packed ones are unpacked, a string gives its characters."""
    for piece in content.pieces():
        data = np.frombuffer(piece, np.uint8)
        if content.dtype is None:
            yield data.view("<u4")
        elif content.dtype.is_packed:
            yield np.stack([data & 0xF, data >> 4], axis=1).reshape(-1).view(content.dtype.numpy)
        else:
            yield data.view(content.dtype.numpy)


def _paired(one: Iterable[AnyArray], two: Iterable[AnyArray], step: int = STEP) -> Iterator[tuple[AnyArray, AnyArray]]:
    """Pieces of two iterables, cut at the same elements."""
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
    """Running sums over the elements of two values."""

    def __init__(self) -> None:
        self.differing = self._size = self._nonfinite = 0
        self._max: float | int | None = None
        self._dot, self._first, self._second, self._change = (_Total() for _ in range(4))

    def add(self, left: AnyArray, right: AnyArray, exact: bool) -> None:
        """Add the next elements of both."""
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
        """The figures of all elements so far."""
        (dot, at), (first, one), (second, two), (change, gap) = (
            total.scaled() for total in (self._dot, self._first, self._second, self._change)
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
    """A sum of scaled numbers: each is `number * 2**power`, which may be out of a double's range."""

    def __init__(self) -> None:
        self._parts: dict[int, float] = {}

    def add(self, number: float, power: int) -> None:
        if number:  # the power of a zero must not become that of the sum
            self._parts[power] = self._parts.get(power, 0.0) + number

    def scaled(self) -> tuple[float, int]:
        """The sum as a number and an even power of two."""
        top = max(self._parts, default=0)
        top += top % 2
        return sum(math.ldexp(number, power - top) for power, number in self._parts.items()), top


def _power(array: AnyArray) -> int:
    """The power of two to divide real numbers by before squaring them; 0 if their squares are in range."""
    if array.dtype.kind != "f":
        return 0
    power = math.frexp(float(np.abs(array).max()))[1]
    return power if abs(power) > _SAFE else 0


def _scaled(array: AnyArray) -> tuple[AnyArray, int]:
    power = _power(array)
    return (np.ldexp(array, -power) if power else array), power


def _dot(one: AnyArray, two: AnyArray) -> float:
    """The scalar product. Not by BLAS, whose result depends on the number of threads."""
    left = one.conj() if one.dtype.kind == "c" else one
    return float(np.einsum("i,i->", left, two).real)


def _wide(array: AnyArray) -> AnyArray:
    """The elements in double precision."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _exact_gap(left: AnyArray, right: AnyArray) -> int | None:
    """The largest difference of integers, exactly; None for other types, and for uint64 with int64."""
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


Read = tuple[Difference | None, str]  # the distance, and a note


class ComparedValue(NamedTuple):
    """One side of a comparison: the facts about a value before it is read, and ways to read it."""

    name: str
    kind: str
    types: Types
    nbytes: int
    digest: bytes
    reason: str
    item: Callable[[], Item]
    content: Callable[[], bytes] | None = None  # of a small tensor without a digest, which is compared at once
    is_of_file: bool = True
    entry: Entry | None = None  # of a value in a file

    @property
    def described(self) -> str:
        """Kind, dtype and shape as text."""
        if self.kind == TENSOR:
            return f"{self.types[0][0]} {self.types[0][1]}"
        if self.kind == MAP:
            return "map of " + ", ".join(f"{dtype} {shape}" for dtype, shape in self.types)
        return {STRING: "str"}.get(self.kind, self.kind)


class Pair(NamedTuple):
    """Two values whose contents must be read."""

    outcome: str  # the outcome if the contents do not differ: `equal`, or `dtype`
    a: ComparedValue
    b: ComparedValue


def compared_value(checkpoint: CheckpointAccess, name: str, known: Any) -> ComparedValue:
    """A value of a checkpoint, given its entry or the value in memory."""
    if isinstance(known, Entry):
        return compared_entry(checkpoint.reader, name, known)
    item = checkpoint.item(name, name)
    types = tuple((content.dtype, content.shape) for content in item.contents)
    types = ((None, ()),) if item.kind == STRING else types
    return ComparedValue(name, item.kind, types, item.nbytes, b"", "", lambda: item, is_of_file=False)


def compared_entry(payloads: Reader, name: str, entry: Entry) -> ComparedValue:
    """A value in a file."""
    types = tuple((array.dtype, array.shape) for array in entry.arrays) or ((entry.dtype, entry.shape),)
    is_small = entry.kind == TENSOR and entry.stored <= _SMALL and not entry.digest
    return ComparedValue(
        name, entry.kind, types, entry.stored, entry.digest, entry.reason, lambda: stored(name, entry, payloads),
        (lambda: payloads.copy(entry).tobytes()) if is_small else None, entry=entry,
    )  # fmt: skip


def read_task(one: Reader, two: Reader, pairs: list[tuple[str, int, int]]) -> list[Read]:
    """The task of a worker: compare pairs, each given as an outcome if equal and the ordinals in both indexes."""
    ours, theirs = one.file.index, two.file.index
    found = []
    for outcome, a, b in pairs:
        left, right = ours.at(a), theirs.at(b)
        pair = Pair(outcome, compared_entry(one, left.name, left), compared_entry(two, right.name, right))
        found.append(read(pair))
    return found


def read(pair: Pair) -> Read:
    """The distance between two values, and a note."""
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
    """Whether two values are small and have the same bytes."""
    a, b = pair.a.content, pair.b.content
    return pair.outcome == "equal" and a is not None and b is not None and a() == b()


def _text(item: Item) -> str:
    """The beginning of a string."""
    data = b"".join(bytes(piece) for piece in islice(item.contents[0].pieces(), 1))
    text = data[: 4 * (_LONGEST_TEXT + 1)].decode("utf-32-le", "replace").rstrip("\0")
    return repr(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…")
