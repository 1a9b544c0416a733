"""The table of dtypes: MindSpore's name, numpy's type, the safetensors name, the width.

To add a dtype, add a line to `DTYPES`. Types that numpy lacks come from ml_dtypes, which is imported on the first use
of such a type: a float32 checkpoint does not pay for the import.

A `DType` equals the types of numpy, MindSpore and torch that its values have there. No framework is imported for that:
its types are recognised by the module of their class, and compared by name.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from lazyckpt.errors import ArgumentTypeError


@dataclass(frozen=True, eq=False)
class DType:
    """One element type; `str()` gives MindSpore's name. Each type is one object.

    >>> dtype = lazyckpt.load_checkpoint("LeNet5-1_32.ckpt")["conv1.weight"].dtype
    >>> dtype == "Float32", dtype == "float32", dtype == dtype.numpy
    (True, True, True)

    It equals MindSpore's name and type, the torch type of the values, and everything that numpy takes for their dtype,
    except None. Its hash is the hash of the numpy dtype: it is found in sets and dicts of those, but not in those of
    MindSpore's types, torch's types or names, which have other hashes. MindSpore's own comparison, with its type on
    the left, is False for everything but its types.

    Attributes:
        name: MindSpore's name, such as `Float32`.
        bits: the width of one stored element in bits.
        safetensors: the name in safetensors headers, such as `F32`.
        in_ckpt: whether MindSpore loads it from a `.ckpt` file.
    """

    name: str
    bits: int
    safetensors: str
    _numpy: str
    code: int
    in_ckpt: bool = True

    # Computed once for each type, because every look at a value asks for them.
    @functools.cached_property
    def itemsize(self) -> int:
        """Bytes of one element in memory: at least 1, also for types narrower than a byte."""
        return max(1, self.bits // 8)

    @property
    def is_packed(self) -> bool:
        """Whether several elements share a byte of the file."""
        return self.bits < 8

    def stored_size(self, count: int) -> int:
        """Bytes that `count` elements take in a file."""
        return -(-count * self.bits // 8)

    @functools.cached_property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype (from ml_dtypes where numpy has none), little-endian."""
        module, _, attribute = self._numpy.rpartition(".")
        if module:
            return np.dtype(cast("type[np.generic]", getattr(importlib.import_module(module), attribute)))
        return np.dtype(self._numpy)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy dtype: `numpy.dtype(...)` and all that takes a dtype look for it here."""
        return self.numpy

    @property
    def __numpy_dtype__(self) -> np.dtype[np.generic]:
        """The same; numpy 2.4 and later look here first."""
        return self.numpy

    @property
    def is_numpys_own(self) -> bool:
        """Whether numpy has the type without ml_dtypes."""
        return "." not in self._numpy

    @property
    def numpy_name(self) -> str:
        """The name of the numpy dtype, such as `float32`."""
        module, _, attribute = self._numpy.rpartition(".")
        return attribute if module else self.name.lower()

    @property
    def is_known_here(self) -> bool:
        """Whether the installed versions of numpy and ml_dtypes have the type."""
        try:
            return bool(self.numpy)
        except AttributeError:
            return False

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if other is None or isinstance(other, DType):  # numpy takes None for float64
            return False
        if isinstance(other, str) and other in (self.name, self.numpy_name):  # numpy does not know all of these
            return True
        framework, _, _ = type(other).__module__.partition(".")
        if framework in _NAMES_IN:
            return str(other) in _NAMES_IN[framework](self)
        if not self.is_known_here:
            return False
        equal = self.numpy == other
        return equal if isinstance(equal, bool) else NotImplemented  # an array, whose own comparison decides

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self.numpy) if self.is_known_here else hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, ...]:
        return _by_name, (self.name,)


def _mindspores_names(dtype: DType) -> tuple[str, ...]:
    return (dtype.name,)


def _torchs_names(dtype: DType) -> tuple[str, ...]:
    """The name of the type that `to_torch` gives; torch names the type of four-bit elements for its pairs."""
    name = "int8" if dtype.name == "Int4" else dtype.numpy_name
    return f"torch.{name}", f"torch.{name}_x2"


# A framework, by the package of its types: what `str()` of the types says that equal a dtype.
_NAMES_IN: Final[Mapping[str, Callable[[DType], tuple[str, ...]]]] = MappingProxyType(
    {"mindspore": _mindspores_names, "torch": _torchs_names}
)


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
            # Only in safetensors files.
            DType("Complex64", 64, "C64", "<c8", 15, in_ckpt=False),
            DType("Float8E4M3FN", 8, "F8_E4M3", "ml_dtypes.float8_e4m3fn", 16, in_ckpt=False),
            DType("Float8E5M2", 8, "F8_E5M2", "ml_dtypes.float8_e5m2", 17, in_ckpt=False),
            DType("Float8E8M0FNU", 8, "F8_E8M0", "ml_dtypes.float8_e8m0fnu", 18, in_ckpt=False),
            DType("Float8E4M3FNUZ", 8, "F8_E4M3FNUZ", "ml_dtypes.float8_e4m3fnuz", 19, in_ckpt=False),
            DType("Float8E5M2FNUZ", 8, "F8_E5M2FNUZ", "ml_dtypes.float8_e5m2fnuz", 20, in_ckpt=False),
            DType("Float4E2M1FN", 4, "F4", "ml_dtypes.float4_e2m1fn", 21, in_ckpt=False),
        )
    }
)
BY_CODE: Mapping[int, DType] = MappingProxyType({dtype.code: dtype for dtype in DTYPES.values()})
# The dtypes that MindSpore loads from a `.ckpt`.
IN_CKPT: Mapping[str, DType] = MappingProxyType({name: dtype for name, dtype in DTYPES.items() if dtype.in_ckpt})
# By numpy's names: MindSpore writes these, and not its own, in map parameters.
BY_NUMPY_NAME: Mapping[str, DType] = MappingProxyType({dtype.numpy_name: dtype for dtype in DTYPES.values()})
BY_SAFETENSORS_NAME: Mapping[str, DType] = MappingProxyType(
    {dtype.safetensors: dtype for dtype in DTYPES.values() if dtype.name != "Int4"}
)


def _by_name(name: str) -> DType:
    return DTYPES[name]


def of_array(array: npt.NDArray[Any]) -> DType:
    """The dtype of a numpy array.

    Raises:
        ArgumentTypeError: no format has a name for it.
    """
    found = BY_NUMPY_NAME.get(array.dtype.name)
    if found is None:
        raise ArgumentTypeError(
            f"no checkpoint holds numpy's {array.dtype}; one of {', '.join(BY_NUMPY_NAME)} is needed"
        )
    return found
