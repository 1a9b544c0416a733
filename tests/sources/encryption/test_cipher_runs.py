"""Runs of a block through the cipher: complete, in order, into the right pieces."""

from __future__ import annotations

from collections import Counter

import pytest
from checkpoints import pattern
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.sources.encryption import cipher_runs
from lazyckpt.sources.encryption.cipher_runs import passes, scatter

LONG, RUN = 16, 40  # bytes of a long piece, and of the longest run


@pytest.fixture(autouse=True, scope="module")
def small_runs():
    """Limits of a few bytes, so that a small block has many runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cipher_runs, "SCRATCH", LONG)
        patch.setattr(cipher_runs, "_LONGEST_RUN", RUN)
        yield


@st.composite
def blocks(draw):
    """The length of a block and the requested pieces, in ascending order, perhaps overlapping."""
    length = draw(st.integers(0, 300))
    spans = draw(st.lists(st.tuples(st.integers(0, length), st.integers(0, length)), max_size=8))
    spans = sorted((start, stop) for start, stop in map(sorted, spans) if start < stop)
    return length, [(start, memoryview(bytearray(stop - start))) for start, stop in spans]


@given(blocks())
def test_runs_cover_the_block_in_order(block):
    """The runs cover the whole block in order, so that it can be authenticated."""
    length, pieces = block
    runs = list(passes(length, pieces))
    edges = [0, *(end for _, end, _ in runs)]

    assert [begin for begin, _, _ in runs] == edges[:-1]
    assert edges[-1] == length
    assert all(0 < end - begin <= (LONG if destination is None else RUN) for begin, end, destination in runs)


@given(blocks())
def test_every_piece_has_its_bytes(block):
    """Every piece gets its bytes, in place or through the scratch buffer."""
    length, pieces = block
    plaintext = memoryview(pattern(length))
    first = 0
    for begin, end, destination in passes(length, pieces):
        if destination is None:
            first = scatter(begin, plaintext[begin:end], pieces, first)
        else:
            destination[:] = plaintext[begin:end]

    assert [bytes(piece) for _, piece in pieces] == [
        bytes(plaintext[start : start + piece.nbytes]) for start, piece in pieces
    ]


@given(blocks())
def test_only_long_pieces_that_share_no_byte_are_filled_in_place(block):
    """Exactly the long pieces without overlap are filled in place."""
    length, pieces = block
    wanted = Counter(place for start, piece in pieces for place in range(start, start + piece.nbytes))
    alone = {
        place
        for start, piece in pieces
        for place in range(start, start + piece.nbytes)
        if piece.nbytes >= LONG and all(wanted[one] == 1 for one in range(start, start + piece.nbytes))
    }
    direct = {place for begin, end, destination in passes(length, pieces) if destination for place in range(begin, end)}

    assert direct == alone


def test_scattering_goes_on_where_it_ended():
    """`scatter` returns the first piece that a later run may need."""
    pieces = [(0, memoryview(bytearray(2))), (1, memoryview(bytearray(0))), (3, memoryview(bytearray(4)))]
    numbers = [scatter(begin, memoryview(pattern(4)), pieces, 0) for begin in (0, 4, 8)]

    assert numbers == [0, 2, 3]
