"""`verify` checks all that can be checked in a file, and says what cannot."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, number, pattern, tensor_value, with_crc
from encryption import CBC_MODES, KEY, MODES, encrypted, flipped, key_of, passing_key
from forging import forged, resummed
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore_results import FILES, recorded
from mutated_files import GOLDEN, mutated

import lazyckpt
from lazyckpt.errors import ArgumentTypeError
from lazyckpt.explore.verify import verify
from lazyckpt.index.schema import FACTS

LARGE = {f"w{n}": np.frombuffer(pattern(40_000 + 8 * n), "u1") for n in range(5)}


@pytest.fixture
def write(tmp_path):
    """Writes a file, keeping the time of a replaced one; returns its path."""

    def write(data, name="net.ckpt"):
        path = tmp_path / name
        status = path.stat() if path.exists() else None
        path.write_bytes(data)
        if status is not None:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return path

    return write


def outcomes(report):
    """The outcome of each check."""
    return {check.name: check.outcome for check in report.checks}


def detail(report, name):
    """The detail of a check."""
    return next(check.detail for check in report.checks if check.name == name)


def test_a_file_with_nothing_to_check_against_is_said_to_be_so(write):
    """The report says that headers are sound and every byte is readable, and that more cannot be checked."""
    report = verify(write(checkpoint(MIXED)))

    assert outcomes(report) == {"headers": "passed", "gaps": "passed", "index": "unchecked", "contents": "unchecked"}
    assert report.intact
    assert "as far as it can be checked" in report.summary()
    assert "lazyckpt index --digest" in detail(report, "contents")


def test_the_checksum_is_compared(write):
    """The file's checksum is compared with its bytes."""
    body = checkpoint(LAYERS)
    good, bad = (verify(write(with_crc(body, crc))) for crc in (None, 5))

    assert (outcomes(good)["crc"], good.intact, "contents" in outcomes(good)) == ("passed", True, False)
    assert (outcomes(bad)["crc"], bad.intact) == ("failed", False)
    assert detail(bad, "crc").startswith("the file says 0x00000005, its bytes give 0x")


def test_digests_are_compared(write):
    """Every value's digest is compared with the indexed one, and mismatches are named."""
    data = checkpoint({**LARGE, **MIXED, "last": np.zeros(2000)})
    path = write(data)
    index = lazyckpt.build_index(path, digest="blake2b")
    places = [index[name].all_extents[0].offset for name in ("w3", "table")]
    index.close()
    good = verify(path)
    for place in places:
        data = flipped(data, place)
    bad = verify(write(data), workers=3)

    assert outcomes(good) == {"headers": "passed", "gaps": "passed", "index": "passed", "digests": "passed"}
    assert (outcomes(bad)["digests"], bad.intact) == ("failed", False)
    assert detail(bad, "digests").startswith("2 of 14 values are not those that were indexed: 'w3' (")
    assert "'table'" in detail(bad, "digests")


def test_a_checksum_and_digests_are_compared_together(write):
    """Damage shows in the checksum and in the digests."""
    data = with_crc(checkpoint(LARGE))
    path = write(data)
    lazyckpt.build_index(path, digest="blake2b").close()
    good, bad = verify(path), verify(write(flipped(data, 100_000)))

    assert (outcomes(good)["crc"], outcomes(good)["digests"]) == ("passed", "passed")
    assert (outcomes(bad)["crc"], outcomes(bad)["digests"]) == ("failed", "failed")


def test_the_index_is_held_against_the_file(write):
    """An index of another file with the same fingerprint is detected."""
    path = write(checkpoint(LARGE))
    lazyckpt.build_index(path).close()
    good = verify(path)
    renamed = checkpoint(LARGE).replace(b"\x02w2", b"\x02v2")

    bad = verify(write(renamed))

    assert (outcomes(good)["index"], outcomes(bad)["index"]) == ("passed", "failed")
    assert "'v2'" in detail(bad, "index")


def test_a_damaged_index_is_no_fault_of_the_file(write, tmp_path):
    """A damaged index is reported, its digests are ignored, and the rest is checked."""
    path = write(with_crc(checkpoint(LARGE)))
    lazyckpt.build_index(path, digest="blake2b").close()
    sidecar = tmp_path / "net.ckpt.lmdb"
    data = sidecar.read_bytes()
    place = data.index(b"w3", data.index(b"w2") + 1)
    sidecar.write_bytes(data[: place - 1] + b"\xff\xff\xff" + data[place + 2 :])
    resummed(sidecar)
    report = verify(path)

    assert outcomes(report)["index"] == "failed"
    assert (outcomes(report)["headers"], outcomes(report)["crc"]) == ("passed", "passed")
    assert "digests" not in outcomes(report)


@pytest.mark.parametrize("place", [0, -1, 9000, "older"], ids=["meta page", "tail", "free space", "another version's"])
def test_an_index_that_is_damaged_is_called_so(place, write, tmp_path):
    """Damage anywhere in an index is reported, even if no load would notice it; another version counts as no index."""
    path = write(with_crc(checkpoint(LARGE)))
    lazyckpt.build_index(path).close()
    sidecar = tmp_path / "net.ckpt.lmdb"
    data = bytearray(sidecar.read_bytes())
    sidecar.chmod(0o600)
    if place == "older":
        with forged(sidecar) as transaction:
            facts = transaction.get(FACTS)
            transaction.put(FACTS, facts[:8] + b"\x07" + facts[9:])
    else:
        data[place] ^= 1
        sidecar.write_bytes(data)
    report = verify(path)

    assert outcomes(report)["index"] == ("unchecked" if place == "older" else "failed")
    assert ("damaged" in detail(report, "index")) is (place != "older")
    assert (outcomes(report)["headers"], outcomes(report)["crc"]) == ("passed", "passed")


def test_values_that_a_later_one_replaces_are_counted(write):
    """Replaced values are not damage, with an index or without."""
    path = write(checkpoint(LAYERS) + array_value("step", np.array(5)) + array_value("x", np.ones(1)))
    lazyckpt.build_index(path).close()
    report = verify(path)

    assert report.intact
    assert outcomes(report)["index"] == "passed"
    assert detail(report, "gaps").endswith("1 are replaced by later ones")


@pytest.mark.parametrize("place", ["between", "at the end"])
def test_what_belongs_to_no_parameter_is_found(write, place):
    """Foreign bytes are found between parameters and after the last one."""
    odd = number(9, 300)
    parts = [checkpoint(LAYERS), odd, array_value("x", np.ones(1))] if place == "between" else [checkpoint(LAYERS), odd]
    report = verify(write(with_crc(b"".join(parts))))

    assert (outcomes(report)["gaps"], report.intact) == ("failed", False)
    assert detail(report, "gaps").startswith("3 bytes belong to no parameter")


def test_refused_parameters_fail(write):
    """Refused parameters fail with the reason."""
    report = verify(write(tensor_value("q", [2], "Float8E4M3FN", b"ab") + checkpoint(LAYERS)))

    assert outcomes(report)["headers"] == "failed"
    assert "1 of 6 cannot be loaded: 'q' (the dtype" in detail(report, "headers")


@pytest.mark.parametrize("mode", MODES)
def test_encrypted_files_are_checked_with_their_key(write, mode):
    """Tags or padding of all blocks are checked, digests through decryption; a CBC file's contents stay unchecked."""
    path = write(encrypted(checkpoint(MIXED), mode, block=500))
    plain = verify(path, KEY)
    lazyckpt.build_index(path, KEY, mode, digest="blake2b").close()
    digested = verify(path, KEY)
    tagged = mode == "AES-GCM"

    assert plain.intact
    assert outcomes(plain)["blocks"] == outcomes(plain)["headers"] == outcomes(plain)["gaps"] == "passed"
    assert outcomes(plain).get("contents") == (None if tagged else "unchecked")
    assert (outcomes(digested)["index"], outcomes(digested)["digests"]) == ("passed", "passed")


def test_every_damaged_block_is_named(write):
    """Every damaged block is named, not only the first."""
    data = encrypted(checkpoint(LARGE), block=20_000)
    for place in (30_000, 150_000):
        data = flipped(data, place)
    report = verify(write(data), KEY)

    assert [(check.name, check.outcome) for check in report.checks] == [("blocks", "failed")]
    assert detail(report, "blocks").startswith("2 of 11 do not authenticate: 1 (at byte 20,096), 7 (at byte")


def test_damage_of_a_cbc_file_shows_in_digests_alone(write):
    """CBC authenticates nothing, so damage shows only in digests."""
    data = encrypted(checkpoint(LARGE), "AES-CBC", block=20_000)
    path = write(data)
    lazyckpt.build_index(path, KEY, "AES-CBC", digest="blake2b").close()
    damaged = write(flipped(data, 60_000))

    assert outcomes(verify(damaged, KEY)) == {
        "blocks": "passed", "headers": "passed", "gaps": "passed", "index": "passed", "digests": "failed",
    }  # fmt: skip


@pytest.mark.parametrize("mode", CBC_MODES)
def test_a_wrong_key_whose_padding_passes_is_no_damage(mode, write):
    """A wrong key is reported for the whole file, as any other; nothing is checked with it."""
    file = encrypted(checkpoint(MIXED), mode)
    report = verify(write(file), passing_key(file, mode))

    assert [(check.name, check.outcome) for check in report.checks] == [("opened", "failed")]
    assert report.checks[0].detail.startswith("the key does not fit (with it the file does not begin")


def test_what_cannot_be_opened_is_reported(write, tmp_path):
    """A missing file, a missing or wrong key and other formats are reported without an exception."""
    secret = write(encrypted(checkpoint(MIXED)))
    reports = [
        verify(tmp_path / "none.ckpt"),
        verify(secret),
        verify(secret, key_of(32)),
        verify(secret, b"short"),
        verify(tmp_path),
        verify("a\0b"),
    ]

    assert [report.intact for report in reports] == [False] * 6
    assert [outcomes(report) for report in reports[:2]] == [{"opened": "failed"}] * 2
    assert "cannot be checked" in reports[1].summary()
    assert outcomes(verify(write(b"")))["headers"] == "failed"
    assert "text file" in detail(verify(write(b"this is a text\n" * 9, "text.ckpt")), "headers")
    with pytest.raises(ArgumentTypeError):
        verify(3)


def test_a_key_is_not_used_for_a_plain_file(write):
    """Many files can be checked with one key, including plain ones."""
    assert verify(write(checkpoint(LAYERS)), KEY).intact


def test_progress_never_goes_back_and_ends_at_the_whole(write):
    """Progress never goes back and ends at the total, whatever passes are needed."""
    path = write(with_crc(checkpoint(LARGE)))
    lazyckpt.build_index(path, digest="blake2b").close()
    heard = []
    verify(path, workers=4, progress=lambda done, total: heard.append((done, total)))

    assert heard == sorted(heard)
    assert heard[-1] == (2 * path.stat().st_size,) * 2


def test_nothing_is_written(write, tmp_path, cache_folder):
    """Nothing is written beside the file or in the cache."""
    verify(write(checkpoint(MIXED)))

    assert [path.name for path in tmp_path.iterdir()] == ["net.ckpt"]
    assert not cache_folder.exists()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_what_does_not_load_is_not_intact(path, tmp_path):
    """Every recorded file gets a report, and files that pass can be loaded."""
    shutil.copy(path, tmp_path)
    load = recorded(path.name)["load"]
    key = bytes.fromhex(load["dec_key"]) if load.get("dec_key") else None
    report = verify(tmp_path / path.name, key)
    form = "safetensors" if path.read_bytes()[8:9] == b"{" else "ckpt"
    (tmp_path / path.name).rename(tmp_path / f"net.{form}")
    try:
        how = {"dec_key": key, "dec_mode": load.get("dec_mode", "AES-GCM")} if key else {}
        with lazyckpt.load_checkpoint(tmp_path / f"net.{form}", format=form, crc_check=True, **how) as opened:
            opened.load()
        loads = True
    except ValueError:
        loads = False

    assert str(report)
    assert loads or not report.intact


@settings(max_examples=4 * settings.default.max_examples)
@given(mutated(), st.sampled_from([None, KEY, b"x"]))
def test_nothing_is_raised_for_any_file(tmp_path_factory, data, key):
    """No bytes raise an error, with or without a key."""
    path = tmp_path_factory.getbasetemp() / "any.ckpt"
    path.write_bytes(data)
    report = verify(path, key, workers=1)

    assert str(report)
    assert json.dumps(report.to_dict())


def test_recorded_files_are_there():
    """The tests above examined at least one file."""
    assert len(GOLDEN) > 100
    assert FILES / "crc.ckpt" in GOLDEN


def test_strings_are_decoded(write):
    """A string whose bytes are no text is reported, as reading it raises; other strings pass."""
    body = checkpoint({"note": "a note", "w": np.ones(3)})
    broken = body.replace("a".encode("utf-32-le"), b"\xff\xff\xff\xff", 1)
    report = verify(write(broken))

    assert outcomes(report)["strings"] == "failed"
    assert "1 cannot be read: 'note' (the string is not UTF-32" in detail(report, "strings")
    assert "strings" not in outcomes(verify(write(body, "good.ckpt")))
