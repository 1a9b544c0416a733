"""Measured values: the figures of each side, the bars of a row, and a whole run as one JSON file.

A row has lazyckpt's figures, those of every peer that did the same work, and those of a limit: the least that the
machine needs for it (a memcpy, OpenSSL alone, LMDB alone). The best peer is the one with the smallest median.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PACKAGES = ("lazyckpt", "numpy", "lmdb", "cryptography", "ml_dtypes", "protobuf")


@dataclass(frozen=True)
class Figures:
    """The figures of one side."""

    label: str
    seconds: tuple[float, ...] = ()  # for each turn
    extra_bytes: int | None = None  # resident at the peak of one call in a fresh process, beyond its imports
    peak_bytes: int | None = None  # the same, imports included
    private_bytes: int | None = None  # that a process shares with no other, beyond its imports
    note: str = ""  # the reason for missing seconds

    @property
    def median(self) -> float | None:
        """Median of the seconds."""
        return statistics.median(self.seconds) if self.seconds else None

    def as_json(self) -> dict[str, Any]:
        """The figures as a JSON object."""
        return {**asdict(self), "seconds": list(self.seconds), "median": self.median}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Figures:
        """The figures that `as_json` gave."""
        fields = {key: value for key, value in found.items() if key != "median"}
        return cls(**{**fields, "seconds": tuple(found["seconds"])})


@dataclass(frozen=True)
class Bar:
    """The required result of a row at full size."""

    what: str  # `seconds`; `ratio` to the best peer; ratio to the `limit`; bytes: `extra`, `peak`, `private`
    at_most: float


@dataclass(frozen=True)
class Row:
    """The figures of one row of the table."""

    name: str
    mine: Figures
    peers: tuple[Figures, ...] = ()  # a peer without seconds is not installed here, or failed
    limit: Figures | None = None
    bars: tuple[Bar, ...] = ()
    note: str = ""  # the reason of a failure
    group: str = ""  # the section that it belongs to

    @property
    def beside(self) -> tuple[Figures, ...]:
        """The peers, and the limit if there is one."""
        return (*self.peers, self.limit) if self.limit else self.peers

    @property
    def best(self) -> Figures | None:
        """The fastest peer."""
        return min((peer for peer in self.peers if peer.seconds), key=lambda peer: peer.median, default=None)

    @property
    def ratio(self) -> float | None:
        """The time of lazyckpt divided by the best peer's."""
        return self.over(self.best)

    def over(self, other: Figures | None) -> float | None:
        """The time of lazyckpt divided by another side's."""
        return self.mine.median / other.median if other and other.median and self.mine.seconds else None

    def found(self, bar: Bar) -> float | None:
        """The figure that a bar is about."""
        times = {"seconds": self.mine.median, "ratio": self.ratio, "limit": self.over(self.limit)}
        return times[bar.what] if bar.what in times else getattr(self.mine, f"{bar.what}_bytes")

    def met(self, bar: Bar) -> bool | None:
        """Whether a bar is met; None if its figure was not measured."""
        figure = self.found(bar)
        return None if figure is None else figure <= bar.at_most

    def as_json(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {
            "group": self.group,
            "row": self.name,
            "lazyckpt": self.mine.as_json(),
            "peers": [peer.as_json() for peer in self.peers],
            "limit": self.limit and self.limit.as_json(),
            "best": self.best and self.best.label,
            "ratio": self.ratio,
            "limit_ratio": self.over(self.limit),
            "bars": [{**asdict(bar), "met": self.met(bar)} for bar in self.bars],
            "note": self.note,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Row:
        """The row that `as_json` gave."""
        mine, *peers = map(Figures.from_json, (found["lazyckpt"], *found["peers"]))
        limit = found["limit"] and Figures.from_json(found["limit"])
        bars = tuple(Bar(bar["what"], bar["at_most"]) for bar in found["bars"])
        return cls(found["row"], mine, tuple(peers), limit, bars, found["note"], found["group"])


@dataclass(frozen=True)
class Report:
    """The figures of one run."""

    size: str  # the files' size: `small` or `full`
    machine: dict[str, Any]  # see `described_machine`
    absent: dict[str, str]  # the command that installs each peer that is not here
    rows: tuple[Row, ...]

    @property
    def full(self) -> bool:
        """Whether the files are large enough to judge bars."""
        return self.size == "full"

    @property
    def failed(self) -> list[str]:
        """Rows that could not be measured, or whose sides gave different bytes."""
        return [f"{row.name}: {row.note}" for row in self.rows if row.note]

    def write(self, path: str) -> None:
        """Write the run to a JSON file."""
        rows = [row.as_json() for row in self.rows]
        text = json.dumps({**self.machine, "size": self.size, "absent": self.absent, "rows": rows}, indent=2)
        Path(path).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str) -> Report:
        """Read a run that `write` wrote."""
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        rows, size, absent = found.pop("rows"), found.pop("size"), found.pop("absent")
        return cls(size, found, absent, tuple(map(Row.from_json, rows)))


def described_machine(peers: dict[str, str]) -> dict[str, object]:
    """The machine, as a report has it, with the versions of the peers that are installed."""
    from cryptography.hazmat.backends.openssl.backend import backend

    processors = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", processors.read_text(encoding="utf-8")) if processors.exists() else []
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": next(filter(None, (*names, platform.processor(), platform.machine()))),
        "processors": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "openssl": backend.openssl_version_text(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "peers": peers,
    }
