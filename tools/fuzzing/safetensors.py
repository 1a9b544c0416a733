"""safetensors files, headers and values, compared with the safetensors package."""

from __future__ import annotations

import contextlib
import itertools
import json
import re

import checkpoints as made
import numpy as np
import safetensors
import safetensors_files

from fuzzing.checkpoints import entries_of, read_checkpoint
from fuzzing.target import GOLDEN, LARGEST_SEED, Seed, Target, Violation
from lazyckpt.errors import CorruptFile, LazyCkptError, WrongFormat
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.sources.base import BytesSource

_END = re.compile(rb'"data_offsets":\s*\[\s*[0-9]+\s*,\s*([0-9]{1,9})\s*\]')


ARRAYS = {"w": made.counting((2, 3)), "empty": np.zeros((0, 2), "float32"), "é": made.counting((5,), "int8")}


def safetensors_seeds() -> list[Seed]:
    """Files written by hand, with and without spaces and metadata, of every dtype, and the golden ones that are sound.

    All of a header matters.
    """
    facts, size = {}, 0
    for dtype in DTYPES.values():
        facts[dtype.name] = safetensors_files.item(dtype.safetensors, [2, 2], size, size + dtype.stored_size(4))
        size += dtype.stored_size(4)
    facts["six"] = safetensors_files.item("F6_E2M3", [4], size, size + 3)
    files = [
        *(
            safetensors_files.file_of(ARRAYS, metadata, spaces)
            for metadata, spaces in itertools.product((None, {"format": "ms", "w": "Int4"}), (False, True))
        ),
        safetensors_files.raw(facts, made.pattern(size + 3)),
        *(path.read_bytes() for path in sorted(GOLDEN.glob("*.safetensors")) if path.stat().st_size <= LARGEST_SEED),
    ]
    sound = [data for data in files if not entries_of(BytesSource(data), "safetensors")[1]]
    return [Seed(data, list(range(8 + int.from_bytes(data[:8], "little")))) for data in sound]


def read_safetensors(data: bytes) -> None:
    """Read a file as it is, and once more with a length that suits its header, so that the JSON is looked at, too."""
    with contextlib.suppress(CorruptFile, WrongFormat):
        _beside_the_package(_measured(data))
    _beside_the_package(data)


def _measured(data: bytes) -> bytes:
    """The file with the length of the header that leaves as many bytes of contents as the header announces."""
    ends = [int(end) for end in _END.findall(data)]
    length = len(data) - 8 - max((end for end in ends if end <= len(data) - 8), default=0)
    return max(0, length).to_bytes(8, "little") + data[8:]


def _beside_the_package(data: bytes) -> None:
    """Read a file as a checkpoint. The package finds the same in it, or nothing either."""
    theirs = _by_package(data)
    try:
        read_checkpoint(data, "safetensors")
    except LazyCkptError as fault:
        if theirs is not None and not _is_refused_on_purpose(data):
            raise Violation(f"the package reads it: {fault}") from fault
        raise
    entries = entries_of(BytesSource(data), "safetensors")[0]
    found = {entry.name: b"".join(data[at : at + size] for at, size in entry.extents) for entry in entries}
    unheld = {entry.name for entry in entries if entry.kind == "refused"}
    if theirs is None and any("dimensions" in entry.reason for entry in entries):
        return  # more than an array has: the package may refuse the file, where we refuse the tensor
    if theirs is None or {name: b"" if name in unheld else content for name, content in theirs.items()} != found:
        raise Violation("the package does not find the same")


def _by_package(data: bytes) -> dict[str, bytes] | None:
    try:
        return {name: bytes(facts["data"]) for name, facts in safetensors.deserialize(data)}
    except safetensors.SafetensorError:
        return None


def _is_refused_on_purpose(data: bytes) -> bool:
    """Whether names repeat or something precedes the brace: the package accepts both, and we refuse them."""
    text = data[8 : 8 + int.from_bytes(data[:8], "little")]
    twice = []

    def seen(pairs: list[tuple[str, object]]) -> dict[str, object]:
        twice.append(len(dict(pairs)) < len(pairs))
        return dict(pairs)

    json.loads(text, object_pairs_hook=seen)
    return text[:1] != b"{" or twice[-1]


TARGETS = {"safetensors": Target(safetensors_seeds, read_safetensors, memory=60)}
