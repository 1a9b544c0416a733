"""Checkpoints that others trained and published, from old and new versions of MindSpore, are read as MindSpore does.

Two small ones are kept here. If LAZYCKPT_REAL names a folder with more (checkpoints, and an expected.json of the same
form), all of them are read.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from mindspore_results import GOLDEN, read_everything

FOLDERS = [GOLDEN / "real", *map(Path, filter(None, [os.environ.get("LAZYCKPT_REAL")]))]
CASES = [
    pytest.param(folder / name, parameters, id=name)
    for folder in FOLDERS
    for name, parameters in json.loads(
        (folder / "expected.json").read_text(encoding="utf-8")
    ).items()
]


@pytest.mark.parametrize(("file", "parameters"), CASES)
def test_published_checkpoints_are_read_as_mindspore_reads_them(
    file, parameters, tmp_path
):
    """Names in order, reprs, dtypes, shapes and bytes are MindSpore's: cold and warm."""
    path = shutil.copy(file, tmp_path)
    keys = ("repr", "shape", "dtype", "sha256")

    found = [
        {
            fact["name"]: {key: fact[key] for key in keys}
            for fact in read_everything(path)
        }
        for _ in ("cold", "warm")
    ]

    assert [list(names) for names in found] == [list(parameters)] * 2
    assert found == [parameters, parameters]
