"""Judge runs of zeros in the contents of a file: values, or what a download that did not finish left there.

Zeros are also what a fresh optimizer holds, so a run of them proves nothing by itself. The rules:

- The values explain a run that begins and ends where values do: moments that were never updated. Such a run at the
  end of the file is mentioned. Some elements, or rows, of zeros at the end of a value are its own, too.
- A longer run that begins or ends inside of a value is doubtful, and so is a range that the file system never wrote.
  (ZFS, and perhaps a server, do not write zeros either, so there the second rule does not hold.)

A checksum that agrees proves all values: then there is nothing to judge. Digests prove only that nothing changed since
they were stored.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

from lazyckpt.model.entry import Entry, Found, Packed, entry_of
from lazyckpt.sources.base import Source
from lazyckpt.sources.local import NETWORK_FILE_SYSTEMS, file_system
from lazyckpt.sources.paths import is_url
from lazyckpt.sources.zeros import FEWEST, holes, zeros_before, zeros_begin, zeros_end

_ROWS: Final = 4096  # bytes of zeros in whole rows that a value may end in
_WRITE_NO_ZEROS: Final = NETWORK_FILE_SYSTEMS | {"zfs"}


class ZeroRun(NamedTuple):
    """A range of zeros; `is_unwritten` if the file system says that nothing was ever written there."""

    begin: int
    end: int
    is_unwritten: bool

    def overlaps(self, entry: Entry) -> bool:
        """Whether a value has bytes in the run."""
        return any(offset < self.end and offset + length > self.begin for offset, length in entry.all_extents)

    def touches(self, entry: Entry) -> bool:
        """Whether a value has bytes in the run, not counting zeros of its own first and last element."""
        size = 1 if entry.dtype is None else entry.dtype.itemsize
        for offset, length in entry.all_extents:
            if offset >= self.end or self.end - offset < size <= length or offset + length <= self.begin:
                continue
            if not (offset < self.begin and offset + length - self.begin < size):
                return True
        return False


class Doubt(NamedTuple):
    """The judgement on the zeros in a file.

    Attributes:
        runs: the doubtful runs; or, if there is none, the run at the end of the file.
        size: of the file.
        touched: the number of values in these runs.
        total: the number of all values.
        why: the reason for the doubt; empty if the values explain the zeros.
    """

    runs: tuple[ZeroRun, ...]
    size: int
    touched: int
    total: int
    why: str

    def __str__(self) -> str:
        if not self.why:
            last = "the last value is" if self.touched == 1 else f"the last {self.touched:,} values are"
            return f"{last} zeros (from byte {self.runs[0].begin:,} on), as in a fresh optimizer"
        whole = self.total - self.touched
        return f"{self.damage}; {whole:,} of {self.total:,} values {'is' if whole == 1 else 'are'} whole"

    @property
    def damage(self) -> str:
        """Where the doubtful zeros are, and why they are doubted."""
        begin, end, _ = self.runs[0]
        more = f", and {len(self.runs) - 1:,} more ranges" if len(self.runs) > 1 else ""
        where = "on" if end == self.size else f"to byte {end:,}{more}"
        return (
            f"zeros from byte {begin:,} {where}: the download did not finish, or these values are really zeros"
            f" ({self.why})"
        )


def zero_runs(source: Source, *, sampled: bool) -> list[ZeroRun]:
    """The runs of zeros at the end and at holes of a plain file, in order.

    Args:
        source: the file.
        sampled: look at samples of a long run at the end only (see `zeros_begin`).

    Cost: reads the run at the end, up to 1 MiB at each end of a hole, and makes two system calls for each hole.
    """
    runs: list[ZeroRun] = []
    for file in () if is_url(source.name) else source.files[:1]:
        trusted = file_system(file.path) not in _WRITE_NO_ZEROS
        for offset, length in holes(file.path):
            if offset >= source.size:
                break
            begin, end = zeros_before(source, offset), zeros_end(source, min(source.size, offset + length))
            if runs and begin <= runs[-1].end:
                runs[-1] = runs[-1]._replace(end=end)
            else:
                runs.append(ZeroRun(begin, end, trusted))
    begin = zeros_begin(source, sampled=sampled)
    if not runs or runs[-1].end < source.size:
        runs.append(ZeroRun(begin, source.size, False))
    return [run for run in runs if run.end - run.begin >= FEWEST]


def judge(found: Iterable[Found], runs: list[ZeroRun], size: int) -> Doubt | None:
    """Judge the runs of zeros in a file that parses.

    Args:
        found: its values, in any order.
        runs: the runs (see `zero_runs`).
        size: of the file.

    Returns:
        None if no run touches a value.

    Cost: a walk over the values, if there are runs.
    """
    if not runs:
        return None
    touched = [_Touched(run) for run in runs]
    ends = [run.end for run in runs]
    total = 0
    for number, one in enumerate(found):
        total += 1
        offset = one.start if isinstance(one, Packed) else one.offset
        for run in touched[bisect_right(ends, offset) :]:
            if run.run.begin >= one.stop:
                break
            run.take(number, entry_of(one))
    doubtful = [run for run in touched if run.why()]
    chosen = doubtful or [run for run in touched[-1:] if run.run.end == size and len(run.numbers)]
    if not chosen:
        return None
    count = len({number for run in chosen for number in run.numbers})
    return Doubt(tuple(run.run for run in chosen), size, count, total, chosen[0].why())


class _Touched:
    """The values that a run touches: their numbers, and the first and the last in the file."""

    def __init__(self, run: ZeroRun) -> None:
        self.run = run
        self.numbers = array("Q")
        self._first: Entry | None = None
        self._last: Entry | None = None

    def take(self, number: int, entry: Entry) -> None:
        """Count a value, if the run touches it."""
        if not self.run.touches(entry):
            return
        self.numbers.append(number)
        if self._first is None or entry.offset < self._first.offset:
            self._first = entry
        if self._last is None or entry.offset > self._last.offset:
            self._last = entry

    def why(self) -> str:
        """Why the values do not explain the run; empty if they do, or if it touches none."""
        if self._first is None or self._last is None:
            return ""
        if self.run.is_unwritten:
            return "the file system never wrote them"
        if _divides(self._first, self.run.begin, -1):
            return f"they begin inside of {self._first.name!r}"
        if _divides(self._last, self.run.end, 1):
            return f"they end inside of {self._last.name!r}"
        return ""


def _divides(entry: Entry, at: int, towards: int) -> bool:
    """Whether a run that begins (or ends, with `towards` 1) at an offset divides a value.

    The element there may have zero bytes of its own, so the border may be up to an element away. A few zeros do not
    divide a value, nor do some rows of them.
    """
    inside = _position(entry, at)
    if entry.dtype is None or not 0 < inside < entry.stored:
        return False
    size, row = entry.dtype.itemsize, math.prod(entry.shape[1:])
    elements = inside // size if towards > 0 else -(-inside // size)
    zeros = inside if towards > 0 else entry.stored - inside
    return zeros >= (_ROWS if row > 1 and elements % row == 0 else FEWEST)


def _position(entry: Entry, at: int) -> int:
    """The number of a value's own bytes before an offset in the file (a large value is written in slices)."""
    return sum(min(max(0, at - offset), length) for offset, length in entry.extents)
