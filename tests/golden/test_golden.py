"""Every golden file and every recorded call gives what the real MindSpore 2.10.0 gave, cold and warm."""

from __future__ import annotations

import json
import os
import re
import shutil

import lazyckpt
import pytest
from mindspore_results import (
    FILES,
    GOLDEN,
    allowed,
    arguments,
    facts_recorded,
    read_everything,
    recorded,
    replayed,
)

KEY = bytes(range(1, 17))
GROUPS = ("args.", "filter.", "result.", "enc.", "file.")


def every_recorded_name():
    """The golden files of which there is a record."""
    return sorted(
        file.name.removesuffix(".expected.json")
        for file in FILES.glob("*.expected.json")
    )


NAMES = [name for name in every_recorded_name() if f"file.{name}" not in allowed()]
RECORDS = {name: recorded(name) for name in NAMES}
READ = [name for name in NAMES if RECORDS[name]["outcome"] == "ok"]
REFUSED = [name for name in NAMES if RECORDS[name]["outcome"] == "raise"]


def test_the_golden_files_are_the_recorded_ones():
    """No golden file was left out of the lists below."""
    files = {file.name for file in FILES.iterdir()} - {"MANIFEST.json"}

    assert set(NAMES) == {*READ, *REFUSED}
    assert {name for name in files if not name.endswith(".expected.json")} == set(
        every_recorded_name()
    )


def test_a_recorded_call_returned_or_raised():
    """Recordings of anything else have no place in the repository."""
    calls = json.loads((GOLDEN / "oracle.json").read_text(encoding="utf-8"))["cases"]
    files = [recorded(name) for name in every_recorded_name()]

    assert {call["outcome"]["kind"] for call in calls} == {"return", "raise"}
    assert {record["outcome"] for record in files} == {"ok", "raise"}
    assert not any(record["unsafe"] for record in (*calls, *files))


@pytest.mark.parametrize("name", READ)
def test_what_mindspore_reads_is_read(name, tmp_path):
    """Names, kinds, dtypes, shapes, bytes and reprs are MindSpore's: while the index is built, and from the index."""
    path = shutil.copy(FILES / name, tmp_path)
    expected = [facts_recorded(entry) for entry in RECORDS[name]["entries"]]

    found = {
        state: read_everything(path, **arguments(RECORDS[name]))
        for state in ("cold", "warm")
    }

    assert found == {"cold": expected, "warm": expected}


@pytest.mark.parametrize("name", REFUSED)
def test_what_mindspore_refuses_is_refused(name, tmp_path):
    """Where MindSpore raises, a ValueError comes: cold and warm."""
    path = shutil.copy(FILES / name, tmp_path)

    for _ in ("cold", "warm"):
        with pytest.raises(ValueError, match=re.escape(name)):
            read_everything(path, **arguments(RECORDS[name]))


@pytest.mark.parametrize("group", GROUPS)
def test_recorded_calls_have_the_recorded_outcome(group, tmp_path):
    """Every recorded call gives MindSpore's result or exception type, but for those that are reviewed and listed."""
    failed, counted, told = replayed("replay.py", group, tmp_path)

    assert counted is not None, told
    assert int(counted[1]) > 0
    assert int(counted[2]) == len(failed)
    expected = {
        call
        for call in [*allowed(), *_recorded_as_root(tmp_path)]
        if call.startswith(group)
    }
    assert failed == expected


def _recorded_as_root(folder):
    """Calls whose outcome was recorded for a user who may read any file, if this one may not."""
    locked = folder / "locked"
    locked.touch(mode=0)
    return [] if os.access(locked, os.R_OK) else ["args.file.unreadable"]


def test_every_allowed_difference_has_a_reason():
    """A call is listed as different on purpose only with the purpose."""
    assert all(allowed().values())


def test_maps_of_any_dtype_are_read_as_what_they_are(tmp_path):
    """A map of int8 values is read as int8, where MindSpore takes any name it does not know for float64."""
    with lazyckpt.load_checkpoint(
        shutil.copy(FILES / "map_int8.ckpt", tmp_path)
    ) as checkpoint:
        (value,) = (value for value in checkpoint.values() if isinstance(value, list))

    assert [array.dtype.name for array in value] == ["int32", "int8", "int32"]


def test_an_undamaged_file_with_a_map_passes_the_crc_check(tmp_path):
    """The crc that MindSpore writes leaves maps out; so does the check."""
    with lazyckpt.load_checkpoint(
        shutil.copy(FILES / "map_crc.ckpt", tmp_path), crc_check=True
    ) as checkpoint:
        assert len(checkpoint) > 0


def test_a_file_with_a_key_and_a_checksum_is_read(tmp_path):
    """MindSpore writes the checksum in clear behind the last block, and then cannot read the file."""
    found = read_everything(shutil.copy(FILES / "enc_crc.ckpt", tmp_path), dec_key=KEY)

    assert found == [
        facts_recorded(entry) for entry in recorded("base.ckpt")["entries"]
    ]


def test_a_string_with_an_impossible_code_point_is_refused_when_it_is_looked_at(
    tmp_path,
):
    """Strings are lazy: the file opens, and the bad string is refused with its name."""
    with lazyckpt.load_checkpoint(
        shutil.copy(FILES / "str_bad_cp.ckpt", tmp_path)
    ) as checkpoint:
        (name,) = checkpoint

        with pytest.raises(lazyckpt.errors.CorruptFile, match=f"UTF-32.*{name}"):
            checkpoint[name]
