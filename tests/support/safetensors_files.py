"""safetensors files assembled by hand, with an option for everything that may be invalid."""

from __future__ import annotations

import json


def item(dtype, shape, begin, end):
    """The header entry of a tensor."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def raw(header, contents=b"", length=None):
    """A file with this header (text, or an object to encode as JSON) and these payloads."""
    text = header if isinstance(header, (str, bytes)) else json.dumps(header)
    data = text.encode() if isinstance(text, str) else text
    return (len(data) if length is None else length).to_bytes(8, "little") + data + contents


NAMES = {
    "bool": "BOOL",
    "float16": "F16",
    "float32": "F32",
    "int32": "I32",
    "int64": "I64",
    "int8": "I8",
    "uint8": "U8",
}


def file_of(arrays, metadata=None, spaces=False):
    """A file of numpy arrays, in the given order."""
    header, contents = ({"__metadata__": metadata} if metadata else {}), b""
    for name, array in arrays.items():
        begin = len(contents)
        contents += array.tobytes()
        header[name] = item(NAMES[array.dtype.name], array.shape, begin, len(contents))
    return raw(json.dumps(header, ensure_ascii=False, indent=1 if spaces else None), contents)
