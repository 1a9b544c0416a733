"""Names and texts that strangers choose: whatever is printed, logged, raised or shown, no terminal obeys it."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import array_value, checkpoint, map_value, string_value, tensor_value
from forging import forged
from safetensors_files import file_of, item, raw
from typer.main import get_command

import lazyckpt
from lazyckpt import cli, errors
from lazyckpt.cli.app import byte_bar
from lazyckpt.cli.listing import complete_name
from lazyckpt.errors import CorruptFile, LazyCkptError
from lazyckpt.explore.find import find
from lazyckpt.index.batch import build_indexes
from lazyckpt.loading import open_all
from lazyckpt.runtime import log

# Colours, 8-bit controls, a title, line ends, overrides of direction, markup of rich; after each line end a false line.
EVIL = "a\x1b[31m\x9b31m\x1b]0;t\x07\x08\x7f\r\nFORGED\u2028FORGED\u202e\u2066\u200b[red]b"
FILE = f"{EVIL}.ckpt"
SAFETENSORS = f"{EVIL}.safetensors"
LISTING = f"{EVIL}.ckpt.index.json"


def danger(text):
    """The characters of a text that a terminal would obey, and the lines that a name made."""
    return sorted({c for c in text if not c.isprintable() and c != "\n"}), re.findall("(?m)^FORGED.*", text)


SAFE = ([], [])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, whose name is hostile as well, with files of every kind."""
    inside = tmp_path / EVIL
    inside.mkdir()
    monkeypatch.chdir(inside)
    values = [
        array_value(EVIL, np.arange(6, dtype=np.float32)),
        array_value(f"{EVIL}.1.w", np.ones(3)),
        string_value(f"{EVIL}.s", EVIL),
        map_value(f"{EVIL}.m", [np.ones(2, np.int32), np.ones((2, 2), np.float32), np.ones(2, np.int32)]),
    ]
    (inside / FILE).write_bytes(b"".join(values))
    (inside / "other.ckpt").write_bytes(checkpoint({EVIL: np.zeros(6, np.float32), "more\x1b": np.ones(2)}))
    (inside / "refused.ckpt").write_bytes(b"".join([*values, tensor_value(f"{EVIL}.r", [2], EVIL, b"ab")]))
    (inside / SAFETENSORS).write_bytes(file_of({EVIL: np.ones(3, np.float32)}, {EVIL: EVIL, "format": EVIL}))
    (inside / "odd.safetensors").write_bytes(raw({EVIL: item(EVIL, [2], 0, 2)}, b"ab"))
    (inside / "cut\x1b.ckpt").write_bytes(values[0][:-3])
    (inside / "no\x1b.json").write_text(f"{{{EVIL}")
    (inside / "names\x1b.json").write_text(json.dumps([EVIL, f"{EVIL}.2", f"{EVIL}.s"]))
    (inside / LISTING).write_text(json.dumps({"weight_map": {EVIL: f"{EVIL}.gone.ckpt"}}))
    (inside / f"{EVIL}2.ckpt.index.json").write_text(json.dumps({"weight_map": {EVIL: f"../{EVIL}"}}))
    return inside


GONE = f"gone{FILE}"
BROKEN = (
    GONE,
    "cut\x1b.ckpt",
    LISTING,
    f"{EVIL}2.ckpt.index.json",
    "odd.safetensors",
    "refused.ckpt",
    ".",
    "no\x1b.json",
)
ARGUMENTS = {
    "ls": [[FILE], [FILE, "--json"], [FILE, GONE], [SAFETENSORS]],
    "show": [[FILE, EVIL], [FILE, f"{EVIL}.s"], [FILE, f"{EVIL}.m", "--json"], [FILE, GONE], [SAFETENSORS, EVIL]],
    "tree": [[FILE], [FILE, "--json"], ["refused.ckpt"]],
    "stats": [[FILE], [FILE, "--json"], [FILE, "--csv", "-"], [FILE, GONE], [SAFETENSORS]],
    "plot": [
        ["hist", FILE, "-o", f"{EVIL}.png", GONE],
        ["hist", FILE, "-o", f"{EVIL}.odd", EVIL],
        ["x\x1b", FILE, "-o", "p"],
    ],
    "find": [[EVIL, FILE], [EVIL, FILE, "-l"], [EVIL, ".", "--json"], [f"{EVIL}*", *BROKEN], [GONE, FILE]],
    "diff": [[FILE, "other.ckpt"], [FILE, "other.ckpt", "--json"], [FILE, "refused.ckpt"]],
    "match": [[FILE, "--names", "names\x1b.json"], [FILE, "--names", "no\x1b.json"], [FILE, "--names", GONE]],
    "doctor": [[FILE], [FILE, "--values"], [FILE, "--json"], [SAFETENSORS]],
    "verify": [[FILE], [FILE, "--json"], [SAFETENSORS]],
    "index": [[FILE, "--digest"], [SAFETENSORS], [FILE, SAFETENSORS]],
    "convert": [
        [FILE, f"{EVIL}.out.safetensors"],
        [FILE, f"{EVIL}.set.ckpt", "--max-shard-size", "20"],
        [FILE, FILE],
        [FILE, "out.ckpt", "--include", GONE],
        [FILE, "out.ckpt", "--rename", f"{EVIL}["],
    ],
    "extract": [[FILE, EVIL, "-o", f"{EVIL}.new.ckpt"], [FILE, GONE, "-o", "x.ckpt"], [FILE, EVIL, "-o", FILE]],
    "references": [
        [FILE, "-o", f"{EVIL}.json"],
        [SAFETENSORS, "-o", f"{EVIL}2.json"],
        [FILE, "-o", "4.json", "--strict"],
    ],
    "demo": [[f"{EVIL}/none"]],
}
AFTER = {  # what follows the name of a broken file
    "show": [EVIL],
    "diff": [FILE],
    "match": ["--names", "names\x1b.json"],
    "convert": ["x.ckpt"],
    "extract": [EVIL, "-o", "y.ckpt"],
    "references": ["-o", f"{EVIL}3.json"],
}
for _command, _lists in ARGUMENTS.items():
    _lists += [[_each, *AFTER.get(_command, [])] for _each in BROKEN if _command not in ("plot", "find", "demo")]
USAGE = [[f"-\x1b{EVIL}"], [FILE, f"--{EVIL}"], [FILE, FILE, FILE, FILE, FILE, FILE], []]


def test_every_command_is_walked():
    """A new command needs a line here."""
    assert sorted(ARGUMENTS) == sorted(get_command(cli.app).commands)


@pytest.mark.parametrize("command", sorted(ARGUMENTS))
def test_commands_print_nothing_that_a_name_chose(command, run, caplog):
    """Neither output, nor errors, nor logs hold a control character but line ends of the command's own."""
    caplog.set_level(logging.DEBUG, "lazyckpt")
    found = {}
    for arguments in [*ARGUMENTS[command], *USAGE]:
        _, printed, complaints = run(command, *arguments)
        found[repr(arguments)] = danger(printed), danger(complaints.replace("\n\t", "\n")), danger(caplog.text)

    assert {arguments: bad for arguments, bad in found.items() if bad != (SAFE, SAFE, SAFE)} == {}


def test_unknown_commands_are_printable(run):
    """A pattern of the shell may give a file name in the place of a command."""
    assert [danger(text) for text in run(f"{EVIL}")[1:]] == [SAFE, SAFE]


ERRORS = sorted(
    (each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, LazyCkptError)),
    key=lambda each: each.__name__,
)


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_are_printable(kind):
    """The message of any error is one printable line, or two of which the second is ours."""
    made = [kind(EVIL)]
    if issubclass(kind, errors.FileFault):
        made.append(kind(EVIL, file=EVIL, parameter=EVIL, offset=1))

    assert [danger(str(error).replace("\nFORGED", "")) for error in made] == [SAFE] * len(made)
    assert kind is errors.ChoiceFunctionFailed or not any("\n" in str(error) for error in made)


def test_logs_are_printable(caplog):
    """Values in a log line cannot end it."""
    caplog.set_level(logging.DEBUG)
    for say in (log.info, log.warning):
        say("%s and %d of %s", EVIL, 3, CorruptFile(EVIL, file=EVIL))
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("%s", EVIL)

    assert [danger(record.getMessage()) for record in caplog.records] == [SAFE] * 3
    assert not any("\n" in record.getMessage() for record in caplog.records)


def views(opened):
    """Every public object that shows a checkpoint, its values or its index."""
    yield from (opened, opened.index, opened.tree(), opened.tree(1), opened.stats(), opened.stats().sort("norm"))
    yield from (opened[name] for name in opened)
    yield from opened.index.entries()
    yield from opened.stats()


@pytest.mark.parametrize("file", [FILE, SAFETENSORS], ids=["ckpt", "safetensors"])
def test_objects_show_nothing_that_a_name_chose(file):
    """Texts, pages and JSON of checkpoints, parameters, indexes, trees and tables are printable."""
    found = {}
    with lazyckpt.load_checkpoint(file, format=file.rpartition(".")[2]) as opened:
        shown = [*views(opened), *find(EVIL, [file, GONE]), *build_indexes([file, GONE])]
        shown += [lazyckpt.match([EVIL, GONE], opened), lazyckpt.diff(file, "other.ckpt"), lazyckpt.verify(file)]
        shown += [lazyckpt.diagnose(file), lazyckpt.verify("refused.ckpt"), lazyckpt.diagnose("refused.ckpt")]
        for one in shown:
            texts = [repr(one), *([] if isinstance(one, str) else [str(one)])]
            texts += [getattr(one, how)() for how in ("_repr_html_", "to_json", "summary") if hasattr(one, how)]
            found |= {f"{type(one)} {text[:40]!r}": danger(text) for text in texts if isinstance(text, str)}
    found["closed"] = danger(repr(opened))

    assert {where: bad for where, bad in found.items() if bad != SAFE} == {}


def test_progress_shows_names_as_they_are():
    """Markup in a file name is text, not a colour."""
    bar = byte_bar()
    bar.add_task("[red]x[/red]", total=None)

    assert bar.columns[0].render(bar.tasks[0]).plain == "[red]x[/red]"


def test_completion_offers_printable_names_only(folder):
    """The shell is not given a name that it could obey."""
    names = [EVIL, "plain.w", "plain.b;c", "plain.`x`", "plain.$(x)", "plain.'x", 'plain."x', "plain.\\x"]
    (folder / "net.ckpt").write_bytes(checkpoint({name: np.ones(1) for name in names}))
    lazyckpt.build_index("net.ckpt").close()

    context = SimpleNamespace(params={"file": "net.ckpt"})

    assert [complete_name(context, prefix) for prefix in ("", "plain.w", "a")] == [["plain.w"], ["plain.w"], []]


def test_a_reason_in_a_forged_index_is_not_repeated(run):
    """A text that the package does not write as a reason is replaced by one that names the index."""
    path = "refused.ckpt"
    lazyckpt.build_index(path).close()
    with open_all(path) as opened:
        reason = opened.entry(f"{EVIL}.r").reason
    replaced = 0
    with forged(f"{path}.lmdb") as transaction:
        for key, value in list(transaction.cursor()):
            if reason.encode() in value:
                false = "\x1b[2J\nFORGED: run this".ljust(len(reason)).encode()
                replaced += transaction.put(key, value.replace(reason.encode(), false))
    with open_all(path) as opened:
        shown = opened.entry(f"{EVIL}.r").reason

    assert (replaced, "FORGED" in shown, danger(shown)) == (1, False, SAFE)
    assert "FORGED: run" not in "".join(map(str, run("ls", path)))


def test_file_names_that_are_not_utf_8_stay_bytes_but_controls(folder):
    """What a pipe gets finds the file, except bytes that a terminal of 8 bits obeys."""
    for name in (b"mod\xe8le.ckpt", b"x\x9b31m.ckpt"):
        (folder / os.fsdecode(name)).write_bytes(checkpoint({"w": np.ones(1)}))
    command = [sys.executable, "-m", "lazyckpt", "find", "-l", "w", b"mod\xe8le.ckpt", b"x\x9b31m.ckpt"]
    environment = {**os.environ, "PYTHONPATH": str(Path(lazyckpt.__file__).parents[1])}
    printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout

    assert printed.splitlines() == [b"mod\xe8le.ckpt", b"x\\udc9b31m.ckpt"]


def test_reasons_are_the_same_with_and_without_an_index():
    """One that quotes a hostile dtype is printable from the start, so that it is not taken for forged."""
    file = "refused.ckpt"
    lazyckpt.build_index(file).close()
    with open_all(file) as stored, open_all(file, index="memory") as built:
        reasons = [[entry.reason for entry in opened.index.entries() if entry.reason] for opened in (stored, built)]

    assert reasons[0] == reasons[1]
    assert [danger(reason) for reason in reasons[0]] == [SAFE]
    assert "no reason" not in reasons[0][0]
