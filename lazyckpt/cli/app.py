"""The parts that commands share: application, common options, keys, errors and JSON.

Modules that only some commands need (rich, the code that reads values) are imported on first use, so that a listing
starts fast.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from lazyckpt.display import json_text, one_line, printable_lines, printable_path
from lazyckpt.errors import ArgumentValueError, EncryptedFile, LazyCkptError, MissingName
from lazyckpt.formats import ENDINGS
from lazyckpt.index import Index
from lazyckpt.index.batch import find_checkpoints
from lazyckpt.index.build import build_index
from lazyckpt.runtime.os_errors import READ, os_errors
from lazyckpt.sources.encryption.keys import NO_KEY, OWN_MODE, DeferredKey, KeyReference, Secret, key_from_text
from lazyckpt.sources.paths import file_name, is_folder, is_listing, is_url

if TYPE_CHECKING:
    from rich.progress import Progress

    from lazyckpt.checkpoint import Checkpoint

_ANY_NAME: Final = "lazyckpt.any_name"
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_MOST_BYTES: Final = 2**63  # of a file
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", re.IGNORECASE)


class _Commands(TyperGroup):
    """The commands. An argument may be a file name that a pattern of the shell gave, so errors escape it."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _printable_usage():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _printable_usage():
            return super().invoke(ctx)


@contextmanager
def _printable_usage() -> Iterator[None]:
    """Escape the message of an error of usage."""
    try:
        yield
    except Exception as error:
        if isinstance(said := getattr(error, "message", None), str):  # a usage error: typer does not export its class
            vars(error)["message"] = one_line(said)
        raise


app = typer.Typer(
    cls=_Commands,
    name="lazyckpt",
    help="Inspect, compare and convert MindSpore checkpoints without loading them.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Files = Annotated[
    list[str], typer.Argument(help="Checkpoints, folders to search, or patterns such as 'runs/**/*.ckpt'.")
]
PATTERNS: Final = "an exact name, a glob ('*.bias'), a prefix, or re:REGEX, in this order"  # the end of a help text
Names = Annotated[
    list[str] | None,
    typer.Argument(help=f"Only these (default: all): {PATTERNS}.", metavar="NAMES", show_default=False),
]
File = Annotated[str, typer.Argument(help="The checkpoint: a file, a listing, or a folder.", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyFile = Annotated[
    str | None,
    typer.Option("--key-file", help="The file that holds the key of an encrypted checkpoint.", metavar="PATH"),
]
Strategy = Annotated[
    list[str],
    typer.Option(
        help="The strategy file, or a folder of them, by which the rank_<N> folders in FILE are merged (repeatable).",
        metavar="PATH",
        show_default=False,
    ),
]
Step = Annotated[
    str | None,
    typer.Option(
        help="The step to open in a folder of a run or of ranks (10, or 1_10 for epoch and step; default: the newest"
        " that is whole).",
        metavar="STEP",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
KeyVariable = Annotated[
    str | None, typer.Option("--key-env", help="The environment variable that holds the key.", metavar="NAME")
]


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text. What names could do to a terminal is escaped, whatever the caller forgot."""
    typer.echo(printable_lines(text), err=err, nl=nl)


@contextmanager
def errors_as_exit_codes(code: int = 1) -> Iterator[None]:
    """Turn a lazyckpt error into one line on stderr and an exit code."""
    try:
        yield
    except LazyCkptError as error:
        echo(f"lazyckpt: {error}{one_line(_advice(error))}", err=True)
        raise typer.Exit(code) from error
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(code) from None


def _advice(error: LazyCkptError) -> str:
    """A hint for a second file where names are expected; else nothing."""
    if isinstance(error, MissingName) and isinstance(error.name, str) and error.name and os.path.exists(error.name):
        return f" ({error.name!r} is a file or folder: after the checkpoint, names of its parameters are expected)"
    return ""


def take_any_name() -> None:
    """Let stdout print any file name. One that is not valid UTF-8 is printed as its original bytes."""
    codecs.register_error(_ANY_NAME, _bytes_or_escape)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ANY_NAME)


def _bytes_or_escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encoding error handler. Surrogate escapes become their original bytes, other characters an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def key_of(path: str, reference: KeyReference, optional: bool = False) -> tuple[DeferredKey, str]:
    """The key and mode arguments for a file; the key is read only if the file is encrypted.

    Args:
        path: the file, as the user typed it.
        reference: where to find the key; if it is empty, the user is asked at a terminal.
        optional: accept a key for a file that is not encrypted.
    """

    def find(_: str, mode: str) -> Secret:
        key = reference.read()
        if key is None:
            if not sys.stdin.isatty():
                raise EncryptedFile(f"the file is encrypted ({mode}): give --key-file or --key-env", file=path)
            key = Secret(key_from_text(typer.prompt(f"Key of {printable_path(path)} ({mode})", hide_input=True)))
        return key

    return DeferredKey(find, insists=not optional and reference != NO_KEY), OWN_MODE


def loaded(path: str, reference: KeyReference, strategy: list[str] = [], step: str | None = None) -> Checkpoint:
    """Open a checkpoint with the key from a reference: a file, a listing, or a folder of parts, steps or ranks."""
    from lazyckpt.loading import open_checkpoint

    if is_several(path, strategy, step):
        return distributed(path, strategy, step, reference)
    return open_checkpoint(path, *key_of(path, reference))


def opened_whole(path: str, reference: KeyReference, strategy: list[str] = [], step: str | None = None) -> Checkpoint:
    """Open a checkpoint with all its entries, including those that cannot be loaded."""
    from lazyckpt.loading import open_all

    if is_several(path, strategy, step):
        return distributed(path, strategy, step, reference)
    return open_all(path, *key_of(path, reference))


def indexed(path: str, reference: KeyReference, strategy: list[str], step: str | None) -> Index:
    """Open the index of a checkpoint: a file, a listing, or a folder of parts, steps or ranks."""
    if is_several(path, strategy, step):
        return distributed(path, strategy, step, reference).index
    index = loaded(path, reference).index if is_listing(path) else build_index(path, *key_of(path, reference))
    return index if len(index) else loaded(path, reference).index  # of nothing: raises, with the reason


def is_several(path: str, strategy: list[str], step: str | None) -> bool:
    """Whether a checkpoint is in several files of a folder. Cost: a request for a URL, unless its name is a file's."""
    named_as_file = is_url(path) and (file_name(path).endswith(ENDINGS) or is_listing(path))
    return bool(strategy) or step is not None or (not named_as_file and is_folder(path))


def distributed(
    folder: str, strategy: list[str], step: str | None, reference: KeyReference | None = None, optional: bool = False
) -> Checkpoint:
    """Open the files in a folder as one checkpoint, and say on stderr which ones were taken.

    Without a reference, no key is looked for.
    """
    from lazyckpt.sharding.opening import open_folder

    key, mode = (None, OWN_MODE) if reference is None else key_of(folder, reference, optional)
    checkpoint = open_folder(folder, strategy or None, key, mode, step)
    taken = checkpoint._access.reader.file.taken
    if taken is not None:
        echo(f"lazyckpt: opened {one_line(taken.what)}", err=True)
    return checkpoint


def files_in(patterns: list[str]) -> list[str]:
    """The files of paths, folders and patterns; of folders also the parts that a set in them lacks.

    A command that takes each file by itself fails for these as for a file that was given and does not exist.

    Raises:
        MissingFile: one of them names nothing.
    """
    from lazyckpt.sharding.missing_parts import missing_parts

    found: dict[str, None] = {}
    for pattern in patterns:
        files = find_checkpoints([pattern])
        found.update(dict.fromkeys([*files, *(missing_parts(pattern, files) if is_folder(pattern) else [])]))
    return list(found)


def byte_bar() -> Progress:
    """A progress bar on stderr that counts bytes and disappears at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=(console := Console(stderr=True)), transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def bytes_of(option: str, given: str) -> int:
    """Parse the value of an option as a number of bytes."""
    match = _SIZE.fullmatch(given.strip())
    if match is None:
        raise ArgumentValueError(f"{option} {given!r}: expected a number of bytes, such as 5GB or 512MiB")
    size = float(match[1]) * _UNITS[(match[2] or "").lower()]
    if size > _MOST_BYTES:
        raise ArgumentValueError(f"{option} {given[:40]!r}: no file can be this large")
    return int(size)


def read_json(path: str) -> Any:
    """Parse a JSON file."""
    try:
        with os_errors(path, READ), open(path, encoding="utf-8") as file:
            return json.load(file)
    except LazyCkptError:
        raise
    except (ValueError, RecursionError) as error:
        raise LazyCkptError(f"{path} cannot be read as JSON: {error}") from error


def print_report(report: Any, as_json: bool) -> None:
    """Print a report as text or as JSON."""
    if as_json:
        echo_json(report.to_dict())
    else:
        echo(str(report))


def echo_json(data: Any) -> None:
    """Print JSON; numbers that JSON cannot express (nan, inf) become strings."""
    echo(json_text(_finite(data)))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return str(data) if isinstance(data, float) and not math.isfinite(data) else data
