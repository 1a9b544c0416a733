"""`References`: the result of `Checkpoint.references`. Reads nothing before it is exported."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.reading.reader import Reader
from lazyckpt.references import json_writer, parquet_writer
from lazyckpt.references.files import Files
from lazyckpt.references.hierarchy import Known, ReferenceOptions, Walk
from lazyckpt.runtime.atomic_write import file_errors, temporary
from lazyckpt.runtime.folders import resolved_output
from lazyckpt.writing.targets import check_report

_MODE: Final = 0o644
_BUFFER: Final = 2**20


class References:
    """References to the values of a checkpoint, for zarr, xarray and dask. Made by `Checkpoint.references`."""

    def __init__(self, known: Known, payloads: Reader, files: Files, options: ReferenceOptions) -> None:
        """Check options.

        Raises:
            ArgumentTypeError, ArgumentValueError: an option makes no sense.
        """
        for what, number, least in (("chunk_size", options.chunk_size, 1), ("inline", options.inline, 0)):
            if not isinstance(number, int) and not (number is None and what == "chunk_size"):
                raise ArgumentTypeError(f"{what} must be a number of bytes, not {type(number).__name__}")
            if number is not None and number < least:
                raise ArgumentValueError(f"{what} must be at least {least}, not {number}")
        self._known = known
        self._payloads = payloads
        self._files = files
        self._options = options

    def to_dict(self) -> dict[str, Any]:
        """The references as plain data, for `fsspec.filesystem("reference", fo=…)`.

        The attribute `lazyckpt_left_out` of the root lists the values left out.

        Raises:
            ValueError: see `save`.

        Cost: reads the header of each value; allocates about 2 KiB for each.
        """
        return json_writer.to_dict(self._walk().nodes())

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> dict[str, str]:
        """Write the references to a file: JSON, or a folder of Parquet files.

        Args:
            path: ends with `.json`, `.parquet` or `.parq`. Old references are replaced once the new ones are complete.
                The checkpoint's own files are never replaced.
            overwrite: whether an existing file may be replaced.

        Returns:
            The values left out: name -> reason.

        Raises:
            ArgumentValueError: the extension is another; names cannot be nested (in Parquet none can); `strict`, and
                a value must be left out.
            StaleIndex: a value is not where the index says.
            ChangedFile: the file was changed or replaced since it was opened.
            FileInTheWay: the path is one of the checkpoint's own files, or exists and must not be replaced.
            OSError: the references cannot be written.
            LazyCkptError: packages that write Parquet are not installed.

        Cost: reads the header of each value (values only if they are copied), with one batch of entries in memory for
        JSON, and all metadata for Parquet.
        """
        target = resolved_output(os.fspath(path))
        ending = os.path.splitext(target)[1]
        if ending not in _WRITERS:
            raise ArgumentValueError(f"{target} must end with {', '.join(_WRITERS)}, which selects the format")
        check_report(target, self._files.inputs, overwrite=overwrite)
        return _WRITERS[ending](self, target)

    def _walk(self) -> Walk:
        return Walk(self._known, self._payloads, self._files, self._options)

    def _save_json(self, path: str) -> dict[str, str]:
        walk = self._walk()
        with file_errors(path), temporary(path) as made:
            with open(made.path, "w", encoding="utf-8", newline="", buffering=_BUFFER) as file:
                json_writer.write(file, walk.nodes())
            made.commit(_MODE)
        return walk.left_out

    def _save_parquet(self, path: str) -> dict[str, str]:
        if self._options.nested:
            raise ArgumentValueError("readers of Parquet know no groups: leave the names flat, or write JSON")
        counted, walk = self._walk(), self._walk()
        most = max((node.total for node in counted.nodes()), default=0)
        parquet_writer.write(path, walk.nodes(), most)
        return walk.left_out


_WRITERS: Final[dict[str, Callable[[References, str], dict[str, str]]]] = {
    ".json": References._save_json,
    ".parquet": References._save_parquet,
    ".parq": References._save_parquet,
}
