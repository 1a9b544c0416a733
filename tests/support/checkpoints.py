"""Checkpoints assembled by hand from protobuf bytes, with options for every encoding.

Nothing here is imported from lazyckpt, so that a mistake there is not repeated here. From the bottom up: a number
(`varint`), a field (`number`, `chunk`, `fixed32`, `fixed64`, `group`), a TensorProto (`tensor`), a Value
(`tensor_value`, `sliced_value`, `map_value`, `string_value`), a file (`checkpoint`, `with_crc`). `pad` is the number
of extra bytes with which a number is written.
"""

from __future__ import annotations

import functools
import math
import zlib

import numpy as np

# numpy's names -> MindSpore's.
NAMES = {
    "bool": "Bool",
    **{name: name.capitalize() for name in ("int8", "int16", "int32", "int64", "float16", "float32", "float64")},
    **{f"uint{bits}": f"UInt{bits}" for bits in (8, 16, 32, 64)},
    "bfloat16": "BFloat16",
}
ITEMSIZES = dict.fromkeys(("Bool", "Int8", "UInt8", "Int4"), 1)
ITEMSIZES |= dict.fromkeys(("Int16", "UInt16", "Float16", "BFloat16"), 2)
ITEMSIZES |= dict.fromkeys(("Int32", "UInt32", "Float32"), 4)
ITEMSIZES |= dict.fromkeys(("Int64", "UInt64", "Float64"), 8)


@functools.lru_cache(4096)
def varint(value, pad=0):
    """A base-128 varint; negative numbers as their two's complement in 64 bits."""
    value &= 2**64 - 1
    groups = []
    while value or not groups:
        groups.append(value & 0x7F)
        value >>= 7
    groups += [0] * pad
    return bytes([*(byte | 0x80 for byte in groups[:-1]), groups[-1]])


def key(field, wire_type, pad=0):
    """The key of a field: its number and wire type."""
    return varint(field << 3 | wire_type, pad)


def number(field, value, pad=0, key_pad=0):
    """A field that holds a number (wire type 0)."""
    return key(field, 0, key_pad) + varint(value, pad)


def fixed64(field, eight_bytes=b"\xff" * 8):
    """A field of eight bytes (wire type 1)."""
    return key(field, 1) + eight_bytes


def chunk(field, data, pad=0, key_pad=0):
    """A length-delimited field (wire type 2): a string, bytes or a message."""
    return key(field, 2, key_pad) + varint(len(data), pad) + data


def group(field, *inside):
    """A group (wire types 3 and 4)."""
    return key(field, 3) + b"".join(inside) + key(field, 4)


def nested_groups(depth, field=99):
    """Nested groups."""
    return key(field, 3) * depth + key(field, 4) * depth


def fixed32(field, four_bytes=b"\xff" * 4):
    """A field of four bytes (wire type 5)."""
    return key(field, 5) + four_bytes


def tensor(dims, dtype, content, packed=False, pad=0):
    """The fields of a TensorProto as a list, in MindSpore's order: dims, type, content."""
    if packed:
        shape = chunk(1, b"".join(varint(dim, pad) for dim in dims), pad)
    else:
        shape = b"".join(number(1, dim, pad) for dim in dims)
    return [shape, chunk(2, dtype.encode(), pad), chunk(3, content, pad)]


def value(*fields, pad=0):
    """A Value: `chunk(1, tag)`, and a tensor (`chunk(2, …)`) or a map (`chunk(3, …)`)."""
    return chunk(1, b"".join(fields), pad)


def tensor_value(name, dims, dtype, content, packed=False, pad=0):
    """A whole Value that holds a tensor; by default exactly as MindSpore writes it."""
    return value(
        chunk(1, name.encode(), pad), chunk(2, b"".join(tensor(dims, dtype, content, packed, pad)), pad), pad=pad
    )


def array_value(name, array):
    """A Value that holds a numpy array or a number."""
    array = np.asarray(array)
    return tensor_value(name, array.shape, NAMES[array.dtype.name], array.tobytes())


def sliced_value(name, array, lengths):
    """Adjacent Values that hold an array in slices of these lengths; the last holds the rest."""
    content, values, start = array.tobytes(), [], 0
    for length in (*lengths, len(content)):  # without a copy of the rest for each slice: there may be thousands
        values.append(tensor_value(name, array.shape, NAMES[array.dtype.name], content[start : start + length]))
        start += length
    return b"".join(values)


def string_value(name, text):
    """A Value that holds a string in UTF-32; an empty string is a single NUL."""
    return tensor_value(name, [0], "str", (text or "\0").encode("utf-32-le", "surrogatepass"))


def map_value(name, arrays, packed=False, pad=0):
    """A Value that holds a map: its keys, values and status, with dtypes in lower case."""
    inner = [
        chunk(1, b"".join(tensor(array.shape, array.dtype.name, array.tobytes(), packed, pad)), pad) for array in arrays
    ]
    return value(chunk(1, name.encode(), pad), chunk(3, b"".join(inner), pad), pad=pad)


def checkpoint(values):
    """A file, given as name -> numpy array, string, or list of arrays (a map)."""
    return b"".join(_any_value(name, content) for name, content in values.items())


def _any_value(name, content):
    if isinstance(content, str):
        return string_value(name, content)
    return map_value(name, content) if isinstance(content, list) else array_value(name, content)


def with_crc(body, crc=None):
    """A file followed by its checksum, as `crc_check=True` saves it."""
    return body + b"crc_num" + (zlib.crc32(body) if crc is None else crc).to_bytes(10, "big")


def pattern(length):
    """Bytes in which no two groups of eight are equal, so that a wrong offset shows."""
    numbers = np.arange(-(-length // 8), dtype="<u8") * np.uint64(0x9E3779B97F4A7C15)
    return numbers.tobytes()[:length]


def counting(shape, dtype="float32"):
    """An array of consecutive numbers."""
    return np.arange(math.prod(shape)).astype(dtype).reshape(shape)


LAYERS = {
    "conv1.weight": counting((6, 1, 5, 5)),
    "conv1.bias": counting((6,), "float16"),
    "fc.weight": counting((10, 84)),
    "step": np.array(17, "int64"),
    "mask": np.array([True, False, True]),
}
# One value of each kind.
MIXED = {
    **LAYERS,
    "note": "späte Schicht",
    "empty": "",
    "table": [counting((3,), "int32"), counting((3, 4)), counting((3,), "int32")],
}


def two_in_runs(folder):
    """Write two checkpoints to the subfolder `runs`, and return the folder."""
    (folder / "runs").mkdir()
    (folder / "runs" / "a.ckpt").write_bytes(checkpoint(MIXED))
    (folder / "runs" / "b.ckpt").write_bytes(checkpoint(LAYERS))
    return folder
