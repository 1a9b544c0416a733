"""The table of dtypes is total, and the codes that sidecars store never change."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from checkpoints import ITEMSIZES, NAMES

from lazyckpt.model.dtypes import BY_CODE, BY_NUMPY_NAME, DTYPES, IN_CKPT, of_array

# What indexes on disk say. A line here is never changed.
CODES = {
    "Bool": 1,
    "Int8": 2,
    "UInt8": 3,
    "Int16": 4,
    "UInt16": 5,
    "Int32": 6,
    "UInt32": 7,
    "Int64": 8,
    "UInt64": 9,
    "Float16": 10,
    "Float32": 11,
    "Float64": 12,
    "BFloat16": 13,
    "Int4": 14,
    "Complex64": 15,
    "Float8E4M3FN": 16,
    "Float8E5M2": 17,
    "Float8E8M0FNU": 18,
    "Float8E4M3FNUZ": 19,
    "Float8E5M2FNUZ": 20,
    "Float4E2M1FN": 21,
}
SAFETENSORS = {
    "Bool": "BOOL",
    "Int8": "I8",
    "UInt8": "U8",
    "Int16": "I16",
    "UInt16": "U16",
    "Int32": "I32",
    "UInt32": "U32",
    "Int64": "I64",
    "UInt64": "U64",
    "Float16": "F16",
    "Float32": "F32",
    "Float64": "F64",
    "BFloat16": "BF16",
    "Int4": "I8",
    "Complex64": "C64",
    "Float8E4M3FN": "F8_E4M3",
    "Float8E5M2": "F8_E5M2",
    "Float8E8M0FNU": "F8_E8M0",
    "Float8E4M3FNUZ": "F8_E4M3FNUZ",
    "Float8E5M2FNUZ": "F8_E5M2FNUZ",
    "Float4E2M1FN": "F4",
}


def test_codes_are_never_renumbered():
    """Sidecars written by older versions are read with the same table."""
    assert {name: dtype.code for name, dtype in DTYPES.items()} == CODES
    assert {code: dtype.name for code, dtype in BY_CODE.items()} == {code: name for name, code in CODES.items()}


def test_names_in_safetensors_files():
    """Every dtype has its name in safetensors headers."""
    assert {name: dtype.safetensors for name, dtype in DTYPES.items()} == SAFETENSORS


def test_every_dtype_knows_its_size():
    """Bits, bytes, and the bytes of the numpy dtype agree with the format."""
    assert {name: dtype.itemsize for name, dtype in IN_CKPT.items()} == ITEMSIZES
    assert {name: dtype.bits for name, dtype in IN_CKPT.items()} == {name: 8 * size for name, size in ITEMSIZES.items()}
    assert all(dtype.numpy.itemsize == dtype.itemsize for dtype in DTYPES.values() if dtype.is_known_here)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_stored_elements_fill_their_bytes(dtype):
    """Eight elements take as many bytes in a file as one has bits; packed elements share bytes."""
    assert dtype.stored_size(8) == dtype.bits
    assert dtype.is_packed == (dtype.stored_size(8) < 8 * dtype.itemsize)


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_shows_mindspores_name(name):
    """`str` and `repr` are MindSpore's name."""
    assert (str(DTYPES[name]), repr(DTYPES[name])) == (name, name)


@pytest.mark.parametrize("name", DTYPES)
def test_there_is_one_object_of_each_dtype(name):
    """Copies and pickles give the same object, so `is` compares dtypes."""
    dtype = DTYPES[name]

    assert [pickle.loads(pickle.dumps(dtype)), copy.copy(dtype), copy.deepcopy(dtype)] == [dtype] * 3


@pytest.mark.parametrize("name", [name for name, dtype in DTYPES.items() if dtype.is_known_here])
def test_elements_are_little_endian(name):
    """The format has one byte order, on every machine."""
    assert DTYPES[name].numpy.newbyteorder("<") == DTYPES[name].numpy


def test_a_dtype_is_frozen():
    """A dtype cannot be changed."""
    with pytest.raises(AttributeError):
        DTYPES["Float32"].bits = 16
    with pytest.raises(TypeError):
        DTYPES["Float8"] = DTYPES["Float32"]


@pytest.mark.parametrize(("numpy_name", "name"), NAMES.items())
def test_arrays_have_dtypes(numpy_name, name):
    """Every numpy dtype that the format can hold is found, and maps back."""
    array = np.zeros(3, ml_dtypes.bfloat16 if numpy_name == "bfloat16" else numpy_name)

    assert of_array(array) is DTYPES[name]
    assert BY_NUMPY_NAME[numpy_name].numpy == array.dtype


@pytest.mark.parametrize(
    "array", [np.zeros(3, "complex128"), np.array(["text"]), np.array([None]), np.zeros(2, "M8[s]")]
)
def test_arrays_of_other_types_have_none(array):
    """The message names the type and the supported ones."""
    with pytest.raises(TypeError, match=rf"numpy's {re.escape(str(array.dtype))}; one of .*float32"):
        of_array(array)


def test_ml_dtypes_is_imported_for_those_who_need_it():
    """Neither the table nor a float32 imports ml_dtypes; the numpy dtype of bfloat16 does."""
    program = (
        "import sys; from lazyckpt.model.dtypes import DTYPES; DTYPES['Float32'].numpy; DTYPES['BFloat16'].itemsize;"
        "before = 'ml_dtypes' in sys.modules; DTYPES['BFloat16'].numpy; print(before, 'ml_dtypes' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="ascii", check=True)

    assert run.stdout == "False True\n"
