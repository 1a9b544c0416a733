"""References as Parquet: a folder with one file of metadata, and files of chunks per array.

Readers fetch only the references that they need. fsspec writes the format (with kerchunk, pandas and fastparquet: the
extra `references`). There is at least one file for each array, so this is for values in many chunks; for many values
JSON is smaller and faster.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterable
from typing import Any, Final

from lazyckpt.errors import ArgumentValueError, FolderInTheWay, LazyCkptError
from lazyckpt.references.hierarchy import Node
from lazyckpt.references.json_writer import plain, texts_of
from lazyckpt.references.names import LONGEST
from lazyckpt.runtime.atomic_write import temporary_folder

_RECORDS: Final = 10_000  # chunks in a file, at most
_MARK: Final = ".zmetadata"
NEEDED: Final = "references in Parquet need kerchunk, pandas and fastparquet: pip install 'lazyckpt[references]'"


def write(path: str, nodes: Iterable[Node], most_chunks: int) -> None:
    """Write the references to a folder, atomically; old references at the path are replaced.

    Args:
        path: the folder.
        nodes: arrays and groups, in order.
        most_chunks: the largest number of chunks of an array.

    Raises:
        LazyCkptError: the packages that write Parquet are not installed.
        FolderInTheWay: something else exists at the path.
        ArgumentValueError: a name is too long for a file system.

    Cost: a file for each array; all metadata are in memory.
    """
    if os.path.lexists(path) and not os.path.isfile(os.path.join(path, _MARK)):
        raise FolderInTheWay(errno.EEXIST, f"{path} exists and is not a folder of references: choose another name")
    mapper_of = _mapper()
    with temporary_folder(path) as made, warnings.catch_warnings():
        # fsspec reads with fastparquet only, which pandas has deprecated.
        warnings.filterwarnings("ignore", ".*fastparquet.*", DeprecationWarning)
        _fill(mapper_of(os.path.join(made, os.path.basename(path)), max(1, min(most_chunks, _RECORDS))), nodes)


def _fill(mapper: Any, nodes: Iterable[Node]) -> None:
    for node in nodes:
        if any(len(part.encode()) > LONGEST for part in node.path.split("/")):
            raise ArgumentValueError(
                f"{node.path[:80]}… is too long a name for a folder, and Parquet needs a folder for each array:"
                " leave it out, or write JSON"
            )
        for key, text in texts_of(node):
            mapper[key] = text
        for key, reference in node.chunks:
            mapper[key] = plain(reference)
        if node.is_array:
            for field, record in [key for key in mapper._items if isinstance(key, tuple)]:
                mapper.write(field, record)
    mapper.flush()


def _mapper() -> Any:
    """A factory of fsspec's writer: a function of a folder and the references per file."""
    try:
        import fastparquet  # noqa: F401 (pandas needs it)
        import fsspec
        import kerchunk.df  # noqa: F401 (fsspec needs it)
        from fsspec.implementations.reference import LazyReferenceMapper
    except ImportError as error:
        raise LazyCkptError(f"{NEEDED} ({error})") from error

    def made(folder: str, records: int) -> Any:
        return LazyReferenceMapper.create(folder, fs=fsspec.filesystem("file"), record_size=records)

    return made
