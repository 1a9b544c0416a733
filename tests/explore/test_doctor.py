"""`diagnose` says what any file is and what is wrong with it."""

from __future__ import annotations

import errno
import json
import os
import shutil

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, number, pattern, tensor_value, with_crc
from encryption import KEY, MODES, encrypted, flipped, key_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore_results import recorded
from mutated_files import GOLDEN, mutated
from other_files import FILES as OTHERS
from tracing import TracingSource, places

import lazyckpt
from lazyckpt.errors import ArgumentTypeError
from lazyckpt.explore import doctor as module
from lazyckpt.explore.doctor import diagnose
from lazyckpt.explore.doctor_report import LEVELS
from lazyckpt.sources import local


@pytest.fixture
def diagnosis(tmp_path):
    """The diagnosis of a file of these bytes."""

    def diagnosis(data, name="net.ckpt", **how):
        path = tmp_path / name
        path.write_bytes(data)
        return diagnose(path, **how)

    return diagnosis


def findings(report):
    """The (level, what) of each finding."""
    return [(finding.level, finding.what) for finding in report.findings]


def test_a_healthy_file_gets_a_short_answer(diagnosis):
    """A healthy file gets its kind, the word healthy, and the main facts."""
    report = diagnosis(checkpoint(MIXED))

    assert (report.healthy, report.findings) == (True, ())
    assert str(report).splitlines()[0].endswith("net.ckpt: a MindSpore checkpoint; healthy")
    assert len(str(report).splitlines()) == 5


def test_the_facts_of_a_checkpoint(diagnosis):
    """The facts are counted in one scan, as plain data."""
    report = diagnosis(with_crc(checkpoint(MIXED)))

    assert json.loads(json.dumps(report.to_dict()))["facts"] == dict(report.facts)
    assert report.facts["parameters"] == 8
    assert report.facts["values"] == "4.0 KiB (4,111 bytes)"
    assert report.facts["kinds"] == {"tensor": 5, "string": 2, "map": 1}
    assert report.facts["dtypes"] == {"Float32": 2, "Float16": 1, "Int64": 1, "Bool": 1}
    assert report.facts["crc"].startswith("0x")


@pytest.mark.parametrize("align", [1, 64])
def test_alignment_is_counted(diagnosis, tmp_path, align):
    """Alignment is counted for tensors that have bytes."""
    report = diagnosis(checkpoint(LAYERS))
    with lazyckpt.load_checkpoint(tmp_path / "net.ckpt") as opened:
        opened.save(tmp_path / "aligned.ckpt", align=align)
        offsets = [entry.extents[0].offset for entry in map(opened.entry, opened)]
    counts = [sum(offset % size == 0 for offset in offsets) for size in (4, 16, 64)]
    if align == 64:
        report, counts = diagnose(tmp_path / "aligned.ckpt"), [5, 5, 5]

    assert report.facts[
        "aligned"
    ] == "of 5 tensors {} at a multiple of 4, {} at a multiple of 16, {} at a multiple of 64 bytes".format(*counts)


@pytest.mark.parametrize(("what", "data", "advice"), OTHERS, ids=[what for what, _, _ in OTHERS])
def test_other_kinds_of_file_are_recognized(diagnosis, what, data, advice):
    """Other files are recognized by their first bytes, with advice; only safetensors are also checkpoints."""
    report = diagnosis(data)

    assert what in report.what
    assert not report.healthy
    if what != "safetensors file":
        assert (len(report.findings), report.findings[0].level) == (1, "fatal")
        assert advice in report.findings[0].advice


def test_things_that_are_no_files(tmp_path):
    """A folder, a pipe (not opened), a dangling link, a missing file and an impossible name are recognized."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    whats = [diagnose(tmp_path / name).what for name in ("", "pipe", "link", "none")]

    assert whats == ["a folder", "a pipe", "a link that leads nowhere", "nothing: there is no such file"]
    assert diagnose("a\0b").findings[0].level == "fatal"
    assert diagnose("/dev/null").what == "a device"


def test_an_empty_file(diagnosis):
    """A file of 0 bytes is called empty."""
    assert (diagnosis(b"").what, findings(diagnosis(b""))) == ("an empty file", [("fatal", "it has 0 bytes")])


def test_a_file_that_may_not_be_read(diagnosis, monkeypatch):
    """An unreadable file gets a finding with advice."""
    report = diagnosis(checkpoint(LAYERS))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(local.os, "open", refuse)
    report = diagnose(report.path)
    monkeypatch.undo()

    assert [level for level, _ in findings(report)] == ["fatal"]
    assert "Permission denied" in report.findings[0].what
    assert "chmod" in report.findings[0].advice


def test_a_file_that_no_descriptor_is_left_for(diagnosis, monkeypatch):
    """The finding names the limit, and does not blame the file or its permissions."""
    report = diagnosis(checkpoint(LAYERS))

    def refuse(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(local.os, "open", refuse)
    report = diagnose(report.path)
    monkeypatch.undo()

    assert "Too many open files" in report.findings[0].what
    assert "ulimit -n" in report.findings[0].advice
    assert "chmod" not in report.findings[0].advice


@pytest.mark.parametrize("cut", [1, 20, 3400, 4000])
def test_where_a_cut_file_breaks_off(diagnosis, cut):
    """The report names the last whole parameter, and how many bytes of the next one are missing."""
    data = checkpoint(MIXED)
    ends = np.cumsum([len(checkpoint({name: value})) for name, value in MIXED.items()])
    names = list(MIXED)
    report = diagnosis(data[: len(data) - cut])
    whole = int((ends <= len(data) - cut).sum())

    assert report.facts["last whole parameter"] == ("", *names)[whole]
    assert report.facts["parameters"] == whole
    assert report.facts["bytes missing"] == f"at least {ends[whole] - (len(data) - cut):,}"
    assert "download the file again" in report.findings[0].advice


def test_damage_in_the_middle_is_located(diagnosis):
    """A damaged byte is located, with what precedes it."""
    data = bytearray(checkpoint(LAYERS))
    place = len(checkpoint({"conv1.weight": LAYERS["conv1.weight"]}))
    data[place] = 7
    report = diagnosis(bytes(data))

    assert (report.facts["last whole parameter"], report.facts["parameters"]) == ("conv1.weight", 1)
    assert report.facts["broken at"] == place


def test_oddities_are_reported_by_level(diagnosis):
    """The most serious findings come first, each with an example."""
    data = (
        array_value("w", np.ones(2))
        + tensor_value("q", [2], "Float8E4M3FN", b"ab")
        + array_value("x" * 2000, np.ones(1))
        + array_value("w", np.zeros(2))
        + array_value("e.__param_key__1", np.ones(1))
        + number(9, 1)
        + array_value("last", np.ones(1))
    )
    report = diagnosis(data)

    assert [level for level, _ in findings(report)] == ["error", "error", "warning", "note", "note"]
    assert [what.partition(":")[0] for _, what in findings(report)] == [
        "a parameter cannot be loaded",
        "a name has more than 1,024 characters",
        "a value is replaced by a later one of the same name",
        "a name is shortened when it is loaded, as MindSpore does",
        "2 bytes between parameters belong to none",
    ]
    assert sorted(LEVELS) == sorted({"fatal", *(level for level, _ in findings(report))})


def test_a_name_that_load_checkpoint_refuses(diagnosis):
    """A name with the wrong ending is an error."""
    assert [level for level, _ in findings(diagnosis(checkpoint(LAYERS), "net.bin"))] == ["error"]
    assert diagnosis(checkpoint(LAYERS), "net.ckpt").healthy


def test_a_file_without_parameters(diagnosis):
    """A protobuf message without parameters is reported."""
    assert findings(diagnosis(number(9, 1) * 3)) == [("fatal", "there is no parameter in it")]


def test_the_index_is_looked_at(diagnosis, tmp_path):
    """The index is absent, fresh, with digests, stale, or damaged."""
    data = checkpoint(LAYERS)
    absent = diagnosis(data).facts["index"]
    lazyckpt.build_index(tmp_path / "net.ckpt", digest="blake2b").close()
    fresh = diagnose(tmp_path / "net.ckpt").facts["index"]
    stale = diagnosis(data + array_value("more", np.ones(1)))
    (tmp_path / "net.ckpt.lmdb").write_bytes(pattern(9000))
    damaged = diagnosis(data)

    assert absent.startswith("none yet")
    assert [text.rpartition(" (")[2] for text in fresh] == ["fresh, with digests)"]
    assert [report.findings[0].what.split(" is ")[1].split(":")[0] for report in (stale, damaged)] == [
        "stale",
        "damaged",
    ]
    assert stale.healthy
    assert damaged.healthy


def test_nothing_is_written(diagnosis, tmp_path, cache_folder):
    """Nothing is written beside the file or in the cache."""
    diagnosis(checkpoint(MIXED), values=True)

    assert [path.name for path in tmp_path.iterdir()] == ["net.ckpt"]
    assert not cache_folder.exists()


def test_no_payload_is_read_without_values(monkeypatch, tmp_path):
    """Only headers and the file's ends are read (of a file that does not end in zeros); with `values` all of it."""
    data = checkpoint({"first": np.zeros(3000), **MIXED, "last": np.ones(3000)})
    (tmp_path / "net.ckpt").write_bytes(data)
    payloads = places([extent for entry in _entries(data) for extent in entry.all_extents])
    opened = module.open_source
    sources = []

    def traced(*arguments, **how):
        found = opened(*arguments, **how)
        found.source.close()
        sources.append(TracingSource(data))
        return found._replace(source=sources[-1])

    monkeypatch.setattr(module, "open_source", traced)
    diagnose(tmp_path / "net.ckpt")
    diagnose(tmp_path / "net.ckpt", values=True)
    floats = places([entry.extents[0] for entry in _entries(data) if entry.name in ("first", "fc.weight")])

    inside = payloads - {*range(512), *range(len(data) - 17, len(data))}

    assert sources[0].looked_at() & inside == set()
    assert floats <= sources[1].looked_at()


def _entries(data):
    from lazyckpt.formats import scan
    from lazyckpt.sources.base import BytesSource

    return list(scan(BytesSource(data), "ckpt"))


def test_values_that_are_no_numbers_are_found_on_request(diagnosis):
    """NaNs and infinities are counted, and progress ends at the total."""
    values = {"ok": np.ones(4), "bad": np.array([np.nan, np.inf, -np.inf, 1, np.nan], "f2"), "n": np.ones(3, "i4")}
    heard = []
    report = diagnosis(checkpoint(values), values=True, progress=lambda done, total: heard.append((done, total)))

    assert diagnosis(checkpoint(values)).healthy
    assert findings(report) == [("warning", "a parameter holds NaNs or infinities: 'bad' (2 NaN, 2 infinite of 5)")]
    assert heard[-1] == (54, 54)


@pytest.mark.parametrize("mode", MODES)
def test_encrypted_files(diagnosis, mode):
    """Without the key blocks are counted; with it contents are examined; a wrong key is reported."""
    data = encrypted(checkpoint(MIXED), mode, block=1000)
    locked, opened, wrong = (
        diagnosis(data),
        diagnosis(data, key=KEY, values=True),
        diagnosis(data, key=key_of(16)[::-1]),
    )

    assert (locked.healthy, locked.facts["blocks"], locked.facts["encryption"]) == (True, 5, mode)
    assert "parameters" not in locked.facts
    assert (opened.healthy, opened.facts["parameters"]) == (True, 8)
    assert not wrong.healthy
    assert "key" in wrong.findings[0].what
    assert diagnosis(data, key=b"short").findings[0].level == "fatal"
    assert diagnosis(data[:-1]).findings[0].what.startswith("the file is cut in encrypted block 4")


@pytest.mark.parametrize("block", [0, 3])
def test_a_damaged_block_is_located(diagnosis, block):
    """A damaged block is located, and the file is still recognized."""
    report = diagnosis(flipped(encrypted(checkpoint(MIXED), block=1000), 1048 * block + 100), key=KEY)

    assert report.what == "a MindSpore checkpoint, encrypted with AES-GCM"
    assert findings(report)[0][1].startswith(f"encrypted block {block} of 5 does not authenticate")
    assert "lazyckpt verify" in report.findings[0].advice


def test_a_key_for_a_plain_file_is_a_note(diagnosis):
    """A key for a plain file is a note, and the file is still healthy."""
    report = diagnosis(checkpoint(LAYERS), key=KEY)

    assert (report.healthy, [level for level, _ in findings(report)]) == (True, ["note"])


def test_the_key_is_nowhere(diagnosis):
    """The key does not appear in the report, however it is shown."""
    report = diagnosis(encrypted(checkpoint(LAYERS)), key=KEY)
    shown = str(report) + repr(report) + report._repr_html_() + json.dumps(report.to_dict())

    assert KEY.hex() not in shown
    assert repr(KEY) not in shown


def test_listings_are_looked_at(diagnosis, tmp_path):
    """For a listing the number of files and the missing ones are reported."""
    diagnosis(checkpoint(LAYERS))
    with lazyckpt.load_checkpoint(tmp_path / "net.ckpt") as opened:
        opened.save(tmp_path / "set.safetensors", max_shard_size=1000)
    listing = tmp_path / "set.safetensors.index.json"
    whole = diagnose(listing)
    os.remove(min(tmp_path.glob("set-*.safetensors")))

    assert (whole.healthy, whole.facts["parts"] > 1) == (True, True)
    assert diagnose(listing).findings[0].what.startswith("1 of its files are missing: set-00001")
    assert diagnosis(b"{", "broken.ckpt.index.json").findings[0].what.startswith("the listing is not valid JSON")


def test_what_is_no_path_is_a_mistake():
    """An argument that is not a path raises; nothing else does."""
    for wrong in (None, 3, b"net.ckpt"):
        with pytest.raises(ArgumentTypeError):
            diagnose(wrong)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_it_agrees_with_loading(path, tmp_path):
    """Files that load are healthy or odd, others are sick, and every file gets a report."""
    shutil.copy(path, tmp_path)
    load = recorded(path.name)["load"]
    key = bytes.fromhex(load["dec_key"]) if load.get("dec_key") else None
    reports = [diagnose(tmp_path / path.name, given, values=True) for given in {key, None, KEY}]
    report = diagnose(tmp_path / path.name, key)
    try:
        arguments = {"dec_key": key, "dec_mode": load.get("dec_mode", "AES-GCM")} if key else {}
        lazyckpt.load_checkpoint(tmp_path / path.name, format=path.suffix[1:], **arguments, index="memory").close()
        loads = True
    except ValueError:
        loads = False

    assert all(str(one) and one._repr_html_() and json.dumps(one.to_dict()) for one in reports)
    assert any(finding.level in ("fatal", "error") for finding in report.findings) is not loads


@settings(max_examples=6 * settings.default.max_examples)
@given(mutated(), st.sampled_from([None, KEY, key_of(32), b"x"]), st.booleans())
def test_nothing_is_raised_for_any_file(tmp_path_factory, data, key, values):
    """No bytes raise an error, with or without a key."""
    path = tmp_path_factory.getbasetemp() / "any.ckpt"
    path.write_bytes(data)
    report = diagnose(path, key, values=values)

    assert str(report)
    assert report._repr_html_()
    assert json.dumps(report.to_dict())
