"""`lazyckpt find`, patterns for `ls`, `show` with refused parameters, and completion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, tensor_value
from encryption import KEY, encrypted
from mindspore_results import FILES

import lazyckpt


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a few checkpoints."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ckpt").write_bytes(checkpoint(MIXED))
    (tmp_path / "odd.ckpt").write_bytes(
        tensor_value("q", [2], "Float8E4M3FN", b"ab") + array_value("conv1.bias", np.ones(3))
    )
    (tmp_path / "secret.ckpt").write_bytes(encrypted(checkpoint(LAYERS)))
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("*.bias", ["conv1.bias"]), ("conv1.*", ["conv1.weight", "conv1.bias"]), ("?ask", ["mask"]), ("x*", [])],
)
def test_ls_takes_patterns(pattern, names, run):
    """`ls` accepts patterns as well as prefixes."""
    assert [facts["name"] for facts in json.loads(run("ls", "net.ckpt", pattern, "--json")[1])] == names


def test_find_tells_which_file_has_what(run):
    """`find` prints one line for each match."""
    code, printed, complaints = run("find", "conv1.bias", "net.ckpt", "odd.ckpt")

    assert (code, complaints) == (0, "")
    assert printed == "net.ckpt: conv1.bias  Float16 (6,) 12 B\nodd.ckpt: conv1.bias  Float64 (3,) 24 B\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["*.bias", "net.ckpt"], 0),
        (["*.bias", "secret.ckpt", "--key-file", "key"], 0),
        (["*.bias", "."], 2),
        (["none", "net.ckpt"], 1),
        (["*.none", "net.ckpt", "odd.ckpt"], 1),
        (["*.bias", "net.ckpt", "secret.ckpt"], 2),
        (["*.bias", "none.ckpt"], 2),
        (["*.bias"], 2),
    ],
)
def test_the_exit_code_of_find(arguments, code, run):
    """As in grep: 0 for a match, 1 for none, 2 for an error."""
    assert run("find", *arguments)[0] == code


def test_find_can_print_files_alone_or_json(run):
    """`--files` prints each file once; `--json` prints all facts."""
    assert run("find", "*", "net.ckpt", "odd.ckpt", "--files")[1] == "net.ckpt\nodd.ckpt\n"
    told = json.loads(run("find", "q", "net.ckpt", "odd.ckpt", "--json")[1])
    assert [(facts["file"], facts["kind"]) for facts in told] == [("odd.ckpt", "refused")]


def test_show_works_beside_what_is_refused(run):
    """`show` works in a file with a refused parameter, and shows the reason for that one."""
    assert json.loads(run("show", "odd.ckpt", "conv1.bias", "--json")[1])["first"] == [1.0, 1.0, 1.0]
    code, printed, _ = run("show", "odd.ckpt", "q")
    assert code == 0
    assert "the dtype 'Float8E4M3FN' is unknown" in printed


def test_show_takes_a_file_of_any_name(run):
    """`show` accepts a file with any extension."""
    shutil.copy(FILES / "base.ckpt", "net.bin")
    with lazyckpt.load_checkpoint("net.ckpt") as opened:
        name = next(iter(opened))

    assert run("show", "net.bin", "fc.bias")[0] == 0
    assert run("show", "net.ckpt", name)[0] == 0


@pytest.mark.parametrize("command", ["ls", "show"])
def test_names_are_completed_from_a_fresh_index(command, monkeypatch):
    """Completion offers the names of a fresh index. Without one it offers none, and builds none."""

    def asked():
        answer = subprocess.run(
            [sys.executable, "-c", "import sys; sys.argv[0] = 'lazyckpt'; from lazyckpt.cli import main; main()"],
            env={
                **os.environ,
                "_LAZYCKPT_COMPLETE": "complete_bash",
                "COMP_WORDS": f"lazyckpt {command} net.ckpt conv1.",
                "COMP_CWORD": "3",
            },
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        return answer.stdout.split()

    before = asked()
    lazyckpt.build_index("net.ckpt").close()

    assert (before, asked()) == ([], ["conv1.weight", "conv1.bias"])
