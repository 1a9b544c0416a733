"""A strategy for golden files, intact or damaged."""

from __future__ import annotations

from checkpoints import chunk
from hypothesis import strategies as st
from mindspore_results import FILES

GOLDEN = sorted(path for path in FILES.iterdir() if path.suffix in (".ckpt", ".safetensors"))
SEEDS = [path.read_bytes() for path in GOLDEN if path.stat().st_size < 5000]


@st.composite
def mutated(draw):
    """A golden file or random bytes, with bytes changed, the end cut off, or a prefix added."""
    data = bytearray(draw(st.one_of(st.sampled_from(SEEDS), st.binary(max_size=300))))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))
    return draw(st.sampled_from([b"", b"\x0a", chunk(1, b"")])) + bytes(data[:cut])
