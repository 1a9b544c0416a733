"""Operations that take the bytes of a mapped file themselves: a truncation in place is an error, never a signal."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest
from checkpoints import checkpoint, counting
from forking import ended, forked
from safetensors_files import file_of

import lazyckpt
from lazyckpt.errors import LazyCkptError
from lazyckpt.index.build import build_index
from lazyckpt.reading.copying import is_basic

VALUES = {
    "small": counting((3,)),
    "rows": counting((64, 1024)),
    "large": counting((2**17,)),
    "last": counting((2**12,)),
}
OPERATIONS = {
    "index": lambda path, ckpt: build_index(path, index_path="memory"),
    "digests": lambda path, ckpt: build_index(path, index_path="memory", digest="blake2b"),
    "copies": lambda path, ckpt: [ckpt[name].asnumpy(copy=True) for name in ckpt],
    "conversions": lambda path, ckpt: [np.asarray(ckpt[name], np.float64) for name in ckpt],
    "bytes": lambda path, ckpt: [ckpt[name].tobytes() for name in ckpt],
    "load": lambda path, ckpt: ckpt.load(workers=1),
    "statistics": lambda path, ckpt: list(ckpt.stats()),
    "rows": lambda path, ckpt: ckpt["rows"][[60, 1, 30]],
    "mask": lambda path, ckpt: ckpt["rows"][np.arange(64) % 2 == 0],
    "elements": lambda path, ckpt: ckpt["rows"][[1, 2], [3, 4]],
    "save": lambda path, ckpt: ckpt.save(f"{path}.copy{path.suffix}", format=path.suffix[1:]),
    "save arrays": lambda path, ckpt: lazyckpt.save_checkpoint(dict(ckpt.items()), f"{path}.other.ckpt"),
    "diff": lambda path, ckpt: lazyckpt.diff(path, f"{path}.same{path.suffix}"),
    "verify": lambda path, ckpt: lazyckpt.verify(path),
    "diagnose": lambda path, ckpt: lazyckpt.diagnose(path, values=True),
    "check": lambda path, ckpt: lazyckpt.load_checkpoint(path, format=path.suffix[1:], crc_check=True),
}


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_file_that_is_truncated_while_it_is_read_ends_no_process(operation, ending, tmp_path):
    """Whatever step the file is truncated at, the operation ends with an answer or with an error of the package."""
    content = checkpoint(VALUES) if ending == "ckpt" else file_of(VALUES)
    path = tmp_path / f"net.{ending}"
    (tmp_path / f"net.{ending}.same.{ending}").write_bytes(content)
    steps = []
    for step in (1, 3, 4, 5, 7):
        path.write_bytes(content)
        child = forked(lambda step=step: truncated_at(step, path, OPERATIONS[operation]))
        steps.append(ended(child))

    assert steps == [0] * len(steps)


def truncated_at(step, path, operation):
    """Run an operation, with the file cut after one of its looks at it."""
    ckpt = lazyckpt.load_checkpoint(path, format=path.suffix[1:])
    calls = iter(range(10**6))

    def cutting(real):
        def call(descriptor, *arguments):
            found = real(descriptor, *arguments)
            if next(calls) == step:
                os.truncate(path, 5000)
            return found

        return call

    for name in ("pread", "preadv", "lseek"):
        setattr(os, name, cutting(getattr(os, name)))
    with contextlib.suppress(LazyCkptError):
        operation(path, ckpt)


@pytest.mark.parametrize(
    ("key", "basic"),
    [
        (2, True), (slice(2), True), (..., True), (None, True), ((1, slice(2), None, ...), True), (np.int64(1), True),
        ((), True), (True, False), (np.True_, False), ([1], False), ((1, [2]), False), (np.arange(2), False),
        (range(2), False), ((slice(1), True), False),
    ],
)  # fmt: skip
def test_basic_keys_are_those_that_numpy_answers_with_a_view(key, basic):
    """A key is basic if the answer shares the memory of the array, or is one element."""
    array = np.zeros((3, 4, 5))

    assert is_basic(key) == basic
    if basic:
        assert np.shares_memory(array, array[key])
