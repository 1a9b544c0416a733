"""Command lines: any command exits with 0, 1 or 2, gives a reason, and writes only in its folder.

A line has the system's form: words that end with a zero byte. Each runs in its own folder with small sound files and
damaged ones, pipes, links and odd names. Some lines are not run: those that ask for a path elsewhere (an absolute path,
`..`), except the paths in `ELSEWHERE`, which lead to nothing; those that start processes (`index --jobs`) or look for
a cluster; and those that name a pipe where a pipe is allowed.

A regular expression of `--rename` may take exponential time, as in `grep -P` or `sed`; Ctrl-C ends it. Names are short
here, so that no pattern takes long.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import checkpoints as made
import encryption
import safetensors_files
import typer.core
import typer.main

from fuzzing.mutation import CHANGES
from fuzzing.target import SHARDED, Change, Seed, Target, Violation, folder
from fuzzing.watching import listening, outside
from lazyckpt.cli import app
from lazyckpt.errors import ArgumentValueError

ARRAYS = {"layer0.weight": made.counting((2, 3)), "layer0.bias": made.counting((3,)), "é": made.counting((0, 2))}
PLAIN = made.checkpoint(made.MIXED)
SAFE = safetensors_files.file_of(ARRAYS, {"format": "pt"})
LISTING = b'{"weight_map": {"layer0.weight": "part.safetensors"}}'
FILES = {
    "net.ckpt": PLAIN,
    "other.ckpt": made.checkpoint(ARRAYS),
    "secret.ckpt": encryption.encrypted(PLAIN, block=1000),
    "cbc.ckpt": encryption.encrypted(PLAIN, "AES-CBC"),
    "net.safetensors": SAFE,
    "part.safetensors": SAFE,
    "net.safetensors.index.json": LISTING,
    "bad.safetensors.index.json": LISTING.replace(b"part", b"../gone"),
    "names.json": b'{"layer0.weight": [[2, 3], "Float32"], "more": [[1], "Int8"]}',
    "key": encryption.KEY,
    "cut.ckpt": PLAIN[:-7],
    "flipped.ckpt": PLAIN[:9] + b"\xff" + PLAIN[10:],
    "empty.ckpt": b"",
    "long.safetensors": b"\xff" * 16,
    "cut secret.ckpt": encryption.encrypted(PLAIN)[:40],
    "runs/a.ckpt": made.checkpoint(ARRAYS),
    "runs/[b-a].ckpt": made.checkpoint(ARRAYS),
    "-o.ckpt": PLAIN,
    "new\nline \x1b[31m.ckpt": PLAIN,
}
LINES = r"""
index net.ckpt
index runs *.ckpt --force --digest
index secret.ckpt --key-file key
ls net.ckpt
ls net.safetensors layer0 --sort size --json
ls runs *.weight --sort name
ls net.ckpt re:^conv step fc?.bias
ls net.safetensors.index.json
ls sharded --strategy strategy.ckpt
show net.ckpt conv1.weight
show net.safetensors layer0.bias --json
show secret.ckpt step --key-env FUZZ_KEY
find *.bias runs net.ckpt -l
find layer0.weight runs --json
tree net.ckpt --depth 2
tree runs layer --json
tree net.ckpt conv[1]* --depth 1
stats net.ckpt
stats net.safetensors layer0.* --sort max --csv table.csv
stats other.ckpt --json
plot sizes net.ckpt -o sizes.png
plot hist net.ckpt -o hist.svg fc.weight
match net.safetensors --names names.json --json
diff net.ckpt other.ckpt
doctor cut.ckpt --values --json
diff net.ckpt secret.ckpt *.weight --key-file-b key --json --jobs 1
diff other.ckpt runs/a.ckpt --names-only
doctor secret.ckpt --key-file key
verify net.ckpt cut.ckpt --jobs 1
verify secret.ckpt --key-file key --json
extract other.ckpt layer0.* -o some.ckpt --align 1 --mode 644
convert net.ckpt out.ckpt --align 64 --crc
convert other.ckpt out.safetensors --rename layer(\d+)=block.\1 --dtype Float16 --include layer* --exclude *.bias
convert other.ckpt out.ckpt --max-shard-size 64 --mode 600
convert other.ckpt out.ckpt --dtype *=BFloat16 --dtype re:bias$=keep --exclude layer1.*
convert secret.ckpt out.ckpt --key-file key --new-key-file key --enc-mode SM4-CBC
references net.ckpt -o refs.json --chunk 16 --inline 8
references other.ckpt -o refs.json --nested --strict
references other.ckpt -o refs.json --url memory://net.ckpt --include layer*
demo
--version
--help
convert --help
""".strip().splitlines()
ELSEWHERE = (  # where nothing can be written
    "/nowhere/net.ckpt",
    "memory://net.ckpt",
    "gopher://net/net.ckpt",
    "file://net.ckpt",
)
WORDS = (
    *(word for line in LINES for word in line.split()), *FILES, *ELSEWHERE, "link.ckpt", "dangling.ckpt", "loop.ckpt",
    "pipe.ckpt", "sharded", "runs/[b-a].ckpt", "[b-a]", "[!", "[[-]", "[!]a-]", "**", "**/*", "[", "?", "*", ".", "-",
    "", "--", "-h", "--jsn", "n" * 300, "n" * 5000, "a" * 255 + ".ckpt", "name\n", "\t", "%s", "{0}", "\x1b[31m",
    "\udcff", "\U0001f600",
)  # fmt: skip
VALUES = (
    "", "=", "-1", "0", "1", "3", "8", "64", "1e3", "nan", "9" * 20, "9" * 400, "9" * 5000, "1099511627776", "7777777",
    "1.5kib", "1e9GB", "1TB", "9" * 400 + "GB", "16", "777", "0", "name", "size", "max", "Float16", "BFloat16", "Int4",
    "String", "float32", "AES", "AES-CBC", "SM4-CBC", "(=", ".*=", ".=\\9", "^=\\g<x>", "(?P<a>.)=\\g<a>\\g<a>", "$=x",
    "layer0.weight=layer0.bias", "layer*=Float16", "re:(=Float16", "=keep", "re:(", "re:",
    "[[:x:]]=y", "(?i)L=\ud800", "a{9999999999}=", "(?<=a+)b=", ".=\x1b[31m", ".=\\n",
    "[b-a]", "[!", "*", "l*", "[[-]", "key", "net.ckpt", "runs", "names.json", "FUZZ_KEY", "HOME", "A=B", "out.bin",
    "gone/out.ckpt", "link.ckpt", "dangling.ckpt", "loop.ckpt", "pipe.ckpt", ".safetensors", "refs.parquet",
    "refs.json", "memory://", "memory://net.ckpt", "s3://{{x}}/", "strategy.ckpt", "sharded", "\x1b[31m", "\udcff",
    "n" * 300,
)  # fmt: skip
# What may well be a pipe (a shell's <(…)), and is then waited for.
WAITING = {"--key-file", "--key-file-b", "--new-key-file", "--names", "--csv", "plot"}
_AWAY = re.compile(r"(^|[=:]|^-\w+)/|(^|[/=:]|^-\w+)\.\.(/|$)")
_PROCESSES = re.compile(r"-\w*j|--j|--sc")
_WRITING = {"convert", "extract", "plot", "references", "stats"}  # commands with an option to replace existing files
_SILENT = {"find"}  # commands that may exit with 1 silently, as grep does


def line_seeds() -> list[Seed]:
    """Lines that mean something. The places that matter are the words' first bytes, and their last."""
    packed = [_packed(line.split()) for line in LINES]
    return [Seed(data, [place for place, byte in enumerate(b"\0" + data[:-1]) if not byte]) for data in packed]


def _packed(words: Iterable[str]) -> bytes:
    return b"".join(_bytes_of(word) + b"\0" for word in words)


def _bytes_of(word: str) -> bytes:
    """A word as a shell would hand it over; half of a surrogate pair as the bytes that it never should be."""
    return re.sub(rb"\0", b"", word.encode("utf-8", "surrogatepass"))


def run_line(data: bytes) -> None:
    """Run a line in a folder of its own."""
    words = [os.fsdecode(word) for word in data.removesuffix(b"\0").split(b"\0")]
    if any(_AWAY.search(word) and word not in ELSEWHERE for word in words):
        raise ArgumentValueError("the line asks for a place elsewhere")
    if "index" in words and any(map(_PROCESSES.match, words)):
        raise ArgumentValueError("the line starts processes")
    if any("pipe" in word for word in words) and WAITING & {word.partition("=")[0] for word in words}:
        raise ArgumentValueError("the line asks to wait for a pipe")
    place = _laid_out()
    with _afresh(place) as changed:
        with _standing_in(place), listening() as heard:
            code, printed = _ended(words)
        changed.update(heard.changed)
        if not _WRITING & set(words):
            _compare(place)
    strays = outside(changed, place, folder() / "cache", _around() / "temporary")
    if strays:
        raise Violation(f"{strays[0]!r} was changed, outside the folder")
    _judge(words, code, printed)


def _compare(place: Path) -> None:
    for name, content in FILES.items():
        if (place / name).read_bytes() != content:
            raise Violation(f"{name!r} was changed by a command that only reads")


def _ended(words: list[str]) -> tuple[object, str]:
    """A command's exit code and all its output, encoded as for a terminal, although there is none."""
    printed = io.BytesIO()
    out, err = (
        io.TextIOWrapper(printed, "utf-8", errors, write_through=True) for errors in ("strict", "backslashreplace")
    )
    before, sys.stdin = sys.stdin, io.StringIO()
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            _command()(words)
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.stdin = before
        for stream in (out, err):
            stream.detach()
    return code, printed.getvalue().decode(errors="replace")


@functools.cache
def _command() -> typer.core.TyperGroup:
    return typer.main.get_command(app)


def _judge(words: list[str], code: object, printed: str) -> None:
    if code not in (0, 1, 2):
        raise Violation(f"the exit code is {code}")
    if "Traceback (most recent call last)" in printed:
        raise Violation("a traceback is printed")
    if code and not printed.strip() and not _SILENT & set(words):
        raise Violation("it fails and does not say why")
    if code:
        raise ArgumentValueError(printed[-200:])


@contextlib.contextmanager
def _afresh(place: Path) -> Iterator[set[str]]:
    """Takes paths that were changed. If there are any, or the block fails, the folder is removed."""
    changed = {str(place)}
    try:
        yield changed
        changed.remove(str(place))
    finally:
        if changed:
            shutil.rmtree(place)


@contextlib.contextmanager
def _standing_in(place: Path) -> Iterator[None]:
    """Change to a folder, with the environment that commands read."""
    before, temporary, given = os.getcwd(), tempfile.tempdir, dict(os.environ)
    os.chdir(place)
    tempfile.tempdir = str(_around() / "temporary")
    os.environ |= {"FUZZ_KEY": f"hex:{encryption.KEY.hex()}", "MPLCONFIGDIR": tempfile.tempdir, "COLUMNS": "80"}
    try:
        yield
    finally:
        os.chdir(before)
        tempfile.tempdir = temporary
        os.environ.clear()
        os.environ.update(given)


def _laid_out() -> Path:
    """The folder, as it is at first."""
    place = _around() / "work"
    if place.exists():
        return place
    (place / "runs").mkdir(parents=True)
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    shutil.copytree(SHARDED / "scalar", place / "sharded")
    shutil.copy(SHARDED / "scalar" / "strategy.ckpt", place)
    os.mkfifo(place / "pipe.ckpt")
    os.symlink("other.ckpt", place / "link.ckpt")
    os.symlink("gone.ckpt", place / "dangling.ckpt")
    os.symlink("loop.ckpt", place / "loop.ckpt")
    return place


@functools.cache
def _around() -> Path:
    """Where the folder is, and one for temporary files."""
    around = folder() / f"commands-{os.getpid()}"  # one for each batch, which has its own process
    around.mkdir()
    (around / "temporary").mkdir()
    return around


def _words(data: bytearray) -> list[bytes]:
    return bytes(data).removesuffix(b"\0").split(b"\0")


def _set_words(data: bytearray, words: list[bytes]) -> None:
    data[:] = b"".join(word + b"\0" for word in words)


def _replaced(data: bytearray, _: int, pick: random.Random, __: list[Seed]) -> None:
    """Another word, of the command's own seldom."""
    words = _words(data)
    words[pick.randrange(pick.random() < 0.95, len(words)) if len(words) > 1 else 0] = _bytes_of(pick.choice(WORDS))
    _set_words(data, words)


def _inserted(data: bytearray, _: int, pick: random.Random, __: list[Seed]) -> None:
    words = _words(data)
    words.insert(pick.randrange(1, len(words) + 1), _bytes_of(pick.choice(WORDS)))
    _set_words(data, words)


def _option(data: bytearray, _: int, pick: random.Random, __: list[Seed]) -> None:
    """One of the command's own options, with any value."""
    words = _words(data)
    options = _options().get(words[0].decode(errors="replace"))
    if options:
        name, is_flag = pick.choice(options)
        words.insert(pick.randrange(1, len(words) + 1), _bytes_of(name if is_flag else f"{name}={pick.choice(VALUES)}"))
        _set_words(data, words)


@functools.cache
def _options() -> dict[str, list[tuple[str, bool]]]:
    """Each command's options, and which of them take no value."""
    return {
        name: [
            (parameter.opts[0], parameter.is_flag)
            for parameter in command.params
            if parameter.param_type_name == "option" and parameter.opts[0] != "--scheduler"
        ]
        for name, command in _command().commands.items()
    }


def _left_out(data: bytearray, _: int, pick: random.Random, __: list[Seed]) -> None:
    words = _words(data)
    del words[pick.randrange(len(words))]
    _set_words(data, words)


def _exchanged(data: bytearray, _: int, pick: random.Random, __: list[Seed]) -> None:
    words = _words(data)
    one, other = pick.randrange(len(words)), pick.randrange(len(words))
    words[one], words[other] = words[other], words[one]
    _set_words(data, words)


def _joined(data: bytearray, _: int, pick: random.Random, seeds: list[Seed]) -> None:
    """The words of another line behind these."""
    _set_words(data, [*_words(data), *_words(bytearray(pick.choice(seeds).data))[1:]])


BY_WORD: tuple[Change, ...] = (*(_replaced,) * 4, *(_option,) * 8, _inserted, _left_out, _exchanged, _joined)
TARGETS = {"commands": Target(line_seeds, run_line, changes=(*CHANGES, *BY_WORD * 10), apart=True)}
