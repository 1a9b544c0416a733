"""The zarr v2 metadata of an array, plus attributes for what v2 cannot express.

zarr supports numpy's own dtypes. Others are written as unsigned integers of the same width, with their real name in an
attribute: view the values as `getattr(ml_dtypes, array.attrs["lazyckpt_dtype"])`. Of dtypes narrower than a byte, two
elements share a byte, and the last axis counts bytes. A string is a scalar of numpy's text dtype, `<U…`.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import STRING, Entry

NAME: Final = "lazyckpt_name"  # a parameter's name, if its path differs
PART: Final = "lazyckpt_part"  # which of the three arrays of a map it is
DTYPE: Final = "lazyckpt_dtype"  # ml_dtypes' name of a type that zarr lacks
SHAPE: Final = "lazyckpt_shape"  # the shape in elements, where the array counts bytes
LEFT_OUT: Final = "lazyckpt_left_out"  # of the root: name -> reason
GROUP: Final = '{"zarr_format":2}'
TEMPLATES: Final = ("{{", "{%", "{#")
_BEFORE_MARK: Final = re.compile(r"\{(?=[{%#])")
_UTF32: Final = 4  # bytes of a character

Shape = tuple[int, ...]


class Inexpressible(Exception):
    """zarr cannot express a value; the message gives the reason."""


class Form(NamedTuple):
    """The representation of a value in zarr.

    Attributes:
        dtype: numpy's name of the dtype.
        itemsize: bytes of an element.
        shape: of the array.
        attributes: facts that dtype and shape do not express.
        packed: number of values in one element along the last axis.
    """

    dtype: str
    itemsize: int
    shape: Shape
    attributes: dict[str, Any]
    packed: int = 1

    def scaled(self, shape: Shape) -> Shape:
        """Convert a shape or a position in values to one in elements of the array.

        Raises:
            Inexpressible: it is inside a byte.
        """
        if self.packed == 1:
            return shape
        if shape[-1] % self.packed:
            raise Inexpressible("its shards end within a byte")
        return (*shape[:-1], shape[-1] // self.packed)


def form_of(entry: Entry) -> Form:
    """The representation of a tensor or a string.

    Raises:
        Inexpressible: it has none.
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
        attributes = {DTYPE: dtype.numpy_name, SHAPE: list(shape)}
        return Form("|u1", 1, (*shape[:-1], shape[-1] // packed), attributes, packed)
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

    Each axis has a unique name, so that xarray never finds two sizes for one. No path has a colon, so the name is never
    that of a variable.

    Args:
        path: of the array.
        form: its representation.
        more: further attributes.
    """
    axes = ",".join([f'"{path}:{axis}"' for axis in range(len(form.shape))])  # a path needs no escapes
    others = {**form.attributes, **more} if more else form.attributes
    return f'{{"_ARRAY_DIMENSIONS":[{axes}]' + (f",{compact(others)[1:]}" if others else "}")


def compact(data: dict[str, Any]) -> str:
    """Compact JSON that contains nothing a template engine would interpret."""
    # These pairs of characters occur only inside strings. In a run of braces, each but the last begins a pair.
    return _BEFORE_MARK.sub(r"\\u007b", json.dumps(data, separators=(",", ":")))
