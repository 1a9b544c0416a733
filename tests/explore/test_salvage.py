"""`salvage`: the values of a damaged file that are whole, with the right bytes, and no others."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from checkpoints import array_value, checkpoint, counting, pattern, sliced_value, tensor_value
from encryption import KEY, MAGICS, MODES, encrypted, flipped
from hypothesis import given
from hypothesis import strategies as st
from mutated_files import mutated
from other_files import LFS
from safetensors_files import file_of

import lazyckpt
from lazyckpt.errors import (
    ArgumentTypeError,
    CorruptFile,
    EncryptedFile,
    FileInTheWay,
    LazyCkptError,
    MissingFile,
    NothingLoaded,
    WrongFormat,
    WrongKey,
)
from lazyckpt.formats.ckpt import scan
from lazyckpt.loading import open_checkpoint
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.keys import OWN_MODE

VALUES = {f"layer{number}.w": counting((20 + number, 13)) + number + 1 for number in range(5)}
CKPT, SAFETENSORS = checkpoint(VALUES), file_of(VALUES)
HEADER = len(SAFETENSORS) - sum(value.nbytes for value in VALUES.values())
ENDS = {
    "ckpt": [entry.stop for entry in scan(BytesSource(CKPT))],
    "safetensors": (HEADER + np.cumsum([value.nbytes for value in VALUES.values()])).tolist(),
}
DATA = {"ckpt": CKPT, "safetensors": SAFETENSORS}


@pytest.fixture
def write(tmp_path):
    """Write a file; returns its path."""

    def write(data, name="net.ckpt"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def whole(found):
    """The number of values, each of which is compared with the one that was saved."""
    for name, value in found.checkpoint.items():
        np.testing.assert_array_equal(value.asnumpy(), VALUES[name])
    return len(found.checkpoint)


@pytest.mark.parametrize("ending", DATA)
@given(kept=st.integers(0, len(CKPT)))
def test_what_stands_before_a_cut_is_whole(ending, kept, tmp_path_factory):
    """Of a cut file the values before the cut are there, and no others."""
    path = tmp_path_factory.getbasetemp() / f"cut.{ending}"
    path.write_bytes(DATA[ending][:kept])
    count = sum(end <= kept for end in ENDS[ending]) if ending == "ckpt" or kept >= HEADER else 0
    if not count:
        with pytest.raises(NothingLoaded, match="no value is whole"):
            lazyckpt.salvage(path)
        return
    with lazyckpt.salvage(path) as found:
        assert (whole(found), found.is_complete) == (count, kept in ENDS[ending] if ending == "ckpt" else count == 5)
        if ending == "safetensors":
            assert found.lost == tuple(VALUES)[count:]


@pytest.mark.parametrize("ending", DATA)
@given(kept=st.integers(0, len(CKPT) - 1300))
def test_what_stands_before_zeros_is_whole(ending, kept, tmp_path_factory):
    """Of a file whose tail is zeros, only values before these are there; unless the last one explains them."""
    data = DATA[ending]
    path = tmp_path_factory.getbasetemp() / f"zeros.{ending}"
    path.write_bytes(data[:kept] + bytes(len(data) - kept))
    begin = len(data[:kept].rstrip(b"\0"))
    try:
        with lazyckpt.salvage(path) as found:
            if not found.is_complete:
                assert whole(found) == sum(end <= kept or end - begin < 4 for end in ENDS[ending])
                return
    except NothingLoaded:
        assert kept < max(ENDS[ending][0], HEADER if ending == "safetensors" else 0)
        return
    starts = dict(zip([HEADER, *ENDS[ending]], VALUES, strict=False))
    start = max(start for start in starts if start <= kept)
    elements = -(-(begin - start) // 4)

    assert ending == "safetensors"  # a header follows each value of a .ckpt but the last
    assert elements <= 0 or elements % 13 == 0 or (VALUES[starts[start]].size - elements) * 4 < 64


def test_the_report_counts(write):
    """The report says how many of how many values are whole, which are lost, and why."""
    with lazyckpt.salvage(write(SAFETENSORS[:-1], "net.safetensors")) as found:
        safetensors = str(found)
    with lazyckpt.salvage(write(CKPT[:-1])) as found:
        ckpt = str(found)
    with lazyckpt.salvage(write(CKPT + b"\x93")) as found:
        after = str(found)
    with lazyckpt.salvage(write(CKPT)) as found:
        everything = str(found)

    assert safetensors.startswith("4 of 5 values are whole; lost: 'layer4.w'; the header announces ")
    assert ckpt.startswith("4 of at least 5 values are whole; lost: 'layer4.w'; a field of 1,277 bytes does not fit: ")
    assert after.startswith("5 values are whole, and others may be lost; ")
    assert everything == "all 5 values are whole"


def test_a_value_that_cannot_be_loaded_is_lost(write):
    """Refused values are no damage to the others."""
    with lazyckpt.salvage(write(CKPT + tensor_value("q", [2], "Float9", b"ab"))) as found:
        assert (whole(found), found.lost, found.is_complete) == (5, ("q",), False)


def test_the_last_value_of_a_name_counts(write):
    """If it is lost, the earlier one does not stand in for it; slices before the damage are no value."""
    twice = CKPT + array_value("layer0.w", counting((500,)))
    sliced = CKPT + sliced_value("s", counting((100,)), [160, 80])
    with lazyckpt.salvage(write(twice[:-9])) as found:
        first = found.lost, whole(found)
    with lazyckpt.salvage(write(sliced[:-9])) as found:
        second = found.lost, whole(found)

    assert first == (("layer0.w",), 4)
    assert second == (("s",), 5)


def test_zeros_that_the_values_explain_are_kept(write):
    """Moments of zeros at the end of a file, or before its damage, are values."""
    values = {"a": counting((5, 5)) + 1, "m": np.zeros((40, 40), "float32"), "v": np.zeros((40, 40), "float32")}
    with lazyckpt.salvage(write(checkpoint(values))) as found:
        complete = found.is_complete
    with lazyckpt.salvage(write(checkpoint(values)[:-7])) as found:
        names = list(found.checkpoint)

    assert (complete, names) == (True, ["a", "m"])


@pytest.mark.parametrize("mode", MODES)
def test_encrypted_files(mode, write):
    """Values in whole blocks are read, and those of others are lost."""
    path = write(encrypted(CKPT, mode, block=1000)[:-1300])
    with lazyckpt.salvage(path, KEY) as found:
        count = whole(found)

    assert count == sum(end <= 4000 for end in ENDS["ckpt"])
    with pytest.raises(EncryptedFile):
        lazyckpt.salvage(path)
    with pytest.raises(WrongKey):
        lazyckpt.salvage(path, bytes(16))


def test_a_damaged_block_loses_the_values_in_it(write):
    """Values before and after a block that does not authenticate are whole, as long as headers lead to them."""
    large = {"a": VALUES["layer0.w"], "b": np.frombuffer(pattern(9000), "u1"), "c": VALUES["layer1.w"]}
    path = write(flipped(encrypted(checkpoint(large), block=2000), 2 * 2048 + 60))
    with lazyckpt.salvage(path, KEY) as found:
        assert (list(found.checkpoint), found.lost) == (["a", "c"], ("b",))
        np.testing.assert_array_equal(found.checkpoint["c"].asnumpy(), large["c"])


FIRST, SECOND = "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"


@pytest.fixture
def listing(tmp_path):
    """Write two parts, and a listing of these with some names more."""

    def make(**more):
        names = list(VALUES)
        homes = dict.fromkeys(names[:2], FIRST) | dict.fromkeys(names[2:], SECOND)
        for part in (FIRST, SECOND):
            mine = {name: VALUES[name] for name, home in homes.items() if home == part}
            (tmp_path / part).write_bytes(file_of(mine))
        path = tmp_path / "m.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": homes | more}))
        return path

    return make


def test_the_parts_of_a_set(listing, tmp_path):
    """The whole values of all parts are one checkpoint; those of a missing or foreign part are lost."""
    path = listing(ghost=FIRST)
    with lazyckpt.salvage(path) as found:
        ghost = whole(found), found.lost, found.faults
    (tmp_path / SECOND).write_bytes((tmp_path / SECOND).read_bytes()[:-9])
    with lazyckpt.salvage(path) as found, lazyckpt.salvage(tmp_path) as folder:
        cut = whole(found), sorted(found.lost), whole(folder)
    (tmp_path / SECOND).write_bytes(LFS)
    with lazyckpt.salvage(path) as found:
        pointer = whole(found), found.faults
    (tmp_path / FIRST).unlink()

    assert ghost == (5, ("ghost",), ("the others are in no part",))
    assert cut == (4, ["ghost", "layer4.w"], 4)
    assert (pointer[0], pointer[1][0].partition(",")[0]) == (2, f"{SECOND}: this is a Git LFS pointer")
    with pytest.raises(NothingLoaded):
        lazyckpt.salvage(path)


def test_a_name_in_two_parts(listing, tmp_path):
    """The listing decides; without one, nobody can."""
    path = listing()
    (tmp_path / SECOND).write_bytes(
        file_of({**{name: VALUES[name] for name in list(VALUES)[2:]}, "layer0.w": counting((3,))})
    )
    with lazyckpt.salvage(path) as found:
        count, faults = whole(found), found.faults
    path.unlink()

    assert (count, faults) == (5, ("several files have 'layer0.w'",))
    with pytest.raises(CorruptFile, match=r"several files have 'layer0\.w': give one of them"):
        lazyckpt.salvage(tmp_path)


def test_it_never_replaces_its_own_file(write, tmp_path):
    """Saving over the damaged file is refused, even if all that is whole is saved; unless it is asked for."""
    path = write(CKPT[:-1])
    with lazyckpt.salvage(path) as found:
        with pytest.raises(FileInTheWay):
            found.checkpoint.save(path)
        kept = path.read_bytes()
        found.checkpoint.save(tmp_path / "new.ckpt")
        found.checkpoint.save(path, in_place=True)

    assert kept == CKPT[:-1]
    assert lazyckpt.verify(tmp_path / "new.ckpt").intact
    assert len(lazyckpt.load_checkpoint(path)) == 4


@pytest.mark.parametrize(
    ("data", "error"), [(LFS, WrongFormat), (b"", NothingLoaded), (bytes(500), NothingLoaded), (None, MissingFile)]
)
def test_nothing_to_save(data, error, write, tmp_path):
    """Files of which nothing is whole are errors, and stay closed."""
    path = tmp_path / "none.ckpt" if data is None else write(data)
    with pytest.raises(error):
        lazyckpt.salvage(path)


@given(mutated(), st.sampled_from([None, KEY]), st.integers(0, 200))
def test_only_its_own_errors_are_raised(tmp_path_factory, data, key, zeros):
    """Any bytes, with zeros at their end, give a salvage or an error; a complete one is a file that is loaded whole."""
    path = tmp_path_factory.getbasetemp() / "any.ckpt"
    path.write_bytes(data + bytes(zeros))
    try:
        with lazyckpt.salvage(path, key) as found:
            names, complete = list(found.checkpoint), found.is_complete
            assert str(found)
    except LazyCkptError:
        return
    if complete:
        with open_checkpoint(str(path), key if path.read_bytes()[:4] in MAGICS.values() else None, OWN_MODE) as opened:
            assert sorted(opened.index) == sorted(names)


def test_it_writes_nothing(write, tmp_path, cache_folder):
    """No index is left beside the file."""
    with lazyckpt.salvage(write(CKPT[:-1])):
        pass

    assert os.listdir(tmp_path) == ["net.ckpt"]
    assert not cache_folder.exists()


def test_what_is_no_path_is_a_mistake():
    """An argument that is not a path raises."""
    with pytest.raises(ArgumentTypeError):
        lazyckpt.salvage(3)


@pytest.mark.parametrize("ending", DATA)
def test_the_command(ending, write, run, tmp_path, monkeypatch):
    """`extract --whole` writes what is whole, says how much that is, and exits with 0; 1 if that is nothing."""
    monkeypatch.chdir(tmp_path)
    write(DATA[ending][:-1], f"net.{ending}")
    write(bytes(3000), "zeros.ckpt")
    code, printed, said = run("extract", "--whole", f"net.{ending}", "--out", "new.ckpt")
    again = run("extract", "--whole", f"net.{ending}", "--out", "new.ckpt")
    own = run("extract", "--whole", f"net.{ending}", "--out", f"net.{ending}", "--force")
    some = run("extract", "--whole", f"net.{ending}", "layer[01].*", "--out", "some.safetensors")
    nothing = run("extract", "--whole", "zeros.ckpt", "--out", "nothing.ckpt")
    lost = run("extract", "--whole", f"net.{ending}", "layer4.w", "--out", "nothing.ckpt")

    assert (code, [each[0] for each in (again, own, some, nothing, lost)]) == (0, [1, 1, 0, 1, 1])
    assert "4 parameters" in printed
    assert said.startswith("4 of ")
    assert "no value is whole" in nothing[2]
    assert "'layer4.w' cannot be saved: 4 of " in lost[2]
    assert sorted(lazyckpt.load_checkpoint("new.ckpt")) == list(VALUES)[:4]
    assert sorted(lazyckpt.load_checkpoint("some.safetensors", format="safetensors")) == list(VALUES)[:2]
    assert not os.path.exists("nothing.ckpt")


def test_without_names_the_command_needs_the_option(write, run):
    """`extract` alone has nothing to do."""
    code, _, said = run("extract", str(write(CKPT)), "--out", "x.ckpt")

    assert (code, "--whole" in said) == (2, True)
