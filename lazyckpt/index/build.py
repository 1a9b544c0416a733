"""Open the index of a file: a fresh existing one, or one that is built in a single pass.

Locations are tried in order: beside the file, then the user's cache folder (see `locations`). A sidecar is used if it
can be opened and carries the file's fingerprint. Any other one (older, foreign, damaged) is ignored and built again. A
sidecar that proves damaged later, while it is read, is built again too (see `stored`). If no location can be written,
the index is built in memory, and the log says so. If the file is replaced during indexing, the index is also kept in
memory only, because the path beside it now belongs to the new file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from types import ModuleType
from typing import Any, Final, NamedTuple, cast

from lazyckpt.errors import ArgumentValueError, StaleIndex
from lazyckpt.formats import FORMATS, find, format_of
from lazyckpt.index import Index, locations
from lazyckpt.index.footer import Meta
from lazyckpt.index.open_file import Handle, OpenFile
from lazyckpt.index.records import BadRecord
from lazyckpt.index.schema import PLAIN_CODEC, Codec
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.index.store import MemoryStore
from lazyckpt.index.stored import StoredIndex
from lazyckpt.model.entry import Entry, Found, Packed, Plain, entry_of
from lazyckpt.runtime import log
from lazyckpt.runtime.atomic_write import atomic_write, make_private_folders
from lazyckpt.runtime.os_errors import LIMITS, WRITE, translated
from lazyckpt.runtime.workers import Progress
from lazyckpt.sources import CACHE_BYTES, RawFile, Source, open_source, reopen
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import NO_KEY, AnySecret, Key, Secret, secret_or_late
from lazyckpt.sources.origin import ReplacedFile
from lazyckpt.sources.paths import as_path, resolved

AUTO: Final = "auto"
MEMORY: Final = "memory"
WHERE: Final = "index must be 'auto', 'memory' or a path"  # the message for any other argument
DIGESTS: Final = (None, "blake2b")
_RUN: Final = 1024  # entries between two calls of `progress`
_DENSE: Final = 2**16  # bytes per parameter, below which a walk reads the whole file anyway
_RELEASE_EVERY: Final = 2**25  # bytes of headers and payloads walked past


class IndexOptions(NamedTuple):
    """Options of an index: see `build_index`. `format` is the file's; empty to detect it."""

    force: bool = False
    digest: str | None = None
    sealed: bool = True
    progress: Progress | None = None
    cache: int = CACHE_BYTES
    format: str = ""


DEFAULTS: Final = IndexOptions()


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
    """Open the index of a checkpoint, which is built if there is no fresh one.

    Args:
        path: the checkpoint, a `.ckpt` or a safetensors file, whatever it is called.
        dec_key: the key of an encrypted checkpoint, or a `lazyckpt.KeyReference` to it.
        dec_mode: its mode: AES-GCM, AES-CBC or SM4-CBC.
        index_path: the path of the sidecar; None for `<path>.lmdb`, or the user's cache folder if that cannot be
            written. `"memory"` writes nothing.
        force: build it even if a fresh one exists.
        digest: `"blake2b"` also stores a digest of every value, which costs reading them all. A value that is later
            read whole into memory of its own (by `load`, `asnumpy(copy=True)`, or from an encrypted file) is compared
            with it: for CBC files, which nothing authenticates, the only way to notice damage.
        sealed: keep the names and shapes of an encrypted checkpoint secret: only its key opens the sidecar. False
            writes them in clear.
        progress: called as `progress(done, total)` with byte counts during the walk.

    Returns:
        The index, a read-only mapping name -> Entry in file order.

    Raises:
        MissingFile, UnreadableFile: it does not exist, or cannot be read.
        CorruptFile, WrongFormat: it is not a checkpoint.
        ChangedFile: it changed during the walk.
        ArgumentTypeError, ArgumentValueError: an argument is wrong, or `index_path` cannot be written.

    Cost: time O(parameters), about 5 us each the first time; headers are read, payloads are not (unless `digest`).
    An AES-GCM file is decrypted once, whole, to authenticate every block; of a CBC file only headers are decrypted.
    """
    try:
        key = secret_or_late(dec_key)
    finally:
        dec_key = None  # so that no traceback's variables show it
    where = AUTO if index_path is None else as_path(index_path, WHERE)
    if digest not in DIGESTS:
        raise ArgumentValueError(f"digest must be one of {DIGESTS}, not {digest!r}")
    options = IndexOptions(force, digest, sealed, progress)
    file = open_indexed(resolved(os.fspath(path)), key, dec_mode, where, options)
    file.source.close()
    return file.index


def open_indexed(
    path: str, key: AnySecret = None, dec_mode: str = DEFAULT_MODE, where: str = AUTO, options: IndexOptions = DEFAULTS
) -> OpenFile:
    """Open a file together with its index, which is built if there is no fresh one.

    Args:
        path: the file, links resolved.
        key: of an encrypted file.
        dec_mode: its mode.
        where: `auto`, `memory` or a path.
        options: of the index.

    Raises, Cost: as `build_index`. Nothing stays open then.
    """
    raw = open_source(path, key, dec_mode, cache=options.cache)
    try:
        handle = handle_of(
            open_again, path, key, dec_mode, where, options
        )  # the key is read by now, and its origin known
        return replace(open_or_build(raw, where, options), handle=handle)
    except BaseException:
        raw.source.close()
        raise


def open_again(path: str, dec_mode: str, where: str, options: IndexOptions, key: Secret | None) -> OpenFile:
    """`open_indexed`, called by a handle."""
    return open_indexed(path, key, dec_mode, where, options)


def handle_of(
    opener: Callable[..., OpenFile], path: str, key: AnySecret, dec_mode: str, where: str, options: IndexOptions
) -> Handle:
    """A handle that opens the same file in another process, from any working directory."""
    location = where if where in (AUTO, MEMORY) else os.path.abspath(where)
    again = options._replace(force=False, progress=None)
    return Handle(opener, (path, dec_mode, location, again), NO_KEY if key is None else key.reference)


def open_or_build(raw: RawFile, where: str = AUTO, options: IndexOptions = DEFAULTS) -> OpenFile:
    """A raw file with its index, which is built if there is no fresh one. See `build_index`."""
    if not options.format:
        options = _with_format(options, raw)
    if where not in (AUTO, MEMORY):
        locations.check_replaceable(where, raw)
    if where != MEMORY:
        if not options.force:
            found = _first_fresh(locations.known(raw) if where == AUTO else [where], raw, where, options)
            if found is not None:
                return found
        locations_tried = locations.writable(raw) if where == AUTO else [where]
        found = _build_at_first_writable(locations_tried, raw, where, options)
        if found is not None:
            return found
    source = _plain(raw, options)
    with _entries(raw, source, options) as entries:
        store = MemoryStore(entries, _metadata(raw, options))
    return OpenFile(source, FORMATS[options.format], StoredIndex(store), raw.origin)


def open_fresh(raw: RawFile, options: IndexOptions = DEFAULTS) -> OpenFile | None:
    """A raw file with its fresh index, or None. Builds and repairs nothing.

    Raises:
        WrongKey: the key is not the one that the index was built with, nor does it open the file.
    """
    return _first_fresh(locations.known(raw), raw, None, _with_format(options, raw))


def _open_file(
    sidecar: Sidecar, source: Source, raw: RawFile, where: str | None, options: IndexOptions, was_indexed: bool
) -> OpenFile:
    rebuild = None if where is None else partial(_rebuild, raw, where, options)
    index = StoredIndex(sidecar, rebuild)
    return OpenFile(source, FORMATS[options.format], index, raw.origin, was_indexed=was_indexed)


def _rebuild(raw: RawFile, where: str, options: IndexOptions, damaged: Sidecar) -> StoredIndex:
    """The index that replaces a damaged sidecar: another process's, or one built now.

    Raises:
        StaleIndex: the file was changed or replaced.
        MissingFile, …: as `build_index`.
    """
    now = reopen(raw)
    try:
        if not now.origin.matches(raw.origin.fingerprint):
            raise StaleIndex("the file was changed or replaced since it was opened", file=raw.origin.path)
        sealed = damaged.meta.sealed or raw.lock is None
        again = options._replace(force=damaged.in_place, digest=None, sealed=sealed, progress=None)
        return cast("StoredIndex", open_or_build(now, where, again).index)
    finally:
        now.source.close()


def _with_format(options: IndexOptions, raw: RawFile) -> IndexOptions:
    """The options, with the detected format of the file."""
    if options.format:
        return options
    return options._replace(format="ckpt" if raw.lock is not None else format_of(raw.source))


def _build_at_first_writable(candidates: list[str], raw: RawFile, where: str, options: IndexOptions) -> OpenFile | None:
    """Build the index at the first location that can be written; None if there is none."""
    for location in candidates:
        try:
            return _build(location, raw, where, options)
        except ReplacedFile:
            log.info("%s was replaced during indexing: the opened file is indexed in memory", raw.origin.path)
            return None
        except OSError as error:
            if error.errno in LIMITS:
                raise translated(error, location, WRITE, "the index") from error
            if where != AUTO:
                raise ArgumentValueError(f"the index cannot be written to {location}: {error}") from error
            log.info("no index at %s: %s", location, error)
    log.warning(
        "no location for the index of %s can be written: it is built in memory, and again at the next open",
        raw.origin.path,
    )
    return None


def _first_fresh(candidates: Iterable[str], raw: RawFile, where: str | None, options: IndexOptions) -> OpenFile | None:
    for location in candidates:
        try:
            sidecar = Sidecar(location)
        except OSError:  # the usual case: there is none
            continue
        except BadRecord as error:
            log.info("the index %s is not used: %s", location, error)
            continue
        try:
            source = _source_for(sidecar, raw, options)
        except StaleIndex as error:
            log.info("the index %s is not used: %s", location, error.what)
            sidecar.close()
            continue
        return _open_file(sidecar, source, raw, where, options, was_indexed=True)
    return None


def _source_for(sidecar: Sidecar, raw: RawFile, options: IndexOptions) -> Source:
    """The plain bytes of the file, decrypted by the table of frames in the index.

    Raises:
        StaleIndex: the index is of another file, or lacks what the options need.
        WrongKey: the key is not the one that the index was built with, nor does it open the file.
    """
    meta = sidecar.meta
    # An object's version is compared first: its fingerprint costs two requests.
    is_known = bool(raw.origin.version) and locations.is_of_version(sidecar.path, raw)
    is_known &= meta.fingerprint.size == raw.source.size
    if not (is_known or raw.origin.matches(meta.fingerprint)) or meta.format != options.format:
        raise StaleIndex("it is of an older or of another file")
    if (options.digest is not None and not meta.digests) or (meta.sealed and raw.lock is None):
        raise StaleIndex("it lacks digests, or no key was given")
    if raw.lock is None:
        return raw.source
    unlocked: Source = _sealing().unlock(sidecar, raw.source, raw.lock, options.cache)
    return unlocked


def _plain(raw: RawFile, options: IndexOptions) -> Source:
    """The plain bytes of the file, without an index."""
    if raw.lock is None:
        return raw.source
    decrypted: Source = _sealing().open_encrypted(raw.source, raw.lock, None, options.cache)
    return decrypted


def _sealing() -> ModuleType:
    """The module `sealing`, which only encrypted files need."""
    from lazyckpt.index import sealing

    return sealing


def _build(path: str, raw: RawFile, where: str, options: IndexOptions) -> OpenFile:
    from lazyckpt.index.write import write

    source: Any = _plain(raw, options)  # for an encrypted file, a source with a table of frames
    facts = _metadata(raw, options)
    codec: Codec = PLAIN_CODEC
    frames = None
    if raw.lock is not None:
        sealing = _sealing().Sealing(raw.lock, options.sealed)
        facts, codec, frames = sealing.facts(facts), sealing.codec, sealing.frames(source.table)

    def fill(private: str) -> None:
        nonlocal facts
        with _entries(raw, source, options) as entries:
            facts = write(private, entries, facts, codec, frames)
        raw.origin.check()

    make_private_folders(os.path.dirname(path) or ".")
    atomic_write(path, fill, mode=locations.mode_at(path, raw))
    try:
        sidecar = Sidecar(path)
    except BadRecord as error:
        raise OSError(f"the new index cannot be read back: {error}") from error
    if sidecar.meta != facts:  # another process has replaced it
        sidecar.close()
        raise ReplacedFile(path)
    sidecar.unlock(codec)
    locations.forget_others(path, raw)
    return _open_file(sidecar, source, raw, where, options, was_indexed=False)


def _metadata(raw: RawFile, options: IndexOptions) -> Meta:
    return Meta(raw.origin.fingerprint, digests=options.digest is not None, format=options.format)


@contextlib.contextmanager
def _entries(raw: RawFile, source: Source, options: IndexOptions) -> Iterator[Iterator[Found]]:
    """The entries of a source; an authenticated file is verified to its end on exit."""
    walked = contextlib.nullcontext(source) if raw.lock is None else _sealing().sequential_view(source)
    with raw.origin.walking(), walked as sweep:
        entries: Iterator[Found] = chain.from_iterable(_runs(sweep, options))
        if options.digest is not None:
            entries = (_digested(source, entry_of(found)) for found in entries)
        yield entries


def _runs(source: Source, options: IndexOptions) -> Iterator[list[Found]]:
    """The entries in batches; reports progress between them, and drops the pages already read."""
    released = done = 0
    entries = find(source, options.format)
    in_order = FORMATS[options.format].in_file_order
    progress = options.progress
    source.advise_random(options.digest is None)
    while run := list(islice(entries, _RUN)):
        yield run
        passed, done = done, run[-1].stop if in_order else done + sum(map(_stored, run))
        if done - passed < _DENSE * len(run):  # headers are close together, so read-ahead pays
            source.advise_random(False)
        if in_order and done - released >= _RELEASE_EVERY:
            source.drop_pages(released, done - released)
            released = done
        if progress is not None:
            progress(done, source.size)
    source.advise_random(False)
    if progress is not None:
        progress(source.size, source.size)


def _stored(found: Found) -> int:
    if isinstance(found, Plain):
        return found.length
    return (entry_of(found) if isinstance(found, Packed) else found).stored


def _digested(source: Source, entry: Entry) -> Entry:
    from lazyckpt.formats.digest import digest_of

    digest = digest_of(source, entry)
    for extent in entry.all_extents:
        source.drop_pages(*extent)
    return entry._replace(digest=digest)
