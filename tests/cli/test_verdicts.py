"""Verdicts agree: what can be loaded is listed, intact and healthy; what cannot is neither, and for one reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from encryption import MAGICS
from specimens import SPECIMENS, Codes

import lazyckpt
from lazyckpt.errors import LazyCkptError
from lazyckpt.explore import zero_runs

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def loads(path, key=None):
    """Whether every value of a file or a folder can be loaded and read; otherwise the error."""
    mode = {}
    if key is not None:
        head = Path(path).read_bytes()[:4]
        mode = {"dec_key": Path(key).read_bytes()[:16]}
        mode["dec_mode"] = next((mode for mode, magic in MAGICS.items() if magic == head), "AES-GCM")
    try:
        if Path(path).is_dir():
            opened = lazyckpt.open_sharded(path, **mode)
        else:
            form = "safetensors" if "safetensors" in Path(path).name else "ckpt"
            opened = lazyckpt.load_checkpoint(path, format=form, **mode)
        with opened:
            opened.load()
    except LazyCkptError as error:
        return error
    return None


@pytest.mark.parametrize("name", SPECIMENS)
def test_the_verdicts_on_a_specimen(name, tmp_path, run):
    """Loading, `ls`, `verify` and `doctor` say of a specimen what the table says, in these words."""
    make, codes, words = SPECIMENS[name]
    folder = tmp_path / "specimen"
    folder.mkdir()
    path, *options = make(folder)
    if name.startswith("a hole") and not list(zero_runs.holes(path)):
        pytest.skip("the file system keeps no holes")
    error = loads(path, options[-1] if options else None)
    said = {command: run(command, path, *options) for command in ("ls", "verify", "doctor")}
    reasons = [text for code, *text in (said["verify"], said["doctor"]) if code == 1 or codes.loads]

    assert Codes(error is None, *(code for code, *_ in said.values())) == codes
    assert all(words in "".join(text) for text in reasons)
    assert not re.search("Traceback", "".join(text for _, *texts in said.values() for text in texts))


@pytest.mark.parametrize("name", [name for name, each in SPECIMENS.items() if each.codes == Codes(False, 1, 1, 1)])
def test_what_cannot_be_loaded_is_called_neither_intact_nor_healthy(name, tmp_path):
    """The reports of the API say the same as the commands."""
    folder = tmp_path / "specimen"
    folder.mkdir()
    path, *options = SPECIMENS[name].make(folder)
    key = Path(options[-1]).read_bytes()[:16] if options else None
    report, diagnosis = lazyckpt.verify(path, key), lazyckpt.diagnose(path, key)

    assert (report.intact, diagnosis.healthy) == (False, False)
    assert "intact" not in report.summary()
    assert "healthy" not in diagnosis.summary()


def documented():
    """The table of exit codes in the handbook: command -> {code: meaning}."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {command: dict(enumerate(meanings)) for command, *meanings in rows}


def test_every_command_has_its_exit_codes_in_the_handbook(entry_point):
    """The table has a row for each command, with a meaning for each code."""
    table = documented()

    assert sorted(table) == sorted(entry_point.commands)
    assert all(meaning.strip() for row in table.values() for meaning in row.values())


def test_the_exit_codes_of_the_specimens_are_documented():
    """No specimen leads to a code that the table does not have."""
    table = documented()
    codes = {
        command: {getattr(each.codes, command) for each in SPECIMENS.values()} for command in ("ls", "verify", "doctor")
    }

    assert all(found <= set(table[command]) for command, found in codes.items())
