"""`load_checkpoint`: MindSpore's arguments and order of checks, and what they open.

The first error is raised, in this order: prefixes, `dec_key`, `dec_mode`, the flags, `format`, the file's name, the
file, its bytes, `choice_func`, an empty result, `net`. Exceptions have the types that MindSpore documents; no message
repeats a key.
"""

from __future__ import annotations

import io
import os
from typing import Any

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CorruptFile,
    MissingFile,
    NothingLoaded,
)
from lazyckpt.formats import FORMAT_NAMES, FORMATS, Format
from lazyckpt.formats.detect import HEAD, diagnose, recognised
from lazyckpt.index.build import AUTO, MEMORY, WHERE, IndexOptions, open_indexed
from lazyckpt.index.open_file import OpenFile, in_memory
from lazyckpt.index.selection import AllNames, ChoiceFunction, Selection, check_prefix, choose
from lazyckpt.reading.correcting_reader import CorrectingReader
from lazyckpt.runtime import log
from lazyckpt.sharding.rank_folders import description
from lazyckpt.sharding.weight_map import format_of_name, open_set
from lazyckpt.sources import CACHE_BYTES, BytesSource, Source
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import AnySecret, Key, KeyReference, Secret, no_key, secret_or_late
from lazyckpt.sources.paths import (
    LISTING,
    absolute,
    as_path,
    exists,
    file_name,
    is_listing,
    is_url,
    redact_url,
    resolved,
)


def load_checkpoint(
    ckpt_file_name: str | os.PathLike[str] | io.BytesIO,
    net: Any = None,
    strict_load: bool = False,
    filter_prefix: str | list[str] | tuple[str, ...] | None = None,
    dec_key: Key | None = None,
    dec_mode: str = DEFAULT_MODE,
    specify_prefix: str | list[str] | tuple[str, ...] | None = None,
    choice_func: ChoiceFunction | None = None,
    crc_check: bool = False,
    remove_redundancy: bool = False,
    format: str = "ckpt",
    *,
    index: str | os.PathLike[str] = AUTO,
    block_cache: int = CACHE_BYTES,
) -> Checkpoint:
    """Open a checkpoint: `mindspore.load_checkpoint`, lazily.

    Args:
        ckpt_file_name: the file, or the URL of an object that fsspec can read (`s3://…`, `https://…`); its name must
            end in `format`. Or the `<name>.<format>.index.json` of a checkpoint in
            several files, which are opened as one. Or a `BytesIO` that holds a safetensors file; its bytes are copied.
        net: a Cell to load the values into, as `load_param_into_net` does (whose documentation says what state
            it is in after an error).
        strict_load: for `net`: no prefixes are taken off names, no dtypes converted.
        filter_prefix: names that start with any of these are left out.
        dec_key: the key of an encrypted checkpoint, or a `lazyckpt.KeyReference` to it, with which the
            checkpoint can be pickled, too.
        dec_mode: AES-GCM, AES-CBC or SM4-CBC.
        specify_prefix: only names that start with any of these are loaded.
        choice_func: called with each name; those for which it is true are loaded. Ignored when a prefix is given.
        crc_check: compare the file's checksum, which reads the whole file.
        remove_redundancy: for `net`, in parallel runs.
        format: `ckpt` or `safetensors`. A safetensors file need not be MindSpore's; its names come sorted, and
            prefixes are ignored, as in MindSpore.
        index: the location of the index: `auto` for `<file>.lmdb`, or the user's cache folder if that cannot be
            written; `memory` to write nothing; or a path. The index of an encrypted file is sealed with its key.
        block_cache: bytes of decrypted blocks of an AES-GCM file, or of ranges of an object, to keep in memory; 0 for
            none. While a local file is read in order, the next two blocks are decrypted ahead, within this limit.

    Returns:
        A mapping name -> Parameter (or str, or a list of arrays for a map) in file order.

    Raises:
        TypeError: an argument has the wrong type (`ArgumentTypeError`).
        ValueError: an argument has an impossible value, the file is missing, unreadable, damaged, encrypted or
            something else, `choice_func` failed, or nothing is left to load. See `lazyckpt.errors`.

    Cost: the first time one walk over the headers, about 5 us a parameter, and the sidecar is written; afterwards the
    same few hundred microseconds for any number of parameters (with `choice_func` or `filter_prefix`, a walk over the
    names). No payload is read, except with `crc_check`. The first open of an AES-GCM file decrypts all of it once, to
    authenticate it; of a CBC file only headers are decrypted.
    """
    kind_of_key = type(dec_key)
    reference = dec_key if isinstance(dec_key, KeyReference) else None
    key = Secret(dec_key) if isinstance(dec_key, bytes) else None
    dec_key = None  # so that no traceback's variables show it
    specify, drop = check_prefix(specify_prefix), check_prefix(filter_prefix)
    if reference is not None:
        key = reference.read()
        kind_of_key = type(None) if key is None else bytes
    selection = Selection(specify, drop, choice_func)
    if format == "safetensors":
        if specify or drop:
            log.warning("prefixes are ignored when safetensors are loaded, as in MindSpore: use choice_func")
        selection = Selection(choice=choice_func, wraps_faults=False)
    _check_options(ckpt_file_name, kind_of_key, dec_mode, crc_check, remove_redundancy, format)
    path = "" if isinstance(ckpt_file_name, io.BytesIO) else _check_file(ckpt_file_name, format)
    where = as_path(index, WHERE)
    if not isinstance(block_cache, int) or block_cache < 0:
        raise ArgumentValueError(f"block_cache must be a number of bytes, at least 0, not {block_cache!r}")
    if isinstance(ckpt_file_name, io.BytesIO):
        file = _open_bytes(ckpt_file_name, where, format)
    else:
        opener = open_set if is_listing(path) else open_indexed
        file = opener(path, key, dec_mode, where, IndexOptions(cache=block_cache, format=format))
    checkpoint = _select(file, selection, crc_check)
    if net is not None:
        from lazyckpt.frameworks.nets import load_param_into_net

        try:
            redundant = _redundancy(checkpoint, remove_redundancy)
            load_param_into_net(net, checkpoint, strict_load, redundant)
        except BaseException:
            checkpoint.close()
            raise
    return checkpoint


def open_checkpoint(
    path: str, dec_key: Key | None = None, dec_mode: str = DEFAULT_MODE, block_cache: int = CACHE_BYTES
) -> Checkpoint:
    """Open a file in the format of its first bytes, or a set, regardless of its name.

    Raises, Cost: as `load_checkpoint`.
    """
    try:
        key = secret_or_late(dec_key)
    finally:
        dec_key = None  # so that no traceback's variables show it
    file = _open_any(_existing(path), key, dec_mode, AUTO, block_cache)
    return _select(file, Selection(), crc_check=False)


def _open_any(path: str, key: AnySecret, dec_mode: str, where: str, cache: int) -> OpenFile:
    """Open a file in the format of its first bytes, or the set of a listing in that of the listing's name."""
    if is_listing(path):
        return open_set(path, key, dec_mode, where, IndexOptions(cache=cache, format=format_of_name(path)))
    return open_indexed(path, key, dec_mode, where, IndexOptions(cache=cache))


def _open_bytes(data: io.BytesIO, where: str, form: str) -> OpenFile:
    """Open bytes in memory, with an index in memory."""
    if where not in (AUTO, MEMORY):
        raise ArgumentValueError(f"bytes in memory have no location for an index: leave index at {AUTO!r}, not a path")
    return in_memory(BytesSource(data.getvalue(), "<BytesIO>"), FORMATS[form])


def _select(file: OpenFile, selection: Selection, crc_check: bool) -> Checkpoint:
    """The checkpoint of an open file, which is closed on an error."""
    source, index = file.source, file.index
    try:
        if crc_check:
            _check_crc(source, file.format)
        if selection.specify is not None or selection.drop is not None:
            log.info("specify_prefix and filter_prefix are deprecated in MindSpore; choice_func replaces both")
        names = choose(index, selection, source.name)
        if not len(names):
            raise NothingLoaded(_why_nothing(file, selection), file=source.name)
        return Checkpoint(CorrectingReader(file), names)
    except BaseException:
        file.close()
        raise


def _check_options(
    name: object, key: type, dec_mode: object, crc_check: object, redundancy: object, form: object
) -> None:
    if not issubclass(key, (bytes, type(None))):
        raise no_key("dec_key", key)
    if not isinstance(dec_mode, str):
        raise ArgumentValueError(f"The parameter 'dec_mode' must be str, but got {type(dec_mode).__name__}.")
    for option, flag in (("crc_check", crc_check), ("remove_redundancy", redundancy)):
        if not isinstance(flag, bool):
            raise ArgumentValueError(f"The parameter '{option}' must be bool, but got {flag!r}.")
    if form == "safetensors":
        for option, is_default in (("dec_key", key is type(None)), ("dec_mode", dec_mode == DEFAULT_MODE)):
            if not is_default:
                raise ArgumentValueError(
                    f"For 'load_checkpoint', when format is 'safetensors', the parameter '{option}' must be left at its"
                    " default: safetensors files are not encrypted."
                )
    if form not in FORMAT_NAMES:
        raise ArgumentValueError(
            f"For 'load_checkpoint', the 'format' must be 'ckpt' or 'safetensors', but got {form!r}."
        )
    if isinstance(name, io.BytesIO) and form == "ckpt":
        raise ArgumentTypeError("ckpt don't support BytesIO as input type: give the name of a file.")


def _check_file(name: object, form: str) -> str:
    """Check the name of a file; return its path as `_existing` does."""
    path = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(path, str):
        raise ArgumentTypeError(
            f"For 'load_checkpoint', the argument 'ckpt_file_name' must be a string or a path, but got {type(name)}."
        )
    name = redact_url(path)
    if not file_name(path).endswith((form, f".{form}{LISTING}")):
        raise ArgumentValueError(
            f"For 'load_checkpoint', the checkpoint file's name must end as 'format' says, but got file_name:"
            f" {name!r}, format: {form!r}; {_advice(path, form)}."
        )
    return _existing(path)


def _advice(path: str, form: str) -> str:
    """Advice for a name with another ending."""
    other = next((other for other in FORMAT_NAMES if file_name(path).endswith((other, f".{other}{LISTING}"))), None)
    if other is not None:
        return f"give format={other!r}"
    if os.path.isdir(path):
        return f"it is a folder: {description(path)}"
    kind = recognised(_head(path))
    return f"rename it to end in .{form}" if kind is None else f"this is {kind.what}: {kind.advice}"


def _head(path: str) -> bytes:
    """The first bytes of a local file; empty if it cannot be read."""
    try:
        with open(path, "rb") if os.path.isfile(path) else io.BytesIO() as file:
            return file.read(HEAD)
    except OSError:
        return b""


def _existing(path: str) -> str:
    """The path of an existing file, links resolved (except for a listing: its set is beside it)."""
    if "\0" in path:
        raise ArgumentValueError(f"embedded null byte in the file's name {path!r}")
    found = absolute(path) if is_listing(path) else resolved(path)
    if not is_url(found) and not os.path.exists(found):  # a missing object is detected when it is opened
        raise MissingFile(
            f"For 'load_checkpoint', the checkpoint file: {found} does not exist, please check whether the"
            " 'ckpt_file_name' is correct."
        )
    return found


def _check_crc(source: Source, form: Format) -> None:
    stored, computed = form.checksums(source)
    if stored is None:
        log.warning("%s was saved without a crc: there is nothing to check", source.name)
    elif stored != computed:
        raise CorruptFile(
            f"the crc check failed: the file says {stored:#x}, its bytes give {computed:#x}; the file is damaged",
            file=source.name,
        )


def _redundancy(checkpoint: Checkpoint, asked: bool) -> bool:
    """Whether a file was saved without redundancy; its metadata override the argument."""
    saved = {"True": True, "False": False}.get(checkpoint.metadata.get("remove_redundancy", ""), asked)
    if saved != asked:
        log.warning("%s says remove_redundancy=%s: that is used, not %s", checkpoint.path, saved, asked)
    return saved


def _why_nothing(file: OpenFile, selection: Selection) -> str:
    source, index = file.source, file.index
    if source.size == 0:
        return "the file is empty (0 bytes): get or save it again"
    if not len(index):
        other = diagnose(bytes(source.snapshot(0, min(HEAD, source.size))), file.format.name)
        return other or f"there is no parameter in its {source.size:,} bytes"
    some = ", ".join(repr(name[:80]) for name, _ in zip(index, range(5), strict=False))
    asked = "choice_func" if selection.specify is selection.drop is None else "'filter_prefix' or 'specify_prefix'"
    return (
        f"The loaded parameter dict is empty after filter or specify, please check {asked}: none of its"
        f" {len(index):,} parameters is left (the first are {some})"
    )


def open_all(
    path: str | os.PathLike[str],
    dec_key: Key | None = None,
    dec_mode: str = DEFAULT_MODE,
    *,
    index: str = AUTO,
    block_cache: int = CACHE_BYTES,
) -> Checkpoint:
    """Open a file regardless of its name, with all parameters under their stored names.

    Args:
        path: a `.ckpt` or safetensors file, or the listing of a set.
        dec_key: the key of an encrypted file, or a `KeyReference` to it.
        dec_mode: AES-GCM, AES-CBC or SM4-CBC.
        index: as for `load_checkpoint`.
        block_cache: bytes of decrypted blocks of an AES-GCM file to keep in memory.

    Returns:
        A mapping whose `entry` also has refused parameters. Their values cannot be read.

    Raises:
        ValueError: as `load_checkpoint`.

    Cost: as `load_checkpoint`.
    """
    try:
        key = secret_or_late(dec_key)
    finally:
        dec_key = None  # so that no traceback's variables show it
    found = os.fspath(path)
    if not is_listing(found):
        found = resolved(found)
    elif not exists(found):
        raise MissingFile(f"{found} does not exist, please check the name and the folder")
    file = _open_any(found, key, dec_mode, index, block_cache)
    if not len(file.index):
        return _select(file, Selection(), crc_check=False)  # raises, with the reason
    return Checkpoint(CorrectingReader(file), AllNames(file.index))
