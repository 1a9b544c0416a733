"""In what runs a block is decrypted: from end to end, and every piece that is wanted has its bytes."""

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
    """Runs of a few bytes, so that blocks of a few hundred have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cipher_runs, "SCRATCH", LONG)
        patch.setattr(cipher_runs, "_LONGEST_RUN", RUN)
        yield


@st.composite
def blocks(draw):
    """A block's length and the pieces that are wanted of it, in ascending order; they may share bytes."""
    length = draw(st.integers(0, 300))
    spans = draw(st.lists(st.tuples(st.integers(0, length), st.integers(0, length)), max_size=8))
    spans = sorted((start, stop) for start, stop in map(sorted, spans) if start < stop)
    return length, [(start, memoryview(bytearray(stop - start))) for start, stop in spans]


@given(blocks())
def test_runs_cover_the_block_in_order(block):
    """Each byte goes through the cipher once, wanted or not, or the block could not be authenticated."""
    length, pieces = block
    runs = list(passes(length, pieces))
    edges = [0, *(end for _, end, _ in runs)]

    assert [begin for begin, _, _ in runs] == edges[:-1]
    assert edges[-1] == length
    assert all(0 < end - begin <= (LONG if destination is None else RUN) for begin, end, destination in runs)


@given(blocks())
def test_every_piece_has_its_bytes(block):
    """Whether it is filled in place or through the scratch buffer."""
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
    """All of these are, to their last byte."""
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
    """Pieces that end before a run are not looked at again; one that is empty wants nothing."""
    pieces = [(0, memoryview(bytearray(2))), (1, memoryview(bytearray(0))), (3, memoryview(bytearray(4)))]
    numbers = [scatter(begin, memoryview(pattern(4)), pieces, 0) for begin in (0, 4, 8)]

    assert numbers == [0, 2, 3]
