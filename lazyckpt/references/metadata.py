"""What zarr (format 2) is told of an array: its type, shape and chunks, and attributes that say what is not told so.

zarr knows numpy's own types. Others are given as unsigned integers of the same width, with their real name in an
attribute: `getattr(ml_dtypes, array.attrs["lazyckpt_dtype"])` is the type to view the values as. Of types narrower than
a byte two elements lie in one, and the last axis counts bytes. A string is a scalar of numpy's type for text, `<U…`.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import STRING, Entry

NAME: Final = "lazyckpt_name"  # a parameter's name, where its path is another
PART: Final = "lazyckpt_part"  # which of the three arrays of a map it is
DTYPE: Final = "lazyckpt_dtype"  # ml_dtypes' name of a type that zarr lacks
SHAPE: Final = "lazyckpt_shape"  # the shape in elements, where the array counts bytes
LEFT_OUT: Final = "lazyckpt_left_out"  # of the whole: name -> why it is not there
GROUP: Final = '{"zarr_format":2}'
TEMPLATES: Final = ("{{", "{%", "{#")
_BEFORE_MARK: Final = re.compile(r"\{(?=[{%#])")
_UTF32: Final = 4  # bytes of a character

Shape = tuple[int, ...]


class Inexpressible(Exception):
    """zarr has no way to say it; the message tells why."""


class Form(NamedTuple):
    """How a value appears in zarr.

    Attributes:
        dtype: numpy's name of the type.
        itemsize: bytes of an element.
        shape: of the array.
        attributes: what else is to be known.
        packed: elements that share one along the last axis.
    """

    dtype: str
    itemsize: int
    shape: Shape
    attributes: dict[str, Any]
    packed: int = 1

    def scaled(self, shape: Shape) -> Shape:
        """A shape or place in elements as one in the array's.

        Raises:
            Inexpressible: it lies within a byte.
        """
        if self.packed == 1:
            return shape
        if shape[-1] % self.packed:
            raise Inexpressible("its shards end within a byte")
        return (*shape[:-1], shape[-1] // self.packed)


def form_of(entry: Entry) -> Form:
    """How a tensor or a string appears.

    Raises:
        Inexpressible: it cannot.
    """
    dtype, shape = entry.dtype, entry.shape
    if entry.kind == STRING or dtype is None:
        if entry.stored % _UTF32:
            raise Inexpressible("the string is not UTF-32")
        characters = max(1, entry.stored // _UTF32)  # numpy has no type for none
        return Form(f"<U{characters}", characters * _UTF32, (), {})
    if dtype.is_packed:
        packed = 8 // dtype.bits
        if not shape or shape[-1] % packed:
            raise Inexpressible(f"its rows do not end where bytes do ({packed} elements of {dtype} share one)")
        told = {DTYPE: dtype.numpy_name, SHAPE: list(shape)}
        return Form("|u1", 1, (*shape[:-1], shape[-1] // packed), told, packed)
    if entry.extents and entry.stored != entry.nbytes:  # bfloat16 kept as float32, which has all of its values
        return Form("<f4", 4, shape, {DTYPE: dtype.numpy_name})
    name, attributes = _type_of(dtype)
    return Form(name, dtype.itemsize, shape, attributes)


@lru_cache
def _type_of(dtype: DType) -> tuple[str, dict[str, Any]]:
    if not dtype.is_numpys_own:
        return f"{'<' if dtype.itemsize > 1 else '|'}u{dtype.itemsize}", {DTYPE: dtype.numpy_name}
    own = dtype.numpy
    return own.str, {} if own.name == dtype.numpy_name else {DTYPE: dtype.numpy_name}


@lru_cache(65_536)
def array_text(dtype: str, shape: Shape, chunk: Shape) -> str:
    """An array's `.zarray`."""
    return compact(
        {
            "chunks": chunk,
            "compressor": None,
            "dtype": dtype,
            "fill_value": None,
            "filters": None,
            "order": "C",
            "shape": shape,
            "zarr_format": 2,
        }
    )


def attributes_text(path: str, form: Form, more: dict[str, str]) -> str:
    """An array's `.zattrs`.

    Each axis has a name of its own (no path has a colon, so none is that of a variable): sizes never contradict.

    Args:
        path: of the array.
        form: how it appears.
        more: what else is to be told.
    """
    axes = ",".join([f'"{path}:{axis}"' for axis in range(len(form.shape))])  # a path needs no escapes
    told = {**form.attributes, **more} if more else form.attributes
    return f'{{"_ARRAY_DIMENSIONS":[{axes}]' + (f",{compact(told)[1:]}" if told else "}")


def compact(data: dict[str, Any]) -> str:
    """JSON in as few characters as may be, with nothing in it that a template engine would look into."""
    # Two such characters stand beside each other within strings only. Of `{{{` each but the last brace begins a mark.
    return _BEFORE_MARK.sub(r"\\u007b", json.dumps(data, separators=(",", ":")))
