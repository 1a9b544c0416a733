"""Requests for a value: the ranges to read, their buffers, and the check before anything is returned."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from checkpoints import pattern
from entries import tensor_entry
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import CorruptFile
from lazyckpt.model.entry import Extent
from lazyckpt.reading.requests import HeaderCheck, requests_for
from lazyckpt.sources.base import BytesSource

FILE = BytesSource(pattern(400))
EXTENTS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 100)), max_size=5).map(
    lambda pairs: tuple(Extent(*pair) for pair in pairs)
)


def content_of(extents):
    """The content of these extents."""
    return b"".join(bytes(FILE.read(*extent)) for extent in extents)


@given(EXTENTS)
def test_an_array_is_filled_from_its_extents_in_order(extents):
    """`requests_for` fills an array with the whole content."""
    content = content_of(extents)
    target = np.zeros(len(content), np.uint8)
    FILE.read_many(requests_for(extents, target))

    assert target.tobytes() == content


def check_of(check, digest=b""):
    """The check of a header of 4 bytes, and those bytes."""
    header = memoryview(bytearray(4))
    return HeaderCheck(tensor_entry("w")._replace(digest=digest), "net.ckpt", [(0, header)], check)


def test_a_header_is_proven_before_the_value_is_made():
    """`finish` raises the check's error before it allocates the value."""

    def refuse():
        raise CorruptFile("the header has changed")

    made = []
    pending = check_of(refuse).then([(4, memoryview(bytearray(8)))], lambda: made.append(1))

    assert [offset for offset, _ in pending.requests] == [0, 4]
    with pytest.raises(CorruptFile, match="the header has changed"):
        pending.finish()
    assert made == []


@pytest.mark.parametrize("whole", [True, False])
def test_only_a_whole_content_is_compared_with_its_digest(whole):
    """A wrong digest is an error only for the whole value, because a part has no digest."""
    pending = check_of(lambda: None, bytes(32)).then([(4, memoryview(bytearray(8)))], lambda: "value", whole=whole)

    if whole:
        with pytest.raises(CorruptFile, match="digest differs"):
            pending.finish()
    else:
        assert pending.finish() == "value"


def test_a_right_digest_is_of_all_requests_in_order():
    """The content is compared as it was read, without the header."""
    digest = hashlib.blake2b(bytes(FILE.read(4, 8)) + bytes(FILE.read(50, 3)), digest_size=32).digest()
    parts = [(4, memoryview(bytearray(8))), (50, memoryview(bytearray(3)))]
    pending = check_of(lambda: None, digest).then(parts, lambda: "value")
    FILE.read_many(pending.requests)

    assert pending.alone().finish() == ["value"]
