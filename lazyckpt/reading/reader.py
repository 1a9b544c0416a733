"""Readers: from an entry to its value.

A tensor in one piece of an addressable source is a view of it. Every other value is a `PendingRead`: an array for the
value, the requests that fill it straight from the source, and the check to run when they are filled. The header's bytes
are among the requests, so that a block is decrypted, or a range fetched, once. No value is returned before its header,
as it stands in the file now, has given the same entry again. A slice requests the runs of bytes that it needs, and no
others (gaps of less than 4 KiB are read with them, see `ranges.coalesce`), in the memory of the answer and of one block
(see `gathering`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import Any, Final

import numpy as np

from lazyckpt.errors import CorruptFile
from lazyckpt.formats.digest import Digesting
from lazyckpt.index.open_file import OpenFile
from lazyckpt.model.entry import REFUSED, STRING, Entry, is_plain
from lazyckpt.model.tensor_runs import TensorRun, UniformGroup, neighbours, run_of
from lazyckpt.reading.allocation import AnyArray, aligned, copied, shared
from lazyckpt.reading.copying import LONGEST_HEADER, bytes_at, copy_in_one_piece, is_basic
from lazyckpt.reading.decoding import bytes_of, dtype_of, elements, text_of, validate_bounds
from lazyckpt.reading.extent_map import ExtentMap
from lazyckpt.reading.gathering import fill_planned
from lazyckpt.reading.handles import reduced
from lazyckpt.reading.requests import HeaderCheck, PendingRead, requests_for, samples_of
from lazyckpt.reading.slicing import Key, Plan, plan
from lazyckpt.reading.view_cache import ViewCache
from lazyckpt.sources.base import LocalFile, Request
from lazyckpt.sources.window import SparseBuffer

PIECE: Final = 2**23  # bytes of a large value that are looked at together when it is passed over
_WORTH_A_MAP: Final = 2**20  # bytes of a value from which a map of its own is cheaper than a copy

Proven = tuple[list[tuple[UniformGroup, AnyArray]], dict[int, Entry]]


class Reader(ABC):
    """Reads the values of one checkpoint, given their entries.

    Safe for many threads. Pickled as the way in which the file was opened (see `handles`).

    Attributes:
        file: the open file.
        is_lent: whether it came out of a pickle, and shares its open file with others.
    """

    is_lent = False

    def __init__(self, file: OpenFile) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Reader:
        return self  # nothing in it changes

    @property
    def files(self) -> tuple[LocalFile, ...]:
        """The files of this machine that values are read from. Reads nothing."""
        return self.file.source.files

    @abstractmethod
    def view(self, entry: Entry) -> AnyArray:
        """A tensor's values: a read-only view where there is one, else a new array.

        Raises:
            StaleIndex: the file does not have this entry.
            ChangedFile: the file shrank.
            DamagedBlock: a block of an encrypted file does not authenticate.
        """

    @abstractmethod
    def copy(self, entry: Entry) -> AnyArray:
        """A tensor's values in an aligned, writable array of their own. Raises as `view` does."""

    @abstractmethod
    def fill(self, entry: Entry, target: AnyArray) -> bool:
        """Read a tensor directly into an array of its shape and dtype, if no conversion is needed.

        Returns:
            Whether it was done: only of a value in one piece of an addressable source, with no digest to be compared.

        Raises:
            StaleIndex: as for `view`; the target is as it was.
            ChangedFile: the file shrank; the target may be filled in part.
        """

    @abstractmethod
    def writable(self, entry: Entry) -> AnyArray:
        """A tensor's values in private writable memory: a copy-on-write map of its pages, or a copy."""

    @abstractmethod
    def part(self, entry: Entry, key: Key) -> Any:
        """`view(entry)[key]`, at the cost of the bytes that the answer needs."""

    @abstractmethod
    def value(self, entry: Entry) -> AnyArray | str | list[AnyArray]:
        """The value of an entry of any kind, in memory of its own.

        Raises:
            CorruptFile: a string is not UTF-32.
        """

    @abstractmethod
    def values(self, entries: list[Entry]) -> list[AnyArray | str | list[AnyArray]]:
        """The values of several entries, with one read of the source (one visit per encrypted block)."""

    def pieces(self, entry: Entry, size: int = PIECE, first: int = 0, count: int | None = None) -> Iterator[AnyArray]:
        """The values of a tensor or string in C order, in pieces, for one pass over a large value.

        Args:
            entry: of a tensor, or of a string (whose pieces are bytes).
            size: bytes of a piece in the file, at most.
            first: the number of the first piece.
            count: how many; None for all from there on.

        Yields:
            Flat arrays, read-only or of their own.

        Raises, Cost: as `stored`.
        """
        stored = self.stored(entry, size, first, count)
        return (elements(entry, np.frombuffer(data, np.uint8)) for data in stored)

    @abstractmethod
    def piece_count(self, entry: Entry, size: int = PIECE) -> int:
        """How many pieces there are."""

    @abstractmethod
    def stored(self, entry: Entry, size: int = PIECE, first: int = 0, count: int | None = None) -> Iterator[memoryview]:
        """The stored bytes of a tensor or string, in pieces; arguments as for `pieces`.

        The header is proven before the first piece. If the index has a digest of the content, and all of it is asked
        for, damage is raised after the last piece: what was made of the pieces must not be kept then.

        Yields:
            Whole elements each. Pages of a mapped file leave this process's memory when the next piece is asked for.

        Raises:
            StaleIndex, ChangedFile, DamagedBlock: as for `view`.
            CorruptFile: the content is not the one that was indexed.
        """

    @abstractmethod
    def stored_at(self, entry: Entry, start: int, length: int) -> memoryview:
        """Bytes of a value as they are stored, in whatever extents. Its header must have been proven."""

    @abstractmethod
    def read_run(self, tensor_run: TensorRun) -> list[Any]:
        """The values of a run of an addressable source, each in an aligned, writable array.

        Raises:
            StaleIndex, ChangedFile: as for `view`.
        """

    @abstractmethod
    def proven(self, tensor_run: TensorRun) -> Proven:
        """The groups of a run of an addressable source that can be proven at once.

        Returns:
            Groups, each with its values as one array of shape (count, *shape) in memory of its own; and the entries
            of all other tensors by their numbers in the run, which are not verified yet.

        Raises:
            ChangedFile: the file shrank.
        """

    @abstractmethod
    def drop_pages(self, tensor_run: TensorRun) -> None:
        """Let the pages of a run leave this process's memory."""

    @abstractmethod
    def prove(self, entries: list[Entry]) -> None:
        """Make sure that the file has entries where the index says, with one read of the source. Reads headers only.

        Pages of a mapped file leave this process's memory again.

        Raises:
            StaleIndex: it does not.
        """

    @abstractmethod
    def samples(self, entries: list[Entry]) -> list[bytes]:
        """Bytes of each content at the same positions, with one read of the source: at most 4,352 of each.

        What the index says of a content, such as its digest, holds only if the file is the one that was indexed. A file
        that was changed in place, and has its old time again, is noticed by its headers or by these bytes.

        Raises:
            StaleIndex, ChangedFile, DamagedBlock: as for `view`.
        """

    @abstractmethod
    def boxes(self, entry: Entry) -> tuple[tuple[tuple[int, ...], Entry], ...]:
        """The parts that a value is made of: where each begins in the whole, and its entry."""

    def metadata(self) -> Mapping[str, str]:
        """The file's own metadata. Cost: reads a safetensors file's header again."""
        return self.file.format.metadata(self.file.source)

    @property
    def is_addressable(self) -> bool:
        """Whether reading one value never costs work that reading its neighbour would share."""
        return self.file.source.is_addressable


class FileReader(Reader):
    """Reads values that each lie in one file."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        self._source = file.source
        self._form = file.format

    @cached_property
    def _views(self) -> ViewCache:
        return ViewCache(self._source)

    def view(self, entry: Entry) -> AnyArray:
        """See `Reader.view`."""
        if not self._is_view(entry):
            return self.copy(entry)
        self._form.verify_header(self._source, entry)
        return _array_over(self._source.read(*entry.extents[0]), entry)

    def copy(self, entry: Entry) -> AnyArray:
        """See `Reader.copy`."""
        if entry.dtype is not None and not entry.digest and self._is_view(entry):
            validate_bounds(entry, self._source)
            return copy_in_one_piece(self._source, self._form, entry)
        made: AnyArray = self._run(self._tensor(entry))
        return made

    def fill(self, entry: Entry, target: AnyArray) -> bool:
        """See `Reader.fill`."""
        if entry.dtype is None or entry.digest or not self._is_view(entry):
            return False
        validate_bounds(entry, self._source)
        self._form.verify_header(self._source, entry)
        self._source.read_into(entry.extents[0].offset, bytes_of(target))
        return True

    def writable(self, entry: Entry) -> AnyArray:
        """See `Reader.writable`."""
        if entry.nbytes >= _WORTH_A_MAP and self._is_view(entry):
            self._form.verify_header(self._source, entry)
            data = self._source.map_private(*entry.extents[0])
            if data is not None:
                return _array_over(data, entry)
        return self.copy(entry)

    def part(self, entry: Entry, key: Key) -> Any:
        """See `Reader.part`: of a map a view, if numpy gives one; everything else is read."""
        if not self._source.window or is_basic(key):
            again = self._views.again(entry)
            if again is not None:
                return again[key]
            if self._is_view(entry):
                return self._views.first(entry, partial(FileReader.view, self))[key]  # a subclass may view another
        dtype = dtype_of(entry)
        if not entry.extents or (dtype.is_packed and not is_plain(entry)):
            return self.view(entry)[key]
        validate_bounds(entry, self._source)
        planned = plan(entry.shape, dtype.itemsize if is_plain(entry) else 4, key)  # bfloat16 kept as float32
        if planned is None:
            return self.copy(entry)[key]
        return self._part(entry, planned)

    def value(self, entry: Entry) -> AnyArray | str | list[AnyArray]:
        """See `Reader.value`."""
        if entry.dtype is not None:
            return self.copy(entry)
        made: AnyArray | str | list[AnyArray] = self._run(self._fetch(entry))
        return made

    def piece_count(self, entry: Entry, size: int = PIECE) -> int:
        """See `Reader.piece_count`."""
        return -(-entry.stored // _whole(size))

    def stored(self, entry: Entry, size: int = PIECE, first: int = 0, count: int | None = None) -> Iterator[memoryview]:
        """See `Reader.stored`."""
        validate_bounds(entry, self._source)
        self._form.verify_header(self._source, entry)
        step = _whole(size)
        stop = entry.stored if count is None else min(entry.stored, (first + count) * step)
        is_all = first == 0 and stop == entry.stored
        check = Digesting(entry if is_all else entry._replace(digest=b""), self._source.name)
        extents = ExtentMap(entry.extents)
        for done in range(first * step, stop, step):
            data = self._stored_at(extents, entry, done, min(step, stop - done))
            check.update(data)
            yield data
            for offset, request in extents.requests(done, data):
                self._source.drop_pages(offset, request.nbytes)
        check.finish()

    def stored_at(self, entry: Entry, start: int, length: int) -> memoryview:
        """See `Reader.stored_at`."""
        return self._stored_at(ExtentMap(entry.extents), entry, start, length)

    def _stored_at(self, extents: ExtentMap, entry: Entry, start: int, length: int) -> memoryview:
        if self._source.is_addressable and len(entry.extents) == 1:
            return bytes_at(self._source, entry.extents[0].offset + start, length)
        data = np.empty(length, np.uint8).data
        self._source.read_many(extents.requests(start, data))
        return data

    def values(self, entries: list[Entry]) -> list[AnyArray | str | list[AnyArray]]:
        """See `Reader.values`."""
        groups = neighbours(entries)
        if self._source.is_addressable:
            return [value for group in groups for value in self._at_hand(group)]
        fetches = [self._fetch(group[0]).alone() if len(group) == 1 else self._together(group) for group in groups]
        self._source.read_many([request for fetch in fetches for request in fetch.requests])
        return [value for fetch in fetches for value in fetch.finish()]

    def read_run(self, tensor_run: TensorRun) -> list[Any]:
        """See `Reader.read_run`."""
        return self._cut(tensor_run, bytes_at(self._source, tensor_run.start, tensor_run.stop - tensor_run.start))

    def proven(self, tensor_run: TensorRun) -> Proven:
        """See `Reader.proven`."""
        return self._proven(tensor_run, bytes_at(self._source, tensor_run.start, tensor_run.stop - tensor_run.start))

    def drop_pages(self, tensor_run: TensorRun) -> None:
        """See `Reader.drop_pages`."""
        self._source.drop_pages(tensor_run.start, tensor_run.stop - tensor_run.start)

    def prove(self, entries: list[Entry]) -> None:
        """See `Reader.prove`."""
        proofs = [self._header_check(entry) for entry in entries]
        self._source.read_many([request for proof in proofs for request in proof.requests])
        for proof in proofs:
            proof.check()
        if entries:
            start = min(entry.start for entry in entries)
            self._source.drop_pages(start, max(entry.stop for entry in entries) - start)

    def samples(self, entries: list[Entry]) -> list[bytes]:
        """See `Reader.samples`."""
        fetches = [self._sample(entry) for entry in entries]
        self._source.read_many([request for fetch in fetches for request in fetch.requests])
        return [fetch.finish() for fetch in fetches]

    def boxes(self, entry: Entry) -> tuple[tuple[tuple[int, ...], Entry], ...]:
        """See `Reader.boxes`: here always one."""
        return (((0,) * len(entry.shape), entry),)

    def _run(self, fetch: PendingRead) -> Any:
        self._source.read_many(fetch.requests)
        return fetch.finish()

    def _is_view(self, entry: Entry) -> bool:
        return self._source.is_addressable and len(entry.extents) == 1 and is_plain(entry)

    def _fetch(self, entry: Entry) -> PendingRead:
        if entry.kind == STRING:
            return self._string(entry)
        if entry.kind == REFUSED:
            offset = entry.start if entry.stop else None  # a name that is in no file has no place
            raise CorruptFile(entry.reason, offset=offset, parameter=entry.name, file=self._source.name)
        return self._tensor(entry) if entry.dtype is not None else self._arrays(entry)

    def _tensor(self, entry: Entry) -> PendingRead:
        dtype = dtype_of(entry)
        proof = self._header_check(entry)
        if not entry.extents:  # an empty tensor
            return proof.then([], lambda: np.empty(entry.shape, dtype.numpy))
        if not is_plain(entry):
            data = np.empty(entry.stored, np.uint8)

            def converted() -> AnyArray:
                made = aligned(entry.shape, dtype)
                made.reshape(-1)[:] = elements(entry, data)
                return made

            return proof.then(requests_for(entry.extents, data), converted)
        made = aligned(entry.shape, dtype)
        return proof.then(requests_for(entry.extents, made), lambda: made)

    def _together(self, group: list[Entry]) -> PendingRead:
        """A read of neighbours (see `neighbours`) as one run; `finish` gives their values as a list.

        Ten objects for each of many values would cost the garbage collector more than the values take to read.
        """
        run = np.empty(group[-1].stop - group[0].start, np.uint8).data
        return PendingRead([(group[0].start, run)], lambda: self._cut(run_of(group), run))

    def _at_hand(self, group: list[Entry]) -> list[Any]:
        """The same of an addressable source. Large values are read, which in bulk beats copying them from a map."""
        if len(group) == 1:
            entry = group[0]
            return [self.value(entry)]
        return self.read_run(run_of(group))

    def _cut(self, tensor_run: TensorRun, run: memoryview) -> list[Any]:
        """The values of a run whose bytes were read."""
        patch = SparseBuffer([(tensor_run.start, run)])
        made: list[Any] = [None] * len(tensor_run.names)
        groups, others = self._proven(tensor_run, run)
        for uniform, values in groups:
            for number, value in zip(uniform.numbers, shared(values), strict=True):
                made[number] = value
        for number, entry in others.items():
            self._form.verify_header_in(patch, entry)
            offset, length = entry.extents[0].offset - tensor_run.start, entry.extents[0].length
            made[number] = copied(entry.shape, dtype_of(entry), run[offset : offset + length])
        return made

    def _proven(self, tensor_run: TensorRun, run: memoryview) -> Proven:
        """See `proven`; the bytes were read."""
        groups, others, matches_uniform = (
            list[tuple[UniformGroup, AnyArray]](),
            dict(tensor_run.others),
            self._form.matches_uniform,
        )
        for uniform in tensor_run.groups:
            is_proven = matches_uniform is not None and matches_uniform(run, tensor_run.start, uniform)
            values = uniform.contents(run, tensor_run.start) if is_proven else None
            if values is None:
                others |= uniform.entries()
            else:
                groups.append((uniform, values))
        return groups, others

    def _arrays(self, entry: Entry) -> PendingRead:
        """Keys, values and status of a map."""
        proof = self._header_check(entry)
        made = [aligned(array.shape, array.dtype) for array in entry.arrays]
        requests = [
            request
            for array, target in zip(entry.arrays, made, strict=True)
            for request in requests_for(array.extents, target)
        ]
        return proof.then(requests, lambda: made)

    def _string(self, entry: Entry) -> PendingRead:
        proof = self._header_check(entry)
        data = np.empty(entry.stored, np.uint8)
        return proof.then(requests_for(entry.extents, data), lambda: text_of(entry, data.tobytes(), self._source.name))

    def _sample(self, entry: Entry) -> PendingRead:
        proof = self._header_check(entry)
        ranges = samples_of(sum(extent.length for extent in entry.all_extents))
        data = memoryview(bytearray(sum(length for _, length in ranges)))
        extents, requests, done = ExtentMap(entry.all_extents), list[Request](), 0
        for start, length in ranges:
            requests += extents.requests(start, data[done : done + length])
            done += length
        return proof.then(requests, data.tobytes, whole=False)

    def _part(self, entry: Entry, planned: Plan) -> Any:
        """The planned part of a value whose elements have whole bytes."""
        proof = self._header_check(entry)
        answer = np.empty(planned.shape, dtype_of(entry).numpy if is_plain(entry) else "<f4")
        fill_planned(self._source, proof.requests, ExtentMap(entry.extents), planned, answer)
        proof.check()
        answer = elements(entry, answer.reshape(-1).view(np.uint8)).reshape(planned.shape)
        return answer[()] if planned.is_scalar else answer

    def _header_check(self, entry: Entry) -> HeaderCheck:
        """How to prove an entry, before anything is made for it.

        Raises:
            StaleIndex: it contradicts itself or the file's size.
        """
        validate_bounds(entry, self._source)
        gaps = self._form.header_extents(entry) if self._source.window else ()
        if not gaps or sum(gap.length for gap in gaps) > LONGEST_HEADER:
            self._form.verify_header(self._source, entry)
            return HeaderCheck(entry, self._source.name, [], lambda: None)
        pieces = [(gap.offset, memoryview(bytearray(gap.length))) for gap in gaps]
        return HeaderCheck(
            entry, self._source.name, list(pieces), lambda: self._form.verify_header_in(SparseBuffer(pieces), entry)
        )


def _array_over(content: memoryview, entry: Entry) -> AnyArray:
    """The array of a tensor over its bytes, which are not copied."""
    dtype = entry.dtype
    if dtype is None:
        raise TypeError(f"{entry.name!r} is a {entry.kind}, not a tensor")
    made: AnyArray = np.ndarray(entry.shape, dtype.numpy, content)
    return made


def _whole(size: int) -> int:
    """The bytes of a piece: of whole elements, of any dtype."""
    return max(1, size // 8) * 8
