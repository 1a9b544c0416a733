"""Sinks for a stream of bytes: a plain file, or a file of encrypted blocks.

A sink counts bytes (`position`), computes a crc32 if requested, and holds at most one piece in memory. An encrypted
block is written while it is being encrypted; its header, which needs the tag and the length, is filled in when the
block is full.
"""

from __future__ import annotations

import os
import zlib
from typing import Any, BinaryIO, Final, Protocol

from lazyckpt.sources.encryption.cipher import BLOCK, CipherKey
from lazyckpt.sources.encryption.frames import FRAME_PLAINTEXT, Frame, header_of, header_size

_TAIL: Final = 32  # bytes in `tail`
_STEP: Final = 2**20  # bytes encrypted at once


class Sink(Protocol):
    """The protocol of a sink.

    Attributes:
        position: bytes written so far.
        crc: their crc32 if requested, else 0.
        tail: the last bytes written.
    """

    position: int
    crc: int
    tail: bytes

    def write(self, data: bytes | memoryview) -> None:
        """Write some bytes."""

    def finish(self) -> None:
        """Write the buffered rest; nothing may be written after it."""


class PlainSink:
    """A plain file."""

    def __init__(self, file: BinaryIO, *, crc: bool = False) -> None:
        self.position = 0
        self.crc = 0
        self.tail = b""
        self._file = file
        self._sums = crc

    def write(self, data: bytes | memoryview) -> None:
        """See `Sink.write`."""
        self._file.write(data)
        self.position += len(data)
        self.tail = _last(self.tail, data)
        if self._sums:
            self.crc = zlib.crc32(data, self.crc)

    def finish(self) -> None:
        """See `Sink.finish`."""


class EncryptingSink:
    """A file of encrypted blocks.

    Attributes:
        frames: the finished blocks.
    """

    def __init__(self, file: BinaryIO, lock: CipherKey, frame_size: int | None = None) -> None:
        self.position = 0
        self.crc = 0
        self.tail = b""
        self.frames: list[Frame] = []
        self._file = file
        self._lock = lock
        self._size = frame_size or FRAME_PLAINTEXT
        self._frame: _Frame | None = None

    def write(self, data: bytes | memoryview) -> None:
        """See `Sink.write`."""
        data = memoryview(data)
        self.tail = _last(self.tail, data)
        done = 0
        while done < data.nbytes:
            if self._frame is None:
                self._frame = _Frame(self._file, self._lock, self.position)
            count = min(data.nbytes - done, self._size - self._frame.length, _STEP)
            self._frame.write(data[done : done + count])
            self.position += count
            done += count
            if self._frame.length == self._size:
                self.finish()

    def finish(self) -> None:
        """See `Sink.finish`."""
        if self._frame is not None:
            self.frames.append(self._frame.finish())
            self._frame = None


def _last(before: bytes, data: bytes | memoryview) -> bytes:
    """The new tail, after some bytes were added."""
    return bytes(data[-_TAIL:]) if len(data) >= _TAIL else (before + bytes(data))[-_TAIL:]


class _Frame:
    """A block that is being written."""

    def __init__(self, file: BinaryIO, lock: CipherKey, plain: int) -> None:
        self.length = 0
        self._file = file
        self._mode = lock.mode
        self._plain = plain
        self._iv = os.urandom(16)
        self._cipher: Any = lock.encryptor(self._iv)  # of GCM, one with a tag
        self._offset = file.tell() + header_size(lock.mode)
        file.write(bytes(header_size(lock.mode)))

    def write(self, data: memoryview) -> None:
        self._file.write(self._cipher.update(data))
        self.length += data.nbytes

    def finish(self) -> Frame:
        stored = self.length
        if not self._mode.tagged:
            missing = BLOCK - self.length % BLOCK  # PKCS#7: always at least one byte
            self._file.write(self._cipher.update(bytes((missing,)) * missing))
            stored += missing
        self._file.write(self._cipher.finalize())
        tag = self._cipher.tag if self._mode.tagged else bytes(16)
        frame = Frame(self._plain, self.length, self._offset, stored, self._iv, tag)
        end = self._file.tell()
        self._file.seek(self._offset - header_size(self._mode))
        self._file.write(header_of(self._mode, frame))
        self._file.seek(end)
        return frame
