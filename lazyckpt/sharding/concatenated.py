"""Several files as one: their concatenated indexes, and their format over the whole."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice

from lazyckpt.errors import StaleIndex
from lazyckpt.formats import Format
from lazyckpt.formats.protobuf_wire import Buffer
from lazyckpt.index import Index
from lazyckpt.index.records import encode
from lazyckpt.model.entry import REFUSED, Entry, Extent, Fingerprint, Found, moved
from lazyckpt.sources.base import Source
from lazyckpt.sources.concatenated import ConcatenatedSource
from lazyckpt.sources.window import SparseBuffer


class ConcatenatedIndex(Index):
    """A read-only mapping name -> Entry: the entries of all parts, with offsets in the whole.

    If several parts have a name, the first part is used, unless `homes` gives another.
    """

    def __init__(self, parts: Sequence[Index], bases: Sequence[int], homes: Mapping[str, int] | None = None) -> None:
        """Concatenate indexes.

        Args:
            parts: one or more indexes.
            bases: the offset of each part in the whole.
            homes: name -> number of the only part to look it up in; other names are looked up in all.
        """
        self._parts = tuple(parts)
        self._bases = tuple(bases)
        self._homes = homes or {}
        self._firsts = (0, *accumulate(map(len, parts)))

    @property
    def path(self) -> None:
        """None: each part has an index of its own."""
        return None

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all files together."""
        return combined_fingerprint([part.fingerprint for part in self._parts])

    @property
    def has_digests(self) -> bool:
        """Whether every entry carries a digest of its content."""
        return all(part.has_digests for part in self._parts)

    def __len__(self) -> int:
        return self._firsts[-1]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)

    def __repr__(self) -> str:
        return f"<Index of {len(self):,} parameters in {len(self._parts):,} files>"

    def entries(self) -> Iterator[Entry]:
        """See `Index.entries`."""
        for part, base in zip(self._parts, self._bases, strict=True):
            for entry in part.entries():
                yield moved(entry, base)

    def position(self, name: str) -> int | None:
        """See `Index.position`."""
        home = self._homes.get(name)
        for number in range(len(self._parts)) if home is None else (home,):
            found = self._parts[number].position(name)
            if found is not None:
                return self._firsts[number] + found
        return None

    def at(self, position: int, name: str | None = None) -> Entry:
        """See `Index.at`."""
        number = bisect_right(self._firsts, position) - 1
        return moved(self._parts[number].at(position - self._firsts[number], name), self._bases[number])

    def with_prefix(self, prefix: str) -> list[tuple[str, int]]:
        """See `Index.with_prefix`."""
        return [
            (name, first + ordinal)
            for part, first in zip(self._parts, self._firsts, strict=False)
            for name, ordinal in part.with_prefix(prefix)
        ]

    def _some_with_prefix(self, prefix: str, most: int) -> list[str]:
        """See `Index._some_with_prefix`."""
        return list(islice(chain.from_iterable(part._some_with_prefix(prefix, most) for part in self._parts), most))

    def close(self) -> None:
        """See `Index.close`."""
        for part in self._parts:
            part.close()

    def _corrected(self, entry: Entry, error: StaleIndex) -> Entry:
        number = bisect_right(self._bases, entry.start) - 1
        base = self._bases[number]
        return moved(self._parts[number]._corrected(moved(entry, -base), error), base)

    def _record_batches(self) -> Iterator[list[bytes]]:
        return chain.from_iterable(part._record_batches() for part in self._parts)  # offsets are relative to each file

    def _irregular(self) -> Iterator[tuple[int, Entry]]:
        for part, base, first in zip(self._parts, self._bases, self._firsts, strict=False):
            for ordinal, entry in part._irregular():
                yield first + ordinal, moved(entry, base)


class RefusedNames(Index):
    """A read-only mapping name -> refused Entry, which has a reason and no bytes: a part for what no file holds."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        """Take the reason of each name."""
        self._entries = [Entry(name, REFUSED, None, (), (), 0, 0, reason=reason) for name, reason in reasons.items()]
        self._ordinals = {name: ordinal for ordinal, name in enumerate(reasons)}

    @property
    def path(self) -> None:
        """None: it is of no file."""
        return None

    @property
    def fingerprint(self) -> Fingerprint:
        """That of nothing."""
        return Fingerprint(0, 0, bytes(16))

    @property
    def has_digests(self) -> bool:
        """True: no value lacks one."""
        return True

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ordinals)

    def entries(self) -> Iterator[Entry]:
        """See `Index.entries`."""
        return iter(self._entries)

    def position(self, name: str) -> int | None:
        """See `Index.position`."""
        return self._ordinals.get(name)

    def at(self, position: int, name: str | None = None) -> Entry:  # noqa: ARG002 (an ordinal leads to its own name)
        """See `Index.at`."""
        return self._entries[position]

    def with_prefix(self, prefix: str) -> list[tuple[str, int]]:
        """See `Index.with_prefix`."""
        return [(name, ordinal) for name, ordinal in self._ordinals.items() if name.startswith(prefix)]

    def close(self) -> None:
        """See `Index.close`: nothing is open."""

    def _record_batches(self) -> Iterator[list[bytes]]:
        yield [encode(entry, entry.name.encode()) for entry in self._entries]

    def _irregular(self) -> Iterator[tuple[int, Entry]]:
        return enumerate(self._entries)


def combined_fingerprint(fingerprints: Sequence[Fingerprint]) -> Fingerprint:
    """The fingerprint of several files together."""
    import hashlib

    sample = hashlib.blake2b(repr(list(map(tuple, fingerprints))).encode(), digest_size=16).digest()
    latest = max((each.mtime_ns for each in fingerprints), default=0)
    return Fingerprint(sum(each.size for each in fingerprints), latest, sample)


def concatenated_format(form: Format, source: ConcatenatedSource) -> Format:
    """A format for the concatenation of parts, which finds the part of each entry by its offset.

    The metadata are those of all parts (where they differ, of the last), the checksums those of the first part whose
    stored checksum is wrong.
    """

    def base_of(entry: Entry) -> int:
        return source.bases[source.part_at(entry.start)]

    def verify_header(_: Source, entry: Entry) -> None:
        number = source.part_at(entry.start)
        form.verify_header(source.parts[number], moved(entry, -source.bases[number]))

    def header_extents(entry: Entry) -> list[Extent]:
        base = base_of(entry)
        return [Extent(offset + base, length) for offset, length in form.header_extents(moved(entry, -base))]

    def verify_header_in(buffer: Buffer, entry: Entry) -> None:
        base = base_of(entry)
        if not isinstance(buffer, SparseBuffer):
            raise TypeError("the bytes of one header are needed, not a whole source")
        form.verify_header_in(buffer.moved(-base), moved(entry, -base))

    def metadata(_: Source) -> dict[str, str]:
        return {name: text for part in source.parts for name, text in form.metadata(part).items()}

    def checksums(_: Source) -> tuple[int | None, int]:
        stored: int | None = None
        computed = 0
        for part in source.parts:
            stored, computed = form.checksums(part)
            if stored is not None and stored != computed:
                break
        return stored, computed

    def find(_: Source) -> Iterator[Found]:
        raise TypeError("parts are indexed one by one")

    return form._replace(
        find=find,
        verify_header=verify_header,
        header_extents=header_extents,
        verify_header_in=verify_header_in,
        metadata=metadata,
        checksums=checksums,
    )
