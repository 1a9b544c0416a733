"""`lazyckpt ls`, `find` and `show`: columns and JSON, patterns, what is refused, and completion."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, counting, string_value, tensor_value
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
    ("patterns", "names"),
    [
        (["*.bias"], ["conv1.bias"]),
        (["conv1.*"], ["conv1.weight", "conv1.bias"]),
        (["?ask"], ["mask"]),
        (["re:^(note|step)$"], ["step", "note"]),
        (["table", "conv1.b"], ["conv1.bias", "table"]),
    ],
)
def test_ls_takes_patterns(patterns, names, run):
    """`ls` accepts globs, regular expressions and prefixes, and lists in file order."""
    assert [facts["name"] for facts in json.loads(run("ls", "net.ckpt", *patterns, "--json")[1])] == names


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "net.ckpt", "conv1.bais"],
        ["tree", "net.ckpt", "*.bais"],
        ["stats", "net.ckpt", "step", "*.bais"],
        ["show", "net.ckpt", "conv1.bais"],
        ["plot", "hist", "net.ckpt", "conv1.bais", "-o", "x.png"],
        ["find", "*.bais", "net.ckpt"],
        ["extract", "net.ckpt", "conv1.bais", "-o", "x.ckpt"],
        ["convert", "net.ckpt", "x.ckpt", "--include", "*.bais"],
        ["convert", "net.ckpt", "x.ckpt", "--exclude", "conv1.bais"],
        ["convert", "net.ckpt", "x.ckpt", "--rename", "conv1.bais=b"],
        ["references", "net.ckpt", "-o", "x.json", "--include", "*.bais"],
    ],
    ids=" ".join,
)
def test_a_pattern_that_matches_nothing_is_an_error_of_every_command(arguments, run):
    """Exit code 1, a similar name or pattern on stderr, nothing on stdout, and no file."""
    code, printed, complaints = run(*arguments)

    assert (code, printed) == (1, "")
    assert re.search(r"no parameter.*did you mean '(conv1|\*)\.bias'", complaints)
    assert not [name for name in os.listdir() if name.startswith("x.")]


def test_a_second_file_where_names_are_expected_is_recognised(run):
    """`ls A B` says that B is a file."""
    code, printed, complaints = run("ls", "net.ckpt", "odd.ckpt")

    assert (code, printed) == (1, "")
    assert "no parameter 'odd.ckpt' ('odd.ckpt' is a file or folder: " in complaints


def test_show_takes_a_pattern_of_one_name(run):
    """A pattern that several names match is an error that lists them."""
    assert json.loads(run("show", "net.ckpt", "*.bias", "--json")[1])["name"] == "conv1.bias"
    assert "'conv1.*' matches 2 parameters ('conv1.weight', 'conv1.bias')" in run("show", "net.ckpt", "conv1.*")[2]


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
