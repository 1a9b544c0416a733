"""The keys of a sidecar's one B-tree, so ordered that a scan is written in one ascending sweep.

01 place u32 BE           record of the parameter at that place
02 name                   place u32 BE (see `codec` for what stands for a name)
03 place u32 BE           (empty) the parameter needs a look before it may be loaded by name
04                        facts (`record.Meta`), in clear
05                        the table of frames of an encrypted file (`sources.frames`)
"""

from __future__ import annotations

import struct
from typing import Final

SUFFIX: Final = ".lmdb"
NAMES: Final = b"\x02"
IRREGULAR: Final = b"\x03"
FACTS: Final = b"\x04"
FRAMES: Final = b"\x05"
PLACE: Final = struct.Struct(">I")
RECORDS: Final = 1
RECORD_KEY: Final = struct.Struct(">BI")


def record_key(place: int) -> bytes:
    """The key of the record at a place."""
    return RECORD_KEY.pack(RECORDS, place)
