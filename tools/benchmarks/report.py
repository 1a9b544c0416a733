"""A run as one JSON file, and that file back as rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Row


@dataclass(frozen=True)
class Report:
    """A run.

    Attributes:
        size: of the files: `small` or `full`.
        machine: see `machine.described`.
        absent: the command for each peer that was not there.
        rows: what was measured.
    """

    size: str
    machine: dict[str, Any]
    absent: dict[str, str]
    rows: tuple[Row, ...]

    @property
    def full(self) -> bool:
        """Whether bars can be judged."""
        return self.size == "full"

    @property
    def failed(self) -> list[str]:
        """What could not be measured, and peers that gave other bytes."""
        return [f"{row.name}: {row.note}" for row in self.rows if row.note]

    def write(self, path: str) -> None:
        """As JSON."""
        told = {
            **self.machine,
            "size": self.size,
            "absent": self.absent,
            "rows": [row.as_json() for row in self.rows],
        }
        Path(path).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def read(path: str) -> Report:
    """What `Report.write` wrote."""
    told = json.loads(Path(path).read_text(encoding="utf-8"))
    rows, size, absent = told.pop("rows"), told.pop("size"), told.pop("absent")
    return Report(size, told, absent, tuple(Row.from_json(row) for row in rows))
