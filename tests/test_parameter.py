"""The contract of `Parameter`, sentence by sentence, over every kind of source."""

from __future__ import annotations

import operator
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from checkpoints import array_value, checkpoint, counting, sliced_value, tensor_value
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from opening import opened_and_traced, opened_over
from tracing import TracingSource, places

import lazyckpt
from lazyckpt.errors import ArgumentTypeError, ClosedCheckpoint
from lazyckpt.formats.ckpt import header_extents
from lazyckpt.reading import reader
from lazyckpt.sources import BytesSource, open_source

WEIGHT = counting((6, 4, 5))
ARRAYS = {
    "weight": WEIGHT,
    "half": counting((3, 7), "float16"),
    "brain": counting((2, 3)).astype(ml_dtypes.bfloat16),
    "mask": np.array([[True, False], [False, True]]),
    "bytes": counting((9,), "uint8"),
    "step": np.array(17, "int64"),
    "nothing": np.zeros((0, 3), "float32"),
    "one": counting((1, 1), "float64"),
}
# Every way a value can lie in a file: alone, in pieces, and as an old version wrote bfloat16.
DATA = checkpoint(ARRAYS) + sliced_value("pieces", WEIGHT, [4, 81, 0, 200])
DATA += tensor_value("widened", [2, 3], "BFloat16", counting((2, 3)).tobytes())
EXPECTED = {**ARRAYS, "pieces": WEIGHT, "widened": ARRAYS["brain"]}
KINDS = ("map", "pread", "bytes", "traced")


@pytest.fixture(params=KINDS)
def opened(request, tmp_path):
    """The checkpoint over each kind of source."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(DATA)
    sources = {
        "map": lambda: open_source(str(path), access="mmap").source,
        "pread": lambda: open_source(str(path), access="pread").source,
        "bytes": lambda: BytesSource(DATA),
        "traced": lambda: TracingSource(DATA),
    }
    with opened_over(sources[request.param]()) as ckpt:
        yield ckpt


@pytest.fixture
def traced():
    """The checkpoint over a source that records its reads, and the source."""
    source = TracingSource(DATA)
    return opened_and_traced(source), source


def content(ckpt, name):
    """The offsets of a value's bytes, and of its header's."""
    entry = ckpt.entry(name)
    return places(entry.extents), places(header_extents(entry))


def test_what_is_known_without_reading(traced):
    """Name, shape, dtype, sizes and repr equal the array's, without a read."""
    ckpt, source = traced
    known = {
        name: (param.name, param.shape, param.dtype.numpy, param.size, param.nbytes, param.ndim, param.itemsize)
        for name, param in ckpt.items()
    }

    assert known == {
        name: (name, array.shape, array.dtype, array.size, array.nbytes, array.ndim, array.itemsize)
        for name, array in EXPECTED.items()
    }
    assert repr(list(ckpt.values()))
    assert [param.requires_grad for param in ckpt.values()] == [True] * len(EXPECTED)
    assert source.reads == []


def test_the_repr_is_mindspores():
    """The repr has name, shape, dtype and requires_grad, as in MindSpore."""
    ckpt = opened_over(BytesSource(DATA))

    assert repr(ckpt["brain"]) == "Parameter (name=brain, shape=(2, 3), dtype=BFloat16, requires_grad=True)"
    assert str(ckpt["step"]) == "Parameter (name=step, shape=(), dtype=Int64, requires_grad=True)"


def test_a_name_is_stripped_as_mindspore_strips_it():
    """The mapping's key is the name in the file; the parameter's own name is stripped of white space."""
    ckpt = opened_over(BytesSource(array_value(" w\n", WEIGHT)))

    assert [(key, param.name) for key, param in ckpt.items()] == [(" w\n", "w")]


def test_values_are_the_arrays(opened):
    """`asnumpy` gives shape, dtype and every byte, for any layout in the file."""
    found = {name: param.asnumpy() for name, param in opened.items()}

    assert {name: (array.shape, array.dtype, array.tobytes()) for name, array in found.items()} == {
        name: (array.shape, array.dtype, array.tobytes()) for name, array in EXPECTED.items()
    }


def test_a_copy_is_aligned_and_writable_and_its_own(opened):
    """`asnumpy(copy=True)` gives an array of its own that begins on a 64-byte boundary."""
    for name, param in opened.items():
        copy = param.asnumpy(copy=True)
        aligned = copy.ctypes.data % 64 == 0 or not copy.size
        copy[...] = 1

        assert (name, aligned, copy.flags.c_contiguous) == (name, True, True)
        np.testing.assert_array_equal(param.asnumpy(), EXPECTED[name])


def test_a_value_of_a_plain_file_is_a_view_of_it(tmp_path):
    """A local file's array lies inside the map, twice at the same address, without a copy."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(DATA)
    source = open_source(str(path)).source
    whole = np.frombuffer(source.read(0, source.size), np.uint8)
    with opened_over(source) as ckpt:
        views = {name: ckpt[name].asnumpy() for name in ARRAYS if ARRAYS[name].size}
        again = {name: ckpt[name].asnumpy() for name in views}

        assert [name for name, view in views.items() if not np.shares_memory(view, whole)] == []
        assert {name: view.ctypes.data - whole.ctypes.data for name, view in views.items()} == {
            name: ckpt.entry(name).extents[0].offset for name in views
        }
        assert [view.ctypes.data for view in views.values()] == [view.ctypes.data for view in again.values()]


def test_views_are_read_only(tmp_path):
    """Writing to a view raises, and so does asking numpy to allow it; the file keeps its bytes."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(DATA)
    with lazyckpt.load_checkpoint(str(path)) as ckpt:
        view = ckpt["weight"].asnumpy()

        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True
    assert path.read_bytes() == DATA


def test_arrays_outlive_the_checkpoint(opened):
    """Arrays stay valid after the checkpoint is closed."""
    arrays = {name: param.asnumpy() for name, param in opened.items()}
    opened.close()

    for name, array in arrays.items():
        np.testing.assert_array_equal(array, EXPECTED[name])


def test_a_closed_file_is_refused(tmp_path):
    """The error says that the checkpoint was closed, not that the index is stale."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(DATA)
    for access in ("mmap", "pread"):
        ckpt = opened_over(open_source(str(path), access=access).source)
        param = ckpt["weight"]
        ckpt.close()
        for look in (param.asnumpy, lambda param=param: param.asnumpy(copy=True), lambda param=param: param[1]):
            with pytest.raises(ClosedCheckpoint, match=r"net\.ckpt"):
                look()


@pytest.mark.parametrize("from_bytes", [1, 2**40], ids=["a map of its pages", "a copy"])
def test_writable_memory_is_private(from_bytes, opened, tmp_path, monkeypatch):
    """A framework's memory may be written to: neither the file nor another reader sees it."""
    monkeypatch.setattr(reader, "_WORTH_A_MAP", from_bytes)
    for name, expected in EXPECTED.items():
        array = opened[name].writable()
        np.testing.assert_array_equal(array, expected, strict=True)
        array[...] = 1

        np.testing.assert_array_equal(opened[name].asnumpy(), expected)
        np.testing.assert_array_equal(opened[name].writable(), expected)
    assert (tmp_path / "net.ckpt").read_bytes() == DATA


def test_a_large_value_is_made_writable_without_a_copy(tmp_path, monkeypatch):
    """Its pages are mapped again, privately, so that only written ones take memory."""
    monkeypatch.setattr(reader, "_WORTH_A_MAP", 1)
    monkeypatch.setattr(reader.FileReader, "copy", lambda self, entry: pytest.fail("it was copied"))
    path = tmp_path / "net.ckpt"
    path.write_bytes(DATA)
    with opened_over(open_source(str(path), access="mmap").source) as ckpt:
        np.testing.assert_array_equal(ckpt["weight"].writable(), WEIGHT)


def test_writable_memory_of_a_set_value_is_a_copy_of_it():
    """The parameter keeps the set value."""
    param = opened_over(BytesSource(DATA))["weight"]
    param.set_data([1, 2])
    param.writable()[0] = 5

    assert param.asnumpy().tolist() == [1, 2]


KEYS = {
    "a row": 2,
    "the last row": -1,
    "rows": slice(1, 3),
    "rows backwards": slice(None, None, -2),
    "no rows": slice(3, 3),
    "an element": (1, 2, 3),
    "a column": (slice(None), 1),
    "a block": (slice(1, 3), slice(2, None), slice(0, 5, 2)),
    "everything": ...,
    "nothing asked": (),
    "from the end": (..., -1),
    "an element as an array": (1, 2, 3, ...),
    "new axes": (None, 1, None),
    "picked rows": [4, 0, 0, -1],
    "picked rows as an array": np.array([[1, 2], [3, 3]]),
    "a mask": np.array([True, False, False, True, False, True]),
    "picked rows of a column": ([0, 2], slice(1, 3)),
    "two arrays": ([0, 1], [2, 3]),
    "a whole mask": WEIGHT > 50,
    "no picks": [],
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("name", ["weight", "pieces"])
def test_an_index_gives_what_numpy_gives(name, key, opened):
    """`param[key]` has the values, shape, dtype and kind (array or scalar) of `array[key]`."""
    found, expected = opened[name][key], WEIGHT[key]

    assert type(found) is type(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", EXPECTED)
def test_any_dtype_can_be_indexed(name, opened):
    """Half of the first axis, or all of a scalar, is read for every dtype."""
    key = slice(None, None, 2) if EXPECTED[name].ndim else ()

    np.testing.assert_array_equal(opened[name][key], EXPECTED[name][key])


_axis = st.slices(7) | st.integers(-7, 6)
_first = st.lists(st.integers(-7, 6), max_size=9) | st.lists(st.booleans(), min_size=7, max_size=7).map(np.array)


@given(st.data(), hnp.array_shapes(max_dims=4, max_side=7))
def test_any_basic_index_gives_what_numpy_gives(data, shape):
    """Slices with any step, integers, ellipses and new axes, on shapes of up to four dimensions, also in pieces."""
    array = counting(shape, "int16")
    ckpt = opened_over(TracingSource(sliced_value("w", array, [3, 8])))
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True, max_dims=6))

    np.testing.assert_array_equal(ckpt["w"][key], array[key], strict=True)


@given(_first, st.lists(_axis, max_size=2))
def test_any_rows_can_be_picked(rows, rest):
    """An integer list or a mask on the first axis may be followed by basic indices."""
    array = counting((7, 7, 7), "int32")
    ckpt = opened_over(TracingSource(array_value("w", array)))
    key = (rows, *rest)

    np.testing.assert_array_equal(ckpt["w"][key], array[key], strict=True)


@pytest.mark.parametrize("key", [6, -7, (0, 4), (0, 0, 0, 0), [6], [0, -7], 1.5, "w", np.array([True, False])], ids=str)
def test_what_numpy_refuses_is_refused(key, opened):
    """An index out of bounds, or of an invalid type, raises IndexError."""
    with pytest.raises(IndexError):
        WEIGHT[key]
    with pytest.raises(IndexError):
        opened["weight"][key]


@pytest.mark.parametrize(
    ("key", "rows"),
    [(3, [3]), (slice(2, 5), [2, 3, 4]), ([5, 1], [5, 1]), (np.arange(6) == 4, [4]), ((2, slice(1, 3), 0), [2])],
    ids=str,
)
def test_an_index_reads_only_what_it_needs(key, rows):
    """For rows that lie far apart, only the requested rows and the header are read."""
    array = counting((6, 3000), "float64")
    if isinstance(key, tuple):
        array = array.reshape(6, 30, 100)
    source = TracingSource(sliced_value("w", array, [50_000]))
    ckpt = opened_and_traced(source)
    np.testing.assert_array_equal(ckpt["w"][key], array[key])
    _, header = content(ckpt, "w")
    row = array.nbytes // 6
    value = [place for start, length in ckpt.entry("w").extents for place in range(start, start + length)]
    wanted = {place for number in rows for place in value[number * row : (number + 1) * row]}

    assert source.looked_at() - header <= wanted


def test_neighbouring_runs_are_read_together():
    """A column of a small matrix costs one read, not one per row."""
    source = TracingSource(array_value("w", counting((100, 8))))
    ckpt = opened_and_traced(source)
    ckpt["w"][:, 3]
    value, header = content(ckpt, "w")

    assert len([offset for offset, _ in source.reads if offset in value]) == 1
    assert source.looked_at() <= value | header


def test_a_value_is_read_once_and_whole(traced):
    """Over a copying source `asnumpy` reads the header and the value once, and no other parameter's bytes."""
    ckpt, source = traced
    for name in EXPECTED:
        source.reads.clear()
        ckpt[name].asnumpy()
        value, header = content(ckpt, name)

        assert source.looked_at() == value | header
        assert sum(length for _, length in source.reads) == len(value | header)


def test_numpy_takes_a_parameter_as_an_array(opened):
    """`np.asarray`, arithmetic and functions of numpy see the values."""
    for name, array in EXPECTED.items():
        np.testing.assert_array_equal(np.asarray(opened[name]), array, strict=True)
    np.testing.assert_array_equal(np.add(opened["weight"], 1), WEIGHT + 1)


def test_numpy_gets_no_copy_of_a_plain_file(tmp_path):
    """`np.asarray` of a mapped value is the view itself."""
    (tmp_path / "net.ckpt").write_bytes(DATA)
    with lazyckpt.load_checkpoint(str(tmp_path / "net.ckpt")) as ckpt:
        param = ckpt["weight"]

        assert np.shares_memory(np.asarray(param), param.asnumpy())
        assert np.shares_memory(param.__array__(np.dtype("float32"), copy=False), param.asnumpy())


def test_numpy_gets_a_copy_when_it_asks_for_one(opened):
    """`copy=True` gives a separate array; another dtype is a conversion."""
    copies = [np.array(opened["weight"]), opened["weight"].__array__(copy=True)]
    converted = np.asarray(opened["weight"], dtype="float64")

    assert [copy.flags.writeable for copy in copies] == [True, True]
    assert not any(np.shares_memory(copy, opened["weight"].asnumpy()) for copy in copies)
    np.testing.assert_array_equal(converted, WEIGHT.astype("float64"), strict=True)


def test_numpy_gets_an_error_when_a_copy_cannot_be_avoided(opened):
    """A conversion without a copy is refused, as numpy's protocol requires."""
    with pytest.raises(ValueError, match="Float32 cannot be seen as float64 without a copy"):
        opened["weight"].__array__(np.dtype("float64"), copy=False)


def test_dlpack_hands_over_the_values(opened):
    """`np.from_dlpack` sees the values, aligned, and writing to its result never reaches the file."""
    for name in ("weight", "half", "bytes", "step", "pieces"):
        array = np.from_dlpack(opened[name])

        np.testing.assert_array_equal(array, EXPECTED[name], strict=True)
        assert array.flags.aligned
    assert opened["weight"].__dlpack_device__() == WEIGHT.__dlpack_device__()


def test_dlpack_never_exports_the_file():
    """Some consumers write to read-only memory, so each gets its own copy."""
    ckpt = opened_over(BytesSource(checkpoint({"w": counting((8,), "uint8")})))
    view, exported = ckpt["w"].asnumpy(), ckpt["w"]._exportable(None)

    assert (exported.flags.writeable, np.shares_memory(exported, view)) == (True, False)
    with pytest.raises(BufferError, match="cannot be shared without a copy"):
        ckpt["w"].__dlpack__(copy=False)


def test_what_was_edited_is_shared_by_dlpack():
    """Values set in memory are shared, or copied if the consumer requests it."""
    param = opened_over(BytesSource(checkpoint({"w": counting((8,), "uint8")})))["w"]
    data = counting((4,))
    param.set_data(data)

    assert [np.shares_memory(param._exportable(copy), data) for copy in (None, False, True)] == [True, True, False]
    assert np.from_dlpack(param).tolist() == data.tolist()


def test_unaligned_values_are_exported_aligned(tmp_path):
    """Consumers of DLPack rely on alignment, so an unaligned value is copied."""
    for length in range(1, 9):
        path = tmp_path / "a.ckpt"
        path.write_bytes(checkpoint({"n" * length: counting((2**18,), "int64")}))
        with opened_over(open_source(str(path)).source) as ckpt:
            (param,) = ckpt.values()
            array = param._exportable(None)

            assert (length, array.flags.aligned, array.flags.writeable) == (length, True, True)
            assert np.array_equal(array, param.asnumpy())


def test_set_data_replaces_the_value_in_memory(opened):
    """Shape, dtype, repr and every way of reading follow; the file does not."""
    param = opened["weight"]
    param.set_data([[1, 2], [3, 4]])

    assert (param.shape, str(param.dtype), param.nbytes, param.is_edited) == ((2, 2), "Int64", 32, True)
    assert repr(param) == "Parameter (name=weight, shape=(2, 2), dtype=Int64, requires_grad=True)"
    assert (param[1].tolist(), param.asnumpy().tolist(), len(param)) == ([3, 4], [[1, 2], [3, 4]], 2)
    assert opened.entry("weight").shape == WEIGHT.shape


def test_set_data_takes_the_array_itself():
    """As in MindSpore, the parameter and the array share memory; a copy of it does not."""
    param = opened_over(BytesSource(DATA))["weight"]
    array = np.zeros(3, "float32")
    param.set_data(array)
    copy = param.asnumpy(copy=True)
    array[0] = 5

    assert (param[0], copy[0]) == (5, 0)


def test_set_data_brings_values_into_the_files_byte_order():
    """Arrays of any byte order give little-endian bytes."""
    param = opened_over(BytesSource(DATA))["weight"]
    param.set_data(np.array([1, 2], ">i4"))

    assert param.tobytes() == np.array([1, 2], "<i4").tobytes()
    assert param.asnumpy().dtype == param.dtype.numpy


@pytest.mark.parametrize("data", [1j, "text", [None], np.zeros(2, "M8[s]")], ids=str)
def test_set_data_refuses_what_no_checkpoint_holds(data):
    """The old value stays."""
    param = opened_over(BytesSource(DATA))["weight"]

    with pytest.raises(ArgumentTypeError, match="no checkpoint holds"):
        param.set_data(data)
    assert not param.is_edited


def test_one_element_is_a_number(opened):
    """`item`, `int`, `float` and `bool` of a parameter with one element."""
    step, one = opened["step"], opened["one"]

    assert (step.item(), int(step), float(step), bool(step)) == (17, 17, 17.0, True)
    assert (one.item(), bool(one)) == (0.0, False)


@pytest.mark.parametrize(
    "convert", [operator.methodcaller("item"), int, float, bool], ids=["item", "int", "float", "bool"]
)
def test_many_elements_are_no_number(convert, opened):
    """Converting many elements to a number raises numpy's error."""
    with pytest.raises(ValueError, match=r"size|truth value"):
        convert(opened["weight"])


def test_the_length_is_the_first_dimension(opened):
    """A scalar has no length."""
    assert len(opened["weight"]) == 6
    with pytest.raises(TypeError, match="scalar"):
        len(opened["step"])


def test_rows_can_be_walked(opened):
    """Iteration gives the rows, each read by itself."""
    np.testing.assert_array_equal(np.stack(list(opened["weight"])), WEIGHT)


def test_bytes_are_little_endian_and_in_c_order(opened):
    """`tobytes` gives the content in the file's byte order."""
    assert {name: param.tobytes() for name, param in opened.items()} == {
        name: array.tobytes() for name, array in EXPECTED.items()
    }


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_an_empty_tensor_is_empty(shape):
    """An empty tensor, also a vector, has its shape and no element, however it is read."""
    param = opened_over(BytesSource(tensor_value("w", shape, "Float32", b"")))["w"]
    ways = [param.asnumpy(), param.asnumpy(copy=True), param.writable(), param[...], np.asarray(param)]

    assert (param.shape, param.size, param.nbytes) == (shape, 0, 0)
    assert [(array.shape, array.dtype) for array in ways] == [(shape, np.dtype("float32"))] * 5


def test_many_threads_may_read_one_parameter(opened):
    """Sixteen threads that read whole values and rows at once all get the right ones."""
    names = [*EXPECTED] * 20
    with ThreadPoolExecutor(16) as pool:
        wholes = list(pool.map(lambda name: opened[name].asnumpy(copy=True).tobytes(), names))
        rows = list(pool.map(lambda number: opened["pieces"][number % 6].tobytes(), range(200)))

    assert wholes == [EXPECTED[name].tobytes() for name in names]
    assert rows == [WEIGHT[number % 6].tobytes() for number in range(200)]
