"""The framing of an encrypted checkpoint: independent blocks of up to 64 MiB of plaintext.

    frame = magic       4 bytes
           [tag        16 bytes, GCM only]
            block_len  i32   = 4 + 16 + 4 + cipher_len
            iv_len     i32   = 16
            iv         16 bytes
            cipher_len i32   > 0
            ciphertext cipher_len bytes

All numbers are little-endian. `read_frame_headers` reads the headers without the ciphertexts, checks each against the
size of the file and the limits, and returns a `FrameTable` with the location of every block. A file saved with
`crc_check` has a 17-byte trailer in clear after its last frame, which is skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyckpt.errors import CorruptFile, TruncatedFile
from lazyckpt.sources.base import Source
from lazyckpt.sources.encryption.cipher import BLOCK, Mode
from lazyckpt.sources.zeros import FEWEST, unfinished, zeros_begin

FRAME_PLAINTEXT: Final = 64 * 2**20  # MindSpore's MAX_BLOCK_SIZE
LONGEST_BLOCK: Final = FRAME_PLAINTEXT + 50  # the largest block_len that MindSpore's reader accepts
_NUMBER: Final = 4  # bytes of the last number of a header, which cannot be 0
_CLEAR_TRAILER: Final = b"crc_num"
_CLEAR_TRAILER_SIZE: Final = 17
_HEADERS: Final = {True: struct.Struct("<4s16sii16si"), False: struct.Struct("<4s0sii16si")}
_ROW: Final = np.dtype(
    [("plain", "<u8"), ("length", "<u8"), ("offset", "<u8"), ("stored", "<u8"), ("iv", "V16"), ("tag", "V16")]
)


_Row = tuple[int, int, int, int, bytes, bytes]


class Frame(NamedTuple):
    """One encrypted block.

    Attributes:
        plain: offset of its first byte in the plaintext.
        length: bytes of plaintext.
        offset: offset of the ciphertext in the file.
        stored: bytes of ciphertext.
        iv: the 16 bytes of the iv.
        tag: the authentication tag of a GCM block; zeros for CBC.
    """

    plain: int
    length: int
    offset: int
    stored: int
    iv: bytes
    tag: bytes


class FrameTable:
    """The frames of a file, in order. Immutable; converts to and from bytes."""

    def __init__(self, rows: npt.NDArray[Any]) -> None:
        self._rows = rows
        self._starts = np.ascontiguousarray(rows["plain"])
        self.size = int(rows["plain"][-1] + rows["length"][-1]) if len(rows) else 0

    @classmethod
    def from_bytes(cls, data: bytes) -> FrameTable:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: the bytes are not a table, or the table contradicts itself.
        """
        rows = np.frombuffer(data, _ROW)
        ends = np.cumsum(rows["length"], dtype=np.uint64)
        if len(rows) and (rows["plain"][0] or (rows["plain"][1:] != ends[:-1]).any()):
            raise ValueError("the table of frames contradicts itself")
        return cls(rows)

    def to_bytes(self) -> bytes:
        """The table as bytes, 64 for each frame."""
        return self._rows.tobytes()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Frame:
        return Frame(*self._rows[number].item())

    def holding(self, offset: int) -> int:
        """The number of the frame that contains an offset of the plaintext."""
        return int(np.searchsorted(self._starts, offset, side="right")) - 1

    def first(self, count: int) -> FrameTable:
        """The first frames only."""
        return FrameTable(self._rows[:count])

    def with_lengths(self, lengths: npt.NDArray[np.int64]) -> FrameTable:
        """The same frames with different plaintext lengths."""
        rows = self._rows.copy()
        rows["length"] = lengths
        rows["plain"] = np.cumsum(lengths) - lengths
        return FrameTable(rows)


def table_of(frames: Iterable[Frame]) -> FrameTable:
    """A table from frames."""
    return FrameTable(np.array([tuple(frame) for frame in frames], _ROW))


def header_size(mode: Mode) -> int:
    """Bytes of a frame before its ciphertext."""
    return _HEADERS[mode.tagged].size


def header_of(mode: Mode, frame: Frame) -> bytes:
    """The bytes before a frame's ciphertext."""
    tag = frame.tag if mode.tagged else b""
    return _HEADERS[mode.tagged].pack(mode.magic, tag, frame.stored + 24, 16, frame.iv, frame.stored)


def read_frame_headers(source: Source, mode: Mode) -> FrameTable:
    """Read the frame headers of an encrypted file.

    Returns:
        The table; for CBC modes `length` still includes the padding.

    Cost: reads 48 bytes (32 for CBC) for each frame of up to 64 MiB.

    Raises:
        TruncatedFile: the file ends inside a frame.
        CorruptFile: a header is impossible, or bytes follow the last frame.
    """
    rows: list[_Row] = []
    _walk(source, mode, rows)
    return FrameTable(np.array(rows, _ROW))


def whole_frames(source: Source, mode: Mode) -> tuple[FrameTable, CorruptFile | None]:
    """`read_frame_headers` for a damaged file: the frames before the damage, and the fault."""
    rows: list[_Row] = []
    fault = None
    try:
        _walk(source, mode, rows)
    except CorruptFile as error:
        fault = error
    return FrameTable(np.array(rows, _ROW)), fault


def _walk(source: Source, mode: Mode, rows: list[_Row]) -> None:
    """Append a row for each frame, as long as there is no damage."""
    header = _HEADERS[mode.tagged]
    position = plain = 0
    while position < source.size:
        if _is_clear_trailer(source, position):
            break
        left = source.size - position
        if left < header.size:
            raise _cut(source, len(rows), position, f"{left} bytes follow, its header has {header.size}")
        magic, tag, block_length, iv_length, iv, stored = header.unpack(source.snapshot(position, header.size))
        fault = _fault(mode, len(rows), magic, block_length, iv_length, stored)
        if fault:
            offset, begin = position, zeros_begin(source, sampled=True)
            if source.size - begin >= FEWEST and begin <= position + header.size - _NUMBER:
                # A ciphertext may end in a zero byte by itself, hardly in four.
                whole = sum(row[2] + row[3] - begin < _NUMBER for row in rows)
                fault, offset = f"{fault}; {unfinished(begin, whole, 'encrypted block')}", begin
            raise CorruptFile(f"encrypted block {len(rows)} is damaged: {fault}", offset=offset, file=source.name)
        position += header.size
        left -= header.size
        if stored > left:
            raise _cut(source, len(rows), position, f"it has {stored:,} bytes, the file ends after {left:,}")
        rows.append((plain, stored, position, stored, iv, tag))
        plain += stored
        position += stored


def _is_clear_trailer(source: Source, position: int) -> bool:
    return (
        position > 0
        and source.size - position == _CLEAR_TRAILER_SIZE
        and bytes(source.snapshot(position, len(_CLEAR_TRAILER))) == _CLEAR_TRAILER
    )


def _fault(mode: Mode, number: int, magic: bytes, block: int, iv_length: int, stored: int) -> str:
    """Why a header is impossible; an empty string if it is valid."""
    if magic != mode.magic:
        return "its bytes are not a frame" if number else "the file does not begin with a frame"
    if iv_length != 16:
        return f"its iv has {iv_length} bytes, not 16"
    if not 0 < stored <= LONGEST_BLOCK or block != stored + 24 or block > LONGEST_BLOCK:
        return f"its lengths are impossible ({block:,} for a ciphertext of {stored:,})"
    if not mode.tagged and stored % BLOCK:
        return f"its ciphertext has {stored:,} bytes, not a multiple of {BLOCK}"
    return ""


def _cut(source: Source, number: int, position: int, why: str) -> TruncatedFile:
    return TruncatedFile(f"the file is cut in encrypted block {number}: {why}", offset=position, file=source.name)
