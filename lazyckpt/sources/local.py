"""Local files: read through a memory map, or with `pread` where a map is unsafe or slow.

Strategy: the map is read-only and shared (the kernel refuses a private writable map of a file larger than memory). It
takes no memory of its own, and every reader gets views without a copy. A large copy uses `pread` even so: it maps no
pages, the system reads ahead as for any sequential read, and a file truncated meanwhile gives an error. On network file
systems a map turns each 4 KiB page into a round trip, and a truncation by another machine into a SIGBUS; there the file
is read with `pread`, and the log says so. Before a view is returned, the size of the file is compared with its size
when it was opened: a file that shrank raises an error here instead of a crash later. No reader of a memory map can
catch a file that is truncated *while* its bytes are being used.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import struct
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from operator import itemgetter
from typing import Final, NamedTuple
from zlib import crc32

from lazyckpt.errors import ChangedFile, ClosedCheckpoint, LazyCkptError
from lazyckpt.model.entry import Fingerprint
from lazyckpt.runtime import log
from lazyckpt.runtime.descriptor_pool import Descriptor, PooledFile, open_descriptor
from lazyckpt.runtime.os_errors import READ, translated
from lazyckpt.sources.base import BaseSource, BytesSource, LocalFile, Request, Source
from lazyckpt.sources.memory_map import MemoryMap
from lazyckpt.sources.origin import ReplacedFile

_MOST_AT_ONCE: Final = 2**30  # bytes of one buffer that one call fills; Linux moves at most 0x7ffff000
_SHORT: Final = 2**14  # bytes up to which a range is read into a string
_MOST_BUFFERS: Final = 512  # of one call; Linux takes 1,024
SAMPLED: Final = 4096  # bytes at each end of a file that go into its fingerprint
_HALF: Final = SAMPLED // 2
_SUMS: Final = struct.Struct("<4I")
NOT_FILES: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# File systems that fetch pages over a network or from a user process, by their names in Linux's mountinfo.
NETWORK_FILE_SYSTEMS: Final = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "virtiofs"),
        *("ceph", "lustre", "gpfs", "beegfs", "glusterfs", "orangefs", "pvfs2"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.juicefs", "fuse.glusterfs", "fuse.cephfs"),
        *("fuse.goofys", "fuse.blobfuse", "fuse.mergerfs"),
    )
)


class PreadSource(BaseSource):
    """A file read with `pread`, where a memory map is unavailable or unsafe."""

    window_limit = 2**18

    def __init__(self, file: PooledFile) -> None:
        self.name = file.path
        self.size = file.status.st_size
        self._file: PooledFile | None = file
        self._identity = (file.status.st_dev, file.status.st_ino)

    @property
    def files(self) -> tuple[LocalFile, ...]:
        """See `Source.files`."""
        return (LocalFile(self.name, self._identity),)

    def read_many(self, requests: Iterable[Request]) -> None:
        """See `Source.read_many`: ranges that touch are read by one call."""
        runs: list[tuple[int, list[memoryview]]] = []
        until = -1
        for offset, destination in sorted(requests, key=itemgetter(0)):
            size = destination.nbytes
            self._check(offset, size)
            if not size:
                continue
            if offset == until and len(runs[-1][1]) < _MOST_BUFFERS:
                runs[-1][1].append(destination)
            else:
                runs.append((offset, [destination]))
            until = offset + size
        for offset, buffers in runs:
            self._fill_all(offset, buffers)

    def close(self) -> None:
        """Release the file; it is closed after the reads in progress."""
        self._file = None

    def _fill(self, offset: int, destination: memoryview) -> None:
        self._fill_all(offset, [destination])

    def _fill_all(self, offset: int, buffers: list[memoryview]) -> None:
        """Fill buffers, one after the other, from an offset on.

        Raises:
            ChangedFile: the file is shorter than when it was opened.
            UnreadableFile: the system cannot read the bytes.
        """
        file = self._file  # another thread may close the source meanwhile
        if file is None:
            raise ClosedCheckpoint(f"{self.name} was closed")
        while buffers:
            try:
                got = file.preadv(
                    [buffers[0][:_MOST_AT_ONCE]] if buffers[0].nbytes > _MOST_AT_ONCE else buffers, offset
                )
            except LazyCkptError:  # the file was closed for another one, and cannot be opened again
                raise
            except OSError as error:
                raise translated(error, self.name, READ, f"byte {offset:,} of") from error
            if got == 0:
                raise ChangedFile(
                    f"the file ends at byte {offset:,}; it had {self.size:,} when it was opened", file=self.name
                )
            offset += got
            buffers = _rest(buffers, got)


def _rest(buffers: list[memoryview], got: int) -> list[memoryview]:
    """The buffers that are still to be filled after their first bytes were."""
    for number, buffer in enumerate(buffers):
        if got < buffer.nbytes:
            return [buffer[got:], *buffers[number + 1 :]]
        got -= buffer.nbytes
    return []


class MmapSource(PreadSource):
    """A file of which `read` gives views of a read-only memory map. Addressable.

    Whoever wants the bytes themselves gets them by `pread` (`snapshot`, `read_into`, `read_many`): when a file is
    truncated while they are read, that is an error, and not a signal.
    """

    is_addressable = True
    window = 1024  # most headers are shorter, and lie in one page

    def __init__(self, file: PooledFile, mapped: MemoryMap) -> None:
        """Take a file, and the map of all of it."""
        super().__init__(file)
        self._map: MemoryMap | None = mapped
        self._whole: memoryview | None = mapped.view

    def read(self, offset: int, length: int) -> memoryview:
        """See `Source.read`."""
        # As in the base class, but without the call of `_check`: every slice of a mapped value comes here.
        if offset < 0 or length < 0 or offset + length > self.size:
            self._check(offset, length)
        return self._view(offset, length)

    def snapshot(self, offset: int, length: int) -> memoryview:
        """See `Source.snapshot`. A short range, such as a header, costs one system call and no array."""
        if offset < 0 or length < 0 or offset + length > self.size:
            self._check(offset, length)
        file = self._file
        if length <= _SHORT and file is not None:
            try:
                data = file.pread(length, offset)
            except LazyCkptError:
                raise
            except OSError as error:
                raise translated(error, self.name, READ, f"byte {offset:,} of") from error
            if len(data) == length:
                return memoryview(data)
        return super()._view(offset, length)

    def map_private(self, offset: int, length: int) -> memoryview | None:
        """See `Source.map_private`."""
        file = self._file
        start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        try:
            if file is None or file.size() < self.size:
                return None
            held = file.descriptor()  # a reference, so that it stays open
            made = MemoryMap(held.number, offset - start + length, start, private=True)
        except (OSError, LazyCkptError):
            return None
        return made.view[offset - start :]

    def drop_pages(self, offset: int, length: int) -> None:
        """Drop the pages of the range from this process; they stay in the page cache."""
        start = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        pages = (offset + length - start) // mmap.PAGESIZE
        opened = self._map
        if opened is not None and pages > 0 and hasattr(mmap, "MADV_DONTNEED"):
            opened.madvise(mmap.MADV_DONTNEED, start, pages * mmap.PAGESIZE)

    def close(self) -> None:
        """Release the map; it is unmapped with the last view that was returned."""
        super().close()
        self._map = self._whole = None

    def advise_random(self, whether: bool) -> None:
        """See `Source.advise_random`: a read then reads its own pages, not the hundreds of KiB around them."""
        file = self._file
        if file is not None and hasattr(os, "posix_fadvise"):
            held = file.descriptor()  # a reference, so that it stays open
            with contextlib.suppress(OSError):  # it is a hint
                os.posix_fadvise(held.number, 0, 0, os.POSIX_FADV_RANDOM if whether else os.POSIX_FADV_NORMAL)

    def _view(self, offset: int, length: int) -> memoryview:
        file, whole = self._file, self._whole  # another thread may close the source meanwhile
        if file is None or whole is None:
            raise ClosedCheckpoint(f"{self.name} was closed")
        self._check_size(file)
        return whole[offset : offset + length]

    def _fill_all(self, offset: int, buffers: list[memoryview]) -> None:
        file = self._file
        super()._fill_all(offset, buffers)
        if file is not None:
            self._check_size(file)

    def _check_size(self, file: PooledFile) -> None:
        """Refuse a file that shrank, whatever bytes of it are asked for."""
        now = file.size()
        if now < self.size:
            raise ChangedFile(
                f"the file shrank from {self.size:,} to {now:,} bytes since it was opened", file=self.name
            )


class LocalOrigin(NamedTuple):
    """See `Origin`, for a local file."""

    path: str
    status: os.stat_result
    fingerprint: Fingerprint
    version: str = ""
    is_remote: bool = False

    @property
    def mode(self) -> int:
        """See `Origin.mode`."""
        return self.status.st_mode & 0o777

    def matches(self, fingerprint: Fingerprint) -> bool:
        """See `Origin.matches`."""
        return fingerprint == self.fingerprint

    def check(self) -> None:
        """See `Origin.check`."""
        now = os.stat(self.path)
        if (now.st_dev, now.st_ino) != (self.status.st_dev, self.status.st_ino):
            raise ReplacedFile(self.path)
        if (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns):
            raise ChangedFile(
                "the file changed while it was being indexed; try again when it is written", file=self.path
            )

    def walking(self) -> AbstractContextManager[object]:
        """See `Origin.walking`: reads of a map are checked by themselves."""
        return nullcontext()


class OpenLocalFile(NamedTuple):
    """A local file that is open: its bytes, its origin, and its first bytes (up to 4 KiB)."""

    source: Source
    origin: LocalOrigin
    head: bytes


def open_local(path: str, access: str = "auto") -> OpenLocalFile:
    """Open a regular file for random access.

    Args:
        path: a path; symbolic links are followed.
        access: `mmap`, `pread`, or `auto`: a map unless the file is on a network file system.

    Raises:
        MissingFile: there is no such file.
        UnreadableFile: it is not a regular file, or reading it is not permitted.

    Cost: one open, one stat, one map, and two reads of 4 KiB with `pread`: no page of the map is touched.
    """
    # Without `os_errors`: every open comes here, and seldom has an error to translate.
    try:
        held = Descriptor(open_descriptor(path))
        status = os.fstat(held.number)
        if not stat.S_ISREG(status.st_mode):
            raise _not_regular(path, status.st_mode)
        head = os.pread(held.number, SAMPLED, 0)
        last = os.pread(held.number, SAMPLED, status.st_size - SAMPLED) if status.st_size > SAMPLED else head
        origin = LocalOrigin(path, status, Fingerprint(status.st_size, status.st_mtime_ns, hash_of_ends(head, last)))
        return OpenLocalFile(_choose(origin, held, access), origin, head)
    except LazyCkptError:  # some of these are OSErrors, too
        raise
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, which cannot even be opened
            with contextlib.suppress(OSError):
                error = _not_regular(path, os.stat(path).st_mode)
        raise translated(error, path, READ, "the checkpoint file:") from error


def local_files(paths: Iterable[str]) -> list[LocalFile]:
    """The existing local files at paths; URLs are left out. Cost: a stat of each."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(path)
            found.append(LocalFile(os.path.abspath(path), (status.st_dev, status.st_ino)))
    return found


def _choose(origin: LocalOrigin, held: Descriptor, access: str) -> Source:
    path, status = origin.path, origin.status
    if status.st_size == 0:
        return BytesSource(b"", path)
    if access == "auto":
        kind = file_system_of(status.st_dev)
        if kind in NETWORK_FILE_SYSTEMS:
            log.info("%s is on %s: reading with pread, not through a memory map", path, kind)
            access = "pread"
    if access != "pread":
        try:
            mapped = MemoryMap(held.number, status.st_size)
        except OSError as error:
            if access == "mmap" or error.errno == errno.EACCES:
                raise
            log.info("%s cannot be mapped (%s): reading with pread", path, str(error))
        else:
            # As long as the map exists, no other file can have this inode: changes of size and time are of the file.
            return MmapSource(PooledFile(path, held, status, lambda *_: True), mapped)
    return PreadSource(PooledFile(path, held, status, partial(_has_ends, origin.fingerprint)))


def _has_ends(known: Fingerprint, descriptor: int, status: os.stat_result) -> bool:
    """Whether a file of another size or time has the ends of the one that was opened: it was touched, or grew."""
    if status.st_size < known.size:
        return False
    head = os.pread(descriptor, SAMPLED, 0)[: known.size]
    return (
        hash_of_ends(head, os.pread(descriptor, min(SAMPLED, known.size), max(0, known.size - SAMPLED))) == known.sample
    )


def _not_regular(path: str, mode: int) -> OSError:
    what = NOT_FILES.get(stat.S_IFMT(mode), "something else")
    code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    return OSError(code, f"it is {what}, not a file", path)


def file_system(path: str) -> str:
    """The type of a path's file system by Linux's name (`ext4`, `nfs4`); `unknown` elsewhere.

    Cost: one stat, and the first time in a process for each device one read of /proc/self/mountinfo.
    """
    try:
        return file_system_of(os.stat(path).st_dev)
    except OSError:
        return "unknown"


def file_system_of(device: int) -> str:
    """The same, for the number of a device."""
    if device not in _file_systems:
        _file_systems[device] = _mounted(f"{os.major(device)}:{os.minor(device)}")
    return _file_systems[device]


_file_systems: dict[int, str] = {}


def _mounted(device: str) -> str:
    try:
        # Where no descriptor is left, this is an error, and not an answer that would be remembered.
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", opener=open_descriptor) as mounts:
            for line in mounts:
                head, _, tail = line.partition(" - ")
                if head.split(" ", 3)[2] == device:
                    return tail.split(" ", 1)[0]
    except (OSError, IndexError):
        pass
    return "unknown"


def hash_of_ends(first: memoryview | bytes, last: memoryview | bytes) -> bytes:
    """The hash of a `sample`: the CRC-32 of each half of both ends. It detects changes, not forgery."""
    return _SUMS.pack(crc32(first[:_HALF]), crc32(first[_HALF:]), crc32(last[:_HALF]), crc32(last[_HALF:]))
