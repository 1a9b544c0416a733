"""Names of files: paths of this machine, and URLs of anything that fsspec knows, behind the same few questions.

A URL is `<protocol>://…`, or several joined by `::`, as in fsspec (`simplecache::s3://bucket/x.ckpt`). `file://` is a
path of this machine. Options (end points, credentials, time-outs, retries) are fsspec's own: its configuration files
and `FSSPEC_<PROTOCOL>_<OPTION>` variables, or `fsspec.config.conf`. None pass through here, so none can be shown.
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
    """Whether a name is a URL, and not a path of this machine."""
    return ":" in path and bool(_URL.match(path)) and not _LOCAL.match(path)


def is_web(path: str) -> bool:
    """Whether a name is the URL of a web server."""
    return bool(_WEB.match(path))


def is_listing(path: str) -> bool:
    """Whether a name is that of a listing: of a checkpoint in several files."""
    return path.endswith(LISTING)


def redact_url(text: str) -> str:
    """A text with what follows `?` in web addresses taken out: a signed address is a key."""
    return _QUERY.sub(r"\1", text) if "://" in text else text


def as_path(path: object, what: str = "a path is needed") -> str:
    """A path or URL that came as an argument, as a string.

    Raises:
        ArgumentTypeError: it is neither a string nor a path of text; `what` is said of it.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise ArgumentTypeError(f"{what}, not {type(path).__name__}")
    return str(text)


def resolved(path: str) -> str:
    """A path with all links resolved; a URL as it is."""
    if is_url(path):
        return path
    local = _LOCAL.match(path)
    return os.path.realpath(path[local.end() :] if local else path)


def absolute(path: str) -> str:
    """A path from the root on, links as they are; a URL as it is."""
    if is_url(path):
        return path
    local = _LOCAL.match(path)
    return os.path.abspath(path[local.end() :] if local else path)


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The fsspec file system of a URL, and the URL's path in it.

    Raises:
        ArgumentValueError: fsspec knows no such protocol, or it (or what the protocol needs) is not installed.
    """
    try:
        import fsspec
    except ImportError:
        raise ArgumentValueError(
            f"{redact_url(url)} is a URL, and those need fsspec: pip install 'lazyckpt[remote]'"
        ) from None
    try:
        found: tuple[AbstractFileSystem, str] = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ArgumentValueError(f"{redact_url(url)} cannot be opened: {redact_url(str(error))}") from None
    return found


@contextmanager
def fs_errors(url: str) -> Iterator[None]:
    """Raise what an fsspec file system raises as one of the package's errors, with secrets taken out.

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
    number = _STATUSES.get(getattr(error, "status", 0), 0)
    if not number and isinstance(error, OSError):
        number = number_of(error)
    why = redact_url(str(error).replace(url, redact_url(url))) or "no reason was given"
    return OSError(number, f"{type(error).__name__}: {why}")


def require_local(path: str, why: str) -> str:
    """A path, of which `file://` is taken off.

    Raises:
        ArgumentValueError: it is a URL, which cannot be for this reason.
    """
    if is_url(path):
        raise ArgumentValueError(f"{redact_url(path)} is a URL: {why}")
    local = _LOCAL.match(path)
    return path[local.end() :] if local else path


def exists(path: str) -> bool:
    """Whether there is something of that name."""
    return _is(path, os.path.exists, "exists")


def is_folder(path: str) -> bool:
    """Whether it is a folder."""
    return _is(path, os.path.isdir, "isdir")


def is_file(path: str) -> bool:
    """Whether it is a file."""
    return _is(path, os.path.isfile, "isfile")


def _is(path: str, here: Callable[[str], bool], there: str) -> bool:
    """What a function says of a path, or a method of a file system of a URL."""
    if not is_url(path):
        return here(path)
    fs, inside = filesystem(path)
    with fs_errors(path):
        return bool(getattr(fs, there)(inside))


def join(folder: str, name: str) -> str:
    """A name in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else os.path.join(folder, name)


def folder_of(path: str) -> str:
    """The folder that a name stands in."""
    return path.rpartition("/")[0] if is_url(path) else os.path.dirname(path)


def names_in(folder: str) -> list[str]:
    """The names that stand in a folder.

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
    """The bytes of a small file, or the first of them.

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
    """A descriptor of a regular file; nothing else is waited for."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def download(url: str, target: str) -> None:
    """Bring an object to a file of this machine.

    Raises:
        MissingFile, UnreadableFile: it cannot be read.
    """
    fs, inside = filesystem(url)
    with fs_errors(url):
        fs.get_file(inside, target)


def upload(path: str, url: str) -> None:
    """Bring a file of this machine to a place elsewhere.

    Raises:
        UnwritableFile: the store does not take it.
    """
    fs, inside = filesystem(url)
    try:
        fs.put_file(path, inside)
    except Exception as error:  # noqa: BLE001 (raised again)
        raise translated(_as_os_error(error, url), redact_url(url), WRITE) from None


def matches(pattern: str, endings: tuple[str, ...]) -> list[str]:
    """The files that a path names: itself, those in a folder (at any depth) with these endings, or those of a pattern.

    Cost: of a URL one request, or a listing.
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
