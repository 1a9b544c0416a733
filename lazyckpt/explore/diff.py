"""`diff`: the differences between two checkpoints.

Strategy: one walk over both indexes pairs the names. Facts in the indexes (kind, dtype, shape, and digests if both
sides have them) decide without reading values. Where digests are equal, samples of both values are compared: a digest
is of the file that was indexed, and a file that was changed in place may look the same from outside. The other pairs
are read side by side, in the first file's order, a few MiB of each at a time. Names that only one side has are then
compared with each other, to find renamed values: by digest, or else by content, where the rest of a value is read only
if its first piece is equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Container, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.checkpoint.access import CheckpointAccess
from lazyckpt.explore.compare import ComparedValue, Pair, Read, compared_value, read, read_task, same_bytes
from lazyckpt.explore.diff_report import OUTCOMES, Diff, Row
from lazyckpt.index.matching import require_matches
from lazyckpt.loading import open_all
from lazyckpt.model.entry import REFUSED
from lazyckpt.model.patterns import Patterns
from lazyckpt.runtime.workers import Progress, worker_count
from lazyckpt.sharding.opening import open_sharded
from lazyckpt.sources.paths import is_url
from lazyckpt.tasks import Where, run

MOST_RENAMES: Final = 10_000  # values, on both sides together, up to which renamed ones are looked for by reading
_BATCH: Final = 2048  # pairs given to threads at once
_STALE: Final = "their digests are equal, their bytes are not: a file changed after it was indexed"
_TASK_BYTES: Final = 2**26  # bytes of the first checkpoint per task


def diff(
    a: Any,
    b: Any,
    *,
    names: Patterns | None = None,
    values: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
    scheduler: Where = None,
) -> Diff:
    """Find the differences between two checkpoints.

    >>> import numpy as np
    >>> for name, bias in (("a.ckpt", 0), ("b.ckpt", 1)):
    ...     lazyckpt.save_checkpoint({"w": np.ones(3), "b": np.full(2, bias)}, name)
    >>> print(lazyckpt.diff("a.ckpt", "b.ckpt").summary())
    1 with other values, 1 equal

    Args:
        a: the first: an open `Checkpoint` (with its edits in memory), or the path of a file, a listing or a folder.
        b: the second. Open an encrypted file yourself, with its key.
        names: the names to compare, as names or patterns (see `Checkpoint.select`), looked up in both; None for all.
        values: False to read no value, and to compare only names, kinds, dtypes, shapes, and digests that both indexes
            have (with samples, see below).
        workers: number of threads; None to choose by the amount of data, 1 for the calling thread only.
        progress: called as `progress(done, total)` with bytes of the first checkpoint, including those not read.
        scheduler: a dask `Client` or a `concurrent.futures.Executor`. Its workers open both files under the same paths
            and compare whole values, so the report is the same. Values in memory are compared in this process, which
            also looks for renamed values.

    Returns:
        A report that prints, renders in notebooks, and exports. `.same` is true if there is no difference.

    Raises:
        MissingName: a pattern matches nothing in either (a `KeyError`).
        ValueError: a file is missing, damaged, encrypted, or not a checkpoint.
        NotPicklable: workers cannot open a checkpoint that the caller opened; see `Checkpoint.__reduce__`.

    Cost: a walk over both indexes. Of values with equal digests in both indexes, the headers and at most 4,352 bytes of
    each side are read (nothing of an object whose store says that it is the version that was indexed); an encrypted
    block is decrypted for that. Of the rest, equal values are read once, others up to twice, with 8 MiB of each side in
    memory per thread. A file compared
    with itself, also through a link, is not read at all. To find renamed values, up to 10,000 values that only one side
    has are read: 8 MiB of each, and more only if that is equal to another.
    """
    with contextlib.ExitStack() as stack:
        one, two = (_opened(side, stack) for side in (a, b))
        wanted = None if names is None else require_matches(_BothNames(one, two), names)
        if _is_one_file(one, two):
            equal = len(one) if wanted is None else len(wanted)
            return Diff(one.path, two.path, (), equal, same_file=True)
        return _Comparison(one, two, wanted, values, workers, progress, scheduler).report()


class _BothNames:
    """The names of two checkpoints together: `Searchable`, for `index.matching`."""

    def __init__(self, *sides: Checkpoint) -> None:
        self._sides = [side._access.names for side in sides]

    def position(self, name: str) -> int | None:
        """An ordinal in either, or None."""
        return next((found for side in self._sides if (found := side.position(name)) is not None), None)

    def pairs(self) -> Iterable[tuple[str, int]]:
        """The names of both, each once."""
        return dict(chain.from_iterable(side.pairs() for side in self._sides)).items()

    def with_prefix(self, prefix: str) -> Iterable[tuple[str, int]]:
        """Those that start with a prefix."""
        return dict(chain.from_iterable(side.with_prefix(prefix) for side in self._sides)).items()

    def some_with_prefix(self, prefix: str, most: int) -> list[str]:
        """Some that start with a prefix."""
        return [name for side in self._sides for name in side.some_with_prefix(prefix, most)]


def _opened(given: Any, stack: contextlib.ExitStack) -> Checkpoint:
    if isinstance(given, Checkpoint):
        return given
    return stack.enter_context(open_sharded(given) if os.path.isdir(given) else open_all(given))


def _is_one_file(one: Checkpoint, two: Checkpoint) -> bool:
    """Whether both show one unchanged file, unedited, under any path."""
    with contextlib.suppress(OSError):
        whole = all(side._access.is_unedited for side in (one, two))
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
        wanted: Container[str] | None,
        values: bool,
        workers: int | None,
        progress: Progress | None,
        scheduler: Where,
    ) -> None:
        self._one, self._two = one, two
        self._left, self._right = one._access, two._access
        self._wanted = wanted
        self._values = values
        self._workers = workers
        self._scheduler = scheduler
        self._progress = progress
        self._done = 0
        self._equal = self._uncompared = self._by_digest = self._by_bytes = 0
        self._rows: list[Row] = []
        self._is_proven = self._left.is_of_version and self._right.is_of_version

    def report(self) -> Diff:
        """Compare everything, and return the report."""
        removed: list[ComparedValue] = []
        pairs = self._walk(removed)
        while batch := list(islice(pairs, _BATCH)):
            self._compare(batch)
            for side in (self._left, self._right):
                side.drop_pages()
        added = self._added(len(removed))
        renamed = self._renamed(removed, added)
        gone, new = {a.name for a, _ in renamed}, {b.name for _, b in renamed}
        self._rows += [Row(a.name, "renamed", a.described, b.described, b.name) for a, b in renamed]
        self._rows += [Row(a.name, "removed", a.described, "") for a in removed if a.name not in gone]
        self._rows += [Row(b.name, "added", "", b.described) for b in added if b.name not in new]
        order = list(OUTCOMES)
        rows = sorted(self._rows, key=lambda row: order.index(row.outcome))
        self._advance(self._one.index.fingerprint.size - self._done)
        return Diff(
            self._one.path, self._two.path, tuple(rows), self._equal, self._uncompared,
            by_digest=self._by_digest, by_bytes=self._by_bytes,
        )  # fmt: skip

    def _walk(self, removed: list[ComparedValue]) -> Iterator[Pair]:
        """Yield the pairs that must be read; the others are put into the report."""
        self._paired = 0
        others = self._right.iter_entries()
        ahead = next(others, None)
        for name, known in self._left.iter_entries():
            if self._wanted is not None and name not in self._wanted:
                continue
            if ahead is not None and ahead[0] == name:  # same order on both sides, the common case: no look-up
                other: Any = ahead[1]
                ahead = next(others, None)
            elif name in self._two:
                other = self._right.value_or_entry(name)
            else:
                removed.append(compared_value(self._left, name, known))
                continue
            self._paired += 1
            pair = self._decide(compared_value(self._left, name, known), compared_value(self._right, name, other))
            if pair is not None:
                yield pair

    def _decide(self, a: ComparedValue, b: ComparedValue) -> Pair | None:
        """Compare two values by their facts; return the pair if that does not decide."""
        outcome = _unlike(a, b)
        if outcome in ("refused", "kind", "shape"):
            reasons = {f"{side.reason}" for side in (a, b) if side.reason}
            self._rows.append(Row(a.name, outcome, a.described, b.described, note="; ".join(sorted(reasons))))
        elif self._values or (not outcome and _have_equal_digests(a, b)):
            return Pair(outcome or "equal", a, b)
        elif outcome:
            self._rows.append(Row(a.name, outcome, a.described, b.described))
        elif _have_digests(a, b):
            self._rows.append(Row(a.name, "value", a.described, b.described, note="their digests differ"))
            self._by_digest += 1
        else:
            self._uncompared += 1
        self._advance(a.nbytes)
        return None

    def _compare(self, pairs: list[Pair]) -> None:
        """Compare the digests of pairs, or read them, and put the outcomes into the report."""
        digested = [pair for pair in pairs if pair.outcome == "equal" and _have_equal_digests(pair.a, pair.b)]
        equal = self._proven(digested)
        self._equal += len(equal)
        self._by_digest += len(equal)
        self._advance(sum(pair.a.nbytes for pair in equal.values()))
        others = [pair for pair in pairs if pair.a.name not in equal]
        if self._values:
            self._read(others)
            return
        for pair in others:
            self._rows.append(Row(pair.a.name, "value", pair.a.described, pair.b.described, note=_STALE))
            self._advance(pair.a.nbytes)

    def _proven(self, pairs: list[Pair]) -> dict[str, Pair]:
        """Those of the pairs with equal digests whose samples are equal, too, by name."""
        if self._is_proven:
            return {pair.a.name: pair for pair in pairs}
        ours = _samples(self._left, [pair.a for pair in pairs])
        theirs = _samples(self._right, [pair.b for pair in pairs])
        return {pair.a.name: pair for pair, one, two in zip(pairs, ours, theirs, strict=True) if one == two}

    def _read(self, pairs: list[Pair]) -> None:
        """Read pairs, and put the outcomes into the report."""
        self._by_bytes += len(pairs)
        for pair, (difference, reason) in zip(pairs, self._run(pairs), strict=True):
            outcome = "value" if pair.outcome == "equal" and (difference or reason) else pair.outcome
            if outcome == "equal":
                self._equal += 1
            else:
                note = reason or ("" if difference else "the values are equal")
                self._rows.append(
                    Row(pair.a.name, outcome, pair.a.described, pair.b.described, difference=difference, note=note)
                )
            self._advance(pair.a.nbytes)

    def _run(self, pairs: list[Pair]) -> Iterator[Read]:
        if self._scheduler is not None:
            yield from self._sent(pairs)
            return
        workers = worker_count(self._workers, nbytes=sum(pair.a.nbytes for pair in pairs))
        if workers <= 1 or not (self._left.is_addressable and self._right.is_addressable):
            yield from map(read, pairs)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(workers, thread_name_prefix="lazyckpt") as pool:
            yield from pool.map(read, pairs)

    def _sent(self, pairs: list[Pair]) -> list[Read]:
        """Compare pairs on workers if both values are in files, the others here."""
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
        one, two = self._left.reader, self._right.reader
        calls = [(one, two, [self._place(pairs[number]) for number in batch]) for batch in batches]
        labels = [pairs[batch[0]].a.name for batch in batches]
        for outcome in run(read_task, calls, self._scheduler, labels):
            found.update(zip(batches[outcome.number], outcome.result(), strict=True))
        return [found[number] for number in range(len(pairs))]

    def _place(self, pair: Pair) -> tuple[str, int, int]:
        ordinals = self._left.position(pair.a.name), self._right.position(pair.b.name)
        return pair.outcome, ordinals[0] or 0, ordinals[1] or 0

    def _added(self, missing: int) -> list[ComparedValue]:
        if self._wanted is None and len(self._two) == self._paired and not missing:
            return []
        return [
            compared_value(self._right, name, known)
            for name, known in self._right.iter_entries()
            if (self._wanted is None or name in self._wanted) and name not in self._one
        ]

    def _renamed(
        self, removed: list[ComparedValue], added: list[ComparedValue]
    ) -> list[tuple[ComparedValue, ComparedValue]]:
        """Pair names that only one side has, by equal content."""
        shared = {_facts(side) for side in removed} & {_facts(side) for side in added}
        lists = [[side for side in sides if _facts(side) in shared and side.nbytes] for sides in (removed, added)]
        has_digests = all(side.digest for side in chain(*lists))
        if not has_digests and (not self._values or sum(map(len, lists)) > MOST_RENAMES):
            return []
        waiting: dict[Any, list[ComparedValue]] = {}
        for b in lists[1]:
            waiting.setdefault((_facts(b), b.digest if has_digests else _beginning(b)), []).append(b)
        found = []
        for a in lists[0]:
            alike = waiting.get((_facts(a), a.digest if has_digests else _beginning(a)), [])
            for number, b in enumerate(alike):
                if self._proven([Pair("equal", a, b)]) if has_digests else _is_same(a, b):
                    self._by_digest += has_digests
                    found.append((a, alike.pop(number)))
                    break
        return found

    def _advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None and count > 0:
            total = self._one.index.fingerprint.size
            self._progress(min(self._done, total), total)


def _unlike(a: ComparedValue, b: ComparedValue) -> str:
    """The outcome that the facts alone decide; empty if they are equal."""
    if REFUSED in (a.kind, b.kind):
        return "refused"
    if a.kind != b.kind or len(a.types) != len(b.types):
        return "kind"
    if [shape for _, shape in a.types] != [shape for _, shape in b.types]:
        return "shape"
    return "dtype" if [dtype for dtype, _ in a.types] != [dtype for dtype, _ in b.types] else ""


def _samples(side: CheckpointAccess, values: list[ComparedValue]) -> list[bytes]:
    """Samples of values in a file."""
    return side.reader.samples([value.entry for value in values if value.entry is not None])


def _have_equal_digests(a: ComparedValue, b: ComparedValue) -> bool:
    return bool(a.digest) and a.digest == b.digest


def _have_digests(a: ComparedValue, b: ComparedValue) -> bool:
    """Whether both have digests that can be compared."""
    return bool(a.digest and b.digest) and len(a.digest) == len(b.digest) and a.nbytes == b.nbytes


def _facts(side: ComparedValue) -> Any:
    """The facts that must be equal for two values to be equal."""
    return side.kind, side.types, side.nbytes


def _beginning(side: ComparedValue) -> bytes:
    """A hash of the first piece of each array."""
    digest = hashlib.blake2b(digest_size=16)
    for content in side.item().contents:
        for piece in islice(content.pieces(), 1):
            digest.update(piece)
    return digest.digest()


def _is_same(a: ComparedValue, b: ComparedValue) -> bool:
    return all(map(same_bytes, a.item().contents, b.item().contents))
