"""Every golden file that MindSpore wrote is written again, byte by byte, from what is read of it."""

from __future__ import annotations

import json
import types
from pathlib import Path

import pytest
from encryption import HEADER, split
from lazyckpt.errors import ArgumentValueError
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.cipher import MODES, CipherKey
from lazyckpt.sources.encryption.decryption import open_encrypted
from lazyckpt.sources.encryption.keys import Secret
from lazyckpt.writing import ckpt, sink
from mindspore_results import FILES, arguments, recorded
from opening import opened_over

HOW = {
    name: facts["how"].removeprefix("ms: ")
    for name, facts in json.loads(
        (FILES / "MANIFEST.json").read_text(encoding="utf-8")
    ).items()
    if facts["how"].startswith("ms:")
}
# What is not written again as it was, and why.
OTHERWISE = {
    "sliced_wide.ckpt": "MindSpore cuts differently in the background: by rows, into slices that may be empty",
    "map_sliced.ckpt": "slices of a map are one map when they are read",
}
# What MindSpore writes and cannot load.
REFUSED = {"map_crc.ckpt", "enc_crc.ckpt"}
TOO_LONG = "longname.ckpt"  # the same, and lazyckpt does not write it
UNREADABLE = {
    "map_enc.ckpt"
}  # the map stands in clear before the blocks: nobody can read it
WRITTEN = sorted(HOW.keys() - OTHERWISE.keys() - REFUSED - UNREADABLE - {TOO_LONG})
KILOBYTE = 1024  # to which MindSpore's sizes of slices and blocks were set for some of the files


def again(name, folder, monkeypatch):
    """Write a golden file again, under the sizes and the ivs that MindSpore had; the new file's bytes."""
    data, load = (FILES / name).read_bytes(), arguments(recorded(name))
    key, mode = load.get("dec_key"), load.get("dec_mode", "AES-GCM")
    source = BytesSource(data)
    options = {"crc_check": load.get("crc_check", False) or "crc" in HOW[name]}
    if key is not None:
        source = open_encrypted(source, CipherKey(MODES[mode], Secret(key)))
        options |= {"enc_key": key, "enc_mode": mode}
        ivs = (
            [one[HEADER[mode] - 20 :][:16] for one in split(data, mode)]
            if name in WRITTEN
            else []
        )
        monkeypatch.setattr(
            sink, "os", types.SimpleNamespace(urandom=lambda size: ivs.pop(0))
        )
    if "SLICE" in HOW[name] or "slices" in HOW[name]:
        monkeypatch.setattr(ckpt, "SLICE", KILOBYTE)
    if "KB blocks" in HOW[name] or "ENCRYPT_BLOCK_SIZE" in HOW[name]:
        monkeypatch.setattr(
            sink, "FRAME_PLAINTEXT", 4 * KILOBYTE if "4 KB" in HOW[name] else KILOBYTE
        )
    form = Path(name).suffix.removeprefix(".")
    path = folder / name
    with opened_over(source, form) as opened:
        opened.save(path, align=1, metadata=opened.metadata, **options)
    return path.read_bytes(), data


@pytest.mark.parametrize("name", [name for name in WRITTEN if name.endswith(".ckpt")])
def test_what_mindspore_wrote_is_written_again(name, tmp_path, monkeypatch):
    """Plain, in slices, with checksums, strings and maps, encrypted in any mode: the very bytes."""
    new, old = again(name, tmp_path, monkeypatch)

    assert new == old


def test_a_name_that_mindspore_cannot_load_is_not_written(tmp_path, monkeypatch):
    """A name that is too long for a Parameter is refused."""
    with pytest.raises(ArgumentValueError, match="at most 1,024"):
        again(TOO_LONG, tmp_path, monkeypatch)


def parsed(data):
    """A safetensors file's header, in its order, and its contents."""
    begin = 8 + int.from_bytes(data[:8], "little")
    return list(json.loads(data[8:begin]).items()), data[begin:]


@pytest.mark.parametrize(
    "name", [name for name in WRITTEN if name.endswith(".safetensors")]
)
def test_safetensors_files_are_written_again(name, tmp_path, monkeypatch):
    """The very bytes; only several facts of the metadata are put in any order by the package that MindSpore uses."""
    new, old = again(name, tmp_path, monkeypatch)
    metadata = dict(parsed(new)[0]).get("__metadata__", {})

    assert parsed(new) == parsed(old)
    assert new == old or len(metadata) > 1


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_is_written_otherwise(name, tmp_path, monkeypatch):
    """The few exceptions are exceptions."""
    new, old = again(name, tmp_path, monkeypatch)

    assert new != old


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_mindspore_cannot_load_is_not_written(name, tmp_path, monkeypatch):
    """A checksum beside a key, a map beside either."""
    with pytest.raises(ArgumentValueError, match="MindSpore cannot load"):
        again(name, tmp_path, monkeypatch)


def test_the_exceptions_are_golden_files():
    """No name stands in a list for a file that is gone."""
    assert OTHERWISE.keys() | REFUSED | UNREADABLE <= HOW.keys()
