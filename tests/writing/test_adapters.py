"""Values of any kind become items; frameworks are used only if already imported."""

from __future__ import annotations

import subprocess
import sys
from http import HTTPStatus
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting
from hypothesis import given
from items import bytes_of, values
from opening import opened_and_traced, opened_over
from tracing import TracingSource, places

from lazyckpt.errors import ArgumentTypeError
from lazyckpt.sources.base import BytesSource
from lazyckpt.writing import adapters
from lazyckpt.writing.adapters import content_of, is_parameter, is_tensor, item_of


@pytest.mark.parametrize(
    ("value", "dtype", "data"),
    [
        (True, "Bool", b"\1"),
        (3, "Int64", b"\3" + bytes(7)),
        (0.5, "Float32", np.float32(0.5).tobytes()),
        (np.float64(2), "Float64", np.float64(2).tobytes()),
        (HTTPStatus.OK, "Int64", b"\xc8" + bytes(7)),
        (1e300, "Float32", np.float32(np.inf).tobytes()),
    ],
    ids=str,
)
def test_numbers_are_scalars(value, dtype, data):
    """Python's numbers become what MindSpore makes of them; numpy's keep their dtype."""
    (content,) = item_of("n", value).contents

    assert (str(content.dtype), content.shape, bytes_of(item_of("n", value))) == (dtype, (), data)


@pytest.mark.parametrize(
    "value",
    [
        *(None, b"x", {"a": 1}, 1j, object(), np.zeros(2, "complex128"), np.array(["w"])),
        *([], [counting((2,))], [counting((2,))] * 6, [object()] * 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_file_can_hold_is_refused_by_name(value):
    """The message names the parameter and the type."""
    with pytest.raises(ArgumentTypeError, match="'w' cannot be saved"):
        item_of("w", value)


@given(values)
def test_every_value_has_as_many_bytes_as_it_says(some):
    """An item's size is known in advance, and its bytes are the same each time."""
    for name, value in some.items():
        item = item_of(name, value)

        assert (item.name, item.nbytes) == (name, len(bytes_of(item)))
        assert bytes_of(item) == bytes_of(item)


def test_a_value_of_a_file_is_written_from_there():
    """A parameter of a file becomes an item without a read, and keeps its place."""
    source = TracingSource(checkpoint(MIXED))
    ckpt = opened_and_traced(source)
    item = item_of("new", ckpt["fc.weight"])
    payload = places(ckpt.entry("fc.weight").extents)
    before = source.looked_at() & payload

    assert (item.name, item.offset, item.contents[0].lasts) == ("new", ckpt.entry("fc.weight").offset, True)
    assert (before, bytes_of(item)) == (set(), MIXED["fc.weight"].tobytes())
    assert payload <= source.looked_at()


def test_a_parameter_that_was_set_is_what_it_is_now():
    """A parameter after `set_data` is written with its new value."""
    parameter = opened_over(BytesSource(checkpoint(MIXED)))["fc.weight"]
    parameter.set_data(counting((2,), "int8"))
    item = item_of("w", parameter)

    assert (str(item.contents[0].dtype), item.contents[0].lasts, bytes_of(item)) == ("Int8", False, b"\0\1")
    assert content_of(parameter).shape == (2,)


def test_parameters_are_tensors_and_arrays_are_not():
    """A parameter counts as a tensor; arrays and numbers do not."""
    parameter = opened_over(BytesSource(checkpoint(MIXED)))["fc.weight"]

    assert [(is_tensor(value), is_parameter(value)) for value in (parameter, counting((2,)), 3.5)] == [
        (True, True), (False, False), (False, False),
    ]  # fmt: skip


THEIRS = """
import sys
from lazyckpt.writing.adapters import is_tensor, item_of
class Tensor: pass
Tensor.__module__ = sys.argv[1]
print(is_tensor(Tensor()))
try:
    item_of("w", Tensor())
except TypeError as error:
    print(error)
print(sys.argv[1] in sys.modules)
"""


@pytest.mark.parametrize("framework", ["mindspore", "torch"])
def test_a_framework_that_was_not_imported_is_not_imported(framework):
    """A value named like a framework's tensor does not import the framework."""
    printed = subprocess.check_output([sys.executable, "-c", THEIRS, framework], encoding="utf-8")

    assert printed.splitlines() == ["False", f"'w' cannot be saved: a {framework}.Tensor is not an array", "False"]


@pytest.fixture
def theirs(monkeypatch):
    """Complex numbers in place of MindSpore's tensors; the real part is the number of bytes."""
    asked = []
    leaf = SimpleNamespace(
        is_tensor=lambda value: isinstance(value, complex),
        is_parameter=lambda value: value == 3 + 1j,
        is_map=lambda value: isinstance(value, range),
        facts_of=lambda value: ("Int8" if value.imag else "Complex256", (int(value.real),)),
        bytes_of=lambda value: asked.append(value) or bytes(range(int(value.real))),
        slices_of=lambda value: [[counting((1,), "int32") + number] * 3 for number in value],
    )
    monkeypatch.setattr(adapters, "_mindspore", lambda: leaf)
    return asked


def test_a_tensor_of_mindspores_is_copied_when_it_is_written(theirs):
    """The dtype and shape of a MindSpore tensor are known before its bytes are copied."""
    item = item_of("w", 3 + 1j)
    before = list(theirs)

    assert (is_tensor(3 + 1j), is_parameter(3 + 1j), is_parameter(2 + 1j)) == (True, True, False)
    assert (str(item.contents[0].dtype), item.contents[0].shape, before) == ("Int8", (3,), [])
    assert (bytes_of(item), theirs) == (b"\0\1\2", [3 + 1j])


def test_an_unsupported_dtype_is_an_error(theirs):
    """An unsupported dtype of a MindSpore tensor is an error that lists the supported ones."""
    with pytest.raises(
        ArgumentTypeError,
        match=r"'w' cannot be saved: its dtype Complex256 cannot be stored in a checkpoint \(Bool, Int8,",
    ):
        item_of("w", 3 + 0j)


def test_a_map_of_mindspores_is_written_in_its_slices(theirs):
    """A MindSpore map becomes keys, values and status for each of its slices."""
    item = item_of("table", range(2))

    assert (item.kind, len(item.contents)) == ("map", 6)
    assert bytes_of(item) == np.array([0, 0, 0, 1, 1, 1], "<i4").tobytes()
