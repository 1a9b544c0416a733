"""`Checkpoint`: the lazy mapping name -> value that `load_checkpoint` returns.

It behaves as the dict that MindSpore returns, in file order, with two differences: a value is found through the index
and read on first use, and unused values take no memory. Edits (`ckpt["new"] = …`, `del`, `pop`, `update`) stay in
memory and never touch the file.

The class is a `LazyMapping` (the dict) and a `CheckpointInspection` (trees, tables, plots); this module
converts its values to arrays, other frameworks' tensors, and files. The package's own modules reach the file, the
index and the edits through `_access`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lazyckpt.checkpoint.access import IN_MEMORY, CheckpointAccess
from lazyckpt.checkpoint.inspection import CheckpointInspection
from lazyckpt.checkpoint.mapping import LazyMapping, Value
from lazyckpt.errors import ArgumentTypeError, MissingName, StaleIndex
from lazyckpt.index import Index
from lazyckpt.index.matching import require_matches, require_one
from lazyckpt.index.selection import SomeNames
from lazyckpt.model.entry import MAP, TENSOR, Entry
from lazyckpt.model.patterns import Patterns
from lazyckpt.model.tensor_runs import TensorRun
from lazyckpt.parameter import Parameter
from lazyckpt.reading.bulk import read_all
from lazyckpt.runtime.workers import Progress
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import Secret

if TYPE_CHECKING:
    from lazyckpt.references.references import References
    from lazyckpt.writing.casting import DTypes
    from lazyckpt.writing.export import Rename, SavedFiles
    from lazyckpt.writing.targets import Inputs

REPR_ITEMS: Final = 100


class Checkpoint(LazyMapping, CheckpointInspection):
    """A lazy, ordered mapping of a checkpoint's names to its values.

    A value is a `Parameter`; a string that was saved with `append_dict` is a `str`, and a map parameter is a list of
    three arrays (keys, values, status). `len`, `in`, iteration, `keys` and `repr` read no payload. The same name gives
    the same object each time. It is a context manager; closing is optional, and returned arrays stay valid. Reading is
    safe from many threads; editing is not.

    >>> ckpt = lazyckpt.load_checkpoint("LeNet5-1_32.ckpt")
    >>> "conv1.weight" in ckpt, ckpt["conv1.weight"].shape
    (True, (6, 1, 5, 5))
    >>> ckpt["note"] = "edited in memory"
    >>> list(ckpt)[-1]
    'note'
    """

    @property
    def _access(self) -> CheckpointAccess:
        """The interface for the package's own modules; see `CheckpointAccess`."""
        return CheckpointAccess(self._stored, self._overlay)

    @property
    def index(self) -> Index:
        """The index of the whole file, even if names were chosen. Reads nothing."""
        return self._stored.index

    @property
    def metadata(self) -> Mapping[str, str]:
        """The `__metadata__` of a safetensors file; empty for a `.ckpt`.

        Raises:
            ClosedCheckpoint: it was closed.

        Cost: reads the header.
        """
        self._stored.check_open()
        return self._stored.reader.metadata()

    def to_mindspore(self, names: Patterns | None = None) -> dict[str, Any]:
        """The values as MindSpore returns them: Parameters, strings, and lists of arrays.

        Args:
            names: names or patterns, as for `select`; None for all.

        Returns:
            name -> `mindspore.Parameter` (a str for strings, a list of three arrays for maps), in the order of `names`.

        Raises:
            MissingPackage: MindSpore is not installed.
            MissingName: a pattern matches nothing (a `KeyError`); nothing is read then.

        Cost: reads and allocates the sum of the values; see `Parameter.to_mindspore`.
        """
        wanted = self if names is None else require_matches(self._access.names, names)
        values = ((name, self[name]) for name in wanted)
        return {name: value.to_mindspore() if isinstance(value, Parameter) else value for name, value in values}

    def to_dask(self, name: str, chunks: Any = None) -> Any:
        """A value as a dask array whose tasks each read their part of the file.

        Args:
            name: a parameter, or an array that was assigned; also a pattern that only its name matches.
            chunks: dask's `chunks` argument; None for runs of about 64 MiB.

        Returns:
            A `dask.array.Array` of the value's shape and numpy dtype.

        Raises:
            MissingName: nothing matches (a `KeyError`).
            ArgumentValueError: several names match.
            ArgumentTypeError: it is a string or a map.
            MissingPackage: dask is not installed.

        Cost: reads nothing; each task reads its chunk.
        """
        name = require_one(self._access.names, name)
        value = self[name]
        if isinstance(value, Parameter):
            return value.to_dask(chunks)
        if isinstance(value, np.ndarray):
            from lazyckpt.tensors import dask

            return dask.of_memory(value, chunks)
        raise ArgumentTypeError(
            f"{name!r} is a {'map' if isinstance(value, list) else type(value).__name__}, not an array"
        )

    def select(self, choice: Patterns) -> Checkpoint:
        """A view of some names: those that match any of some patterns.

        The view shares the values of this checkpoint (the same objects) and starts with a copy of its edits. It works
        as long as this checkpoint is open.

        >>> ckpt = lazyckpt.load_checkpoint("LeNet5-1_32.ckpt")
        >>> list(ckpt.select("conv"))
        ['conv1.weight', 'conv2.weight']
        >>> list(ckpt.select("fc?.bias"))
        ['fc1.bias', 'fc2.bias', 'fc3.bias']

        Args:
            choice: an exact name; a glob, such as `*.bias`; a prefix; `re:` and a regular expression; a function of the
                name; or a list of these. The first of these meanings counts by which any name matches. In a glob
                `[*]`, `[?]` and `[[]` stand for the characters themselves, and case matters.

        Returns:
            A `Checkpoint` of these names, in the same order.

        Raises:
            MissingName: a pattern matches nothing (a `KeyError`; its message offers similar names).
            ArgumentValueError: a regular expression is not valid.
            ClosedCheckpoint: it was closed.

        Cost: O(matches) for names, prefixes, and globs with a literal beginning; a walk over the names for others.
        Reads nothing.
        """
        stored = self._stored
        found = require_matches(self._access.names, choice)
        ordinals = {name: ordinal for name, ordinal in found.items() if ordinal != IN_MEMORY}
        if not isinstance(choice, str) and not callable(choice):  # several patterns: they may match in any order
            ordinals = dict(sorted(ordinals.items(), key=itemgetter(1)))
        part = stored.narrow(SomeNames(ordinals))
        return self._made(part, self._overlay.narrow(part, found.__contains__))

    def load(
        self, names: Patterns | None = None, *, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Read many values at once, into new arrays.

        >>> ckpt = lazyckpt.load_checkpoint("LeNet5-1_32.ckpt")
        >>> {name: array.shape for name, array in ckpt.load(["fc3.bias", "fc3.weight"]).items()}
        {'fc3.bias': (10,), 'fc3.weight': (10, 84)}

        Args:
            names: names or patterns, as for `select`; None for all.
            workers: number of threads; None to choose by the amount of data, 1 for the calling thread only.
            progress: called as `progress(done, total)` with byte counts.

        Returns:
            name -> aligned, writable numpy array (a str for strings, a list of arrays for maps), in the order of
            `names`. The file is always read in file order.

        Raises:
            MissingName: a pattern matches nothing (a `KeyError`); nothing is read then.

        Cost: allocates the sum of the values. Small neighbours of one shape and dtype share buffers of 4 KiB; a buffer
        is freed with the last of its values. For all names of a plain file, a few microseconds per small value.
        """
        try:
            return self._read_all(names, workers, progress)
        except StaleIndex:  # the index may have been built again (see `CorrectingReader`), with other entries
            return self._read_all(names, workers, progress)

    def _read_all(self, names: Patterns | None, workers: int | None, progress: Progress | None) -> dict[str, Any]:
        access = self._access
        found = access.iter_runs() if names is None else access.matching(names).items()
        jobs: dict[str, Entry] = {}
        stretches: list[TensorRun] = []
        values: dict[str, Any] = {}
        for name, value in found:
            if isinstance(value, TensorRun):
                stretches.append(value)
                values.update(dict.fromkeys(value.names))
                continue
            values[name] = None if isinstance(value, Entry) else _own(value)
            if isinstance(value, Entry):
                jobs[name] = value
        values.update(read_all(access.reader, jobs, workers, progress, stretches))
        return values

    def save(
        self, path: str | os.PathLike[str], names: Patterns | None = None, *, format: str | None = None,
        rename: Rename | None = None, dtype: DTypes | None = None, enc_key: bytes | None = None,
        enc_mode: str = DEFAULT_MODE, crc_check: bool = False, align: int = 64,
        max_shard_size: int | None = None, metadata: Mapping[str, str] | None = None,
        mode: int = 0o400, progress: Progress | None = None,
        in_place: bool = False, overwrite: bool = True,
    ) -> SavedFiles:  # fmt: skip
        """Write values to another file (or over this one), with 8 MiB in memory at a time.

        Args:
            path: the new file. An existing file is replaced once the new one is complete, unless
                the values come from it and not all of it is written.
            names: names or patterns, as for `select`, in the order to write; None for all. Edited values are
                written as they are now.
            format: `ckpt` or `safetensors`; None to choose by the file extension.
            rename: new names: a mapping from old names (each must exist), or a function of the old name.
            dtype: convert floating-point tensors to this type, such as `Float16`, except the state of an optimizer
                (moments, beta powers, learning rates, counters); or types by pattern, of which the last that matches a
                name counts: `{"*": "BFloat16"}` converts everything, `{"*": "BFloat16", "*norm*": None}` all but some.
                The key None stands for everything but state. Integers and narrower floats are never converted.
            enc_key: encrypt a `.ckpt` with this key.
            enc_mode: AES-GCM, AES-CBC or SM4-CBC.
            crc_check: store a checksum, as MindSpore does.
            align: start each tensor at a multiple of so many bytes, so that it can be memory-mapped; 1 for the layout
                that MindSpore writes. (In a safetensors file this applies to the first tensor only.)
            max_shard_size: split into several files, with a `<path>.index.json`, above so many bytes of contents.
            metadata: the `__metadata__` of a safetensors file; None to copy this file's, or MindSpore's
                `{"format": "ms"}` if it has none.
            mode: permission bits; MindSpore's saved files are read-only.
            progress: called as `progress(done, total)` with byte counts.
            in_place: replace the file that the values come from even if only a part of it is written. The rest is lost.
            overwrite: whether other existing files may be replaced.

        Returns:
            The files written, as a list with an attribute `casts`, the number of tensors converted, and of values that
            became infinite or zero, by name. These are also logged as a warning.

        Raises:
            MissingName: a pattern matches nothing (a `KeyError`); nothing is written.
            ValueError: the format cannot hold a value, or options contradict each other (`ArgumentValueError`).
            FileInTheWay: a file must not be replaced: see `path`, `in_place`, `overwrite`; nothing is written.
            OSError: the file cannot be written (`UnwritableFile`, `MissingFolder`, `FolderInTheWay`). In every case
                the file that was there before stays.

        Cost: reads the values once, in order, and writes the index at the same time. The file is synced to disk before
        it is renamed.
        """
        from lazyckpt.writing.export import ExportOptions, export, inherited
        from lazyckpt.writing.targets import Permission

        try:
            key = None if enc_key is None else Secret(enc_key, "enc_key")
        finally:
            enc_key = None  # so that no traceback's variables show it
        access = self._access
        wanted = list(self if names is None else require_matches(access.names, names))
        for name in rename if isinstance(rename, Mapping) else ():
            if name not in self:
                raise self._missing(name)
        may = Permission(overwrite, in_place)
        how = ExportOptions(format, rename, dtype, key, enc_mode, crc_check, align, max_shard_size, mode, progress, may)
        facts = inherited(self.metadata) if metadata is None else metadata
        return export(path, wanted, access.item, how, facts, self._inputs(wanted), access.names)

    def references(
        self, names: Patterns | None = None, *, url: str | None = None, chunk_size: int | None = None,
        inline: int = 0, nested: bool = False, strict: bool = False,
    ) -> References:  # fmt: skip
        """Kerchunk references, with which zarr, xarray and dask open this checkpoint in place.

        Args:
            names: names or patterns, as for `select`, in this order; None for all.
            url: the URL under which readers will find the file; for several files, their folder, ending with `/`. None
                for the current location.
            chunk_size: approximate maximum size of a chunk in bytes, so that large values are read in parallel.
            inline: copy values of up to so many bytes into the references, which saves readers a request for each.
            nested: turn the dots in names into groups, instead of keeping them in array names.
            strict: raise for a value that zarr cannot express, instead of leaving it out.

        Returns:
            An object that gives the references as data (`to_dict()`) or writes them (`save("refs.json")`,
            `save("refs.parquet")`).

        Raises:
            EncryptedFile: an encrypted file has no plain bytes to refer to.
            MissingName: a pattern matches nothing (a `KeyError`).
            ValueError: an option makes no sense (`ArgumentValueError`).

        Cost: nothing yet; see `References.save`. The references describe the file as it is now.
        """
        from lazyckpt.references.files import Files
        from lazyckpt.references.hierarchy import ReferenceOptions
        from lazyckpt.references.references import References

        access, stored = self._access, self._stored
        stored.check_open()
        found: Callable[[], Iterable[tuple[str, Any]]] = access.iter_edited
        if names is not None:
            edited = access.edited()
            chosen = {
                name: edited[name] if name in edited else self.entry(name)
                for name in require_matches(access.names, names)
            }
            found = chosen.items
        files = Files(stored.source, stored.index.fingerprint, url)
        return References(found, access.reader, files, ReferenceOptions(chunk_size, inline, nested, strict))

    def close(self) -> None:
        """Close the file and the index. Returned arrays stay valid. May be called twice.

        A checkpoint that was unpickled shares its open file with others; that file is closed with the last of them.
        Reads nothing.
        """
        self._stored.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # A generator that the program leaves in a `with` block is closed when Python ends, after this module is gone.
        if not isinstance(error, GeneratorExit) and isinstance(error, MissingName):
            error.collect()
        self.close()

    def __repr__(self) -> str:
        """The repr of MindSpore's dict; unread strings and maps are only described. Reads no payload."""
        if self._stored.is_closed:
            return f"<closed Checkpoint {self.path!r}>"
        shown: list[str] = []
        for name in self:
            if len(shown) == REPR_ITEMS:
                shown.append(f"… and {len(self) - REPR_ITEMS:,} more")
                break
            shown.append(f"{name!r}: {self._describe(name)}")
        return "{" + ", ".join(shown) + "}"

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _inputs(self, wanted: Collection[str]) -> Inputs:
        """The source files of some values; complete if one file is written with all its unedited values."""
        from lazyckpt.writing.targets import Inputs

        stored, assigned = self._stored, self._overlay.edits().values()
        origins = (value.origin for value in assigned if isinstance(value, Parameter))
        foreign = {file for origin in origins if origin is not None for file in origin[1].files}
        own = stored.reader.files
        complete = len(own) == 1 and foreign <= set(own) and len(stored.names) == len(stored.index)
        complete = complete and not stored.reader.file.is_partial
        return Inputs((*own, *foreign), complete and len(set(wanted)) == len(self))

    def _describe(self, name: str) -> str:
        entry = self._access.value_or_entry(name)
        if not isinstance(entry, Entry):
            return repr(entry)
        if entry.kind == TENSOR:
            return repr(Parameter(entry, self._stored.reader))
        if entry.kind == MAP:
            return "[" + ", ".join(f"<{array.dtype} {array.shape}>" for array in entry.arrays) + "]"
        return f"<str of {entry.stored // 4:,} characters>"


def _own(value: Value) -> Value:
    """A copy of a value that shares no memory with it."""
    if isinstance(value, Parameter):
        return value.asnumpy(copy=True)
    if isinstance(value, list):
        return [_own(part) for part in value]
    return value.copy() if isinstance(value, np.ndarray) else value
