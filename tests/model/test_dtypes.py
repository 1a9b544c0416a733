"""The table of dtypes is total, and the codes that sidecars store never change."""

from __future__ import annotations

import copy
import dataclasses
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


HERE = [dtype for dtype in DTYPES.values() if dtype.is_known_here]


@pytest.mark.parametrize("dtype", HERE, ids=str)
def test_a_dtype_is_a_dtype_for_numpy(dtype):
    """`numpy.dtype`, and whatever else takes a dtype, takes it."""
    found = [
        np.dtype(dtype),
        np.zeros(2, dtype).dtype,
        np.zeros(2, "f4").astype(dtype).dtype,
        np.promote_types(dtype, dtype),
    ]

    assert found == [dtype.numpy] * 4


@pytest.mark.parametrize("dtype", HERE, ids=str)
def test_a_dtype_equals_what_numpy_calls_it(dtype):
    """It equals numpy's dtype and scalar type, numpy's and MindSpore's name, on either side."""
    others = [dtype.numpy, dtype.numpy.type, dtype.numpy_name, dtype.numpy.name, dtype.name]

    assert [other == dtype for other in others] == [dtype == other for other in others] == [True] * 5
    assert [other != dtype for other in others] == [dtype != other for other in others] == [False] * 5


@pytest.mark.parametrize("dtype", HERE, ids=str)
def test_a_dtype_equals_numpys_type_as_its_arrays_type_does(dtype):
    """The comparison with any numpy type, or name of one, has the answer of numpy's own dtype."""
    others = [other.numpy for other in HERE] + [other.numpy.type for other in HERE]
    others += [float, int, bool, ">f4", "f", "no type", 3, (), ("f4",), object(), np.dtype(">f4"), "<U3", [("a", "f4")]]

    assert [dtype == other for other in others] == [dtype.numpy == other for other in others]


def test_different_dtypes_are_unequal():
    """No two dtypes are equal, although one numpy type holds the values of both Int4 and Int8."""
    assert [(one.name, two.name) for one in HERE for two in HERE if one == two] == [(one.name,) * 2 for one in HERE]


def test_no_dtype_is_none():
    """numpy takes None for float64; a comparison with None asks whether there is a dtype."""
    assert not any(dtype == None for dtype in DTYPES.values())  # noqa: E711 (the comparison is what is tested)


def test_an_array_is_compared_as_numpy_compares_it():
    """The comparison with an array is the array's, element by element."""
    array, dtype = np.zeros(3), DTYPES["Float64"]

    assert (dtype == array).tolist() == (dtype.numpy == array).tolist()


def test_a_dtype_is_found_by_numpys_type():
    """Sets and dicts of numpy dtypes contain it, as its hash is theirs."""
    names = {dtype.numpy: dtype.numpy.name for dtype in HERE}

    assert [names[dtype] for dtype in HERE] == [dtype.numpy.name for dtype in HERE]
    assert [{dtype: 1}[dtype.numpy] for dtype in HERE] == [1] * len(HERE)


def test_a_type_that_ml_dtypes_lacks_is_compared_and_hashed():
    """With an older ml_dtypes it equals its names and no numpy type, and is a key."""
    dtype = dataclasses.replace(DTYPES["BFloat16"], _numpy="ml_dtypes.no_such_type")
    others = ["BFloat16", "no_such_type", np.dtype("f4"), np.float32, "f4", None]

    assert [dtype == other for other in others] == [True, True, False, False, False, False]
    assert {dtype: 1}[dtype] == 1


def framework_type(package, text):
    """An object that looks like a type of a framework: all that is known of it is the package and the text."""
    kind = type("dtype", (), {"__module__": package, "__str__": lambda self: text})
    return kind()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_a_dtype_equals_the_types_of_frameworks(dtype):
    """It equals MindSpore's type of its name, and the torch type of its values, and no other."""
    of_mindspore = {name: framework_type("mindspore._c_expression.typing", name) for name in [*DTYPES, "HiFloat8"]}
    torchs = ["int8" if name == "int4" else name for name in BY_NUMPY_NAME]
    of_torch = {name: framework_type("torch", f"torch.{name}") for name in torchs}

    assert [name for name, kind in of_mindspore.items() if dtype == kind] == [dtype.name]
    assert [name for name, kind in of_torch.items() if dtype == kind] == (
        ["int8"] if dtype.name == "Int4" else [dtype.numpy_name]
    )
    assert all((kind != dtype) == (dtype != kind) == (not kind == dtype) for kind in of_torch.values())  # noqa: SIM201 (both operators are tested)


def test_ml_dtypes_is_imported_for_those_who_need_it():
    """Neither the table nor a float32 imports ml_dtypes; the numpy dtype of bfloat16 does."""
    program = (
        "import sys; from lazyckpt.model.dtypes import DTYPES; DTYPES['Float32'].numpy; DTYPES['BFloat16'].itemsize;"
        "before = 'ml_dtypes' in sys.modules; DTYPES['BFloat16'].numpy; print(before, 'ml_dtypes' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="ascii", check=True)

    assert run.stdout == "False True\n"
