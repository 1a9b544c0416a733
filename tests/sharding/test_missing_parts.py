"""Commands that take every file of a folder learn which ones a set in it lacks."""

from __future__ import annotations

import json

import pytest

from lazyckpt.sharding.missing_parts import missing_parts


def listing(*parts):
    """The text of a listing of these files."""
    return json.dumps({"weight_map": {f"w{number}": part for number, part in enumerate(parts)}})


FOLDERS = {
    "nothing": ({}, []),
    "a set by its listing": ({"m.ckpt.index.json": listing("a.ckpt", "b.ckpt"), "a.ckpt": ""}, ["b.ckpt"]),
    "a whole set": ({"m.ckpt.index.json": listing("a.ckpt"), "a.ckpt": "", "x-1-of-2.ckpt": ""}, []),
    "a set by numbers": ({"x-00001-of-00002.ckpt": ""}, ["x-00002-of-00002.ckpt"]),
    "sets at any depth": (
        {"r/1/x-1-of-2.ckpt": "", "r/2/m.safetensors.index.json": listing("y.safetensors"), "r/2/z.safetensors": ""},
        ["r/2/y.safetensors", "r/1/x-2-of-2.ckpt"],
    ),
    "a listing of torch": ({"pytorch_model.bin.index.json": listing("a.bin"), "a.ckpt": ""}, []),
    "a listing that is none": ({"m.ckpt.index.json": "{", "a.ckpt": ""}, ["m.ckpt.index.json"]),
    "a map of names": ({"param_name_map.json": json.dumps({"w": "part0.safetensors"})}, ["part0.safetensors"]),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_missing_parts_are_named(what, tmp_path):
    """By listings, or else by numbers; a listing that cannot be read is named itself."""
    files, missing = FOLDERS[what]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    checkpoints = [str(tmp_path / name) for name in files if not name.endswith(".json")]

    assert missing_parts(str(tmp_path), checkpoints) == [str(tmp_path / name) for name in missing]
