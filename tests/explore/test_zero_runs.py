"""Runs of zeros in contents: which the values explain, and which are what a download left."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import checkpoint, counting, sliced_value, with_crc
from hypothesis import given
from hypothesis import strategies as st
from safetensors_files import file_of

import lazyckpt
from lazyckpt.explore import zero_runs as module
from lazyckpt.explore.zero_runs import ZeroRun, judge, zero_runs
from lazyckpt.formats import format_of, scan
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.local import open_local

WEIGHTS = {"a": counting((9, 11)) + 1, "b": counting((70,)) + 1, "c": counting((64, 64)) + 1}
MOMENTS = {"m.a": np.zeros((9, 11), "float32"), "m.b": np.zeros((70,), "float32")}
MAKERS = [checkpoint, file_of]


def judged(data, holes=()):
    """The judgement on bytes; `holes` are ranges that were never written."""
    source = BytesSource(data, "net")
    runs = zero_runs(source, sampled=False)
    runs = sorted([*(ZeroRun(*hole, True) for hole in holes), *runs])
    return judge(scan(source, format_of(source)), runs, source.size)


def lost(data, kept):
    """The data with zeros after the first `kept` bytes."""
    return data[:kept] + bytes(len(data) - kept)


@pytest.mark.parametrize("make", MAKERS)
@given(kept=st.integers(1, 64 * 64 * 4 - 64))
def test_zeros_that_begin_inside_of_a_value_are_doubtful(make, kept):
    """A value whose rest is zeros, with 64 bytes of these or more (in whole rows: 4 KiB), is doubted."""
    data = make(WEIGHTS)
    start = len(data) - 64 * 64 * 4
    left = lost(data, start + kept)
    doubt = judged(left)
    kept = len(left.rstrip(b"\0")) - start  # the elements have zero bytes, too
    rows, rest = divmod(-(-kept // 4), 64)

    if kept > 0 and rest == 0:
        assert bool(doubt.why) == ((64 - rows) * 64 * 4 >= 4096)
    else:
        assert doubt.why == "they begin inside of 'c'" or kept <= 0
    assert (doubt.touched, doubt.total) == (1, 3)


@pytest.mark.parametrize("make", MAKERS)
def test_values_of_zeros_are_mentioned(make):
    """Values that are zeros as a whole are no reason for doubt, and the report says that they are there."""
    doubt = judged(make(WEIGHTS | MOMENTS))

    assert (doubt.why, doubt.touched, doubt.total) == ("", 2 if make is file_of else 1, 5)
    assert "zeros (from byte" in str(doubt)
    assert judged(make(WEIGHTS)) is None


def test_small_integers_before_zeros_are_whole():
    """The zero bytes of a number's own end do not count, nor do those of a number's own beginning."""
    data = file_of({"a": WEIGHTS["a"], "step": np.array([17], "int64"), "m": MOMENTS["m.a"]})

    assert (judged(data).why, judged(data).touched) == ("", 1)


def test_a_lost_tail_names_what_is_whole():
    """The sentence has the first of the zeros, why they are doubted, and the number of whole values."""
    data = file_of(WEIGHTS | MOMENTS)
    kept = len(data) - sum(each.nbytes for each in MOMENTS.values()) - 5000

    assert str(judged(lost(data, kept))) == (
        f"zeros from byte {len(lost(data, kept).rstrip(bytes(1))):,} on: the download did not finish, or these values"
        " are really zeros (they begin inside of 'c'); 2 of 5 values are whole"
    )


def test_some_zeros_at_the_end_of_a_value_are_its_own():
    """A few elements, or a few rows, are no doubt."""
    padded = np.concatenate([counting((20, 33)) + 1, np.zeros((4, 33), "float32")])
    short = np.concatenate([counting((20,)) + 1, np.zeros((4,), "float32")])

    assert judged(file_of({"embedding": padded})).why == ""
    assert judged(file_of({"bias": short})) is None


@pytest.mark.parametrize("kept", [2, 15, 16, 100, 9000])
def test_a_value_in_slices(kept):
    """The bytes of a value in slices are counted over all of them."""
    value = counting((60, 60)) + 1
    whole = sliced_value("w", value, [3000, 11_000])
    data = lost(whole, len(whole) - value.nbytes + 14_000 + 1 + min(kept, 200))

    assert judged(data).why == "they begin inside of 'w'"


def test_a_hole_is_doubtful_wherever_it_is():
    """A range that was never written is doubted even if it begins and ends where values do."""
    data = file_of(WEIGHTS | MOMENTS)
    end = len(data)
    contents = end - sum(each.nbytes for each in (WEIGHTS | MOMENTS).values())
    tail = judged(data, [(end - 280, end)])
    middle = judged(data, [(contents, contents + 9 * 11 * 4)])

    assert (tail.why, middle.why) == ("the file system never wrote them",) * 2
    assert (tail.touched, middle.touched) == (1, 1)
    assert f"zeros from byte {contents:,} to byte {contents + 396:,}: " in str(middle)
    assert judged(data, [(0, 8)]).why == ""  # no value is there


def test_several_holes_are_counted():
    """The sentence has the first of them, and how many more there are; a value in two of them counts once."""
    data = file_of(WEIGHTS)
    doubt = judged(data, [(len(data) - 9000, len(data) - 8000), (len(data) - 7000, len(data) - 6000)])

    assert (doubt.touched, len(doubt.runs)) == (1, 2)
    assert f"to byte {len(data) - 8000:,}, and 1 more ranges: " in str(doubt)


@pytest.mark.parametrize(("kind", "trusted"), [("ext4", True), ("zfs", False), ("nfs4", False)])
def test_holes_of_file_systems_that_write_no_zeros_are_no_evidence(kind, trusted, tmp_path, monkeypatch):
    """ZFS, and perhaps a server, leave zeros out whoever wrote them."""
    monkeypatch.setattr(module, "file_system", lambda path: kind)
    monkeypatch.setattr(module, "holes", lambda path: iter([(4096, 8192)]))
    (tmp_path / "x").write_bytes(b"\x01" * 4096 + bytes(8192) + b"\x01" * 4096)
    source = open_local(str(tmp_path / "x"), "pread").source
    runs = zero_runs(source, sampled=True)
    source.close()

    assert runs == [ZeroRun(4096, 12288, trusted)]


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_a_real_hole_in_the_middle(ending, tmp_path):
    """A part that was never written is found in a file whose both ends are there."""
    values = {"w": counting((300, 300)) + 1}
    data = (checkpoint if ending == "ckpt" else file_of)(values)
    path = tmp_path / f"net.{ending}"
    with open(path, "wb") as file:
        file.write(data[: 64 * 1024])
        file.seek(256 * 1024)
        file.write(data[256 * 1024 :])
    report, diagnosis = lazyckpt.verify(path), lazyckpt.diagnose(path)
    if not list(module.holes(str(path))):
        pytest.skip("the file system keeps no holes")

    assert (report.intact, diagnosis.healthy) == (False, False)
    assert "DOUBTFUL (zeros)" in report.summary()
    assert "zeros from byte 65,53" in str(report)
    assert "0 of 1 values are whole" in str(diagnosis)


@pytest.mark.parametrize("make", MAKERS)
def test_verify_and_doctor_doubt_a_lost_tail(make, tmp_path):
    """Both say where the zeros begin, and what to do; neither says that all is well."""
    data = make(WEIGHTS)
    path = tmp_path / f"net.{'ckpt' if make is checkpoint else 'safetensors'}"
    path.write_bytes(lost(data, len(data) - 5001))
    report, diagnosis = lazyckpt.verify(path), lazyckpt.diagnose(path)

    assert (report.intact, diagnosis.healthy) == (False, False)
    assert report.summary().partition(";")[0].endswith(": DOUBTFUL (zeros)")
    assert "the download did not finish" in str(report)
    assert "2 of 3 values are whole" in str(diagnosis)
    assert "lazyckpt convert --crc" in str(report)


def test_what_a_checksum_proves_is_not_doubted(tmp_path):
    """Values that agree with a checksum may end in zeros. Digests may have been stored after they were lost."""
    zeros = {"w": np.concatenate([counting((40, 64)) + 1, np.zeros((40, 64), "float32")])}
    checked, indexed = tmp_path / "checked.ckpt", tmp_path / "indexed.ckpt"
    checked.write_bytes(with_crc(checkpoint(zeros)))
    indexed.write_bytes(checkpoint(zeros))
    lazyckpt.build_index(indexed, digest="blake2b").close()

    assert lazyckpt.verify(checked).intact
    assert not lazyckpt.verify(indexed).intact


def test_neighbouring_holes_are_one_run(tmp_path, monkeypatch):
    """Holes with nothing but zeros between them are one run."""
    monkeypatch.setattr(module, "holes", lambda path: iter([(4096, 4096), (12288, 4096)]))
    monkeypatch.setattr(module, "file_system", lambda path: "ext4")
    (tmp_path / "x").write_bytes(b"\x01" * 4096 + bytes(12288) + b"\x01" * 4096)
    source = open_local(str(tmp_path / "x"), "pread").source
    runs = zero_runs(source, sampled=True)
    source.close()

    assert runs == [ZeroRun(4096, 16384, True)]
