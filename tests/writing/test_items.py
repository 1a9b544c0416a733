"""Items to write give the bytes of any value, a piece at a time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting, tensor_value
from items import bytes_of
from opening import opened_over

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.sources.base import BytesSource
from lazyckpt.writing import items
from lazyckpt.writing.adapters import item_of
from lazyckpt.writing.items import WriteProgress, snapshot


@pytest.mark.parametrize(
    "dtype", [dtype for dtype in DTYPES.values() if dtype.name != "Int4" and dtype.is_known_here], ids=str
)
def test_arrays_of_every_dtype_are_taken(dtype):
    """An item has the array's kind, dtype, shape and size; its bytes are those of the file to be written."""
    array = np.arange(6).astype(dtype.numpy).reshape(2, 3)
    item = item_of("w", array)
    codes = array.reshape(-1).view("u1")
    stored = (codes[::2] | codes[1::2] << 4).tobytes() if dtype.is_packed else array.tobytes()

    assert (item.kind, item.contents[0].dtype, item.contents[0].shape) == ("tensor", dtype, (2, 3))
    assert (item.nbytes, bytes_of(item)) == (len(stored), stored)


@pytest.mark.parametrize(
    "array",
    [
        counting((4, 6)).T,
        counting((4, 6))[::2, ::-1],
        counting((4, 6)).astype(">f4"),
        np.asfortranarray(counting((3, 2))),
    ],
    ids=["transposed", "strided", "big-endian", "fortran"],
)
def test_arrays_of_any_layout_are_written_in_c_order(array):
    """The bytes are little-endian and in C order, for any layout in memory."""
    assert bytes_of(item_of("w", array)) == array.astype("<f4").tobytes(order="C")


def test_an_integer_that_is_too_large_is_refused():
    """A large integer is not truncated."""
    with pytest.raises(ArgumentValueError, match="64 bits"):
        item_of("n", 2**63)


@pytest.mark.parametrize("text", ["", "ab", "späte 模型 😀", "a\0b", "\ud800"])
def test_strings_are_utf_32(text):
    """A string takes four bytes a character; an empty one is a single zero."""
    assert bytes_of(item_of("s", text)) == (text or "\0").encode("utf-32-le", "surrogatepass")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_map_of_a_file_that_has_not_three_arrays_is_refused(count):
    """A map in a file may lack an array; written again it would be another value."""
    opened = opened_over(BytesSource(checkpoint({"table": [counting((2,), "int32")] * count})))

    with pytest.raises(ArgumentValueError, match=f"'table' cannot be written.*three arrays.*{count}"):
        opened._access.item("table", "table")


@pytest.mark.skipif(not DTYPES["Float4E2M1FN"].is_known_here, reason="the ml_dtypes installed here has no such type")
def test_packed_elements_must_fill_bytes():
    """An odd number of 4-bit values does not fill whole bytes."""
    with pytest.raises(ArgumentTypeError, match="do not fill whole bytes"):
        item_of("w", np.zeros(3, ml_dtypes.float4_e2m1fn))


def test_large_arrays_come_in_pieces(monkeypatch):
    """No piece exceeds the limit, and together they are the whole."""
    monkeypatch.setattr(items, "PIECE", 100)
    array = counting((1000,), "int16")
    pieces = list(item_of("w", array).contents[0].pieces())

    assert max(piece.nbytes for piece in pieces) == 100
    assert b"".join(pieces) == array.tobytes()


@pytest.mark.parametrize("name", MIXED)
def test_values_of_a_checkpoint_are_what_they_were(name):
    """An item of a checkpoint's value has the bytes of the file, for every kind."""
    opened = opened_over(BytesSource(checkpoint(MIXED)))

    assert bytes_of(opened._access.item(name, "new")) == bytes_of(item_of("new", MIXED[name]))
    assert opened._access.item(name, "new").name == "new"


def test_old_bfloat16_is_written_as_what_it_is():
    """bfloat16 stored as float32 takes two bytes an element in a new file."""
    wide = np.array([1, -2.5, 3.140625], "float32")
    opened = opened_over(BytesSource(tensor_value("w", [3], "BFloat16", wide.tobytes())))

    assert bytes_of(opened._access.item("w", "w")) == wide.astype(ml_dtypes.bfloat16).tobytes()


def test_edited_values_are_written_as_they_are_now():
    """`set_data` and assignment take precedence over the file."""
    opened = opened_over(BytesSource(checkpoint(MIXED)))
    opened["conv1.bias"].set_data(counting((2,)))
    opened["step"] = "text"

    assert bytes_of(opened._access.item("conv1.bias", "b")) == counting((2,)).tobytes()
    assert opened._access.item("step", "s").kind == "string"


def test_a_snapshot_does_not_see_what_happens_later():
    """Values in memory are copied, once."""
    array = counting((3,))
    taken = snapshot(item_of("w", array))
    array[:] = -1

    assert bytes_of(taken) == bytes_of(snapshot(taken)) == counting((3,)).tobytes()


def test_a_snapshot_of_a_files_value_copies_nothing():
    """Values in a file stay there until they are written."""
    item = opened_over(BytesSource(checkpoint(MIXED)))._access.item("fc.weight", "w")

    assert snapshot(item).contents[0].pieces is item.contents[0].pieces


ITEMS = [item_of(name, value) for name, value in MIXED.items()]


def test_without_a_callback_nothing_is_reported():
    """Without a callback the items are returned as they are."""
    assert WriteProgress(10, None).of(ITEMS) is ITEMS


def test_what_is_read_is_counted():
    """Each piece adds its bytes each time the items are walked; all other attributes are the items'."""
    calls = []
    total = sum(item.nbytes for item in ITEMS)
    counted = WriteProgress(total, lambda *call: calls.append(call)).of(ITEMS)
    names = [item.name for item in counted]
    for item, plain in zip(counted, ITEMS, strict=True):
        for content, same in zip(item.contents, plain.contents, strict=True):
            assert b"".join(content.pieces()) == b"".join(same.pieces())
            assert content._replace(pieces=None) == same._replace(pieces=None)

    assert names == list(MIXED)
    assert (len(counted), ITEMS[0] in counted) == (len(ITEMS), True)
    assert calls[-1] == (total, total)
