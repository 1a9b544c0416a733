"""Parameter counts of an index by kind and name pattern: a million records in half a second.

Strategy: decoding a record costs microseconds, counting equal bytes costs a tenth of one. So of each plain record only
its dtype, its dims and its name are cut out, every digit of the name becomes `0`, and equal keys are counted. Each
group is decoded once. Records that are not plain (strings, maps, refused ones, values in several pieces) are
decoded each. When names are so unlike each other that groups become too many, they are cut to fewer components.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from typing import Final, NamedTuple

from lazyckpt.errors import StaleIndex
from lazyckpt.index import Index
from lazyckpt.index.records import ONE_EXTENT, WHERE_NAMES_START, BadRecord, decode
from lazyckpt.model.dtypes import BY_CODE, DType
from lazyckpt.model.entry import TENSOR, Entry

MOST_GROUPS: Final = 20_000
NUMBER: Final = "*"  # stands for the digits of a name
CUT: Final = "…"  # in place of components that were cut off
_CUTS: Final = (3, 2, 1, 0)  # components that names are cut to
_CUT_OFF: Final = CUT.encode()
_DIGITS: Final = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))

_Batches = Iterator[list[bytes]]


class Group(NamedTuple):
    """Parameters whose names differ in numbers only, and which have one kind, dtype and shape.

    Attributes:
        name: theirs, with `*` for each number; ends in `…` where it was cut.
        kind: theirs.
        dtype: of tensors, else None.
        shape: theirs; None if it is not known whether they have the same.
        amount: how many there are.
        nbytes: bytes of their values in memory, together.
    """

    name: str
    kind: str
    dtype: DType | None
    shape: tuple[int, ...] | None
    amount: int
    nbytes: int


def tally(index: Index, *, only: Container[int] | None = None, without: Container[int] = ()) -> list[Group]:
    """Count parameters by kind; names that differ only in their numbers form one group.

    Args:
        index: the index.
        only: the ordinals that count; None for all.
        without: ordinals that do not count.

    Returns:
        Groups, with exact counts and sizes in bytes.

    Raises:
        StaleIndex: the index is damaged.

    Cost: half a second for a million parameters (of a sealed index, some microseconds each).
    """
    batches = index._record_batches()
    if only is not None or without:
        batches = _chosen(batches, only, without)
    try:
        return groups_in(batches)
    except BadRecord as error:
        raise StaleIndex(
            f"the index is damaged ({error}); rebuild it (lazyckpt index --force)", file=index.path
        ) from error


def _chosen(batches: Iterable[list[bytes]], only: Container[int] | None, without: Container[int]) -> _Batches:
    ordinals = itertools.count()
    for batch in batches:
        numbered = zip(batch, ordinals, strict=False)  # the batch first: an ordinal taken in vain would be lost
        yield [record for record, number in numbered if (only is None or number in only) and number not in without]


def groups_in(batches: Iterable[list[bytes]], most: int = MOST_GROUPS) -> list[Group]:
    """Count records by their common key.

    Args:
        batches: records, some thousand at a time.
        most: groups above which names are cut.

    Returns:
        Groups in the order in which they first appear (those that are decoded one by one come last). Counts and sizes
        are exact.

    Cost: half a second for a million plain records; O(groups) memory.

    Raises:
        BadRecord: a record is none.
    """
    counts: Counter[bytes] = Counter()
    odd: dict[tuple[bytes, str, DType | None], list[int]] = {}
    cuts = iter(_CUTS)
    kept: int | None = None
    for run in batches:
        try:
            counts.update(_keys_cut_to(kept, run))
        except IndexError as error:
            raise BadRecord("a record of the wrong length") from error
        if counts.pop(b"", 0):
            for record in run:
                if not _is_plain(record):
                    _add(odd, decode(record, is_trusted=False), kept)
        while len(counts) + len(odd) > most and (kept != 0 or counts):
            if kept == 0:  # too many shapes
                _merge(odd, counts)
                counts.clear()
            else:
                kept = next(cuts)
                counts, odd = _recounted(counts, kept), _regrouped(odd, kept)
    return [*_groups(counts), *(_odd_group(key, totals) for key, totals in odd.items())]


def _keys_cut_to(kept: int | None, run: list[bytes]) -> list[bytes]:
    if kept is None:
        return _keys(run)
    if kept == 0:  # no name at all
        starts, one, cut = WHERE_NAMES_START, ONE_EXTENT, _CUT_OFF
        return [
            record[1:3] + record[8 : 8 + 8 * record[2]] + cut if record[4:8] == one and record[0] in starts else b""
            for record in run
        ]
    return [_cut_key(key, kept) for key in _keys(run)]


def _is_plain(record: bytes) -> bool:
    return record[0] in WHERE_NAMES_START and record[4:8] == ONE_EXTENT


def _keys(run: list[bytes]) -> list[bytes]:
    """`dtype u8 | ndim u8 | dims | name` of each plain record; skips others. This loop must be fast."""
    starts, one, digits = WHERE_NAMES_START, ONE_EXTENT, _DIGITS
    return [
        record[1:3]
        + record[8 : (end := 8 + 8 * record[2])]
        + record[end + starts[record[0]] + record[3] :].translate(digits)
        if record[4:8] == one and record[0] in starts
        else b""
        for record in run
    ]


def _split(key: bytes) -> tuple[bytes, bytes]:
    """What a key says before the name, and the name."""
    end = 2 + 8 * key[1] if key else 0
    return key[:end], key[end:]


def _cut(name: bytes, kept: int | None) -> bytes:
    if kept is None or name.count(b".") < kept:
        return name
    return b".".join([*name.split(b".", kept)[:kept], _CUT_OFF])


def _cut_key(key: bytes, kept: int) -> bytes:
    head, name = _split(key)
    return head + _cut(name, kept) if key else key


def _recounted(counts: Counter[bytes], kept: int) -> Counter[bytes]:
    fewer: Counter[bytes] = Counter()
    for key, count in counts.items():
        fewer[_cut_key(key, kept)] += count
    return fewer


def _add(odd: dict[tuple[bytes, str, DType | None], list[int]], entry: Entry, kept: int | None) -> None:
    name = _cut(entry.name.encode().translate(_DIGITS), kept)
    totals = odd.setdefault((name, entry.kind, entry.dtype), [0, 0])
    totals[0] += 1
    totals[1] += entry.nbytes


def _merge(odd: dict[tuple[bytes, str, DType | None], list[int]], counts: Counter[bytes]) -> None:
    """Groups by shape become groups of any shape."""
    for key, count in counts.items():
        head, name = _split(key)
        dtype = BY_CODE[head[0]]
        totals = odd.setdefault((_cut(name, 0), TENSOR, dtype), [0, 0])
        totals[0] += count
        totals[1] += count * _size(dtype, _dims(head))


def _regrouped(
    odd: dict[tuple[bytes, str, DType | None], list[int]], kept: int
) -> dict[tuple[bytes, str, DType | None], list[int]]:
    fewer: dict[tuple[bytes, str, DType | None], list[int]] = {}
    for (name, kind, dtype), (count, nbytes) in odd.items():
        totals = fewer.setdefault((_cut(name, kept), kind, dtype), [0, 0])
        totals[0] += count
        totals[1] += nbytes
    return fewer


def _groups(counts: Counter[bytes]) -> Iterable[Group]:
    same: dict[tuple[str, DType, tuple[int, ...]], int] = {}  # numbers of one digit and of two are one group
    for key, count in counts.items():
        head, name = _split(key)
        try:
            found = (_starred(name), BY_CODE[head[0]], _dims(head))
        except KeyError as error:
            raise BadRecord(f"no record: {error}") from error
        same[found] = same.get(found, 0) + count
    for (text, dtype, shape), count in same.items():
        yield Group(text, TENSOR, dtype, shape, count, count * _size(dtype, shape))


def _odd_group(key: tuple[bytes, str, DType | None], totals: list[int]) -> Group:
    return Group(_starred(key[0]), key[1], key[2], None, totals[0], totals[1])


def _starred(name: bytes) -> str:
    return re.sub("0+", NUMBER, name.decode(errors="replace"))


def _dims(head: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(head[at : at + 8], "little", signed=True) for at in range(2, len(head), 8))


def _size(dtype: DType, shape: tuple[int, ...]) -> int:
    size = dtype.itemsize
    for dim in shape:
        size *= dim
    return size
