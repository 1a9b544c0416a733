"""What was measured, as values: the figures of each side, the bars of a row, and a row as the file of `--json` has it.

A row has lazyckpt's figures, those of every peer that did the same, and those of a limit: the least that the machine
needs for it (a memcpy, OpenSSL alone, LMDB alone). The best peer is the one with the smallest median.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import Any

KINDS = ("seconds", "ratio", "limit", "extra", "peak", "private")


@dataclass(frozen=True)
class Figures:
    """What was measured of one side.

    Attributes:
        label: who.
        seconds: of each turn.
        extra: bytes resident at most during one call in a fresh process, beyond what imports took.
        peak: bytes resident at most during that call, all in all.
        private: bytes of memory that a process shares with no other one, beyond what imports took.
        note: why there are no seconds.
    """

    label: str
    seconds: tuple[float, ...] = ()
    extra: int | None = None
    peak: int | None = None
    private: int | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """Of the seconds."""
        return statistics.median(self.seconds) if self.seconds else None

    def as_json(self) -> dict[str, Any]:
        """As the file of `--json` has it."""
        return {
            "label": self.label,
            "seconds": list(self.seconds),
            "median": self.median,
            "extra_bytes": self.extra,
            "peak_bytes": self.peak,
            "private_bytes": self.private,
            "note": self.note,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Figures:
        """The same back."""
        memory = (told[f"{what}_bytes"] for what in ("extra", "peak", "private"))
        return cls(told["label"], tuple(told["seconds"]), *memory, told["note"])


@dataclass(frozen=True)
class Bar:
    """What a row should reach at full size.

    Attributes:
        what: `seconds`, `ratio` (to the best peer's time), `limit` (ratio to the limit's time), or bytes of memory:
            `extra`, `peak`, `private`.
        at_most: how much.
    """

    what: str
    at_most: float


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what was done.
        mine: lazyckpt's figures.
        peers: those of whatever did the same; one without seconds is named, and not there.
        limit: the least that it takes.
        bars: what should be reached, at full size.
        note: why the row could not be measured.
        group: the subcommand that it belongs to.
    """

    name: str
    mine: Figures
    peers: tuple[Figures, ...] = ()
    limit: Figures | None = None
    bars: tuple[Bar, ...] = ()
    note: str = ""
    group: str = ""

    @property
    def best(self) -> Figures | None:
        """The fastest peer."""
        return min((peer for peer in self.peers if peer.seconds), key=lambda peer: peer.median or 0.0, default=None)

    @property
    def ratio(self) -> float | None:
        """The time of lazyckpt in units of the best peer's."""
        return self.over(self.best)

    @property
    def limit_ratio(self) -> float | None:
        """The time of lazyckpt in units of the limit's."""
        return self.over(self.limit)

    def over(self, other: Figures | None) -> float | None:
        """The time of lazyckpt in units of another's."""
        beside = other.median if other else None
        return self.mine.median / beside if beside and self.mine.median is not None else None

    def found(self, bar: Bar) -> float | None:
        """What a bar is about, as it was measured."""
        mine = self.mine
        told = (mine.median, self.ratio, self.limit_ratio, mine.extra, mine.peak, mine.private)
        return dict(zip(KINDS, told, strict=True))[bar.what]

    def met(self, bar: Bar) -> bool | None:
        """Whether a bar is met; None if that was not measured."""
        figure = self.found(bar)
        return None if figure is None else figure <= bar.at_most

    def of(self, group: str) -> Row:
        """The same as part of a subcommand."""
        return replace(self, group=group)

    def as_json(self) -> dict[str, Any]:
        """As the file of `--json` has it."""
        return {
            "group": self.group,
            "row": self.name,
            "lazyckpt": self.mine.as_json(),
            "peers": [peer.as_json() for peer in self.peers],
            "limit": self.limit and self.limit.as_json(),
            "best": self.best and self.best.label,
            "ratio": self.ratio,
            "limit_ratio": self.limit_ratio,
            "bars": [{"what": bar.what, "at_most": bar.at_most, "met": self.met(bar)} for bar in self.bars],
            "note": self.note,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Row:
        """The same back."""
        return cls(
            told["row"],
            Figures.from_json(told["lazyckpt"]),
            tuple(Figures.from_json(peer) for peer in told["peers"]),
            Figures.from_json(told["limit"]) if told["limit"] else None,
            tuple(Bar(bar["what"], bar["at_most"]) for bar in told["bars"]),
            told["note"],
            told["group"],
        )
