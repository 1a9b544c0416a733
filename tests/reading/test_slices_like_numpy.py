"""A part of a value equals numpy's answer, over every kind of value; keys that numpy refuses raise numpy's errors."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import array_value, counting, sliced_value
from index_keys import outcome
from slice_contract import SliceContract
from tracing import TracingSource
from value_kinds import FOUR_BITS, KINDS, parameter

from lazyckpt.sources.base import BytesSource


class TestMap(SliceContract):
    """The contract over a value in a memory map."""

    kind = "map"


class TestPread(SliceContract):
    """The contract over a value that is read with pread."""

    kind = "pread"


class TestMemory(SliceContract):
    """The contract over a value in bytes in memory."""

    kind = "memory"


class TestRemote(SliceContract):
    """The contract over a value of a remote object, of which nothing is kept."""

    kind = "remote"


class TestRemoteKept(SliceContract):
    """The contract over a value of a remote object whose ranges are kept."""

    kind = "remote, kept"


class TestAesGcm(SliceContract):
    """The contract over a value encrypted with AES-GCM."""

    kind = "AES-GCM"


class TestAesCbc(SliceContract):
    """The contract over a value encrypted with AES-CBC."""

    kind = "AES-CBC"


class TestSm4Cbc(SliceContract):
    """The contract over a value encrypted with SM4-CBC."""

    kind = "SM4-CBC"


class TestSlices(SliceContract):
    """The contract over a value in several slices."""

    kind = "slices"


class TestSlicesRemote(SliceContract):
    """The contract over a value in several slices of a remote object."""

    kind = "slices, remote"


class TestSlicesAesGcm(SliceContract):
    """The contract over a value in several slices, encrypted with AES-GCM."""

    kind = "slices, AES-GCM"


class TestSlicesAesCbc(SliceContract):
    """The contract over a value in several slices, encrypted with AES-CBC."""

    kind = "slices, AES-CBC"


class TestBoxes(SliceContract):
    """The contract over a sharded value."""

    kind = "boxes"


class TestBoxesRemote(SliceContract):
    """The contract over a sharded value that is remote."""

    kind = "boxes, remote"


class TestBoxesAesGcm(SliceContract):
    """The contract over a sharded value encrypted with AES-GCM."""

    kind = "boxes, AES-GCM"


class TestParts(SliceContract):
    """The contract over a value across the border of two files."""

    kind = "parts"


class TestSafetensors(SliceContract):
    """The contract over a value of a safetensors file."""

    kind = "safetensors"


class TestSafetensorsRemote(SliceContract):
    """The contract over a value of a remote safetensors file."""

    kind = "safetensors, remote"


class TestWidened(SliceContract):
    """The contract over a bfloat16 value stored as float32."""

    kind = "widened"


class TestEdited(SliceContract):
    """The contract over a value set in memory."""

    kind = "edited"


@pytest.mark.skipif(not FOUR_BITS.is_known_here, reason="this ml_dtypes has no type of four bits")
class TestPacked(SliceContract):
    """The contract over a value with two elements in a byte."""

    kind = "packed"


def test_every_kind_of_value_keeps_the_contract():
    """No kind of value is without its class above."""
    kept = {kind.kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, SliceContract)}

    assert kept - {"", "packed"} == set(KINDS) - {"packed"}


@pytest.mark.parametrize(
    "key", [(np.array(2**63, "u8"), slice("a")), (99, slice("a")), (slice("a"), 99), ([99], slice(0, 1, 0))], ids=repr
)
def test_of_two_errors_the_same_one_is_raised(key):
    """If two parts of a key are wrong, the error is about the part that numpy reports."""
    array = counting((6, 4), "int32")

    assert outcome(parameter(TracingSource(array_value("w", array))), key) == outcome(array, key)


def pieces(array):
    """The bytes of a value in slices that end anywhere."""
    return sliced_value("w", array, [7, 0, 30, 1])


@pytest.mark.parametrize("key", [10**6, (0, -5), [10**6], (0, 0, 0), 1.5, "w", slice(0, 1, 0), [1.5], 2**70], ids=repr)
@pytest.mark.parametrize("made", [pieces, lambda data: array_value("w", data)], ids=["slices", "one"])
def test_a_refused_key_reads_nothing_of_the_value(made, key):
    """A key that numpy refuses reads no byte of the value."""
    source = TracingSource(made(counting((6, 4), "int32")))
    param = parameter(source)
    source.reads.clear()
    with pytest.raises((IndexError, ValueError)):
        param[key]

    assert source.reads == []


def test_a_row_far_back_is_found():
    """A tuple of one row, many pages after the first, gives the row."""
    array = np.zeros((300_000, 64), "u1")
    array[-2] = 7

    assert parameter(BytesSource(pieces(array)))[(299_998,), :].tolist() == [[7] * 64]
