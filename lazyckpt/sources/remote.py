"""Remote objects, read by byte ranges through fsspec.

Strategy. Opening an object requests its facts (size and version: entity tag, checksum or time) and its first 64 KiB,
which are enough for the format, the encryption and the fingerprint. Headers are scanned through a window that grows
while they are close together. Values are fetched in as few ranges as possible (ranges closer than 32 KiB as one, long
ones in parts of 64 MiB), several at a time, and fetched ranges are cached within a budget of bytes.

No bytes are returned unless the object was still the same *after* they had been fetched. S3 gets requests for ranges of
the opened entity only. For all other stores the facts are requested again after each read; while an index is built,
once at the end.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, Final, NamedTuple

from lazyckpt.errors import ChangedFile, ClosedCheckpoint, MissingFile, UnreadableFile
from lazyckpt.model.entry import Fingerprint
from lazyckpt.sources.base import BaseSource, Request
from lazyckpt.sources.encryption.cipher import encryption_of
from lazyckpt.sources.local import SAMPLED, hash_of_ends
from lazyckpt.sources.paths import behind_caches, filesystem, fs_errors, redact_url
from lazyckpt.sources.ranges import RangeCache, spans

HEAD_BYTES: Final = 2**16  # fetched when an object is opened
WINDOW: Final = 2**13  # bytes fetched for one header …
WINDOW_LIMIT: Final = 2**22  # … and the maximum, while headers are close together
GAP: Final = 2**15  # bytes that cost less to fetch than another request
LONGEST: Final = 2**26  # the most bytes of one request
AT_ONCE: Final = 16  # concurrent requests, and headers predicted at once
_IN_FLIGHT: Final = 2**27  # bytes fetched and not yet copied to their destinations
# The names by which file systems report the version of an object.
_VERSIONS: Final = (
    *("ETag", "etag", "e_tag", "md5Hash", "md5", "Content-MD5", "content_md5", "Digest", "blob_id", "sha"),
    *("generation", "VersionId", "version_id", "crc32c", "CRC"),
)
_TIMES: Final = (
    "LastModified",
    "Last-Modified",
    "last_modified",
    "updated",
    "mtime",
    "modified",
    "created",
    "date_time",
)
# Protocols whose fsspec files check that the server sent the requested range, and not the whole object.
_BY_FILE: Final = frozenset(("http", "https", "s3", "s3a"))
# Protocols whose fsspec files request ranges of the entity that was opened, and of no other.
_PINNED: Final = frozenset(("s3", "s3a"))


class Facts(NamedTuple):
    """The facts of an object that its store reports.

    Attributes:
        size: bytes of the object.
        version: a text that differs between versions of the object; empty if the store reports none.
    """

    size: int
    version: str


def facts_of(info: Mapping[str, Any]) -> Facts | None:
    """The facts in fsspec's `info` of an object; None if it has no size."""
    size = info.get("size")
    if not isinstance(size, int) or isinstance(size, bool):
        return None
    key = next((key for key in (*_VERSIONS, *_TIMES) if info.get(key)), None)
    return Facts(size, "" if key is None else f"{key}={_text(info[key])}")


def _text(value: object) -> str:
    return str(value.timestamp() if isinstance(value, dt.datetime) else value)


class RemoteObject:
    """A remote object as an origin (see `origin.Origin`), with its ranges.

    Thread-safe; connects again in a forked process.

    Attributes:
        path: the URL.
        name: the URL without secrets, for messages.
        facts: the facts of the object when it was opened.
        is_pinned: whether `fetch` itself fails if the object was replaced.
    """

    mode: Final = 0o600  # the mode of its index: who may read the object is unknown

    def __init__(self, url: str) -> None:
        """Request the facts and the first bytes.

        Raises:
            MissingFile, UnreadableFile, ArgumentValueError: there is nothing to read.
        """
        self.path = url
        self.name = redact_url(url)
        self._turn = threading.Lock()
        self._walks = 0
        self.facts = self._connect()
        self.head = memoryview(self.fetch([(0, min(HEAD_BYTES, self.facts.size))])[0] if self.facts.size else b"")

    def _connect(self) -> Facts:
        self._pid = os.getpid()
        self._fs, self._inside = filesystem(self.path)
        known = self._fs.protocol
        protocols = {known} if isinstance(known, str) else set(known)
        self.is_pinned = bool(protocols & _PINNED)
        self._by_file = bool(protocols & _BY_FILE)
        self._file: Any = None
        with fs_errors(self.path):
            self._fs.invalidate_cache(self._inside)
            if self.is_pinned:
                self._file = self._fs.open(self._inside, "rb")
                facts = facts_of(self._file.details)
            else:
                facts = self._facts()
        if facts is None:
            raise UnreadableFile(f"{self.name} cannot be read: the store does not report its size")
        return facts

    def _facts(self) -> Facts | None:
        """The facts of the object now. Cost: one request."""
        store = behind_caches(self._fs)
        facts = facts_of(store.info(self._inside))
        # The store reports the object as it is now; a cache may return bytes of an older version.
        return facts if facts is None or store is self._fs else facts._replace(version="")

    is_remote = True

    @property
    def version(self) -> str:
        """See `Origin.version`."""
        return f"{self.facts.size} {self.facts.version}" if self.facts.version else ""

    @property
    def version_fingerprint(self) -> Fingerprint | None:
        """The version as a fingerprint without a sample; None if there is none."""
        return Fingerprint(self.facts.size, _number(self.facts.version), bytes(16)) if self.facts.version else None

    @property
    def fingerprint(self) -> Fingerprint:
        """See `Origin.fingerprint`: the version takes the place of the mtime."""
        return Fingerprint(self.facts.size, _number(self.facts.version), self._sample())

    def matches(self, fingerprint: Fingerprint) -> bool:
        """See `Origin.matches`: by version; or by size and sample, for the index of an uploaded file."""
        if fingerprint.size != self.facts.size:
            return False
        known = _number(self.facts.version)
        return (known != 0 and fingerprint.mtime_ns == known) or fingerprint.sample == self._sample()

    def check(self) -> None:
        """See `Origin.check`. Cost: one request."""
        self._here()
        self._fs.invalidate_cache(self._inside)
        try:
            with fs_errors(self.path):
                now = self._facts()
        except MissingFile:
            now = None
        if now != self.facts:
            raise self._changed()

    @contextmanager
    def walking(self) -> Iterator[None]:
        """See `Origin.walking`."""
        self._walks += 1
        try:
            yield
        finally:
            self._walks -= 1

    def settle(self) -> None:
        """Check after a fetch that the object is the same. While an index is built, its end does that.

        Raises:
            ChangedFile: the object was replaced, so the bytes may belong to another version.
        """
        if not self.is_pinned and not self._walks:
            self.check()

    @property
    def is_walked(self) -> bool:
        """Whether an index is being built."""
        return self._walks > 0

    def fetch(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Fetch (start, stop) ranges, none of them empty, with concurrent requests.

        Raises:
            ChangedFile: the object is gone, shorter, or (if it is pinned) replaced.
            UnreadableFile: a request failed, or the server does not support ranges.
        """
        self._here()
        try:
            with fs_errors(self.path):
                found = self._by_files(ranges) if self._by_file else self._by_ranges(ranges)
        except MissingFile:
            raise ChangedFile("the object is gone since it was opened", file=self.name) from None
        for (start, stop), data in zip(ranges, found, strict=True):
            if len(data) != stop - start:
                raise ChangedFile(
                    f"bytes {start:,} to {stop:,} were requested and {len(data):,} received: the object changed since"
                    " it was opened, or its store does not support ranges (then download it)",
                    file=self.name,
                )
        return found

    def _by_ranges(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        starts, stops = [start for start, _ in ranges], [stop for _, stop in ranges]
        found: list[bytes] = self._fs.cat_ranges([self._inside] * len(ranges), starts, stops, on_error="raise")
        return found

    def _by_files(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        if len(ranges) == 1:
            return [self._of_file(ranges[0])]
        with ThreadPoolExecutor(min(AT_ONCE, len(ranges)), thread_name_prefix="lazyckpt") as pool:
            return list(pool.map(self._of_file, ranges))

    def _of_file(self, span: tuple[int, int]) -> bytes:
        try:
            return bytes(self._file._fetch_range(*span))
        except ValueError as error:
            if "range requests" not in str(error):
                raise
            raise UnreadableFile(
                f"{self.name}: its server does not support ranges, so each value would transfer the whole file;"
                " download it and open the copy"
            ) from None
        except OSError as error:
            if type(error).__name__ == "FileExpired":
                raise self._changed() from None
            raise

    def _here(self) -> None:
        """Connect again after a fork; on first use, open the file that fetches ranges."""
        if self._pid != os.getpid():
            self._turn = threading.Lock()  # a thread that was not forked may have held it
            if self._connect() != self.facts:
                raise self._changed()
        if self._by_file and self._file is None:
            with self._turn, fs_errors(self.path):
                self._file = self._fs.open(self._inside, "rb", size=self.facts.size)

    def _changed(self) -> ChangedFile:
        return ChangedFile("the object was replaced since it was opened: open it again", file=self.name)

    def _sample(self) -> bytes:
        """The hash of both ends. Cost: one small read, unless the whole object was fetched when it was opened."""
        size = self.facts.size
        length = min(SAMPLED, size)
        last = self.head[size - length :] if size <= self.head.nbytes else self.fetch([(size - length, size)])[0]
        return hash_of_ends(self.head[:length], last)


class RemoteSource(BaseSource):
    """The bytes of a remote object as a source."""

    window = WINDOW
    window_limit = WINDOW_LIMIT
    prefetch_depth = AT_ONCE

    def __init__(self, remote: RemoteObject, budget: int) -> None:
        self.name = remote.name
        self.size = remote.facts.size
        self._remote: RemoteObject | None = remote
        self._kept = RangeCache(budget)

    @property
    def fingerprint(self) -> Fingerprint | None:
        """See `Source.fingerprint`."""
        return self._open().version_fingerprint

    def read_many(self, requests: Iterable[Request]) -> None:
        """See `Source.read_many`. Cost: up to 128 MiB of memory in addition to the destinations."""
        wanted = list(requests)
        for offset, destination in wanted:
            self._check(offset, destination.nbytes)
        missing = [request for request in wanted if request[1].nbytes and not self._from_memory(*request)]
        if not missing:
            return
        remote = self._open()
        fetched: list[tuple[int, bytes]] = []
        todo = spans([(offset, destination.nbytes) for offset, destination in missing], GAP, LONGEST)
        for group in _groups(todo):
            pieces = [(start, data) for (start, _), data in zip(group, remote.fetch(group), strict=True)]
            for offset, destination in missing:
                _fill_from(pieces, offset, destination)
            fetched += [piece for piece in pieces if self._kept.takes(len(piece[1]))]
        remote.settle()
        if not remote.is_walked:
            for start, data in fetched:
                self._kept.put(start, memoryview(data))

    def border(self, offset: int) -> int:
        """See `Source.border`: so far on that few requests are needed."""
        return (offset // LONGEST + 1) * LONGEST

    def close(self) -> None:
        """See `Source.close`."""
        self._remote = None

    def _view(self, offset: int, length: int) -> memoryview:
        known = self._known(offset, length)
        if known is not None or not length:
            return known or memoryview(b"")
        remote = self._open()
        data = memoryview(remote.fetch([(offset, offset + length)])[0])
        remote.settle()
        if not remote.is_walked:
            self._kept.put(offset, data)
        return data

    def _fill(self, offset: int, destination: memoryview) -> None:
        self.read_many([(offset, destination)])

    def _from_memory(self, offset: int, destination: memoryview) -> bool:
        known = self._known(offset, destination.nbytes)
        if known is not None:
            destination[:] = known
        return known is not None

    def _known(self, offset: int, length: int) -> memoryview | None:
        head = self._open().head
        return head[offset : offset + length] if offset + length <= head.nbytes else self._kept.get(offset, length)

    def _open(self) -> RemoteObject:
        if self._remote is None:
            raise ClosedCheckpoint(f"{self.name} was closed")
        return self._remote


def _groups(ranges: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Group ranges that are fetched together, to limit the memory in use."""
    group: list[tuple[int, int]] = []
    size = 0
    for start, stop in ranges:
        if group and size + stop - start > _IN_FLIGHT:
            yield group
            group, size = [], 0
        group.append((start, stop))
        size += stop - start
    if group:
        yield group


def _fill_from(pieces: list[tuple[int, bytes]], offset: int, destination: memoryview) -> None:
    """Copy the parts of a range that the pieces (ascending) hold into `destination`."""
    stop = offset + destination.nbytes
    number = max(0, bisect_right(pieces, offset, key=itemgetter(0)) - 1)
    for start, data in pieces[number:]:
        if start >= stop:
            break
        first, last = max(start, offset), min(start + len(data), stop)
        if first < last:
            destination[first - offset : last - offset] = memoryview(data)[first - start : last - start]


def _number(version: str) -> int:
    """A version as a number of 62 bits (it is stored in place of an mtime); 0 if there is none."""
    return int.from_bytes(hashlib.blake2b(version.encode(), digest_size=8).digest(), "little") >> 2 if version else 0


def open_remote(url: str, budget: int) -> tuple[RemoteSource, RemoteObject]:
    """Open an object for random access.

    Args:
        url: the URL.
        budget: bytes of fetched ranges to cache; an encrypted object caches none, because its decrypted blocks are
            cached instead.

    Raises:
        MissingFile, UnreadableFile, ArgumentValueError: there is nothing to read.

    Cost: two requests: the facts, and up to 64 KiB of the object.
    """
    remote = RemoteObject(url)
    is_encrypted = encryption_of(bytes(remote.head[:4])) is not None
    return RemoteSource(remote, 0 if is_encrypted else budget), remote
