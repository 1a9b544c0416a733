"""File names: local paths and fsspec URLs, behind the same functions.

A URL is `<protocol>://…`, or several joined by `::`, as in fsspec (`simplecache::s3://bucket/x.ckpt`). `file://` is a
local path. Options (end points, credentials, time-outs, retries) are set in fsspec itself: in its configuration files,
in `FSSPEC_<PROTOCOL>_<OPTION>` variables, or in `fsspec.config.conf`. They do not pass through this module, so it
cannot show them.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    LazyCkptError,
)
from lazyckpt.runtime.os_errors import READ, WRITE, number_of, os_errors, translated

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
_LOCAL: Final = re.compile(r"(?:file|local)://")
_QUERY: Final = re.compile(r"(https?://[^?#\s'\"]*)[?#][^\s'\"]*")
LISTING: Final = ".index.json"  # the end of a name that lists the files of a checkpoint
# What web servers answer, as the system's error numbers.
_STATUSES: Final = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 410: errno.ENOENT}
_WEB: Final = re.compile(r"https?://")


def is_url(path: str) -> bool:
    """Whether a name is a URL, and not a local path."""
    return ":" in path and bool(_URL.match(path)) and not _LOCAL.match(path)


def is_web(path: str) -> bool:
    """Whether a name is the URL of a web server."""
    return bool(_WEB.match(path))


def is_listing(path: str) -> bool:
    """Whether a name is that of the listing of a checkpoint in several files."""
    return path.endswith(LISTING)


def redact_url(text: str) -> str:
    """Remove the query from web addresses in a text: a signed URL is a key."""
    return _QUERY.sub(r"\1", text) if "://" in text else text


def as_path(path: object, what: str = "a path is needed") -> str:
    """A path or URL argument as a string.

    Raises:
        ArgumentTypeError: it is neither a string nor a path of text; the message begins with `what`.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise ArgumentTypeError(f"{what}, not {type(path).__name__}")
    return str(text)


def resolved(path: str) -> str:
    """A path with all links resolved; a URL unchanged."""
    if is_url(path):
        return path
    local = _LOCAL.match(path)
    return os.path.realpath(path[local.end() :] if local else path)


def absolute(path: str) -> str:
    """An absolute path, links not resolved; a URL unchanged."""
    if is_url(path):
        return path
    local = _LOCAL.match(path)
    return os.path.abspath(path[local.end() :] if local else path)


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The fsspec file system of a URL, and the path within it.

    Raises:
        ArgumentValueError: fsspec does not know the protocol, or a package that it needs is not installed.
    """
    try:
        import fsspec
    except ImportError:
        raise ArgumentValueError(
            f"{redact_url(url)} is a URL, which needs fsspec: pip install 'lazyckpt[remote]'"
        ) from None
    try:
        found: tuple[AbstractFileSystem, str] = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ArgumentValueError(f"{redact_url(url)} cannot be opened: {redact_url(str(error))}") from None
    return found


@contextmanager
def fs_errors(url: str) -> Iterator[None]:
    """Raise an fsspec file system's errors as the package's own, with secrets taken out.

    File systems come from many authors and raise anything. The cause is dropped, because it may show a signed URL.

    Raises:
        MissingFile: there is no such object.
        UnreadableFile: anything else.
    """
    try:
        yield
    except LazyCkptError:
        raise
    except Exception as error:  # noqa: BLE001 (all of it is raised again)
        raise translated(_as_os_error(error, url), redact_url(url), READ) from None


def _as_os_error(error: Exception, url: str) -> OSError:
    """The error as the system would raise it, in words that show no secret."""
    status = getattr(error, "status", None)
    number = _STATUSES.get(status, 0) if isinstance(status, int) else 0
    if not number and isinstance(error, OSError):
        number = number_of(error)
    why = redact_url(str(error).replace(url, redact_url(url))) or "no reason was given"
    return OSError(number, f"{type(error).__name__}: {why}")


def require_local(path: str, why: str) -> str:
    """A local path, without `file://`.

    Raises:
        ArgumentValueError: it is a URL; the message gives the reason why a path is needed.
    """
    if is_url(path):
        raise ArgumentValueError(f"{redact_url(path)} is a URL: {why}")
    local = _LOCAL.match(path)
    return path[local.end() :] if local else path


def exists(path: str) -> bool:
    """Whether a path or URL exists."""
    return _is(path, os.path.exists, "exists")


def is_folder(path: str) -> bool:
    """Whether a path or URL is a folder."""
    return _is(path, os.path.isdir, "isdir")


def is_file(path: str) -> bool:
    """Whether a path or URL is a file."""
    return _is(path, os.path.isfile, "isfile")


def _is(path: str, here: Callable[[str], bool], there: str) -> bool:
    """Call a function on a local path, or a method of the file system of a URL."""
    if not is_url(path):
        return here(path)
    fs, inside = filesystem(path)
    with fs_errors(path):
        return bool(getattr(fs, there)(inside))


def join(folder: str, name: str) -> str:
    """Join a folder and a name."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else os.path.join(folder, name)


def folder_of(path: str) -> str:
    """The folder of a path or URL."""
    return path.rpartition("/")[0] if is_url(path) else os.path.dirname(path)


def names_in(folder: str) -> list[str]:
    """The names in a folder.

    Raises:
        MissingFile: there is no such folder.
        UnreadableFile: it is not a folder, or cannot be listed.
    """
    if not is_url(folder):
        with os_errors(folder, READ):
            return os.listdir(folder)
    fs, inside = filesystem(folder)
    with fs_errors(folder):
        return [str(name).rstrip("/").rpartition("/")[2] for name in fs.ls(inside, detail=False)]


def read(path: str, most: int = -1, what: str = "") -> bytes:
    """Read a small file, or its first bytes.

    Args:
        path: the path or URL.
        most: the maximum number of bytes; -1 for all.
        what: the kind of file, for error messages, such as `the strategy file`.

    Raises:
        MissingFile: there is no such file.
        UnreadableFile: it cannot be read, or it is a pipe or a device, where reading might wait forever.
    """
    if not is_url(path):
        with os_errors(path, READ, what), open(path, "rb", opener=_of_a_file) as file:
            # A reader that is asked for bytes allocates them before it knows how many there are.
            return file.read(most if most < 0 else min(most, os.fstat(file.fileno()).st_size))
    fs, inside = filesystem(path)
    with fs_errors(path):
        return bytes(fs.cat_file(inside) if most < 0 else fs.cat_file(inside, start=0, end=most))


def _of_a_file(path: str, flags: int) -> int:
    """Open a regular file only. O_NONBLOCK: opening a pipe would wait for its writer."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def download(url: str, target: str) -> None:
    """Download an object to a local file.

    Raises:
        MissingFile, UnreadableFile: it cannot be read.
    """
    fs, inside = filesystem(url)
    with fs_errors(url):
        fs.get_file(inside, target)


def upload(path: str, url: str) -> None:
    """Upload a local file to a URL.

    Raises:
        UnwritableFile: the store refuses it.
    """
    fs, inside = filesystem(url)
    try:
        fs.put_file(path, inside)
    except Exception as error:  # noqa: BLE001 (raised again)
        raise translated(_as_os_error(error, url), redact_url(url), WRITE) from None


def matches(pattern: str, endings: tuple[str, ...]) -> list[str]:
    """The files of a path: itself, those in a folder with these endings, or a pattern's matches.

    A folder is searched at any depth.

    Cost: one request or one listing for a URL.
    """
    import glob as globbing

    if is_url(pattern):
        return _remote_matches(pattern, endings)
    if os.path.isdir(pattern):
        inside = os.path.join(globbing.escape(pattern), "**", "*")
        return [path for ending in endings for path in globbing.glob(inside + ending, recursive=True)]
    return [pattern] if os.path.exists(pattern) else globbing.glob(pattern, recursive=True)


def _remote_matches(pattern: str, endings: tuple[str, ...]) -> list[str]:
    import glob as globbing

    fs, inside = filesystem(pattern)

    def urls(paths: Any) -> list[str]:
        return [str(fs.unstrip_protocol(path)) for path in paths]

    with fs_errors(pattern):
        if globbing.has_magic(inside) and not is_web(pattern):
            return urls(fs.glob(inside))
        if is_web(pattern) or fs.isfile(inside):
            return [pattern]
        return urls(path for path in fs.find(inside) if str(path).endswith(endings))
