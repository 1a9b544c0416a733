"""The one table of dtypes: MindSpore's name, the numpy type that holds it, the safetensors name, the width in bits.

A new dtype is a new line in `DTYPES`. Types that numpy lacks come from ml_dtypes, which is imported when such a type
is first asked for, so that a float32 checkpoint never pays for it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """One element type. `str()` gives MindSpore's name. There is one object of each, so `is` compares them.

    Attributes:
        name: MindSpore's name, such as `Float32`.
        bits: the width of one stored element in bits.
        safetensors: the name in safetensors headers, such as `F32`.
    """

    name: str
    bits: int
    safetensors: str
    _numpy: str
    code: int

    @property
    def itemsize(self) -> int:
        """Bytes of one stored element."""
        return self.bits // 8

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype (from ml_dtypes where numpy has none), little-endian."""
        return _numpy_dtype(self._numpy)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, ...]:
        return _by_name, (self.name,)


@functools.cache
def _numpy_dtype(name: str) -> np.dtype[np.generic]:
    module, _, attribute = name.rpartition(".")
    if module:
        return np.dtype(cast("type[np.generic]", getattr(importlib.import_module(module), attribute)))
    return np.dtype(name)


# `code` is what index records store: never reuse or renumber one.
DTYPES: Mapping[str, DType] = MappingProxyType(
    {
        dtype.name: dtype
        for dtype in (
            DType("Bool", 8, "BOOL", "?", 1),
            DType("Int8", 8, "I8", "<i1", 2),
            DType("UInt8", 8, "U8", "<u1", 3),
            DType("Int16", 16, "I16", "<i2", 4),
            DType("UInt16", 16, "U16", "<u2", 5),
            DType("Int32", 32, "I32", "<i4", 6),
            DType("UInt32", 32, "U32", "<u4", 7),
            DType("Int64", 64, "I64", "<i8", 8),
            DType("UInt64", 64, "U64", "<u8", 9),
            DType("Float16", 16, "F16", "<f2", 10),
            DType("Float32", 32, "F32", "<f4", 11),
            DType("Float64", 64, "F64", "<f8", 12),
            DType("BFloat16", 16, "BF16", "ml_dtypes.bfloat16", 13),
            DType("Int4", 8, "I8", "<i1", 14),  # MindSpore's qint4x2: one value a byte
        )
    }
)
BY_CODE: Mapping[int, DType] = MappingProxyType({dtype.code: dtype for dtype in DTYPES.values()})
# In map parameters MindSpore writes numpy's own lower-case names.
BY_NUMPY_NAME: Mapping[str, DType] = MappingProxyType({name.lower(): dtype for name, dtype in DTYPES.items()})


def _by_name(name: str) -> DType:
    return DTYPES[name]


def of_array(array: npt.NDArray[Any]) -> DType:
    """The dtype of a numpy array.

    Raises:
        TypeError: MindSpore's format has no name for it.
    """
    found = BY_NUMPY_NAME.get(array.dtype.name)
    if found is None:
        raise TypeError(f"no MindSpore dtype for numpy's {array.dtype}; one of {', '.join(BY_NUMPY_NAME)} is needed")
    return found
