"""Whether the files of a listing or a folder can be loaded together: the verdict of the loader, without values."""

from __future__ import annotations

import os
from typing import NamedTuple

from lazyckpt.errors import EncryptedFile, FileFault, LazyCkptError
from lazyckpt.explore.inventory import Sample
from lazyckpt.index.build import MEMORY
from lazyckpt.loading import open_all
from lazyckpt.model.entry import REFUSED
from lazyckpt.sharding.opening import open_sharded
from lazyckpt.sources.encryption.keys import OWN_MODE, DeferredKey, Secret
from lazyckpt.sources.paths import absolute, is_folder, is_listing


class SetStatus(NamedTuple):
    """The loader's verdict on a set of files.

    Attributes:
        files: the files that were opened.
        parameters: the number of values.
        refused: the values that cannot be loaded, each with the reason.
        fault: why nothing can be loaded; None if something can.
    """

    files: tuple[str, ...]
    parameters: int
    refused: Sample
    fault: LazyCkptError | None

    @property
    def needs_key(self) -> bool:
        """Whether nothing is known to be wrong but that no key was given."""
        return isinstance(self.fault, EncryptedFile)

    def __str__(self) -> str:
        if self.fault is not None:
            return str(self.fault)
        if self.refused.count:
            return f"{self.refused.count:,} of {self.parameters:,} values cannot be loaded: {self.refused}"
        files = f"{len(self.files):,} file{'' if len(self.files) == 1 else 's'}"
        return f"{files} can be loaded together, with {self.parameters:,} values"


def is_set(path: str) -> bool:
    """Whether a path is a listing, or a folder."""
    return is_listing(path) or is_folder(path)


def set_status(path: str, key: Secret | None = None) -> SetStatus:
    """Open the files of a listing or a folder as the loader does, with indexes in memory.

    Cost: walks the headers of all files. Reads no values, writes nothing.
    """
    late = DeferredKey(lambda file, mode: key)
    refused = Sample()
    try:
        opened = (
            open_all(path, late, OWN_MODE, index=MEMORY)
            if is_listing(path)
            else open_sharded(path, None, late, OWN_MODE, index=MEMORY)
        )
    except LazyCkptError as error:
        if isinstance(error, FileFault) and error.file is not None:
            error.file = None if error.file in (path, absolute(path)) else os.path.basename(error.file)
        return SetStatus((), 0, refused, error)
    with opened:
        for entry in opened.index.entries():
            if entry.kind == REFUSED:
                refused.add(f"{entry.name!r} ({entry.reason})")
        files = tuple(file.path for file in opened._access.reader.files if not is_listing(file.path))
        return SetStatus(files, len(opened.index), refused, None)
