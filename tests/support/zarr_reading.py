"""A reader of references, written from the zarr and kerchunk specifications alone.

`arrays(references)` returns path -> numpy array. Arrays are read as other readers do: first `.zarray`, then a key for
each chunk, whose bytes are in a file or inline. Chunks at the edge are complete; the part outside the array is dropped.
"""

from __future__ import annotations

import base64
import itertools
import json

import numpy as np


def arrays(references):
    """All arrays, by path."""
    assert references["version"] == 1
    refs = references["refs"]
    return {key[: -len("/.zarray")]: _array(refs, key[: -len(".zarray")]) for key in refs if key.endswith("/.zarray")}


def attributes(references, path=""):
    """The attributes of an array or a group."""
    return json.loads(references["refs"].get(f"{path}/.zattrs" if path else ".zattrs", "{}"))


def chunks(references, path):
    """The references of the chunks of an array, by chunk key."""
    start = f"{path}/"
    return {
        key[len(start) :]: one
        for key, one in references["refs"].items()
        if key.startswith(start) and not key.startswith(f"{start}.z")
    }


def _array(refs, prefix):
    told = json.loads(refs[f"{prefix}.zarray"])
    assert (told["zarr_format"], told["order"], told["compressor"], told["filters"]) == (2, "C", None, None)
    dtype, shape, chunk = np.dtype(told["dtype"]), told["shape"], told["chunks"]
    counts = [-(-size // one) for size, one in zip(shape, chunk, strict=True)]
    padded = np.empty([count * one for count, one in zip(counts, chunk, strict=True)], dtype)
    for place in itertools.product(*map(range, counts)):
        content = _content(refs[prefix + (".".join(map(str, place)) or "0")])
        at = tuple(slice(number * one, (number + 1) * one) for number, one in zip(place, chunk, strict=True))
        padded[at] = np.frombuffer(content, dtype).reshape(chunk)
    return padded[tuple(map(slice, shape))]


def _content(reference):
    if isinstance(reference, str):
        return base64.b64decode(reference.removeprefix("base64:"), validate=True)
    url, offset, length = reference
    with open(url.removeprefix("file://"), "rb") as file:
        file.seek(offset)
        content = file.read(length)
    assert len(content) == length > 0
    return content
