"""Write a checkpoint's values to other files: selected, renamed, converted, in either format."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.formats import FORMAT_NAMES
from lazyckpt.index.matching import Searchable
from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import TENSOR
from lazyckpt.runtime import log
from lazyckpt.runtime.workers import Progress
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE, MODES, CipherKey
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.sources.paths import require_local
from lazyckpt.writing.casting import NAMED, CastReport, Casts, DTypes, cast, casts_of, is_castable
from lazyckpt.writing.files import ALIGNMENT, READ_ONLY, SAVED_HERE, WriteOptions, save, save_set
from lazyckpt.writing.items import Item
from lazyckpt.writing.safetensors import REMOVE_REDUNDANCY
from lazyckpt.writing.targets import Inputs, Permission, check_targets

_MINDSPORE: Final = {"format": "ms"}
Rename = Mapping[str, str] | Callable[[str], str]


class ExportOptions(NamedTuple):
    """Options of `Checkpoint.save`."""

    format: str | None = None
    rename: Rename | None = None
    dtype: DTypes | None = None
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
    metadata: Mapping[str, str], inputs: Inputs, known: Searchable,
) -> SavedFiles:  # fmt: skip
    """Write values to a file, or to a set of them.

    Args:
        path: the file.
        names: the values, in order.
        item: makes the item for a name, given the name in the new file.
        wanted: options.
        metadata: of a safetensors file.
        inputs: the files that the values come from.
        known: all names of the checkpoint.

    Returns:
        The files written, and what casts have lost, which is also logged.

    Raises:
        FileInTheWay: see `check_targets`; nothing is written.
    """
    target = os.fspath(path)
    if not isinstance(target, str):
        raise ArgumentTypeError(f"a path is a string, not {type(target).__name__}")
    target = require_local(target, SAVED_HERE)
    form = format_of(target, wanted.format)
    lock = lock_of(wanted.enc_key, wanted.enc_mode) if wanted.enc_key is not None else None
    items = _Items(names, item, wanted.rename, None)
    if wanted.dtype is not None:
        items.casts = casts_of(wanted.dtype, known, items.is_float)
    how = WriteOptions(form, lock, wanted.crc_check, wanted.align, wanted.mode, metadata)

    def allowed(paths: Sequence[str]) -> None:
        loses = wanted.dtype is not None and any(map(inputs.hold, paths)) and items.narrows()
        check_targets(paths, inputs._replace(complete=inputs.complete and not loses), wanted.permission)

    if wanted.max_shard_size is not None:
        if not isinstance(wanted.max_shard_size, int) or wanted.max_shard_size < 1:
            raise ArgumentValueError(f"max_shard_size must be a number of bytes, not {wanted.max_shard_size!r}")
        files = save_set(target, items, how, wanted.max_shard_size, wanted.progress, allowed)
    else:
        allowed([target])
        save(target, items, how, wanted.progress)
        files = [target]
    for message in items.report.messages():
        log.warning("%s: %s", target, message)
    return SavedFiles(files, items.report)


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


class SavedFiles(list[str]):
    """The files that a save has written, as a list.

    Attributes:
        casts: the number of tensors that were cast, and what that lost.
    """

    def __init__(self, files: Iterable[str], casts: CastReport) -> None:
        super().__init__(files)
        self.casts = casts


class _Items(Collection[Item]):
    """A collection that makes its items on each iteration, to keep none in memory."""

    def __init__(
        self, names: Collection[str], item: Callable[[str, str], Item], rename: Rename | None, casts: Casts | None
    ) -> None:
        self._names = names
        self._item = item
        self._rename = rename
        self.casts = casts
        self.report = CastReport()

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, item: object) -> bool:
        return any(item == other for other in self)

    def __iter__(self) -> Iterator[Item]:
        count = spared = 0
        some_spared: list[str] = []
        for name in self._names:
            made = self._item(name, self._renamed(name))
            if self.casts is None or not is_castable(_dtype_of(made)):
                yield made
                continue
            dtype = self.casts.dtype_for(name)
            if dtype is not None:
                changed = cast(made, dtype, self.report.lost)
                count += changed is not made
                yield changed
                continue
            if self.casts.spares(name) and _dtype_of(made) is not self.casts.default:
                spared += 1
                some_spared += [name] if len(some_spared) < NAMED else []
            yield made
        # Each pass over all items gives the same numbers; writers make several.
        self.report.cast, self.report.spared, self.report.some_spared = count, spared, tuple(some_spared)

    def is_float(self, name: str) -> bool:
        """Whether a value is a tensor that can be cast."""
        try:
            return is_castable(_dtype_of(self._item(name, name)))
        except (ArgumentTypeError, ArgumentValueError):  # it cannot be written
            return False

    def narrows(self) -> bool:
        """Whether a value would lose bits to its new type."""
        if self.casts is None:
            return False
        for name in self._names:
            old, new = _dtype_of(self._item(name, name)), self.casts.dtype_for(name)
            if old is not None and new is not None and is_castable(old) and not np.can_cast(old.numpy, new.numpy):
                return True
        return False

    def _renamed(self, name: str) -> str:
        if self._rename is None:
            return name
        new: Any = self._rename.get(name, name) if isinstance(self._rename, Mapping) else self._rename(name)
        if not isinstance(new, str):
            raise ArgumentTypeError(f"rename gave {type(new).__name__} for {name!r}: a string is needed")
        return new


def _dtype_of(item: Item) -> DType | None:
    """The dtype of a tensor; None of a string or map."""
    return item.contents[0].dtype if item.kind == TENSOR else None
