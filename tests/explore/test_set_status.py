"""The verdict on several files is the loader's: what it refuses is refused, with its sentence."""

from __future__ import annotations

import json
import os

import pytest
from checkpoints import LAYERS, checkpoint, counting
from encryption import KEY, encrypted
from safetensors_files import file_of

import lazyckpt
from lazyckpt.errors import LazyCkptError
from lazyckpt.explore.set_status import is_set, set_status
from lazyckpt.loading import open_checkpoint
from lazyckpt.sources.encryption.keys import Secret

VALUES = {f"layer{number}.w": counting((3, 5)) + number for number in range(4)}
FIRST, SECOND = "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"
PARTS = {FIRST: list(VALUES)[:2], SECOND: list(VALUES)[2:]}


def write_set(folder, **homes):
    """Write two parts and their listing, with other homes for some names; returns the listing."""
    for part, names in PARTS.items():
        (folder / part).write_bytes(file_of({name: VALUES[name] for name in names}))
    listed = {name: part for part, names in PARTS.items() for name in names} | homes
    listing = folder / "m.safetensors.index.json"
    listing.write_text(json.dumps({"weight_map": {name: part for name, part in listed.items() if part}}))
    return listing


def cut(folder):
    """Cut off the end of the second part."""
    path = folder / SECOND
    path.write_bytes(path.read_bytes()[:-7])


FAULTS = {
    "whole": write_set,
    "a name in no part": lambda folder: write_set(folder, ghost=FIRST),
    "a name in another part": lambda folder: write_set(folder, **{"layer0.w": SECOND}),
    "a name that is not listed": lambda folder: write_set(folder, **{"layer0.w": ""}),
    "a part outside": lambda folder: write_set(folder, ghost="../x.safetensors"),
    "a missing part": lambda folder: (write_set(folder), os.unlink(folder / SECOND)),
    "a cut part": lambda folder: (write_set(folder), cut(folder)),
    "no JSON": lambda folder: (write_set(folder), (folder / "m.safetensors.index.json").write_text("{")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_and_doctor_say_of_a_listing_what_loading_says(fault, tmp_path):
    """A listing that cannot be loaded is neither intact nor healthy, and the reports have the reason."""
    FAULTS[fault](tmp_path)
    listing = str(tmp_path / "m.safetensors.index.json")
    try:
        with open_checkpoint(listing) as opened:
            why = "" if sorted(opened) == sorted(VALUES) else "some values"
    except LazyCkptError as error:
        why = str(error)
    report, diagnosis = lazyckpt.verify(listing), lazyckpt.diagnose(listing)

    assert (report.intact, diagnosis.healthy) == (not why, not why)
    assert ("CANNOT BE LOADED" in report.summary()) is bool(why)
    assert why.replace(f"{listing}: ", "").replace(f"{tmp_path}/", "") in str(report)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_commands_agree_on_a_listing(fault, tmp_path, run):
    """`ls`, `verify` and `doctor` of a listing exit with one code."""
    FAULTS[fault](tmp_path)
    listing = str(tmp_path / "m.safetensors.index.json")
    codes = {command: run(command, listing)[0] for command in ("ls", "verify", "doctor")}

    assert set(codes.values()) == {0 if fault in ("whole", "a name that is not listed") else 1}


def test_verify_of_a_folder_looks_at_its_listings(tmp_path, run):
    """A folder with a listing that has a name too many is not intact, its files are."""
    write_set(tmp_path, ghost=FIRST)
    code, printed, _ = run("verify", str(tmp_path))

    assert code == 1
    assert printed.count(": intact, ") == 2
    assert "ghost" in printed


def test_files_that_are_no_one_checkpoint_are_no_fault(tmp_path, run):
    """A folder of unrelated files is verified file by file."""
    for name in ("a.ckpt", "b.ckpt"):
        (tmp_path / name).write_bytes(checkpoint(LAYERS))
    code, printed, _ = run("verify", str(tmp_path))

    assert (code, printed.count(": intact, ")) == (0, 2)
    assert lazyckpt.verify(tmp_path).intact


@pytest.mark.parametrize("damaged", [False, True])
def test_the_doctor_looks_at_a_folder_as_the_loader_does(damaged, tmp_path):
    """A folder of files that load together is healthy; the findings of its files are the folder's."""
    (tmp_path / "a.ckpt").write_bytes(checkpoint({"a": counting((5,))}))
    weight = counting((60, 60)) + 1
    data = checkpoint({"b": weight})
    (tmp_path / "b.ckpt").write_bytes(data[:9000] + bytes(len(data) - 9000) if damaged else data)
    diagnosis = lazyckpt.diagnose(tmp_path)

    assert (diagnosis.healthy, diagnosis.facts["files"], diagnosis.facts["parameters"]) == (not damaged, 2, 2)
    assert any(finding.what.startswith("b.ckpt: zeros from byte") for finding in diagnosis.findings) is damaged


def test_encrypted_parts(tmp_path):
    """With the key they are opened, without it nothing is known to be wrong."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.ckpt").write_bytes(encrypted(checkpoint({name: counting((5,))})))
    closed, opened = set_status(str(tmp_path)), set_status(str(tmp_path), Secret(KEY))

    assert (closed.needs_key, opened.needs_key, opened.parameters) == (True, False, 2)
    assert str(opened) == "2 files can be loaded together, with 2 values"
    assert lazyckpt.diagnose(tmp_path).summary().endswith("healthy, as far as it can be looked at without the key")


def test_what_is_a_set(tmp_path):
    """Listings and folders are sets, files are not."""
    assert [is_set(path) for path in (str(tmp_path), "x.ckpt.index.json", "x.ckpt")] == [True, True, False]
