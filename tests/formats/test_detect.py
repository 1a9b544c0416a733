"""Files of other formats are recognized by their first bytes, with advice."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, pattern
from other_files import FILES, LFS

from lazyckpt.errors import CorruptFile, NothingLoaded, WrongFormat
from lazyckpt.formats import FORMAT_NAMES, FORMATS, scan
from lazyckpt.formats.detect import HEAD, diagnose
from lazyckpt.loading import load_checkpoint
from lazyckpt.sources.base import BytesSource

NAMES = [what for what, _, _ in FILES]


@pytest.mark.parametrize(("what", "data", "advice"), FILES, ids=NAMES)
def test_a_file_is_recognized_by_its_first_bytes(what, data, advice):
    """One sentence has the kind of file and the advice."""
    sentence = diagnose(data[:HEAD])

    assert (sentence[:8], what in sentence, advice in sentence) == ("this is ", True, True)


@pytest.mark.parametrize("data", [data for _, data, _ in FILES], ids=NAMES)
def test_scanning_another_format_says_which(data):
    """The scan fails with WrongFormat, which names the file; the fault that it met is the cause."""
    with pytest.raises(WrongFormat, match=r"^model\.ckpt: this is ") as caught:
        list(scan(BytesSource(data, "model.ckpt"), "ckpt"))

    assert isinstance(caught.value.__cause__, CorruptFile)


@pytest.mark.parametrize(
    "head",
    [b"", b"\x0a", checkpoint(MIXED)[:HEAD], pattern(HEAD), b"short text", b"PK", b"\0" * HEAD, b"\xff" * HEAD],
    ids=["nothing", "a byte", "a checkpoint", "noise", "a little text", "half a magic", "zeros", "ones"],
)
def test_what_is_not_known_is_not_guessed(head):
    """Ambiguous bytes, which may be a checkpoint, get no guess."""
    assert diagnose(head) is None


def test_a_broken_checkpoint_is_not_called_something_else():
    """A truncated checkpoint stays a CorruptFile, which names the file."""
    with pytest.raises(CorruptFile, match=r"^model\.ckpt: ") as caught:
        list(scan(BytesSource(checkpoint(MIXED)[:-1], "model.ckpt"), "ckpt"))

    assert not isinstance(caught.value, WrongFormat)


def test_a_checkpoint_is_never_sniffed():
    """A file that parses is a checkpoint, whatever its first bytes."""
    data = checkpoint({"version https://git-lfs": np.zeros(3, "int8")})

    assert [entry.name for entry in scan(BytesSource(data), "ckpt")] == ["version https://git-lfs"]


def test_only_the_head_is_read_for_it():
    """Only the first 512 bytes of a file are examined."""
    assert diagnose((LFS + b"\xff" * 10_000)[:HEAD]) == diagnose(LFS)


def test_a_strategy_file_is_recognized_though_it_parses(tmp_path):
    """To a checkpoint's parser a strategy file has only unknown fields, but loading recognizes it."""
    path = tmp_path / "strategy.ckpt"
    path.write_bytes(b"\x08\x01\x12\x11\n\x0bMatMul_hand\x12\x02\x08\x00")

    with pytest.raises(NothingLoaded, match="this is a strategy file"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_every_format_in_the_table_has_a_reader(name):
    """Every named format can be scanned, and says whether it lists parameters by offset."""
    assert callable(FORMATS[name].find)
    assert isinstance(FORMATS[name].in_file_order, bool)


def test_a_name_that_is_not_in_the_table_is_not_a_format():
    """An unknown name imports no module."""
    with pytest.raises(KeyError):
        FORMATS["digest"]
