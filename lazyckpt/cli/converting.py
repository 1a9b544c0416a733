"""`lazyckpt convert` and `lazyckpt extract`: write all or some values to another file."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lazyckpt.cli.app import (
    File,
    Force,
    KeyFile,
    KeyVariable,
    Strategy,
    app,
    byte_bar,
    bytes_of,
    distributed,
    errors_as_exit_codes,
    key_of,
    no_such_name,
)
from lazyckpt.display import human_size
from lazyckpt.errors import ArgumentValueError, LazyCkptError
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import KeyReference
from lazyckpt.sources.paths import is_folder

if TYPE_CHECKING:
    from lazyckpt.checkpoint import Checkpoint

CACHE_BYTES: Final = 64 * 2**20  # one decrypted block: values are read in file order

Out = Annotated[str, typer.Argument(help="The file to write: .ckpt or .safetensors.", metavar="OUT")]
Include = Annotated[
    list[str], typer.Option(help="Keep only names that match this pattern (repeatable).", metavar="GLOB")
]
Exclude = Annotated[
    list[str], typer.Option(help="Leave out names that match this pattern (repeatable).", metavar="GLOB")
]
Renames = Annotated[
    list[str],
    typer.Option(
        "--rename",
        help="Replace a regular expression in names, as re.sub does: '^backbone[.]=' or 'layer(\\d+)=layers.\\1'"
        " (repeatable, applied in order).",
        metavar="PATTERN=REPLACEMENT",
    ),
]
DType = Annotated[
    str | None, typer.Option(help="Convert floating-point tensors to this dtype, such as Float16.", metavar="TYPE")
]
Align = Annotated[int, typer.Option(help="The alignment of payloads in bytes; 1 writes the same bytes as MindSpore.")]
Crc = Annotated[bool, typer.Option("--crc", help="Store a checksum.")]
Mode = Annotated[str, typer.Option(help="The permissions of the file, in octal.", metavar="MODE")]
NewKeyFile = Annotated[
    str | None, typer.Option("--new-key-file", help="Encrypt with the key in this file.", metavar="PATH")
]
NewKeyVariable = Annotated[
    str | None, typer.Option("--new-key-env", help="Encrypt with the key in this environment variable.", metavar="NAME")
]
EncMode = Annotated[str, typer.Option(help="The encryption mode: AES-GCM, AES-CBC or SM4-CBC.", metavar="MODE")]
InPlace = Annotated[
    bool,
    typer.Option("--in-place", help="Allow OUT to be FILE, even if some values are left out and thereby lost."),
]
ShardSize = Annotated[
    str | None,
    typer.Option(help="Write shards of at most this size (5GB, 512MiB) and a listing (.index.json).", metavar="SIZE"),
]


@app.command()
def convert(
    file: File,
    out: Out,
    include: Include = [],
    exclude: Exclude = [],
    rename: Renames = [],
    dtype: DType = None,
    max_shard_size: ShardSize = None,
    align: Align = 64,
    crc: Crc = False,
    new_key_file: NewKeyFile = None,
    new_key_env: NewKeyVariable = None,
    enc_mode: EncMode = DEFAULT_MODE,
    mode: Mode = "400",
    force: Force = False,
    in_place: InPlace = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    strategy: Strategy = [],
) -> None:
    """Convert a checkpoint to .ckpt or .safetensors. The copy can be encrypted, renamed, cast or divided into shards.

    Values are copied in pieces of 8 MiB. An existing OUT needs --force, and is replaced once the new file is complete.
    """
    with errors_as_exit_codes(), _opened(file, strategy, KeyReference(key_file, key_env)) as checkpoint:
        names = _matching(list(checkpoint), include, exclude)
        new_key = KeyReference(new_key_file, new_key_env).read()
        _write(
            checkpoint, out, names,
            rename=_renaming(rename), dtype=dtype, crc_check=crc, align=align, enc_mode=enc_mode,
            enc_key=None if new_key is None else new_key.reveal(), mode=_permissions(mode),
            max_shard_size=None if max_shard_size is None else bytes_of("--max-shard-size", max_shard_size),
            overwrite=force, in_place=in_place,
        )  # fmt: skip


@app.command()
def extract(
    file: File,
    names: Annotated[list[str], typer.Argument(help="Names, or patterns such as 'encoder.*'.", metavar="NAMES…")],
    out: Annotated[str, typer.Option("--out", "-o", help="The file to write.", metavar="OUT")],
    align: Align = 64,
    mode: Mode = "400",
    force: Force = False,
    in_place: InPlace = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    strategy: Strategy = [],
) -> None:
    """Write some parameters to another file, reading only these."""
    with errors_as_exit_codes(), _opened(file, strategy, KeyReference(key_file, key_env)) as checkpoint:
        wanted: dict[str, None] = {}
        for name in names:
            found = [name] if name in checkpoint else fnmatch.filter(checkpoint, name)
            if not found:
                raise no_such_name(name, checkpoint)
            wanted.update(dict.fromkeys(found))
        in_file_order = sorted(wanted, key=lambda name: checkpoint.entry(name).start)
        _write(
            checkpoint, out, in_file_order,
            align=align, mode=_permissions(mode), overwrite=force, in_place=in_place,
        )  # fmt: skip


def _opened(path: str, strategy: list[str], reference: KeyReference) -> Checkpoint:
    if strategy or is_folder(path):
        return distributed(path, strategy, reference)
    from lazyckpt.loading import open_checkpoint

    return open_checkpoint(path, *key_of(path, reference), block_cache=CACHE_BYTES)


def _write(checkpoint: Checkpoint, out: str, names: list[str], **how: Any) -> None:
    with byte_bar() as bar:
        task = bar.add_task(os.path.basename(out), total=None)
        written = checkpoint.save(
            out, names, progress=lambda done, total: bar.update(task, completed=done, total=total), **how
        )
    for path in written:
        typer.echo(f"{path}: {human_size(os.path.getsize(path))}")
    typer.echo(f"{len(names):,} parameters")


def _matching(names: list[str], include: list[str], exclude: list[str]) -> list[str]:
    kept = names
    if include:
        wanted = [re.compile(fnmatch.translate(pattern)) for pattern in include]
        kept = [name for name in kept if any(pattern.match(name) for pattern in wanted)]
    dropped = [re.compile(fnmatch.translate(pattern)) for pattern in exclude]
    kept = [name for name in kept if not any(pattern.match(name) for pattern in dropped)]
    if not kept:
        raise LazyCkptError(f"none of the {len(names):,} names is left: check --include and --exclude")
    return kept


def _renaming(given: list[str]) -> Callable[[str], str] | None:
    if not given:
        return None
    rules = []
    for rule in given:
        pattern, equals, replacement = rule.partition("=")
        if not equals:
            raise ArgumentValueError(f"--rename {rule!r}: expected PATTERN=REPLACEMENT")
        try:
            rules.append((re.compile(pattern), replacement))
        except (re.error, OverflowError, RecursionError) as error:
            raise ArgumentValueError(f"--rename {rule!r}: {error}") from None

    def renamed(name: str) -> str:
        for pattern, replacement in rules:
            try:
                name = pattern.sub(replacement, name)
            except (re.error, IndexError) as error:
                raise ArgumentValueError(f"--rename …={replacement}: {error}") from None
        return name

    return renamed


def _permissions(given: str) -> int:
    try:
        mode = int(given, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ArgumentValueError(f"--mode {given!r}: expected permissions in octal, such as 400 or 644")
    return mode
