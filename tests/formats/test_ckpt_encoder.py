"""Headers equal protobuf's bytes, and every parser reads the same values from aligned ones."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting, map_value
from checkpoints import varint as varint_by_hand
from hypothesis import example, given
from hypothesis import strategies as st
from items import written

from lazyckpt.formats.ckpt import scan
from lazyckpt.formats.ckpt_encoder import Described, map_headers, tensor_header, varint
from lazyckpt.formats.ckpt_fast_path import recogniser
from lazyckpt.formats.proto import checkpoint_pb2
from lazyckpt.model.dtypes import IN_CKPT
from lazyckpt.model.entry import Plain
from lazyckpt.sources.base import BytesSource

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
dtypes = st.sampled_from(list(IN_CKPT.values()))
shapes = st.lists(st.integers(0, 6), max_size=5)
alignments = st.sampled_from([2**power for power in range(13)])


def described(dtype, shape):
    """The header facts of a tensor."""
    return Described(dtype.name, shape, math.prod(shape) * dtype.itemsize)


@given(st.integers(0, 2**64 - 1))
def test_numbers_are_varints(number):
    """Any length is written in its shortest form."""
    assert varint(number) == varint_by_hand(number)


def message_of(type_name, shape, content):
    """A TensorProto of protobuf's generated class."""
    return checkpoint_pb2.TensorProto(dims=shape, tensor_type=type_name, tensor_content=content)


def of_bytes(value, seed):
    """The number of a value's bytes, in a pattern that shows their offset."""
    return bytes((seed + number) % 256 for number in range(value.nbytes))


values = st.lists(st.tuples(names, dtypes, shapes), max_size=6)


@given(values)
def test_a_file_of_values_is_what_protobuf_writes(values):
    """Without alignment the bytes equal those of the generated classes, and parse back."""
    data, message = b"", checkpoint_pb2.Checkpoint()
    for seed, (name, dtype, shape) in enumerate(values):
        value = described(dtype, shape)
        data += tensor_header(name.encode(), value) + of_bytes(value, seed)
        message.value.add(tag=name, tensor=message_of(dtype.name, shape, of_bytes(value, seed)))

    assert data == message.SerializeToString()
    assert checkpoint_pb2.Checkpoint.FromString(data) == message


@given(names, st.text(max_size=200))
def test_a_string_is_what_protobuf_writes(name, text):
    """Appended values of type `str` have no dims."""
    content = text.encode("utf-32-le")
    message = checkpoint_pb2.Checkpoint()
    message.value.add(tag=name, tensor=message_of("str", [], content))

    assert tensor_header(name.encode(), Described("str", [], len(content))) + content == message.SerializeToString()


@given(names, dtypes, shapes, st.integers(0, 2**62))
def test_a_header_holds_any_length(name, dtype, shape, length):
    """Lengths are varints, also for contents too large for a test: the parts of a header add up."""
    header = tensor_header(name.encode(), Described(dtype.name, shape, length))
    tensor = message_of(dtype.name, shape, b"").SerializeToString()[:-1] + varint(length)
    inner = b"\x0a" + varint(len(name.encode())) + name.encode() + b"\x12" + varint(len(tensor) + length) + tensor

    assert header == b"\x0a" + varint(len(inner) + length) + inner


@pytest.mark.parametrize("length", [0, 1, 100, 127, 128, 16_000, 16_383, 16_384, 2**21 - 60, 2**21, 2**28])
def test_lengths_may_take_any_number_of_bytes(length):
    """A header counts every following byte, however many bytes the counts themselves take."""
    header = tensor_header(b"w", Described("Int8", [length], length))
    message = checkpoint_pb2.Checkpoint()
    message.value.add(tag="w").tensor.MergeFrom(
        checkpoint_pb2.TensorProto(dims=[length], tensor_type="Int8", tensor_content=bytes(length))
    )

    assert message.SerializeToString()[: len(header)] == header


@given(names, st.lists(st.tuples(dtypes, shapes), min_size=3, max_size=3))
def test_a_map_is_mindspores_bytes(name, described_arrays):
    """The three headers of a map, each followed by its content, equal protobuf's bytes."""
    arrays = [np.zeros(shape, dtype.numpy) for dtype, shape in described_arrays]
    headers = map_headers(name.encode(), [Described(array.dtype.name, array.shape, array.nbytes) for array in arrays])
    written = b"".join(header + array.tobytes() for header, array in zip(headers, arrays, strict=True))

    message = checkpoint_pb2.Checkpoint()
    tensors = [message_of(array.dtype.name, array.shape, array.tobytes()) for array in arrays]
    message.value.add(tag=name, maptensor=checkpoint_pb2.MapTensorProto(tensor=tensors))

    assert written == message.SerializeToString() == map_value(name, arrays)


def test_a_map_of_no_arrays_has_a_header():
    """A map without arrays has a header."""
    message = checkpoint_pb2.Checkpoint()
    message.value.add(tag="m").maptensor.SetInParent()

    assert map_headers(b"m", []) == [message.SerializeToString()] == [map_value("m", [])]


@given(st.lists(st.tuples(names, dtypes, shapes, alignments), max_size=8, unique_by=lambda value: value[0]))
def test_contents_begin_where_they_should(values):
    """Each content begins at a multiple of its alignment, after as few zeros as possible."""
    position = 0
    for name, dtype, shape, align in values:
        value = described(dtype, shape)
        header = tensor_header(name.encode(), value, position, align)
        plain = tensor_header(name.encode(), value)

        assert (position + len(header)) % align == 0
        assert len(header) - len(plain) <= 2 * align + 6
        position += len(header) + value.nbytes


@given(st.integers(0, 5000), st.integers(0, 130), st.integers(1, 300), alignments)
@example(0, 0, 100, 128)
@example(0, 0, 126, 256)
def test_padding_may_grow_lengths_by_a_byte(position, name_length, length, align):
    """Where the padding makes a preceding length longer, it is adjusted."""
    header = tensor_header(b"n" * name_length, Described("Int8", [length], length), position, align)

    assert (position + len(header)) % align == 0


@given(st.lists(st.tuples(names, dtypes, shapes), max_size=6, unique_by=lambda value: value[0]), alignments)
def test_aligned_values_are_found_as_they_were_described(values, align):
    """A scan of aligned bytes gives the same names, dtypes and shapes; protobuf gives the same contents."""
    data, contents = b"", []
    for number, (name, dtype, shape) in enumerate(values):
        value = described(dtype, shape)
        contents.append(bytes([number + 1]) * value.nbytes)
        data += tensor_header(name.encode(), value, len(data), align) + contents[-1]
    entries = list(scan(BytesSource(data)))
    message = checkpoint_pb2.Checkpoint.FromString(data)

    assert [(entry.name, entry.dtype, entry.shape) for entry in entries] == [
        (name, dtype, tuple(shape)) for name, dtype, shape in values
    ]
    assert [data[offset : offset + size] for entry in entries for offset, size in entry.extents] == [
        content for content in contents if content
    ]
    assert [(one.tag, list(one.tensor.dims), one.tensor.tensor_content) for one in message.value] == [
        (name, shape, content) for (name, _, shape), content in zip(values, contents, strict=True)
    ]


@pytest.mark.parametrize("align", [1, 2, 64, 128])
def test_aligned_values_are_recognised_fast(align):
    """The fast path also takes values with padding of up to 127 bytes."""
    array = counting((3, 5))
    data = tensor_header(b"layer.w", Described("Float32", array.shape, array.nbytes), 0, align) + array.tobytes()
    found = recogniser(memoryview(data))(0, len(data))

    assert found == Plain(b"layer.w", IN_CKPT["Float32"], (3, 5), len(data) - 60, 60, 0, len(data))


def test_padding_that_is_not_zero_is_an_unknown_field_all_the_same():
    """A scan ignores the bytes of the unknown field."""
    header = tensor_header(b"w", Described("Int8", [3], 3), 0, 64)
    data = header.replace(bytes(8), b"\x1a\x03abcdef"[:8]) + b"xyz"
    (entry,) = scan(BytesSource(data))

    assert (entry.name, [data[begin : begin + length] for begin, length in entry.extents]) == ("w", [b"xyz"])


PARSED = """
import hashlib, sys
from google.protobuf.internal import api_implementation
from lazyckpt.formats.proto.checkpoint_pb2 import Checkpoint
print(api_implementation.Type())
for align in (1, 64, 4096):
    message = Checkpoint.FromString(open(f"{sys.argv[1]}/{align}.ckpt", "rb").read())
    known = Checkpoint()
    for value in message.value:
        tensors = value.maptensor.tensor if value.HasField("maptensor") else [value.tensor]
        known.value.add(tag=value.tag)
        into = known.value[-1].maptensor.tensor if value.HasField("maptensor") else None
        for tensor in tensors:
            kept = known.value[-1].tensor if into is None else into.add()
            kept.dims.extend(tensor.dims)
            kept.tensor_type, kept.tensor_content = tensor.tensor_type, tensor.tensor_content
    print(hashlib.sha256(known.SerializeToString()).hexdigest())
"""


@pytest.mark.parametrize("parser", ["python", "upb"])
def test_every_parser_reads_aligned_bytes_to_the_same_message(parser, tmp_path):
    """Both implementations of protobuf skip the padding and give MindSpore's message."""
    for align in (1, 64, 4096):
        (tmp_path / f"{align}.ckpt").write_bytes(written(MIXED, align=align)[0])
    done = subprocess.run(
        [sys.executable, "-c", PARSED, str(tmp_path)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": parser},
        check=True,
    )

    assert done.stdout.split() == [parser, *[hashlib.sha256(checkpoint(MIXED)).hexdigest()] * 3]
