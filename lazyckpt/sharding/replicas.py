"""Compare all copies of every slice, which no read of a single copy does."""

from __future__ import annotations

from typing import Final

from lazyckpt.errors import CorruptFile
from lazyckpt.formats.digest import digest_of
from lazyckpt.index import Index
from lazyckpt.model.entry import REFUSED, Entry
from lazyckpt.sharding.layout import ImpossibleLayout
from lazyckpt.sharding.shard_index import ShardResolver
from lazyckpt.sources import Source

_SHOWN: Final = 10  # problems in one message


def compare_copies(resolver: ShardResolver, index: Index, source: Source) -> None:
    """Compare every copy of every slice with the one that is read.

    Raises:
        CorruptFile: values cannot be assembled, or copies differ; the message lists them.

    Cost: reads all files, 1 MiB at a time.
    """
    problems = [f"{name!r}: {problem}" for name in index for problem in _problems(resolver, name, source)]
    if problems:
        more = f"; and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        raise CorruptFile("; ".join(problems[:_SHOWN]) + more, file=source.name)


def _problems(resolver: ShardResolver, name: str, source: Source) -> list[str]:
    entry = resolver.entry(name)
    if entry.kind == REFUSED:
        return [entry.reason]
    try:
        copies = resolver.copies(name)
    except ImpossibleLayout as error:
        return [str(error)]
    found = []
    for held in copies:
        if len(held) > 1:
            (first, model), *others = held
            expected = digest_of(source, model)
            found += [
                f"its copies on ranks {first} and {rank} differ in {what}"
                for rank, other in others
                if (what := _difference(model, other, expected, source))
            ]
    return found


def _difference(model: Entry, other: Entry, expected: bytes, source: Source) -> str:
    if (model.kind, model.dtype) != (other.kind, other.dtype):
        return "dtype"
    if model.shape != other.shape:
        return "shape"
    return "" if digest_of(source, other) == expected else "value"
