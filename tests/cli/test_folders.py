"""Folders on the command line: every command takes the same files, says which, and refuses half a set."""

from __future__ import annotations

import json

import pytest
from checkpoints import counting
from run_folders import rank_folder, strategy_of, write
from safetensors_files import file_of


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder: a run of three steps, a set with and one without all its parts, and ranks."""
    monkeypatch.chdir(tmp_path)
    for step in (2, 9, 10):
        write(tmp_path / "run" / f"net-1_{step}.ckpt", step)
    for name in ("listed", "half", "numbered"):
        (tmp_path / name).mkdir()
        for number in (1, 2) if name == "listed" else (1,):
            part = f"m-0000{number}-of-00002.safetensors"
            (tmp_path / name / part).write_bytes(file_of({f"w{number}": counting((2,))}))
        homes = {f"w{number}": f"m-0000{number}-of-00002.safetensors" for number in (1, 2)}
        if name != "numbered":
            (tmp_path / name / "m.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    rank_folder(tmp_path / "ranks", {(rank, f"m-1_{step}.ckpt"): step for rank in (0, 1) for step in (8, 20)})
    (tmp_path / "ranks" / "rank_1" / "m-1_20.ckpt").unlink()
    strategy_of(tmp_path / "ranks", 2)
    (tmp_path / "names.json").write_text('["w", "own"]')
    return tmp_path


# The arguments of each command that opens one checkpoint; `{}` is the checkpoint.
COMMANDS = {
    "ls": "ls {}",
    "tree": "tree {}",
    "show": "show {} w",
    "stats": "stats {}",
    "convert": "convert {} out.ckpt",
    "extract": "extract {} w -o out.ckpt",
    "references": "references {} -o refs.json",
    "match": "match {} --names names.json",
    "diff": "diff {} run/net-1_10.ckpt",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_of_steps_is_its_newest_step(command, run):
    """Every command takes the same file, and says so on stderr."""
    code, printed, complaints = run(*COMMANDS[command].format("run").split())

    assert (code, bool(printed)) == (0, True)
    assert "lazyckpt: opened net-1_10.ckpt, the newest of 3 steps" in complaints


@pytest.mark.parametrize("command", COMMANDS)
def test_a_step_is_chosen(command, run):
    """By `--step`; a step that does not exist is an error which names those that do."""
    arguments = COMMANDS[command].format("run").split()
    code, _, complaints = run(*arguments, "--step", "1_9")
    assert code == (1 if command == "diff" else 0)
    assert "opened net-1_9.ckpt" in complaints

    code, _, complaints = run(*arguments, "--step", "11")
    assert (code > 0, "net-1_10.ckpt, net-1_9.ckpt, net-1_2.ckpt" in complaints) == (True, True)


@pytest.mark.parametrize("name", ["half", "numbered"])
@pytest.mark.parametrize("command", COMMANDS)
def test_half_a_set_is_refused(command, name, run):
    """Every command names the part that is not there."""
    code, printed, complaints = run(*COMMANDS[command].format(name).split())

    assert (code > 0, printed) == (True, "")
    assert "part m-00002-of-00002.safetensors does not exist" in complaints


def test_a_set_is_whole(run):
    """A folder with all parts gives all names."""
    code, printed, complaints = run("ls", "listed", "--json")

    assert (code, [facts["name"] for facts in json.loads(printed)]) == (0, ["w1", "w2"])
    assert "the 2 files that" in complaints


@pytest.mark.parametrize("options", [[], ["--step", "8"], ["--step", "m-1_8"]])
def test_ranks_are_of_one_step(options, run):
    """The newest step that all ranks have, or the one that was asked for; all of its values are of it."""
    code, printed, complaints = run("show", "ranks", "w", "--strategy", "ranks/strategy.json", *options, "--json")

    assert (code, set(json.loads(printed)["first"])) == (0, {8.0})
    assert "opened m-1_8.ckpt of 2 ranks" in complaints


def test_a_step_that_one_rank_lacks_is_refused(run):
    """The error names the rank and the steps of each."""
    code, printed, complaints = run("ls", "ranks", "--strategy", "ranks/strategy.json", "--step", "20")

    assert (code, printed) == (1, "")
    assert "step '20' is not on rank 1" in complaints
    assert "rank 0: 1_8, 1_20; rank 1: 1_8" in complaints


def test_two_steps_of_a_run_are_compared(run):
    """`diff` takes a step for each side."""
    code, printed, _ = run("diff", "run", "run", "--step", "1_2", "--step-b", "1_9", "--json")

    assert (code, json.loads(printed)["same"]) == (1, False)
    assert run("diff", "run", "run", "--step-b", "10")[0] == 0


def test_a_step_of_a_file_is_refused(run):
    """There is nothing to choose."""
    code, _, complaints = run("ls", "run/net-1_2.ckpt", "--step", "2")

    assert (code, "files are given" in complaints) == (1, True)


@pytest.mark.parametrize("name", ["half", "numbered"])
@pytest.mark.parametrize("command", ["verify {}", "index {}", "find w2 {}", "doctor {}"])
def test_commands_for_many_files_name_a_missing_part(command, name, run):
    """A folder in which half a set is missing is neither intact nor healthy, and a name is not said to be nowhere."""
    code, printed, complaints = run(*command.format(name).split())

    assert code == (2 if command.startswith("find") else 1)
    assert "m-00002-of-00002.safetensors" in printed + complaints
    assert run(*command.format("listed").split())[0] == 0
