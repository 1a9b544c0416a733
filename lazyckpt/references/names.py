"""Names of parameters as paths in a zarr hierarchy, and back.

Rule: letters, digits, `_`, `-` and dots stay; every other byte of the name's UTF-8 becomes `~` and two hexadecimal
digits, so that nothing in a path means anything to a store, a file system, a URL or a template. A segment that would
still have a meaning as a whole (an empty one, a leading dot, `zarr.json`) is escaped in the same way, so that

    unescape(escape(name)) == name

always, and no two names have one path. Flat, a name is one path segment, dots and all; nested, its dots part it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_EMPTY: Final = "~"  # without two digits behind it, so it is not an escaped byte
_ORDINARY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_MEANT: Final = frozenset({"zarr.json"})  # metadata of other versions of the format
_BYTE: Final = re.compile(r"~([0-9A-F]{2})")
LONGEST: Final = 255  # bytes of a path segment that file systems take


def escape(name: str) -> str:
    """A name as one path segment."""
    if _ORDINARY.fullmatch(name) and name not in _MEANT:
        return name
    if not name:
        return _EMPTY
    made = "".join(character if _stays(character) else _coded(character) for character in name)
    if made in _MEANT or made.startswith("."):
        made = made.replace(".", _coded("."), 1)
    return made


def unescape(segment: str) -> str:
    """The name of a path segment: the inverse of `escape`."""
    if segment == _EMPTY:
        return ""
    parts = _BYTE.split(segment)  # text, digits, text, digits, …, text
    data = b"".join(
        bytes.fromhex(part) if number % 2 else part.encode("utf-8", "surrogatepass")
        for number, part in enumerate(parts)
    )
    return data.decode("utf-8", "surrogatepass")


def path_of(name: str, *, nested: bool = False) -> str:
    """A name's path: one segment, or one for each of the parts that its dots make."""
    return "/".join(map(_escaped_part, name.split("."))) if nested else escape(name)


def name_of(path: str, *, nested: bool = False) -> str:
    """The inverse of `path_of`."""
    return ".".join(map(unescape, path.split("/"))) if nested else unescape(path)


def parents(path: str) -> list[str]:
    """The groups that contain a path, outermost first."""
    return [path[:end] for end, character in enumerate(path) if character == "/"]


_escaped_part = lru_cache(4096)(escape)  # a network's parts repeat


def _stays(character: str) -> bool:
    return character in "_-." or character.isalnum()


def _coded(character: str) -> str:
    return "".join(f"~{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
