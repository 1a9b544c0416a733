"""File names: local paths and fsspec URLs, behind the same functions.

A URL is `<protocol>://…`, or several joined by `::`, as in fsspec (`simplecache::s3://bucket/x.ckpt`). `file://` is a
local path. Options (end points, credentials, time-outs, retries) are set in fsspec itself: in its configuration files,
in `FSSPEC_<PROTOCOL>_<OPTION>` variables, or in `fsspec.config.conf`. They do not pass through this module, so it
cannot show them.

A URL has `://` in it, so that no name without a slash is one: a file called `memory::x.ckpt` is opened as a file,
whether a listing, a folder, a pattern or the shell named it. `join` is the only way from such a name to a path.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, unquote

from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    LazyCkptError,
    UnreadableFile,
)
from lazyckpt.runtime.descriptor_pool import open_descriptor
from lazyckpt.runtime.os_errors import READ, WRITE, number_of, os_errors, translated

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_URL: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://")
_LOCAL: Final = re.compile(r"(?:file|local)://")
_QUERY: Final = re.compile(r"(https?://[^?#\s'\"]*)[?#][^\s'\"]*")
LISTING: Final = ".index.json"  # the end of a name that lists the files of a checkpoint
NAME_MAP: Final = "param_name_map.json"  # the listing that MindSpore's unified_safetensors writes
# What web servers answer, as the system's error numbers.
_STATUSES: Final = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 410: errno.ENOENT}
_WEB: Final = re.compile(r"https?://")
# In a name, stores other than web servers take these as a chain of URLs, a version, a query or an escaped character.
_MEANINGFUL: Final = re.compile(r"::|[?#\\\x00-\x1f\x7f]|%[0-9A-Fa-f]{2}")


def is_url(path: str) -> bool:
    """Whether a name is a URL, and not a local path."""
    return ":" in path and bool(_URL.match(path)) and not _LOCAL.match(path)


def is_web(path: str) -> bool:
    """Whether a name is the URL of a web server."""
    return bool(_WEB.match(path))


def is_listing(path: str) -> bool:
    """Whether a name is that of the listing of a checkpoint in several files."""
    return file_name(path).endswith(LISTING) or is_name_map(path)


def is_name_map(path: str) -> bool:
    """Whether a name is that of a listing by `unified_safetensors`."""
    return file_name(path) == NAME_MAP


class _Chain(NamedTuple):
    """A URL as three texts that follow each other; the middle one has the path within the store.

    Of `simplecache::s3://b/x` that is `s3://b/x`, of `zip://x::s3://b/y.zip` it is `zip://x`.
    """

    before: str
    target: str
    behind: str

    def with_target(self, target: str) -> str:
        """The same chain to another object in the store."""
        return f"{self.before}{target}{self.behind}"


def _chain(url: str) -> _Chain:
    links = url.split("::")
    number = next(number for number, link in enumerate(links) if "://" in link)
    return _Chain(
        "".join(f"{link}::" for link in links[:number]),
        links[number],
        "".join(f"::{link}" for link in links[number + 1 :]),
    )


def _without_query(target: str) -> str:
    """The URL of a web server without query and fragment, which may contain slashes; another URL unchanged."""
    return re.split(r"[?#]", target, maxsplit=1)[0] if is_web(target) else target


def file_name(path: str) -> str:
    """The last part of a path or URL, without the query of a web address."""
    return _without_query(_chain(path).target).rpartition("/")[2] if is_url(path) else os.path.basename(path)


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


def behind_caches(fs: AbstractFileSystem) -> AbstractFileSystem:
    """The file system whose objects a cache of fsspec holds; itself if it is not a cache.

    A cache looks for the facts of an object in a listing, which web servers do not have.
    """
    from fsspec.implementations.cached import CachingFileSystem

    while isinstance(fs, CachingFileSystem):
        fs = fs.fs
    return fs


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


def _is(path: str, here: Callable[[str], bool], there: str) -> bool:
    """Call a function on a local path, or a method of the file system of a URL."""
    if not is_url(path):
        return here(path)
    fs, inside = filesystem(path)
    with fs_errors(path):
        return bool(getattr(fs, there)(inside))


def is_name(name: str) -> bool:
    """Whether a text can name a file inside a folder: no path, no drive, no parent folder."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name and os.path.basename(name) == name


def join(folder: str, name: str) -> str:
    """The path or URL of a name inside a folder. The name comes from a file or a folder, so it is not trusted.

    The result is a URL only if the folder is one, and always a file directly inside it.

    Raises:
        UnreadableFile: the name leads out of the folder, or the store would not take it as a name.
    """
    if not is_name(name):
        raise UnreadableFile(f"{redact_url(folder)}: {name!r} does not name a file inside the folder")
    if not is_url(folder):
        return os.path.join(folder, name)
    chain = _chain(folder)
    if is_web(chain.target):
        name = quote(name, safe="", errors="surrogatepass")
    elif found := _MEANINGFUL.search(name):
        raise UnreadableFile(
            f"{redact_url(folder)}: the name {name!r} cannot be part of a URL, because the store would interpret"
            f" {found[0]!r}: rename the object, or download it"
        )
    target = _without_query(chain.target)
    return chain.with_target(f"{target}{name}" if target.endswith("/") else f"{target}/{name}")


def folder_of(path: str) -> str:
    """The folder of a path or URL."""
    if not is_url(path):
        return os.path.dirname(path)
    chain = _chain(path)
    folder = _without_query(chain.target).rpartition("/")[0]
    # The root of a store keeps its slashes: without them it would be a local path.
    return chain.with_target(folder if "://" in folder else f"{folder}/")


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
        found = list(map(_last, fs.ls(inside, detail=False)))
    # A web server's page lists escaped names, and links such as `../`.
    names = map(unquote, found) if is_web(_chain(folder).target) else found
    return [name for name in names if is_name(name)]


def _last(path: object) -> str:
    return str(path).rstrip("/").rpartition("/")[2]


def scan(folder: str) -> Iterator[tuple[str, bool, int]]:
    """Yield name, whether it is a folder, and size in bytes (-1 if unknown) of each file and folder in a folder.

    Links are followed; pipes, devices and links that lead nowhere are left out.

    Raises:
        MissingFile: there is no such folder.
        UnreadableFile: it is not a folder, or cannot be listed.

    Cost: one call to the system a name, or one request for a URL.
    """
    if not is_url(folder):
        with os_errors(folder, READ), os.scandir(folder) as found:
            for each in found:
                try:
                    status = each.stat()
                except OSError:
                    continue
                if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
                    yield each.name, stat.S_ISDIR(status.st_mode), status.st_size
        return
    fs, inside = filesystem(folder)
    with fs_errors(folder):
        found = fs.ls(inside, detail=True)
    unescape = unquote if is_web(_chain(folder).target) else str
    for facts in found:
        name, size = unescape(_last(facts["name"])), facts.get("size")
        if is_name(name):
            yield name, facts.get("type") == "directory", size if isinstance(size, int) else -1


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


def _of_a_file(path: str, _flags: int) -> int:
    """Open a regular file only."""
    descriptor = open_descriptor(path)
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


def find_listings(folder: str, endings: tuple[str, ...]) -> list[str]:
    """The listings of files with these endings in a folder, at any depth, sorted. Cost: one listing of the folder."""
    wanted = (*(ending + LISTING for ending in endings), NAME_MAP)
    return sorted(path for path in matches(folder, wanted) if is_listing(path))


def _remote_matches(pattern: str, endings: tuple[str, ...]) -> list[str]:
    import glob as globbing

    chain = _chain(pattern)
    if is_web(chain.target):
        return [pattern]
    fs, inside = filesystem(pattern)
    with fs_errors(pattern):
        if not globbing.has_magic(inside):
            if fs.isfile(inside):
                return [pattern]
            return _below(pattern, inside, [path for path in fs.find(inside) if str(path).endswith(endings)])
        found = fs.glob(inside)
    while globbing.has_magic(inside):
        pattern, inside = folder_of(pattern), inside.rstrip("/").rpartition("/")[0]
    return _below(pattern, inside, found)


def _below(folder: str, inside: str, found: Iterable[Any]) -> list[str]:
    """The URLs of paths that a store lists below a folder; `inside` is the path of the folder."""
    root = inside.strip("/")
    paths = [str(path).strip("/") for path in found]
    below = [path.removeprefix(root).lstrip("/") for path in paths if path.startswith(f"{root}/" if root else "")]
    return [reduce(join, path.split("/"), folder) for path in below]
