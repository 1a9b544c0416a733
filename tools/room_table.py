"""Write the table of the package's rooms into the handbook: `python tools/room_table.py`.

tests/support/rooms.py lists the rooms in order. The subject of a room is the first line of its docstring.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "concepts" / "data.md"
TABLE = re.compile(r"\| room \| .*?\n\|---\|---\|\n(?:\|.*\n)+")

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from rooms import table

    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda _: table(), text), encoding="utf-8")
