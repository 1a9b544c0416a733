"""From a file to its index: found fresh, or built in one pass and put in its place.

Strategy: places are tried in order (beside the file, then the user's cache folder; see `place`). A sidecar is used if
it can be opened and carries the file's fingerprint; anything else (older, foreign, damaged) is rebuilt, not trusted
and not fatal; so is one that proves damaged later, while it is read (see `mending`). If no place can be written the
index is built in memory, and the log says so; likewise if the file is replaced meanwhile, of which the place beside it
belongs to the new one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from types import ModuleType
from typing import Any, Final, NamedTuple

from lazyckpt.errors import ArgumentValueError, StaleIndex
from lazyckpt.formats import FORMATS, find, format_of
from lazyckpt.index import Index, locations
from lazyckpt.index.mending import MendingStore
from lazyckpt.index.records import BadRecord, Meta
from lazyckpt.index.schema import PLAIN_CODEC, Codec
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.index.store import MemoryStore, Store
from lazyckpt.model.entry import Entry, Fingerprint, Plain, entry_of
from lazyckpt.runtime import log
from lazyckpt.runtime.atomic_write import atomic_write
from lazyckpt.runtime.workers import Progress
from lazyckpt.sources import CACHE_BYTES, Opened, Source, open_source, reopen
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import AnySecret, Key, secret_or_late
from lazyckpt.sources.origin import ReplacedFile
from lazyckpt.sources.paths import given, resolved

AUTO: Final = "auto"
MEMORY: Final = "memory"
DIGESTS: Final = (None, "blake2b")
_RUN: Final = 1024  # entries between two calls of `progress`
_DENSE: Final = 2**16  # bytes a parameter, below which a file is read as a whole anyway
_RELEASE_EVERY: Final = 2**25  # bytes of headers and payloads walked past


class Found(NamedTuple):
    """An opened file's index, the file's plain bytes, its format, and whether the index was there already."""

    entries: Index
    source: Source
    format: str
    fresh: bool = False

    def close(self) -> None:
        """Let go of both."""
        self.source.close()
        self.entries.close()


class _Stored(NamedTuple):
    """A store, the file's plain bytes as it pins them, and whether it was there already."""

    store: Sidecar | MemoryStore
    source: Source
    fresh: bool = False


class Wishes(NamedTuple):
    """How an index should be: see `build_index`. `format` is the file's; empty for what its bytes tell."""

    force: bool = False
    digest: str | None = None
    sealed: bool = True
    progress: Progress | None = None
    cache: int = CACHE_BYTES
    format: str = ""


DEFAULTS: Final = Wishes()


def build_index(
    path: str | os.PathLike[str],
    dec_key: Key | None = None,
    dec_mode: str = DEFAULT_MODE,
    *,
    index_path: str | os.PathLike[str] | None = None,
    force: bool = False,
    digest: str | None = None,
    sealed: bool = True,
    progress: Progress | None = None,
) -> Index:
    """Build the index of a checkpoint, or find it fresh, and open it.

    Args:
        path: the checkpoint, a `.ckpt` or a safetensors file, whatever it is called.
        dec_key: the key of an encrypted checkpoint, or a `lazyckpt.KeyReference` to its place.
        dec_mode: its mode: AES-GCM, AES-CBC or SM4-CBC.
        index_path: where the sidecar goes; None for `<path>.lmdb`, or the user's cache folder if that cannot be
            written. `"memory"` writes nothing.
        force: build it even if a fresh one is there.
        digest: `"blake2b"` also stores a digest of every value, which costs reading them all. A value that is later
            read whole into memory of its own (by `load`, `asnumpy(copy=True)`, or from an encrypted file) is compared
            with it: for CBC files, which nothing authenticates, the only way to notice damage.
        sealed: keep the names and shapes of an encrypted checkpoint secret: only its key opens the sidecar. False
            writes them in clear.
        progress: called as `progress(done, total)` with byte counts while the file is walked.

    Returns:
        The index, a read-only mapping name -> Entry in file order.

    Raises:
        MissingFile, UnreadableFile: there is nothing to read.
        CorruptFile, WrongFormat: it is no checkpoint.
        ChangedFile: it changed while it was walked.
        ArgumentTypeError, ArgumentValueError: an argument is wrong, or `index_path` cannot be written.

    Cost: time O(parameters), about 5 us each the first time; headers are read, payloads are not (unless `digest`).
    An AES-GCM file is decrypted once, whole, to authenticate every block; of a CBC file only headers are decrypted.
    """
    try:
        key = secret_or_late(dec_key)
    finally:
        dec_key = None  # so that no traceback's variables show it
    where = AUTO if index_path is None else check_place(index_path)
    if digest not in DIGESTS:
        raise ArgumentValueError(f"digest must be one of {DIGESTS}, not {digest!r}")
    wishes = Wishes(force, digest, sealed, progress)
    found = open_indexed(resolved(os.fspath(path)), key, dec_mode, where, wishes)
    found.source.close()
    return found.entries


def check_place(where: object) -> str:
    """An `index=` argument as a string.

    Raises:
        ArgumentTypeError: it is no path.
    """
    return given(where, "index must be 'auto', 'memory' or a path")


def open_indexed(
    path: str, key: AnySecret = None, dec_mode: str = DEFAULT_MODE, where: str = AUTO, wishes: Wishes = DEFAULTS
) -> Found:
    """Open a file together with its index, which is found fresh, or built.

    Args:
        path: the file, links resolved.
        key: of an encrypted file.
        dec_mode: its mode.
        where: `auto`, `memory` or a path.
        wishes: how the index is to be.

    Raises, Cost: as `build_index`. Nothing stays open then.
    """
    opened = open_source(path, key, dec_mode, cache=wishes.cache)
    try:
        return obtain(opened, where, wishes)
    except BaseException:
        opened.source.close()
        raise


def obtain(opened: Opened, where: str = AUTO, wishes: Wishes = DEFAULTS) -> Found:
    """The index of an opened file: fresh from its place, or built. See `build_index`."""
    wishes = _settled(wishes, opened)
    store, source, fresh = _store_of(opened, where, wishes)
    mending = MendingStore(store, partial(_anew, opened, where, wishes)) if isinstance(store, Sidecar) else store
    return Found(Index(mending), source, wishes.format, fresh)


def _store_of(opened: Opened, where: str, wishes: Wishes) -> _Stored:
    if where not in (AUTO, MEMORY):
        locations.check_replaceable(where, opened)
    if where != MEMORY:
        if not wishes.force:
            found = _first_fresh(locations.known(opened) if where == AUTO else [where], opened, wishes)
            if found is not None:
                return found
        found = _kept(locations.writable(opened) if where == AUTO else [where], opened, where, wishes)
        if found is not None:
            return found
    source = _plain(opened, wishes)
    with _entries(opened, source, wishes) as entries:
        store = MemoryStore(entries, _facts(opened, wishes))
    return _Stored(store, source)


def _anew(opened: Opened, where: str, wishes: Wishes, damaged: Sidecar) -> Store:
    """What takes the place of a sidecar that proved damaged: found there if another process built it, or built.

    Raises:
        StaleIndex: the file is another now.
        MissingFile, …: as `build_index`.
    """
    now = reopen(opened)
    try:
        if not now.origin.bears(opened.fingerprint):
            raise StaleIndex("the file was changed or replaced since it was opened", file=opened.path)
        sealed = damaged.meta.sealed or opened.lock is None
        again = wishes._replace(force=damaged.in_place, digest=None, sealed=sealed, progress=None)
        return _store_of(now, where, again).store
    finally:
        now.source.close()


def existing(opened: Opened, wishes: Wishes = DEFAULTS) -> Found | None:
    """The fresh index of an opened file, if it has one. Nothing is built.

    Raises:
        WrongKey: the key is not the one that the index was built with, nor does it open the file.
    """
    wishes = _settled(wishes, opened)
    found = _first_fresh(locations.known(opened), opened, wishes)
    return None if found is None else Found(Index(found.store), found.source, wishes.format, fresh=True)


def _settled(wishes: Wishes, opened: Opened) -> Wishes:
    """The wishes, with the format that the file is in."""
    if wishes.format:
        return wishes
    return wishes._replace(format="ckpt" if opened.lock is not None else format_of(opened.source))


def _kept(candidates: list[str], opened: Opened, where: str, wishes: Wishes) -> _Stored | None:
    """An index that is built and kept at the first place that can be written, or None."""
    for candidate in candidates:
        try:
            return _build(candidate, opened, wishes)
        except ReplacedFile:
            log.info("%s was replaced while it was indexed: what was opened is indexed in memory", opened.path)
            return None
        except OSError as error:
            if where != AUTO:
                raise ArgumentValueError(f"the index cannot be written to {candidate}: {error}") from error
            log.info("no index at %s: %s", candidate, error)
    log.warning("no place to keep the index of %s: it is built in memory and will be built again", opened.path)
    return None


def index_in_memory(source: Source, form: str) -> Index:
    """The index of bytes that are in no file, in a format.

    Raises:
        CorruptFile, WrongFormat: the bytes are none of that format.
    """
    mark = Fingerprint(source.size, 0, bytes(16))
    return Index(MemoryStore(find(source, form), Meta(mark, format=form)))


def _first_fresh(candidates: Iterable[str], opened: Opened, wishes: Wishes) -> _Stored | None:
    return next(filter(None, (_fresh(candidate, opened, wishes) for candidate in candidates)), None)


def _fresh(path: str, opened: Opened, wishes: Wishes) -> _Stored | None:
    try:
        store = Sidecar(path)
    except OSError:
        return None
    except BadRecord as error:
        log.info("the index %s is not used: %s", path, error)
        return None
    try:
        source = _source_for(store, opened, wishes)
    except StaleIndex as error:
        log.info("the index %s is not used: %s", path, error.what)
        store.close()
        return None
    return _Stored(store, source, fresh=True)


def _source_for(store: Sidecar, opened: Opened, wishes: Wishes) -> Source:
    """The file's plain bytes as this index pins them.

    Raises:
        StaleIndex: the index is not this file's, or lacks what is wished for.
        WrongKey: the key is not the one that the index was built with, nor does it open the file.
    """
    meta = store.meta
    known = locations.is_known(store.path, opened) and meta.fingerprint.size == opened.source.size
    if not (known or opened.origin.bears(meta.fingerprint)) or meta.format != wishes.format:
        raise StaleIndex("it is of an older or of another file")
    if (wishes.digest is not None and not meta.digests) or (meta.sealed and opened.lock is None):
        raise StaleIndex("it does not have what is wanted")
    if opened.lock is None:
        return opened.source
    unlocked: Source = _locked().unlock(store, opened.source, opened.lock, wishes.cache)
    return unlocked


def _plain(opened: Opened, wishes: Wishes) -> Source:
    """The file's plain bytes, without an index."""
    if opened.lock is None:
        return opened.source
    decrypted: Source = _locked().open_encrypted(opened.source, opened.lock, None, wishes.cache)
    return decrypted


def _locked() -> ModuleType:
    """What only encrypted files need."""
    from lazyckpt.index import sealing as locked

    return locked


def _build(path: str, opened: Opened, wishes: Wishes) -> _Stored:
    from lazyckpt.index.write import write

    source: Any = _plain(opened, wishes)  # of an encrypted file, one with a table
    facts = _facts(opened, wishes)
    codec: Codec = PLAIN_CODEC
    frames = None
    if opened.lock is not None:
        sealing = _locked().Sealing(opened.lock, wishes.sealed)
        facts, codec, frames = sealing.facts(facts), sealing.codec, sealing.frames(source.table)

    def fill(private: str) -> None:
        nonlocal facts
        with _entries(opened, source, wishes) as entries:
            facts = write(private, entries, facts, codec, frames)
        opened.origin.check()

    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    atomic_write(path, fill, mode=opened.origin.mode & 0o666 | 0o400)
    try:
        store = Sidecar(path)
    except BadRecord as error:
        raise OSError(f"what was written cannot be read back: {error}") from error
    if store.meta != facts:  # another index came to its place
        store.close()
        raise ReplacedFile(path)
    store.unlock(codec)
    locations.forget_others(path, opened)
    return _Stored(store, source)


def _facts(opened: Opened, wishes: Wishes) -> Meta:
    return Meta(opened.fingerprint, digests=wishes.digest is not None, format=wishes.format)


@contextlib.contextmanager
def _entries(opened: Opened, source: Source, wishes: Wishes) -> Iterator[Iterator[Plain | Entry]]:
    """The entries of a source; when the `with` block ends, all of an authenticated file has been verified."""
    walked = contextlib.nullcontext(source) if opened.lock is None else _locked().swept(source)
    with opened.origin.walking(), walked as sweep:
        entries: Iterator[Plain | Entry] = chain.from_iterable(_runs(sweep, wishes))
        if wishes.digest is not None:
            entries = (_digested(source, entry_of(found)) for found in entries)
        yield entries


def _runs(source: Source, wishes: Wishes) -> Iterator[list[Plain | Entry]]:
    """The entries, many at a time; in between says how far the walk is, and lets go of the pages left behind."""
    released = done = 0
    entries = find(source, wishes.format)
    in_order = FORMATS[wishes.format].in_file_order
    progress = wishes.progress
    source.scattered(wishes.digest is None)
    while run := list(islice(entries, _RUN)):
        yield run
        passed, done = done, run[-1].stop if in_order else done + sum(map(_stored, run))
        if done - passed < _DENSE * len(run):  # headers lie close together: what is around one is wanted, too
            source.scattered(False)
        if in_order and done - released >= _RELEASE_EVERY:
            source.release(released, done - released)
            released = done
        if progress is not None:
            progress(done, source.size)
    source.scattered(False)
    if progress is not None:
        progress(source.size, source.size)


def _stored(found: Plain | Entry) -> int:
    return found.length if isinstance(found, Plain) else found.stored


def _digested(source: Source, entry: Entry) -> Entry:
    from lazyckpt.formats.digest import digest_of

    digest = digest_of(source, entry)
    for extent in entry.all_extents:
        source.release(*extent)
    return entry._replace(digest=digest)
