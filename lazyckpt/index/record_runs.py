"""Records of small neighbouring tensors as tensor runs, thousands at a time.

Decoding a record takes microseconds and makes five objects; to compare two records takes a few numbers and the bytes
before them. Records that begin with the same bytes, up to the last of the dims, have one dtype and one shape, and these
bytes are decoded once. All other records are decoded one by one.
"""

from __future__ import annotations

import functools
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from lazyckpt.index import Index
from lazyckpt.index.records import BadRecord, PlainStarts, decode, facts_of
from lazyckpt.model.entry import Entry
from lazyckpt.model.tensor_runs import FEWEST, LONGEST, SMALL, Common, TensorRun, common_of, tensor_run

_PLACES: Final = struct.Struct("<QQQQ")  # start, stop, offset, length; the name stands behind them
_HEAD: Final = 8  # bytes of a record that determine the offset of its name
_NOWHERE: Final = (1, 0, 0, 0)
_Key = tuple[bytes, int, int, int]  # head and dims, bytes of header and content, of the record


def tensor_runs(index: Index) -> Iterator[TensorRun | Entry]:
    """All entries of an index in file order, small neighbouring tensors in runs.

    Raises:
        StaleIndex: the index contradicts itself.

    Cost: about two microseconds for each tensor of a long run, else those of `Index.entries`; O(1) memory.
    """
    return index._tensor_runs()


def runs_in(batches: Iterable[list[bytes]]) -> Iterator[TensorRun | Entry]:
    """What records say, in their order.

    Args:
        batches: records, some thousand at a time.

    Cost: about a microsecond a record of a long run, else that of decoding it. O(1) memory.

    Raises:
        BadRecord: a record is none.
    """
    starts_of_names, unpack = PlainStarts(), _PLACES.unpack_from
    records, names, starts, groups = _nothing()
    end = -1
    for record in chain.from_iterable(batches):
        name = starts_of_names[record[:_HEAD]]
        start, stop, offset, length = unpack(record, name - _PLACES.size) if 0 < name <= len(record) else _NOWHERE
        is_small = start <= offset and offset + length == stop and stop - start <= SMALL
        if records and not (is_small and start == end and stop - starts[0] <= LONGEST):
            yield from _made(records, names, starts, end, groups)
            records, names, starts, groups = _nothing()
        if not is_small:
            yield decode(record, is_trusted=False)
            continue
        groups[record[: name - _PLACES.size], offset - start, length, len(record)].append(len(records))
        records.append(record)
        names.append(record[name:])
        starts.append(start)
        end = stop
    yield from _made(records, names, starts, end, groups)


def _nothing() -> tuple[list[bytes], list[bytes], list[int], defaultdict[_Key, list[int]]]:
    return [], [], [], defaultdict(list)


def _made(
    records: list[bytes], names: list[bytes], starts: list[int], end: int, groups: dict[_Key, list[int]]
) -> Iterator[TensorRun | Entry]:
    if len(records) < FEWEST:
        yield from map(decode, records)
        return
    try:
        yield tensor_run(names, starts, end, groups, _common, lambda number: decode(records[number], is_trusted=False))
    except UnicodeDecodeError as error:
        raise BadRecord(f"no record: {error}") from error


@functools.lru_cache(4096)
def _common(key: _Key) -> Common | None:
    facts, header, length, _ = key
    return common_of(*facts_of(facts), header, length)
