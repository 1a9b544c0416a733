"""The command line: its output and exit codes, and errors without a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, counting, string_value, tensor_value
from mindspore_results import FILES

import lazyckpt
from lazyckpt import cli

KEY = bytes(range(1, 17))
PLACES_OF_KEYS = {
    *("--key-file", "--key-env", "--key-file-b", "--key-env-b"),
    *("--new-key-file", "--new-key-env"),
}
COMMANDS = sorted(command.name or command.callback.__name__ for command in cli.app.registered_commands)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a checkpoint of every kind of value, an encrypted one, and a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "net.ckpt").write_bytes(checkpoint(MIXED))
    shutil.copy(FILES / "enc_aescbc_16.ckpt", tmp_path / "secret.ckpt")
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path


def test_the_version_is_the_packages(run):
    """`lazyckpt --version` prints the version of the package."""
    assert run("--version") == (0, f"lazyckpt {lazyckpt.__version__}\n", "")


def test_the_module_can_be_run():
    """`python -m lazyckpt` is the same command."""
    printed = subprocess.check_output([sys.executable, "-m", "lazyckpt", "--version"], encoding="utf-8")

    assert printed == f"lazyckpt {lazyckpt.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command, run):
    """The help of every command has a sentence, and so has its row in the list of commands."""
    code, printed, _ = run(command, "--help")

    assert code == 0
    assert re.search(r"\n +[A-Z][^\n]*[a-z]", printed)
    assert re.search(rf"\n +{command} +[A-Z]", run("--help")[1])


def test_without_a_command_there_is_help(run):
    """`lazyckpt` without arguments prints its usage."""
    assert "Usage" in "".join(run()[1:])


def test_a_key_is_never_an_argument(run):
    """No command takes a key itself. It would end up in the shell history and the process list."""
    for command in COMMANDS:
        options = set(re.findall(r"--[a-z-]+", run(command, "--help")[1]))

        assert {option for option in options if "key" in option} <= PLACES_OF_KEYS


def test_index_builds_the_index(run, folder):
    """`index` prints the number of parameters and the path of the index."""
    code, printed, complaints = run("index", "net.ckpt")

    assert (code, complaints.strip()) == (0, "")
    assert re.fullmatch(rf"net\.ckpt: 8 parameters in .* -> {folder}/net\.ckpt\.lmdb\n", printed)
    assert (folder / "net.ckpt.lmdb").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_index_takes_many_files(jobs, run, folder):
    """A damaged file causes exit code 1 and a message; the other files are indexed."""
    (folder / "bad.ckpt").write_bytes(b"\xff" * 50)
    (folder / "two.ckpt").write_bytes(checkpoint(LAYERS))
    code, printed, complaints = run("index", "bad.ckpt", "net.ckpt", "two.ckpt", "--jobs", jobs)

    assert code == 1
    assert [line.partition(":")[0] for line in printed.splitlines()] == ["net.ckpt", "two.ckpt"]
    assert re.search(r"^bad\.ckpt: .*at byte 0", complaints, re.MULTILINE)
    assert (folder / "two.ckpt.lmdb").exists()


def test_index_can_be_forced(run, folder):
    """A fresh index is kept, unless `--force` is given."""
    run("index", "net.ckpt")
    before = os.stat("net.ckpt.lmdb").st_ino
    run("index", "net.ckpt")
    left = os.stat("net.ckpt.lmdb").st_ino
    run("index", "net.ckpt", "--force")

    assert left == before
    assert os.stat("net.ckpt.lmdb").st_ino != before


def test_index_of_encrypted_files_takes_a_key_from_a_file(run):
    """`--key-file` works for one file and for many; without a key, the encrypted file fails."""
    assert run("index", "secret.ckpt", "--key-file", "key")[0] == 0
    assert run("index", "secret.ckpt", "net.ckpt", "--key-file", "key", "--force")[0] == 0
    code, _, complaints = run("index", "secret.ckpt", "net.ckpt", "--force")

    assert code == 1
    assert "secret.ckpt: the file is encrypted" in complaints


def test_ls_lists_every_parameter(run):
    """`ls` prints names, types, shapes and sizes in columns, in file order, and a total."""
    code, printed, complaints = run("ls", "net.ckpt")
    rows = [re.split(r"  +", line.strip()) for line in printed.splitlines()]

    assert (code, complaints) == (0, "")
    assert rows == [
        ["conv1.weight", "Float32", "(6, 1, 5, 5)", "600 B"],
        ["conv1.bias", "Float16", "(6,)", "12 B"],
        ["fc.weight", "Float32", "(10, 84)", "3.3 KiB"],
        ["step", "Int64", "()", "8 B"],
        ["mask", "Bool", "(3,)", "3 B"],
        ["note", "str", "13 characters", "52 B"],
        ["empty", "str", "1 characters", "4 B"],
        ["table", "map", "(3,), (3, 4), (3,)", "72 B"],
        ["8 parameters, 4.0 KiB (4,111 bytes)"],
    ]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["conv"], ["conv1.weight", "conv1.bias"]),
        (["conv1.b"], ["conv1.bias"]),
        (["none"], []),
        (["--sort", "name"], sorted(MIXED)),
        (["conv", "--sort", "size"], ["conv1.weight", "conv1.bias"]),
        (["--sort", "size"], ["fc.weight", "conv1.weight", "table", "note", "conv1.bias", "step", "empty", "mask"]),
        (["--sort", "file"], list(MIXED)),
    ],
)  # fmt: skip
def test_ls_can_be_narrowed_and_sorted(options, names, run):
    """`ls` takes a prefix, and sorts by file order, name or size."""
    printed = run("ls", "net.ckpt", *options, "--json")[1]

    assert [facts["name"] for facts in json.loads(printed)] == names


def test_ls_refuses_another_order(run):
    """An invalid option is a usage error, with exit code 2."""
    code, _, complaints = run("ls", "net.ckpt", "--sort", "colour")

    assert code == 2
    assert "expected one of file, name, size" in complaints


def test_ls_as_json_has_what_the_index_has(run):
    """`ls --json` prints an object for each parameter."""
    told = {facts["name"]: facts for facts in json.loads(run("ls", "net.ckpt", "--json")[1])}
    index = lazyckpt.build_index("net.ckpt")

    assert told["conv1.weight"] == {
        "name": "conv1.weight",
        "kind": "tensor",
        "dtype": "Float32",
        "shape": [6, 1, 5, 5],
        "nbytes": 600,
        "offset": index["conv1.weight"].extents[0].offset,
        "extents": 1,
    }
    assert told["table"]["arrays"] == [
        {"dtype": "Int32", "shape": [3]},
        {"dtype": "Float32", "shape": [3, 4]},
        {"dtype": "Int32", "shape": [3]},
    ]
    index.close()


def test_ls_shows_refused_parameters(run, folder):
    """`ls` shows parameters that cannot be loaded, with the reason."""
    (folder / "odd.ckpt").write_bytes(tensor_value("q", [2], "Float8E4M3FN", b"ab"))

    assert re.search(r"^q +refused +the dtype 'Float8E4M3FN' is unknown", run("ls", "odd.ckpt")[1])
    assert "is unknown" in json.loads(run("ls", "odd.ckpt", "--json")[1])[0]["refused"]


def test_names_cannot_disturb_a_terminal(run, folder):
    """Control characters in names and strings are escaped."""
    (folder / "odd.ckpt").write_bytes(
        array_value("w\x1b[2J\n", counting((2,))) + string_value("s", "a\x1b]0;title\x07\n")
    )
    printed = run("ls", "odd.ckpt")[1] + run("show", "odd.ckpt", "s")[1]

    assert "w\\x1b[2J\\n" in printed
    assert "a\\x1b]0;title\\x07\\n" in printed
    assert {character for character in printed if not character.isprintable()} == {"\n"}


def test_ls_of_many_parameters_is_complete(run, folder):
    """A long list has every name once."""
    names = [f"layer{number}.weight" for number in range(1500)]
    (folder / "many.ckpt").write_bytes(b"".join(array_value(name, counting((1,))) for name in names))
    printed = run("ls", "many.ckpt")[1]

    assert [line.split()[0] for line in printed.splitlines()[:-1]] == names


def facts_of(printed):
    """The output of `show` as a dict."""
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in printed.splitlines())


def test_show_tells_of_a_tensor(run):
    """`show` prints the entry of a tensor, its first values and its statistics."""
    code, printed, _ = run("show", "net.ckpt", "fc.weight")
    facts = facts_of(printed)

    assert code == 0
    assert (facts["name"], facts["dtype"], facts["shape"], facts["nbytes"]) == (
        "fc.weight",
        "Float32",
        "[10, 84]",
        "3360",
    )
    assert facts["first"] == "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]"
    assert [float(facts[key]) for key in ("min", "max", "mean")] == [0.0, 839.0, 419.5]
    assert float(facts["std"]) == pytest.approx(np.arange(840).std())
    assert [facts[key] for key in ("zeros", "nan", "inf")] == ["1", "0", "0"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("conv1.bias", {"first": [0, 1, 2, 3, 4, 5], "max": 5.0}),
        ("step", {"first": [17], "shape": [], "std": 0.0}),
        ("mask", {"first": [True, False, True], "zeros": 1}),
        ("note", {"kind": "string", "value": "späte Schicht"}),
        ("empty", {"value": ""}),
        ("table", {"first keys": [0, 1, 2], "first status": [0, 1, 2]}),
    ],
)
def test_show_as_json_has_values_of_every_kind(name, shown, run):
    """In JSON, numbers are numbers, and text is text."""
    told = json.loads(run("show", "net.ckpt", name, "--json")[1])

    assert {key: told[key] for key in shown} == shown


def test_show_copes_with_what_json_lacks(run, folder):
    """Infinities, NaNs, unpaired surrogates and empty tensors give valid JSON."""
    values = array_value("w", np.array([np.nan, np.inf, -np.inf, 0], "float32")) + string_value("s", "a\ud800")
    (folder / "odd.ckpt").write_bytes(values + array_value("nothing", np.zeros((0, 3), "float32")))
    told = [
        json.loads(run("show", "odd.ckpt", name, "--json")[1], parse_constant=pytest.fail)
        for name in ("w", "s", "nothing")
    ]

    assert (told[0]["first"], told[0]["nan"], told[0]["inf"], told[0]["zeros"]) == (
        ["nan", "inf", "-inf", 0.0],
        1,
        2,
        1,
    )
    assert (told[1]["value"], told[2]["first"], "min" in told[2]) == ("a\ud800", [], False)
    assert run("show", "odd.ckpt", "s")[1].splitlines()[-1].endswith("a\\ud800")


def test_show_finds_a_parameter_under_the_name_that_mindspore_gives_it(run):
    """Marked names are renamed on loading; `show` prints the name in the file."""
    shutil.copy(FILES / "param_key.ckpt", "marked.ckpt")

    assert json.loads(run("show", "marked.ckpt", "emb", "--json")[1])["name"] == "emb.__param_key__3"


def test_a_wrong_name_brings_the_nearest_ones(run):
    """An unknown name gives one line with similar names on stderr, and exit code 1."""
    code, printed, complaints = run("show", "net.ckpt", "conv1.wieght")

    assert (code, printed, complaints.count("\n")) == (1, "", 1)
    assert complaints.startswith("lazyckpt: there is no parameter 'conv1.wieght'; did you mean 'conv1.weight'")
    assert run("show", "net.ckpt", "zzzzzz")[2] == "lazyckpt: there is no parameter 'zzzzzz'\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ls", "none.ckpt"], r"none\.ckpt does not exist"),
        (["index", "none.ckpt"], r"no checkpoint at none\.ckpt"),
        (["ls", "key"], "key: "),
        (["show", "text.ckpt", "w"], r"text\.ckpt: this is a text file"),
        (["ls", "secret.ckpt"], r"secret\.ckpt: the file is encrypted \(AES-CBC\): give --key-file or --key-env"),
        (["ls", "secret.ckpt", "--key-file", "none"], "the key file none cannot be read"),
        (["ls", "secret.ckpt", "--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY, which should hold a key, is not set"),
        (["ls", "net.ckpt", "--key-file", "key"], "the file is not encrypted"),
        (["ls", "secret.ckpt", "--key-file", "text.ckpt"], "the one given has 90"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_and_exit_code_1(arguments, complaint, run, folder):
    """Errors are one line on stderr, without a traceback and without output on stdout."""
    (folder / "text.ckpt").write_bytes(b"this is no checkpoint at all\n\n" * 3)
    code, printed, complaints = run(*arguments)

    assert (code, printed, complaints.count("\n")) == (1, "", 1)
    assert re.search(f"^lazyckpt: .*{complaint}", complaints)


@pytest.mark.parametrize("how", ["--key-file", "--key-env", "prompt"])
def test_encrypted_checkpoints_are_read_with_a_key_from_elsewhere(how, run, monkeypatch):
    """The key comes from a file, a variable or a hidden prompt; the mode is detected."""
    monkeypatch.setenv("SECRET_KEY", f"hex:{KEY.hex()}")
    options = {"--key-file": ["--key-file", "key"], "--key-env": ["--key-env", "SECRET_KEY"], "prompt": []}[how]
    asked = []
    if how == "prompt":
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(
            cli.typer, "prompt", lambda text, hide_input: asked.append((text, hide_input)) or f"hex:{KEY.hex()}"
        )
    listed, shown = run("ls", "secret.ckpt", *options), run("show", "secret.ckpt", "fc.bias", *options)

    assert (listed[0], shown[0]) == (0, 0)
    assert "conv.weight" in listed[1]
    assert "[10]" in shown[1]
    assert asked == ([("Key of secret.ckpt (AES-CBC)", True)] * 2 if how == "prompt" else [])


def test_match_tells_what_would_load(run, folder):
    """`match` exits with 0 if all names would load, else with 1."""
    (folder / "all.json").write_text(
        json.dumps({name: [list(array.shape), array.dtype.name.capitalize()] for name, array in LAYERS.items()})
    )
    (folder / "other.json").write_text(json.dumps(["conv1.weight", "head.weight"]))
    (folder / "broken.json").write_text("{")

    assert run("match", "net.ckpt", "--names", "all.json", "--json")[0] == 0
    code, printed, _ = run("match", "net.ckpt", "--names", "other.json")
    assert code == 1
    assert "head.weight" in printed
    assert "cannot be read as JSON" in run("match", "net.ckpt", "--names", "broken.json")[2]


def test_the_demo_runs(run):
    """`demo` prints the examples that it runs."""
    code, printed, complaints = run("demo")

    assert (code, complaints) == (0, "")
    assert "load_checkpoint" in printed


def test_a_reader_that_goes_away_is_no_error(folder):
    """`lazyckpt ls … | head -1` ends without an error message."""
    Path("many.ckpt").write_bytes(b"".join(array_value(f"layer{n}.weight", counting((1,))) for n in range(6000)))
    with subprocess.Popen(
        [sys.executable, "-m", "lazyckpt", "ls", "many.ckpt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as listing:
        first = listing.stdout.readline()
        listing.stdout.close()
        complaints = listing.stderr.read()

    assert first.startswith(b"layer0.weight")
    assert complaints == b""


def test_tree_shows_a_tree(run):
    """`tree` splits names at dots; a prefix and a depth limit the output."""
    code, printed, _ = run("tree", "net.ckpt")
    labels = [line.split()[1] for line in printed.splitlines()[1:] if line[0] in "├└"]

    assert (code, labels) == (0, ["conv1", "fc.weight", "step", "mask", "note", "empty", "table"])
    assert len(run("tree", "net.ckpt", "conv1", "--depth", "1")[1].splitlines()) == 2


def test_tree_as_json_is_complete(run):
    """`tree --json` has the count and bytes of each node."""
    found = json.loads(run("tree", "net.ckpt", "--json")[1])

    assert (found["count"], found["exact"]) == (len(MIXED), True)
    assert sum(child["nbytes"] for child in found["children"]) == found["nbytes"]


def test_tree_shows_refused_parameters(run, folder):
    """`tree` shows parameters that cannot be loaded."""
    (folder / "bad.ckpt").write_bytes(tensor_value("bad", [2], "Float32", b"123") + array_value("ok", counting((2,))))
    code, printed, _ = run("tree", "bad.ckpt")

    assert code == 0
    assert "refused" in printed


def test_stats_measures_names_and_patterns(run):
    """`stats` prints rows in the requested order, or sorted."""
    asked = run("stats", "net.ckpt", "step", "conv1.*")[1].splitlines()[1:]
    by_norm = run("stats", "net.ckpt", "step", "conv1.*", "--sort", "norm")[1].splitlines()[1:]

    assert [line.split()[0] for line in asked] == ["step", "conv1.weight", "conv1.bias"]
    assert [line.split()[0] for line in by_norm] == ["conv1.weight", "step", "conv1.bias"]


def test_stats_as_json_and_as_csv(run, folder):
    """`stats` writes JSON and CSV; for strings, it gives the reason for missing numbers."""
    rows = json.loads(run("stats", "net.ckpt", "--json")[1])
    code, printed, _ = run("stats", "net.ckpt", "--csv", "out.csv")

    assert {row["name"]: row["skipped"] for row in rows}["note"] == "a string"
    assert (code, printed) == (0, "")
    assert (folder / "out.csv").read_text().splitlines()[0].startswith("name,dtype,shape,count,min,max")


def test_stats_prints_csv(run, folder):
    """`--csv -` prints to stdout the text that it would write to a file."""
    run("stats", "net.ckpt", "--csv", "out.csv")

    assert run("stats", "net.ckpt", "--csv", "-")[:2] == (0, (folder / "out.csv").read_text())


def test_stats_tells_what_is_not_there(run):
    """A missing name, column or folder is an error."""
    assert "did you mean 'step'" in run("stats", "net.ckpt", "stepp")[2]
    assert run("stats", "net.ckpt", "--sort", "size")[0] == 2
    assert "cannot be written" in run("stats", "net.ckpt", "--csv", "no/such/folder.csv")[2]


@pytest.mark.parametrize("command", ["tree", "stats"])
def test_looking_at_an_encrypted_file_takes_a_key(command, run):
    """`tree` and `stats` take a key from a file."""
    assert run(command, "secret.ckpt", "--key-file", "key")[0] == 0
    assert run(command, "secret.ckpt")[0] == 1
