"""References as JSON: kerchunk's version 1, without templates, with consolidated metadata.

    {"version": 1, "refs": {".zgroup": "…", "<path>/.zarray": "…", "<path>/0.0": [url, offset, length], …,
                            ".zmetadata": "…"}}

Nodes are written as they come. The consolidated copy of the metadata is kept in a temporary file until the end.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

from lazyckpt.references.hierarchy import Node, Reference
from lazyckpt.references.metadata import compact

_quoted: Final = json.encoder.encode_basestring_ascii  # as `json.dumps` quotes a string
_TOGETHER: Final = ('{"metadata":{', '},"zarr_consolidated_format":1}')


def texts_of(node: Node) -> Iterator[tuple[str, str]]:
    """A node's metadata: keys and texts."""
    path = f"{node.path}/" if node.path else ""
    if node.text:
        yield f"{path}{'.zarray' if node.is_array else '.zgroup'}", node.text
    if node.attributes:
        yield f"{path}.zattrs", node.attributes


def to_dict(nodes: Iterable[Node]) -> dict[str, Any]:
    """The references as plain data."""
    refs: dict[str, Any] = {}
    together = {}
    for node in nodes:
        for key, text in texts_of(node):
            refs[key] = text
            together[key] = json.loads(text)
        refs.update((key, plain(reference)) for key, reference in node.chunks)
    metadata = {"metadata": together, "zarr_consolidated_format": 1}
    return {"version": 1, "refs": {**refs, ".zmetadata": compact(metadata)}}


def write(file: IO[str], nodes: Iterable[Node]) -> None:
    """Write the references."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as aside:
        file.write('{"version":1,"refs":{')
        comma = ""
        for node in nodes:
            for key, text in texts_of(node):
                quoted = _quoted(key)
                file.write(f"{comma}\n{quoted}:{_quoted(text)}")
                aside.write(_within(f"{comma}{quoted}:{text}"))
                comma = ","
            for key, reference in node.chunks:
                file.write(f",\n{_quoted(key)}:{_written(reference)}")
        file.write(f',\n".zmetadata":"{_within(_TOGETHER[0])}')
        aside.seek(0)
        shutil.copyfileobj(aside, file)
        file.write(f'{_within(_TOGETHER[1])}"\n}}}}\n')


def plain(reference: Reference) -> str | list[str | int]:
    """A reference as a JSON value."""
    return f"base64:{b64encode(reference).decode()}" if isinstance(reference, bytes) else list(reference)


def _written(reference: Reference) -> str:
    if isinstance(reference, bytes):
        return f'"base64:{b64encode(reference).decode()}"'
    url, offset, length = reference
    return f"[{_quoted(url)},{offset},{length}]"


def _within(text: str) -> str:
    """A text escaped for use inside a JSON string."""
    return _quoted(text)[1:-1]
