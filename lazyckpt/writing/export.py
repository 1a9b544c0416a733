"""Write a checkpoint's values to other files: selected, renamed, converted, in either format."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.formats import FORMAT_NAMES
from lazyckpt.model.dtypes import DTYPES, DType
from lazyckpt.runtime import log
from lazyckpt.runtime.workers import Progress
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE, MODES, CipherKey
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.sources.paths import require_local
from lazyckpt.writing.files import ALIGNMENT, READ_ONLY, SAVED_HERE, WriteOptions, save, save_set
from lazyckpt.writing.items import Item, cast
from lazyckpt.writing.safetensors import REMOVE_REDUNDANCY
from lazyckpt.writing.targets import Inputs, Permission, check_targets

_MINDSPORE: Final = {"format": "ms"}
Rename = Mapping[str, str] | Callable[[str], str]


class ExportOptions(NamedTuple):
    """Options of `Checkpoint.save`."""

    format: str | None = None
    rename: Rename | None = None
    dtype: str | None = None
    enc_key: Secret | None = None
    enc_mode: str = DEFAULT_MODE
    crc_check: bool = False
    align: int = ALIGNMENT
    max_shard_size: int | None = None
    mode: int = READ_ONLY
    progress: Progress | None = None
    permission: Permission = Permission()


def export(
    path: str | os.PathLike[str], names: Collection[str], item: Callable[[str, str], Item], wanted: ExportOptions,
    metadata: Mapping[str, str], inputs: Inputs,
) -> list[str]:  # fmt: skip
    """Write values to a file, or to a set of them.

    Args:
        path: the file.
        names: the values, in order.
        item: makes the item for a name, given the name in the new file.
        wanted: options.
        metadata: of a safetensors file.
        inputs: the files that the values come from.

    Returns:
        The files written.

    Raises:
        FileInTheWay: see `check_targets`; nothing is written.
    """
    target = os.fspath(path)
    if not isinstance(target, str):
        raise ArgumentTypeError(f"a path is a string, not {type(target).__name__}")
    target = require_local(target, SAVED_HERE)
    form = format_of(target, wanted.format)
    lock = lock_of(wanted.enc_key, wanted.enc_mode) if wanted.enc_key is not None else None
    items = _Items(names, item, wanted.rename, None if wanted.dtype is None else float_dtype(wanted.dtype))
    how = WriteOptions(form, lock, wanted.crc_check, wanted.align, wanted.mode, metadata)

    def allowed(paths: Sequence[str]) -> None:
        loses = wanted.dtype is not None and any(map(inputs.hold, paths)) and items.narrows()
        check_targets(paths, inputs._replace(complete=inputs.complete and not loses), wanted.permission)

    if wanted.max_shard_size is not None:
        if not isinstance(wanted.max_shard_size, int) or wanted.max_shard_size < 1:
            raise ArgumentValueError(f"max_shard_size must be a number of bytes, not {wanted.max_shard_size!r}")
        return save_set(target, items, how, wanted.max_shard_size, wanted.progress, allowed)
    allowed([target])
    save(target, items, how, wanted.progress)
    return [target]


def inherited(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """The default metadata of a new file: those of the old file, without `remove_redundancy`."""
    return {name: text for name, text in metadata.items() if name != REMOVE_REDUNDANCY} or _MINDSPORE


def format_of(path: str, given: str | None) -> str:
    """The format to write: the given one, or else that of the file extension.

    Raises:
        ArgumentValueError: the format is unknown, or the extension is.
    """
    chosen = given if given is not None else next((form for form in FORMAT_NAMES if path.endswith(f".{form}")), None)
    if chosen not in FORMAT_NAMES:
        what = f"format {given!r}" if given is not None else f"format of {path!r}"
        raise ArgumentValueError(f"the {what} is unknown: it must be 'ckpt' or 'safetensors'")
    return chosen


def lock_of(key: Secret, mode: str) -> CipherKey:
    """The key and mode to encrypt with.

    Raises:
        ArgumentValueError: the mode is unknown, or the length of the key does not fit it.
    """
    if mode not in MODES:
        raise ArgumentValueError(f"Encrypt failed: enc_mode must be one of {', '.join(MODES)}, not {mode!r}")
    return CipherKey(MODES[mode], key)


def float_dtype(name: str) -> DType:
    """A floating-point dtype by its name, in upper or lower case.

    Raises:
        ArgumentValueError: the name is unknown.
    """
    floats = {dtype.name.lower(): dtype for dtype in DTYPES.values() if _is_float(dtype)}
    found = floats.get(str(name).lower())
    if found is None:
        raise ArgumentValueError(f"dtype {name!r} is not a floating-point type; known are {', '.join(floats)}")
    return found


class _Items(Collection[Item]):
    """A collection that makes its items on each iteration, to keep none in memory."""

    def __init__(
        self, names: Collection[str], item: Callable[[str, str], Item], rename: Rename | None, dtype: DType | None
    ) -> None:
        self._names = names
        self._item = item
        self._rename = rename
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, item: object) -> bool:
        return any(item == other for other in self)

    def __iter__(self) -> Iterator[Item]:
        for name in self._names:
            made = self._item(name, self._renamed(name))
            yield (
                made
                if self._dtype is None or not _is_float(made.contents[0].dtype)
                else cast(made, self._dtype, _warn_of_overflow)
            )

    def narrows(self) -> bool:
        """Whether a value would lose bits to the new type."""
        return self._dtype is not None and any(
            not np.can_cast(old.numpy, self._dtype.numpy)
            for name in self._names
            for old in (self._item(name, name).contents[0].dtype,)
            if old is not None and _is_float(old)
        )

    def _renamed(self, name: str) -> str:
        if self._rename is None:
            return name
        new: Any = self._rename.get(name, name) if isinstance(self._rename, Mapping) else self._rename(name)
        if not isinstance(new, str):
            raise ArgumentTypeError(f"rename gave {type(new).__name__} for {name!r}: a string is needed")
        return new


def _is_float(dtype: DType | None) -> bool:
    """Whether values of a dtype may be converted. Floats of 8 bits and less need a scale to mean anything."""
    return dtype is not None and dtype.bits >= 16 and "Float" in dtype.name


def _warn_of_overflow(name: str, count: int) -> None:
    log.warning("%s: %d values are too large for the new type and became infinite", name, count)
