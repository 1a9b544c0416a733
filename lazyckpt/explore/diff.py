"""`diff`: what is different in two checkpoints.

Strategy: one walk over the names of both pairs them up. What the indexes tell (kind, dtype, shape, and digests where
both sides have them) is not read again; what is left is read side by side, in the first file's order, one piece of a
few MiB of each at a time. Names that only one side has are then held against each other, to find what was merely
renamed: by digests, else by content, of which a value's first piece is read, and the rest only where that is alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.explore.compare import Pair, Read, Side, read, read_task, same_bytes, side_of
from lazyckpt.explore.diff_report import OUTCOMES, Diff, Row
from lazyckpt.explore.find import matcher
from lazyckpt.loading import open_all
from lazyckpt.model.entry import REFUSED
from lazyckpt.runtime.workers import Progress, worker_count
from lazyckpt.sources.paths import is_url
from lazyckpt.tasks import Where, run

MOST_RENAMES: Final = 10_000  # values, on both sides together, that are read to find out whether they were renamed
_BATCH: Final = 2048  # pairs that are handed out to threads at once
_TASK_BYTES: Final = 2**26  # of the first checkpoint that one task reads


def diff(
    a: Any,
    b: Any,
    *,
    names: Iterable[str] | None = None,
    values: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
    scheduler: Where = None,
) -> Diff:
    """Tell what is different in two checkpoints.

    Args:
        a: the first: an open `Checkpoint` (values edited in memory count as they are now), or a path.
        b: the second. Encrypted files must be opened by the caller, who has the key.
        names: which names to compare, names or patterns such as `'*.bias'`; None for all.
        values: False to compare names, kinds, dtypes and shapes, and digests where both indexes have them: then no
            value is read.
        workers: threads; None for as many as pay, 1 for none.
        progress: called as `progress(done, total)` with bytes of the first checkpoint, those passed over counted.
        scheduler: a dask `Client` or a `concurrent.futures.Executor` whose workers read both files, under the same
            paths, and compare values: each whole, so that the report is the same. Values in memory are compared here,
            and what was renamed is looked for here.

    Returns:
        A report that prints, renders in notebooks, and exports. `.same` tells whether nothing is different.

    Raises:
        ValueError: a file is missing, damaged, encrypted, or no checkpoint.
        NotPicklable: workers cannot open a checkpoint that the caller opened; see `Checkpoint.__reduce__`.

    Cost: a walk over both indexes. Values whose digests are in both indexes are not read unless they differ; of the
    rest equal ones are read once, others up to twice, with 8 MiB of each side in memory at a time (a thread). One file
    beside itself, also by another link, is not read at all. To find what was renamed, up to 10,000 values that only
    one side has are read: 8 MiB of each, and all of those that are alike there.
    """
    with contextlib.ExitStack() as stack:
        one, two = (_opened(side, stack) for side in (a, b))
        wanted = None if names is None else matcher([names] if isinstance(names, str) else names)
        if _is_one_file(one, two):
            equal = len(one) if wanted is None else sum(map(wanted, one))
            return Diff(one.path, two.path, (), equal, same_file=True)
        return _Comparison(one, two, wanted, values, workers, progress, scheduler).report()


def _opened(given: Any, stack: contextlib.ExitStack) -> Checkpoint:
    return given if isinstance(given, Checkpoint) else stack.enter_context(open_all(given))


def _is_one_file(one: Checkpoint, two: Checkpoint) -> bool:
    """Whether both are views of one unchanged file, under whatever names, as it stands in it."""
    with contextlib.suppress(OSError):
        whole = all(side.is_whole for side in (one, two))
        return whole and _is_one_path(one.path, two.path) and one.index.fingerprint == two.index.fingerprint
    return False


def _is_one_path(one: str, two: str) -> bool:
    return one == two if is_url(one) or is_url(two) else os.path.samefile(one, two)


class _Comparison:
    """One run of `diff`."""

    def __init__(
        self,
        one: Checkpoint,
        two: Checkpoint,
        wanted: Callable[[str], bool] | None,
        values: bool,
        workers: int | None,
        progress: Progress | None,
        scheduler: Where,
    ) -> None:
        self._one, self._two = one, two
        self._wanted = wanted
        self._values = values
        self._workers = workers
        self._scheduler = scheduler
        self._progress = progress
        self._done = 0
        self._equal = self._uncompared = 0
        self._rows: list[Row] = []

    def report(self) -> Diff:
        """Compare, and tell."""
        removed: list[Side] = []
        pairs = self._walk(removed)
        while batch := list(islice(pairs, _BATCH)):
            self._compare(batch)
            for side in (self._one, self._two):
                side.release(0)
        added = self._added(len(removed))
        renamed = self._renamed(removed, added)
        gone, new = {a.name for a, _ in renamed}, {b.name for _, b in renamed}
        self._rows += [Row(a.name, "renamed", a.described, b.described, b.name) for a, b in renamed]
        self._rows += [Row(a.name, "removed", a.described, "") for a in removed if a.name not in gone]
        self._rows += [Row(b.name, "added", "", b.described) for b in added if b.name not in new]
        order = list(OUTCOMES)
        rows = sorted(self._rows, key=lambda row: order.index(row.outcome))
        self._tell(self._one.index.fingerprint.size - self._done)
        return Diff(self._one.path, self._two.path, tuple(rows), self._equal, self._uncompared)

    def _walk(self, removed: list[Side]) -> Iterator[Pair]:
        """The pairs that must be read; what is told without reading is noted on the way."""
        self._paired = 0
        others = self._two.known()
        ahead = next(others, None)
        for name, known in self._one.known():
            if self._wanted is not None and not self._wanted(name):
                continue
            if ahead is not None and ahead[0] == name:  # both in one order, as two states of one model are
                other: Any = ahead[1]
                ahead = next(others, None)
            elif name in self._two:
                other = self._two.peek(name)
            else:
                removed.append(side_of(self._one, name, known))
                continue
            self._paired += 1
            pair = self._judge(side_of(self._one, name, known), side_of(self._two, name, other))
            if pair is not None:
                yield pair

    def _judge(self, a: Side, b: Side) -> Pair | None:
        """What is known of two values without reading them; the pair if that is not all."""
        outcome = _unlike(a, b)
        if outcome in ("refused", "kind", "shape"):
            reasons = {f"{side.reason}" for side in (a, b) if side.reason}
            self._rows.append(Row(a.name, outcome, a.described, b.described, note="; ".join(sorted(reasons))))
        elif not outcome and a.digest and a.digest == b.digest:
            self._equal += 1
        elif self._values:
            return Pair(outcome or "equal", a, b)
        elif outcome:
            self._rows.append(Row(a.name, outcome, a.described, b.described))
        elif _have_digests(a, b):
            self._rows.append(Row(a.name, "value", a.described, b.described, note="their digests differ"))
        else:
            self._uncompared += 1
        self._tell(a.nbytes)
        return None

    def _compare(self, pairs: list[Pair]) -> None:
        """Read pairs, and note what came out."""
        for pair, (difference, note) in zip(pairs, self._run(pairs), strict=True):
            outcome = "value" if pair.outcome == "equal" and (difference or note) else pair.outcome
            if outcome == "equal":
                self._equal += 1
            else:
                told = note or ("" if difference else "the values are equal")
                self._rows.append(
                    Row(pair.a.name, outcome, pair.a.described, pair.b.described, difference=difference, note=told)
                )
            self._tell(pair.a.nbytes)

    def _run(self, pairs: list[Pair]) -> Iterator[Read]:
        if self._scheduler is not None:
            yield from self._sent(pairs)
            return
        workers = worker_count(self._workers, nbytes=sum(pair.a.nbytes for pair in pairs))
        if workers <= 1 or not (self._one.is_addressable and self._two.is_addressable):
            yield from map(read, pairs)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(workers, thread_name_prefix="lazyckpt") as pool:
            yield from pool.map(read, pairs)

    def _sent(self, pairs: list[Pair]) -> list[Read]:
        """What workers find of pairs that are in files, and what is found here of the others."""
        found: dict[int, Read] = {}
        batches: list[list[int]] = []
        size = 0
        for number, pair in enumerate(pairs):
            if not (pair.a.is_of_file and pair.b.is_of_file):
                found[number] = read(pair)
                continue
            if not batches or size + pair.a.nbytes > _TASK_BYTES:
                batches.append([])
                size = 0
            batches[-1].append(number)
            size += pair.a.nbytes
        one, two = self._one.payloads, self._two.payloads
        calls = [(one, two, [self._place(pairs[number]) for number in batch]) for batch in batches]
        labels = [pairs[batch[0]].a.name for batch in batches]
        for outcome in run(read_task, calls, self._scheduler, labels):
            found.update(zip(batches[outcome.number], outcome.result(), strict=True))
        return [found[number] for number in range(len(pairs))]

    def _place(self, pair: Pair) -> tuple[str, int, int]:
        places = self._one.place_of(pair.a.name), self._two.place_of(pair.b.name)
        return pair.outcome, places[0] or 0, places[1] or 0

    def _added(self, missing: int) -> list[Side]:
        if self._wanted is None and len(self._two) == self._paired and not missing:
            return []
        return [
            side_of(self._two, name, known)
            for name, known in self._two.known()
            if (self._wanted is None or self._wanted(name)) and name not in self._one
        ]

    def _renamed(self, removed: list[Side], added: list[Side]) -> list[tuple[Side, Side]]:
        """Which of the names that only one side has stand for the same content."""
        marks = {_mark(side) for side in removed} & {_mark(side) for side in added}
        lists = [[side for side in sides if _mark(side) in marks and side.nbytes] for sides in (removed, added)]
        has_digests = all(side.digest for side in chain(*lists))
        if not has_digests and (not self._values or sum(map(len, lists)) > MOST_RENAMES):
            return []
        waiting: dict[Any, list[Side]] = {}
        for b in lists[1]:
            waiting.setdefault((_mark(b), b.digest if has_digests else _beginning(b)), []).append(b)
        found = []
        for a in lists[0]:
            alike = waiting.get((_mark(a), a.digest if has_digests else _beginning(a)), [])
            for place, b in enumerate(alike):
                if has_digests or _is_same(a, b):
                    found.append((a, alike.pop(place)))
                    break
        return found

    def _tell(self, count: int) -> None:
        self._done += count
        if self._progress is not None and count > 0:
            total = self._one.index.fingerprint.size
            self._progress(min(self._done, total), total)


def _unlike(a: Side, b: Side) -> str:
    """In what two values differ, as far as their headers tell, or nothing."""
    if REFUSED in (a.kind, b.kind):
        return "refused"
    if a.kind != b.kind or len(a.types) != len(b.types):
        return "kind"
    if [shape for _, shape in a.types] != [shape for _, shape in b.types]:
        return "shape"
    return "dtype" if [dtype for dtype, _ in a.types] != [dtype for dtype, _ in b.types] else ""


def _have_digests(a: Side, b: Side) -> bool:
    """Whether both have digests of the same form of content."""
    return bool(a.digest and b.digest) and len(a.digest) == len(b.digest) and a.nbytes == b.nbytes


def _mark(side: Side) -> Any:
    """What must be alike for two values to be the same."""
    return side.kind, side.types, side.nbytes


def _beginning(side: Side) -> bytes:
    """A hash of the first piece of each array."""
    digest = hashlib.blake2b(digest_size=16)
    for content in side.item().contents:
        for piece in islice(content.pieces(), 1):
            digest.update(piece)
    return digest.digest()


def _is_same(a: Side, b: Side) -> bool:
    return all(map(same_bytes, a.item().contents, b.item().contents))
