"""`verify`: read a whole file, and make every check that it allows.

Strategy: positional reads, so that a bad disk gives an error and not a signal. The headers are walked in the file (in
an AES-GCM file this authenticates the blocks) and compared with the index, if it is fresh. Then the contents are read
on threads, and compared with the file's checksum and the index's digests, as far as they exist. A fault ends its own
check; the others continue if they can.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final, TypeVar

from lazyckpt.errors import CorruptFile, DamagedBlock, FileFault, LazyCkptError, MissingFile, StaleIndex, WrongKey
from lazyckpt.explore.index_status import damage_of, sidecars_of
from lazyckpt.explore.inventory import Inventory, Sample
from lazyckpt.explore.set_status import is_set, set_status
from lazyckpt.explore.verify_report import Check, Verification
from lazyckpt.explore.zero_runs import judge, zero_runs
from lazyckpt.formats import FORMATS, find, format_of
from lazyckpt.formats.ckpt import trailer
from lazyckpt.formats.safetensors import CRC
from lazyckpt.index import Index
from lazyckpt.index.batch import find_checkpoints
from lazyckpt.index.build import IndexOptions, open_fresh
from lazyckpt.index.open_file import without_index
from lazyckpt.model.entry import STRING, Entry, Found, Plain, entry_of
from lazyckpt.reading.reader import PIECE, FileReader, Reader
from lazyckpt.runtime.workers import Progress, worker_count
from lazyckpt.sharding.rank_folders import read_folder
from lazyckpt.sharding.weight_map import parts_of
from lazyckpt.sources import CACHE_BYTES, BaseSource, RawFile, Source, open_source
from lazyckpt.sources.encryption.decryption import GcmSource, open_encrypted
from lazyckpt.sources.encryption.keys import OWN_MODE, DeferredKey, Key, Secret, secret_of
from lazyckpt.sources.encryption.sequential import sequential_view
from lazyckpt.sources.paths import as_path, is_listing, resolved

# What to do about a doubt: compare; or say that the values are right, so that the question does not come up again.
DOUBTED: Final = (
    "; compare the size and checksum with the original's, or if they are right, save them with a checksum"
    " (lazyckpt convert --crc)"
)
WHOLE: Final = "; 'lazyckpt extract --whole' saves the values that are whole"
_BATCH: Final = 2048  # tasks given to threads at once
_T = TypeVar("_T")


def verify(
    path: str | os.PathLike[str],
    key: Key | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Read all of a checkpoint, and make every check that it allows.

    >>> report = lazyckpt.verify("LeNet5-1_32.ckpt")
    >>> report.intact
    True
    >>> [check.name for check in report.checks if check.outcome == "passed"]
    ['headers', 'gaps']

    Args:
        path: a `.ckpt` or safetensors file, the listing of a set, or a folder, whose files are checked one by one
            and together.
        key: the key of an encrypted file, or a `KeyReference`. The mode is read from the file.
        workers: number of threads; None for one per processor, up to 8.
        progress: called as `progress(done, total)` with bytes, from any thread, one call at a time.

    Returns:
        A report that prints, renders in notebooks, and exports. `.intact` is true if no check failed. Checks that were
        not possible are listed as well: without a checksum or digests, there is nothing to compare contents with.

    Raises:
        ArgumentTypeError, ArgumentValueError: `path` is not a path, or `key` is not a key. A fault of the file is part
            of the report, and is not raised.

    Cost: reads the file once, with 8 MiB in memory per thread. A file that has both a checksum and digests is read for
    both at the same time; an AES-GCM file with digests is decrypted twice. Nothing is written.
    """
    try:
        secret = secret_of(key)
    finally:
        key = None  # so that no traceback's variables show it
    text = as_path(path)
    if is_set(text):
        return _verify_set(text, secret, workers, progress)
    run = _Run(text, worker_count(workers), progress)
    run.all(secret)
    return Verification(run.path, run.size, time.perf_counter() - run.began, tuple(run.checks))


def verify_set(path: str, key: Secret | None) -> Verification:
    """Check that the files of a listing or a folder can be loaded together. See `set_status`.

    A folder may hold files that are no one checkpoint. That is no fault; a missing part is.
    """
    began = time.perf_counter()
    status = set_status(path, key)
    fault, outcome = status.fault, "failed" if status.refused.count else "passed"
    if fault is not None:
        is_listed = is_listing(path) or (isinstance(fault, FileFault) and bool(read_folder(path).listings()))
        outcome = "failed" if is_listed or isinstance(fault, MissingFile) else "unchecked"
    advice = WHOLE if outcome == "failed" and isinstance(fault, (CorruptFile, MissingFile)) else ""
    return Verification(path, 0, time.perf_counter() - began, (Check("set", outcome, f"{status}{advice}"),))


def _verify_set(path: str, key: Secret | None, workers: int | None, progress: Progress | None) -> Verification:
    """Check the files of a set one by one, and together."""
    began = time.perf_counter()
    checks = list(verify_set(path, key).checks)
    size = 0
    files = list(dict.fromkeys(_files_of(path)))
    bad = Sample()
    for file in files:
        run = _Run(file, worker_count(workers), progress)
        run.all(key)
        report = Verification(os.path.basename(file), run.size, 0.0, tuple(run.checks))
        size += run.size
        if not report.intact:
            bad.add(report.summary().rpartition(";")[0])
    if bad.count:
        checks.append(Check("files", "failed", f"{bad.count:,} of {len(files):,} are not intact: {bad}"))
    elif files:
        checks.append(Check("files", "passed", f"all {len(files):,} are intact, as far as they can be checked"))
    return Verification(path, size, time.perf_counter() - began, tuple(checks))


def _files_of(path: str) -> list[str]:
    """The files of a listing or a folder; none if the listing cannot be read."""
    try:
        return parts_of(path) if is_listing(path) else find_checkpoints([path])
    except LazyCkptError:
        return []


class _Run:
    """The checks of one file."""

    def __init__(self, path: str, workers: int, progress: Progress | None) -> None:
        self.path = path
        self.size = 0
        self.began = time.perf_counter()
        self.checks: list[Check] = []
        self._workers = workers
        self._progress = progress
        self._done = 0
        self._passes = 1
        self._turn = threading.Lock()
        self._has_strings = False

    def all(self, key: Secret | None) -> None:
        """Make every check that is possible."""
        opened: RawFile | None = None
        try:
            late_key = DeferredKey(lambda file, mode: key)  # a plain file does not ask for it
            opened = open_source(resolved(self.path), late_key, OWN_MODE, access="pread")
            self.size = opened.origin.fingerprint.size
            self._opened(opened, format_of(opened.source))
        except (LazyCkptError, OSError, ValueError) as error:
            self._add("opened", "failed", f"{_message(error)}{WHOLE if isinstance(error, CorruptFile) else ''}")
        finally:
            if opened is not None:
                opened.source.close()

    def _add(self, name: str, outcome: str, detail: str) -> None:
        self.checks.append(Check(name, outcome, detail))

    def _has(self, name: str) -> bool:
        return any(check.name == name for check in self.checks)

    def _opened(self, opened: RawFile, form: str) -> None:
        source: Source = opened.source
        found = open_fresh(opened, IndexOptions(format=form, cache=0))
        index = None if found is None else found.index
        try:
            if opened.lock is not None:
                source = open_encrypted(opened.source, opened.lock, None, CACHE_BYTES)
            stored = _crc(source, form)
            digests = index is not None and index.has_digests
            tagged = isinstance(source, GcmSource)
            self._passes = tagged + (stored is not None) + digests or 1
            for damage in self._damage(opened, index):
                self._add("index", "failed", f"{damage}; rebuild the index (lazyckpt index --force)")
            if self._headers(source, form, index):
                believed = not any(check.name == "index" and check.outcome == "failed" for check in self.checks)
                self._contents(source, opened.source, form, stored, index if digests and believed else None)
                if self._has_strings:
                    self._strings(source, form)
                if opened.lock is None:
                    self._zeros(source, form)
            self._advance(self._passes * self.size - self._done)
        finally:
            if index is not None:
                index.close()

    @staticmethod
    def _damage(opened: RawFile, index: Index | None) -> list[str]:
        """The damage in the index in use, or in sidecars that cannot be used; at most one."""
        if index is not None:
            sidecars = [] if index.path is None else [(index.path, damage_of(index.path))]
        elif opened.origin.is_remote:
            sidecars = []
        else:
            sidecars = [(each.path, each.why) for each in sidecars_of(opened.origin.path) if each.state == "damaged"]
        return [f"the index {path} is damaged ({why})" for path, why in sidecars if why][:1]

    def _headers(self, source: Source, form: str, index: Index | None) -> bool:
        """Walk the headers; return whether the walk reached the end of the file."""
        inventory = Inventory()
        agreement = _Agreement(index)
        try:
            with sequential_view(source) as sweep:
                inventory.take(agreement.watched(self._counted(find(sweep, form), isinstance(source, GcmSource))))
        except DamagedBlock as error:
            if isinstance(source, GcmSource):
                self._blocks(source)
            else:
                self._add("blocks", "failed", _message(error))
            return False
        except StaleIndex as error:  # the index contradicts itself; the file may still be good
            if not self._has("index"):
                self._add("index", "failed", _message(error))
            return self._headers(source, form, None)
        except WrongKey:  # concerns the whole file: nothing was checked
            raise
        except (LazyCkptError, OSError) as error:
            is_whole = isinstance(error, CorruptFile) and inventory.parameters > inventory.refused.count
            self._add("headers", "failed", f"{_message(error)}{WHOLE if is_whole else ''}")
            return False
        self._encryption(source)
        self._has_strings = STRING in inventory.kinds
        some = inventory.refused
        if not inventory.parameters:
            self._add("headers", "failed", "there is no parameter in it")
            return False
        if some.count:
            self._add("headers", "failed", f"{some.count:,} of {inventory.parameters:,} cannot be loaded: {some}")
        elif inventory.long_names.count:
            long = inventory.long_names
            what = f"{long.count:,} of {inventory.parameters:,} cannot be loaded, their names are too long: {long}"
            self._add("headers", "failed", what)
        else:
            self._add("headers", "passed", f"{inventory.parameters:,} parameters, all of them possible")
        gap = inventory.unowned + (max(0, trailer(source).body - inventory.stop) if form == "ckpt" else 0)
        again = f"; {inventory.replaced.count:,} are replaced by later ones" if inventory.replaced.count else ""
        if gap:
            self._add("gaps", "failed", f"{gap:,} bytes belong to no parameter{again}")
        else:
            self._add("gaps", "passed", f"nothing lies between parameters{again}")
        if not self._has("index"):
            self.checks += agreement.checks()
        return True

    def _counted(self, found: Iterable[Found], counts: bool) -> Iterator[Found]:
        done = 0
        for one in found:
            if counts and one.stop - done >= PIECE:
                self._advance(one.stop - done)
                done = one.stop
            yield one

    def _encryption(self, source: Source) -> None:
        table = getattr(source, "table", None)
        if isinstance(source, GcmSource):
            self._add("blocks", "passed", f"the tags of all {len(source.table):,} blocks are right")
        elif table is not None:
            self._add("blocks", "passed", f"the padding of all {len(table):,} blocks is possible")

    def _blocks(self, source: GcmSource) -> None:
        """Find all damaged blocks, after one was found."""
        damaged = Sample()

        def check(number: int) -> str:
            try:
                source.decrypt(number, [])
            except DamagedBlock:
                return f"{number} (at byte {source.table[number].offset:,})"
            return ""

        for text in self._map(check, range(len(source.table))):
            if text:
                damaged.add(text)
        self._add(
            "blocks", "failed", f"{damaged.count:,} of {len(source.table):,} do not authenticate: {damaged}{WHOLE}"
        )

    def _contents(self, source: Source, raw: Source, form: str, stored: int | None, index: Index | None) -> None:
        """Read the contents, and compare them with the checksum and digests, if there are any."""
        reader = FileReader(without_index(source, FORMATS[form]))
        with ThreadPoolExecutor(1, thread_name_prefix="lazyckpt") as aside:
            crc = None if stored is None else aside.submit(self._checksum, _Watched(source, self._advance), form)
            bad = Sample()
            if index is not None:

                def digest(entry: Entry) -> str:
                    return self._digest(reader, entry)

                for text in self._map(digest, index.entries()):
                    if text:
                        bad.add(text)
            if crc is not None:
                self.checks.append(crc.result())
        if index is not None:
            failed = f"{bad.count:,} of {len(index):,} values are not those that were indexed: {bad}"
            passed = f"all {len(index):,} values are those that were indexed"
            self._add("digests", "failed" if bad.count else "passed", failed if bad.count else passed)
        if isinstance(source, GcmSource) or stored is not None or index is not None:
            return
        try:
            for count in self._map(self._reader(raw), range(0, raw.size, PIECE)):
                self._advance(count)
        except (LazyCkptError, OSError) as error:
            self._add("contents", "failed", _message(error))
            return
        self._add(
            "contents",
            "unchecked",
            "every byte can be read; there is no checksum, and no digests, to compare the values with"
            " (store some while the file is good: lazyckpt index --digest)",
        )

    def _strings(self, source: Source, form: str) -> None:
        """Decode the strings, which hold any bytes only if they are damaged."""
        reader = FileReader(without_index(source, FORMATS[form]))
        bad = Sample()
        for found in find(source, form):
            if isinstance(found, Plain) or found.kind != STRING:
                continue
            entry = entry_of(found)
            try:
                reader.value(entry)
            except (LazyCkptError, OSError) as error:
                bad.add(f"{entry.name!r} ({_message(error)})")
        if bad.count:
            self._add("strings", "failed", f"{bad.count:,} cannot be read: {bad}")

    def _zeros(self, source: Source, form: str) -> None:
        """Judge zeros in a plain file, unless a checksum proves the values.

        Digests do not: they may have been stored after the download.
        """
        if any(check.name == "crc" or check.outcome == "failed" for check in self.checks):
            return
        try:
            doubt = judge(find(source, form), zero_runs(source, sampled=False), source.size)
        except (LazyCkptError, OSError) as error:
            self._add("zeros", "failed", _message(error))
            return
        if doubt is not None and doubt.why:
            self._add("zeros", "failed", f"{doubt}{DOUBTED}")
        elif doubt is not None and not self._has("digests"):
            self._add("zeros", "unchecked", str(doubt))

    def _checksum(self, source: Source, form: str) -> Check:
        try:
            stored, found = FORMATS[form].checksums(source)
        except (LazyCkptError, OSError) as error:
            return Check("crc", "failed", _message(error))
        if stored != found:
            return Check("crc", "failed", f"the file says {stored:#010x}, its bytes give {found:#010x}")
        return Check("crc", "passed", f"{found:#010x}")

    def _digest(self, reader: Reader, entry: Entry) -> str:
        """The name of a value if it differs from the indexed one, else an empty string."""
        try:
            if entry.digest:
                for piece in _stored(reader, entry):
                    self._advance(piece)
        except (CorruptFile, OSError) as error:
            return f"{entry.name!r} ({_message(error)})"
        except FileFault:
            return f"{entry.name!r} (its header is another)"
        return ""

    @staticmethod
    def _reader(source: Source) -> Callable[[int], int]:
        return lambda start: source.snapshot(start, min(PIECE, source.size - start)).nbytes

    def _map(self, task: Callable[[Any], _T], items: Iterable[Any]) -> Iterator[_T]:
        """`map` on threads, a batch at a time."""
        items = iter(items)
        with ThreadPoolExecutor(self._workers, thread_name_prefix="lazyckpt") as pool:
            while batch := list(islice(items, _BATCH)):
                yield from pool.map(task, batch)

    def _advance(self, count: int) -> None:
        if self._progress is None or count <= 0:
            return
        with self._turn:
            total = self._passes * self.size
            self._done = min(self._done + count, total)
            self._progress(self._done, total)


class _Agreement:
    """Compares the entries of an index with those that a walk finds."""

    def __init__(self, index: Index | None) -> None:
        self._index = index
        self._unlike = Sample()
        self._found = 0

    def watched(self, found: Iterable[Found]) -> Iterator[Found]:
        """Yield what is found, after comparing it with the index."""
        if self._index is None:
            yield from found
            return
        ahead = self._index.entries()
        expected = next(ahead, None)
        waiting: dict[str, Entry] = {}
        for one in found:
            entry = entry_of(one)
            if expected is not None and _is_like(entry, expected):
                expected = next(ahead, None)
                self._found += 1
            else:  # a value that a later one of its name replaces, or that replaces one
                waiting[entry.name] = entry
                if expected is not None and expected.name == entry.name:
                    expected = next(ahead, None)
            yield one
        for name, entry in waiting.items():
            known = self._index.get(name)
            if known is None or not _is_like(entry, known):
                self._unlike.add(repr(name))
            else:
                self._found += 1

    def checks(self) -> list[Check]:
        """The outcome."""
        if self._index is None:
            return [Check("index", "unchecked", "there is no fresh index, or it is sealed with another key")]
        missing = len(self._index) - self._found
        where = self._index.path or "in memory"
        if self._unlike.count or missing > 0:
            what = f"{self._unlike.count or missing:,} entries of {where} are not the file's: {self._unlike}"
            return [Check("index", "failed", f"{what}; build it again (lazyckpt index --force)")]
        return [Check("index", "passed", f"all {len(self._index):,} entries of {where} are the file's")]


class _Watched(BaseSource):
    """A source whose reads are counted."""

    def __init__(self, source: Source, counted: Callable[[int], object]) -> None:
        self.name, self.size = source.name, source.size
        self.window, self.window_limit = max(1, source.window), source.window_limit
        self._source = source
        self._counted = counted

    def _view(self, offset: int, length: int) -> memoryview:
        self._counted(length)
        return self._source.snapshot(offset, length)

    def _fill(self, offset: int, destination: memoryview) -> None:
        self._counted(destination.nbytes)
        self._source.read_into(offset, destination)


def _stored(reader: Reader, entry: Entry) -> Iterator[int]:
    """Read a value, and compare it with its digest; the bytes of each piece."""
    if entry.arrays:  # a map's are compared as a whole
        reader.value(entry)
        yield entry.stored
    else:
        yield from (piece.nbytes for piece in reader.stored(entry))


def _is_like(entry: Entry, indexed: Entry) -> bool:
    return entry == (indexed._replace(digest=b"") if indexed.digest else indexed)


def _crc(source: Source, form: str) -> int | None:
    """The checksum stored in a file; None if there is none, or damage hides it."""
    try:
        if form == "ckpt":
            return trailer(source).crc
        return 0 if CRC in FORMATS[form].metadata(source) else None
    except LazyCkptError:
        return None


def _message(error: BaseException) -> str:
    """The message of an error, without the file's name."""
    if isinstance(error, FileFault):
        error.file = None
    return str(error) or type(error).__name__
