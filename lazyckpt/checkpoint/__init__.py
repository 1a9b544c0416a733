"""`Checkpoint`: the lazy mapping name -> value that `load_checkpoint` returns.

It behaves as the dict that MindSpore returns, in file order, with two differences: values are found through the index
and read when they are looked at, and nothing that was not looked at takes memory. Edits (`ckpt["new"] = …`, `del`,
`pop`, `update`) live in memory and never touch the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lazyckpt.checkpoint.inspection import Viewing
from lazyckpt.checkpoint.mapping import UNEDITED, Value
from lazyckpt.errors import ArgumentTypeError
from lazyckpt.index import Index
from lazyckpt.index.selection import AllNames, SomeNames
from lazyckpt.model.entry import MAP, TENSOR, Entry
from lazyckpt.model.tensor_runs import Stretch
from lazyckpt.parameter import Parameter
from lazyckpt.reading.bulk import read_all
from lazyckpt.runtime.workers import Progress
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import Secret

if TYPE_CHECKING:
    from lazyckpt.references.references import References
    from lazyckpt.writing.export import Rename
    from lazyckpt.writing.items import Item
    from lazyckpt.writing.targets import Inputs

REPR_ITEMS: Final = 100


class Checkpoint(Viewing):
    """A lazy, ordered mapping of a checkpoint's names to its values.

    Values are `Parameter`s; a string that was saved with `append_dict` is a `str`, a map parameter a list of three
    arrays (keys, values, status). `len`, `in`, iteration, `keys` and `repr` read no payload. The same name gives the
    same object twice. A context manager; closing is optional, and arrays already handed out stay valid. Reading is
    safe for many threads; editing is not.
    """

    @property
    def index(self) -> Index:
        """The index of the whole file, also where names were chosen. Reads nothing."""
        return self._index

    @property
    def is_addressable(self) -> bool:
        """Whether reading one value never costs work that reading its neighbour would share. Reads nothing."""
        return self._payloads.is_addressable

    @property
    def metadata(self) -> Mapping[str, str]:
        """What a safetensors file says of itself (`__metadata__`); of a `.ckpt` nothing.

        Raises:
            ClosedCheckpoint: it was closed.

        Cost: reads the header.
        """
        self._check_open()
        return self._payloads.metadata()

    def release(self, start: int, stop: int | None = None) -> None:
        """Hint that bytes of the file will not be looked at again soon.

        A mapped file's pages then leave this process's memory. What was handed out stays valid.

        Args:
            start: the first of these bytes, counted from the beginning of the file.
            stop: the first byte behind them; None for the end of the file.

        Cost: a call of the system. Reads nothing.
        """
        self._source.release(start, (self._source.size if stop is None else stop) - start)

    def to_mindspore(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """MindSpore's own mapping of the values: a plain dict of its Parameters (and strings, and lists of arrays).

        Args:
            names: which; None for all.

        Returns:
            name -> `mindspore.Parameter` (a str for strings, a list of three arrays for maps), in the order of `names`.

        Raises:
            MissingPackage: MindSpore is not installed.
            KeyError: a name is not there; nothing is read then.

        Cost: reads and allocates the sum of the values; see `Parameter.to_mindspore`.
        """
        wanted = list(self if names is None else names)
        for name in wanted:
            self.peek(name)
        values = ((name, self[name]) for name in wanted)
        return {name: value.to_mindspore() if isinstance(value, Parameter) else value for name, value in values}

    def to_dask(self, name: str, chunks: Any = None) -> Any:
        """A value as a dask array whose tasks read their own part of the file: see `Parameter.to_dask`.

        Args:
            name: of a parameter, or of an array that was assigned.
            chunks: as dask takes them; None for runs of about 64 MiB.

        Returns:
            A `dask.array.Array` of the value's shape and numpy dtype.

        Raises:
            KeyError: there is no such name.
            ArgumentTypeError: it is a string or a map.
            MissingPackage: dask is not installed.

        Cost: reads nothing; each task reads its chunk.
        """
        value = self[name]
        if isinstance(value, Parameter):
            return value.to_dask(chunks)
        if isinstance(value, np.ndarray):
            from lazyckpt.tensors import dask

            return dask.of_memory(value, chunks)
        raise ArgumentTypeError(f"{name!r} is a {'map' if isinstance(value, list) else type(value).__name__}, no array")

    def select(self, choice: str | Callable[[str], object]) -> Checkpoint:
        """A narrower view: the names that start with a prefix, or for which a function is true.

        The view shares this one's values (the same objects) and takes over its edits so far. It needs this checkpoint
        to stay open.

        Args:
            choice: a prefix of names, or a function of a name whose truth counts.

        Returns:
            A `Checkpoint` of these names, in the same order.

        Raises:
            ClosedCheckpoint: it was closed.

        Cost: O(matches) for a prefix, a walk over the names for a function. Reads nothing.
        """
        self._check_open()
        keep: Callable[[str], object] = (lambda name: name.startswith(choice)) if isinstance(choice, str) else choice
        if isinstance(choice, str) and isinstance(self._names, AllNames):
            places = dict(self._index.with_prefix(choice))
        else:
            places = {name: self._names.position(name) or 0 for name in self._names if keep(name)}
        view = self.copy()
        view._names = SomeNames({name: place for name, place in places.items() if name not in self._removed})
        view._removed = set()
        view._replaced = {name: value for name, value in self._replaced.items() if name in places}
        view._appended = {name: value for name, value in self._appended.items() if keep(name)}
        return view

    def load(
        self, names: Iterable[str] | None = None, *, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Read many values at once into memory of their own.

        Args:
            names: which; None for all.
            workers: threads; None for as many as pay, 1 for none.
            progress: called as `progress(done, total)` with byte counts.

        Returns:
            name -> aligned, writable numpy array (a str for strings, a list of arrays for maps), in the order of
            `names`. The file is read in file order whatever that is.

        Raises:
            KeyError: a name is not there; nothing is read then.

        Cost: allocates the sum of the values. Small neighbours that are alike share pieces of memory of 4 KiB, each of
        which stays as long as one of its values. Of all names of a plain file, a few microseconds for a small value.
        """
        known = self._in_stretches() if names is None else ((name, self.peek(name)) for name in names)
        jobs: dict[str, Entry] = {}
        stretches: list[Stretch] = []
        values: dict[str, Any] = {}
        for name, value in known:
            if isinstance(value, Stretch):
                stretches.append(value)
                values.update(dict.fromkeys(value.names))
                continue
            values[name] = None if isinstance(value, Entry) else _own(value)
            if isinstance(value, Entry):
                jobs[name] = value
        values.update(read_all(self._payloads, jobs, workers, progress, stretches))
        return values

    def save(
        self, path: str | os.PathLike[str], names: Iterable[str] | None = None, *, format: str | None = None,
        rename: Rename | None = None, dtype: str | None = None, enc_key: bytes | None = None,
        enc_mode: str = DEFAULT_MODE, crc_check: bool = False, align: int = 64,
        max_shard_size: int | None = None, metadata: Mapping[str, str] | None = None,
        mode: int = 0o400, progress: Progress | None = None,
        in_place: bool = False, overwrite: bool = True,
    ) -> list[str]:  # fmt: skip
        """Write values to another file (or over this one), one piece of 8 MiB in memory at a time.

        Args:
            path: where. What is there is replaced when the new file is whole, but for a file that the values come
                from and of which not all is written.
            names: which values, in this order; None for all. Values edited in memory are written as they are now.
            format: `ckpt` or `safetensors`; None for what the path ends in.
            rename: new names: a mapping from old ones, or a function of the old one.
            dtype: floating-point tensors are converted to this type, such as `Float16`.
            enc_key: encrypt a `.ckpt` with this key.
            enc_mode: AES-GCM, AES-CBC or SM4-CBC.
            crc_check: store a checksum, as MindSpore does.
            align: each content begins at a multiple of so many bytes, so that it can be mapped; 1 for files as
                MindSpore writes them. (Of safetensors files only the first content.)
            max_shard_size: bytes of contents above which several files are written, with a `<path>.index.json`.
            metadata: what a safetensors file is to say of itself; None for what this one's says, else MindSpore's
                `{"format": "ms"}`.
            mode: permission bits; MindSpore's saved files are read-only.
            progress: called as `progress(done, total)` with byte counts.
            in_place: replace the file that the values come from also by a part of what it holds. The rest is lost.
            overwrite: whether other files that are there may be replaced.

        Returns:
            The files written.

        Raises:
            KeyError: a name is not there; nothing is written.
            ValueError: the format cannot hold a value, or options contradict each other (`ArgumentValueError`).
            FileInTheWay: a file must not be replaced: see `path`, `in_place`, `overwrite`; nothing is written.
            OSError: the file cannot be written (`UnwritableFile`, `MissingFolder`, `FolderInTheWay`). In every case
                what was there before stays.

        Cost: reads the values once, in order; the index is written along. Synced to the disk before it is renamed.
        """
        from lazyckpt.writing.export import Export, export, inherited
        from lazyckpt.writing.targets import Permission

        try:
            key = None if enc_key is None else Secret(enc_key, "enc_key")
        finally:
            enc_key = None  # so that no traceback's variables show it
        wanted = list(self if names is None else names)
        for name in wanted:
            self.peek(name)
        may = Permission(overwrite, in_place)
        how = Export(format, rename, dtype, key, enc_mode, crc_check, align, max_shard_size, mode, progress, may)
        facts = inherited(self.metadata) if metadata is None else metadata
        return export(path, wanted, self.item, how, facts, self._inputs(wanted))

    def references(
        self, names: Iterable[str] | None = None, *, url: str | None = None, chunk_size: int | None = None,
        inline: int = 0, nested: bool = False, strict: bool = False,
    ) -> References:  # fmt: skip
        """References (kerchunk's format) with which zarr, xarray and dask open this checkpoint in place, without it.

        Args:
            names: which values, in this order; None for all.
            url: where readers will find the file; of several files their folder, ending with `/`. None: where it is.
            chunk_size: bytes that a chunk should have at most, about, so that large values are read in parallel.
            inline: bytes up to which values are copied into the references: each saves readers a request.
            nested: make groups of names' dots, and not arrays with dots in their names.
            strict: refuse what cannot be expressed, and not leave it out.

        Returns:
            What gives them as data (`to_dict()`), or writes them (`save("refs.json")`, `save("refs.parquet")`).

        Raises:
            EncryptedFile: there are no plain bytes to refer to.
            KeyError: a name is not there.
            ValueError: an option has no sense (`ArgumentValueError`).

        Cost: nothing yet; see `References.save`. References are of the file as it is now.
        """
        from lazyckpt.references.files import Files
        from lazyckpt.references.hierarchy import How
        from lazyckpt.references.references import References

        self._check_open()
        known: Callable[[], Iterable[tuple[str, Any]]] = self._known
        if names is not None:
            edited = self._in_memory()
            chosen = {name: edited[name] if name in edited else self.entry(name) for name in names}
            known = chosen.items
        files = Files(self._source, self._index.fingerprint, url)
        return References(known, self._payloads, files, How(chunk_size, inline, nested, strict))

    def item(self, name: str, new_name: str) -> Item:
        """What is written of a value, for `save_checkpoint` and `save`.

        Args:
            name: the value's.
            new_name: the name in the new file.

        Returns:
            Name, type, shape, and where the bytes come from.

        Raises:
            KeyError: there is no such name.

        Cost: reads nothing; its pieces are read when they are written.
        """
        from lazyckpt.writing.adapters import item_of, stored

        known = self.peek(name)
        return stored(new_name, known, self._payloads) if isinstance(known, Entry) else item_of(new_name, known)

    def close(self) -> None:
        """Let go of the file and the index. Arrays already handed out stay valid. May be called twice.

        Of one that came out of a pickle the file is closed when nothing else that came from it is left. Reads nothing.
        """
        self._closed = True
        if not self._payloads.is_lent:
            self._source.close()
            self._index.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """As the dict that MindSpore returns; strings and maps that were not read are described. Reads no payload."""
        if self._closed:
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
        """The files that some values come from; complete if they are one, and nothing of it but edits is left out."""
        from lazyckpt.writing.targets import Inputs

        assigned = (value for value in self.edits().values() if isinstance(value, Parameter))
        foreign = {file for value in assigned if value.origin is not None for file in value.origin[1].files}
        own = self._payloads.files
        complete = len(own) == 1 and foreign <= set(own) and len(self._names) == len(self._index)
        return Inputs((*own, *foreign), complete and len(set(wanted)) == len(self))

    def _describe(self, name: str) -> str:
        edited = self._edited(name)
        if edited is not UNEDITED:
            return repr(edited)
        entry = self.entry(name)
        if entry.kind == TENSOR:
            return repr(Parameter(entry, self._payloads))
        if entry.kind == MAP:
            return "[" + ", ".join(f"<{array.dtype} {array.shape}>" for array in entry.arrays) + "]"
        return f"<str of {entry.stored // 4:,} characters>"


def _own(value: Value) -> Value:
    """A value in memory of its own."""
    if isinstance(value, Parameter):
        return value.asnumpy(copy=True)
    if isinstance(value, list):
        return [_own(part) for part in value]
    return value.copy() if isinstance(value, np.ndarray) else value
