"""`lazyckpt convert` and `lazyckpt extract`: write all or some values to another file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lazyckpt.cli.app import (
    PATTERNS,
    File,
    Force,
    KeyFile,
    KeyVariable,
    Step,
    Strategy,
    app,
    byte_bar,
    bytes_of,
    distributed,
    echo,
    errors_as_exit_codes,
    is_several,
    key_of,
)
from lazyckpt.display import human_size, printable, printable_path
from lazyckpt.errors import ArgumentValueError, CorruptFile, LazyCkptError
from lazyckpt.index.matching import require_matches
from lazyckpt.model.patterns import REGULAR
from lazyckpt.model.similar_names import missing
from lazyckpt.runtime.log import warnings_as
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import KeyReference

if TYPE_CHECKING:
    from lazyckpt.checkpoint import Checkpoint

CACHE_BYTES: Final = 64 * 2**20  # one decrypted block: values are read in file order

_KEEP: Final = "keep"  # in place of a type

Out = Annotated[str, typer.Argument(help="The file to write: .ckpt or .safetensors.", metavar="OUT")]
Include = Annotated[list[str], typer.Option(help=f"Keep only these (repeatable): {PATTERNS}.", metavar="PATTERN")]
Exclude = Annotated[list[str], typer.Option(help=f"Leave these out (repeatable): {PATTERNS}.", metavar="PATTERN")]
Renames = Annotated[
    list[str],
    typer.Option(
        "--rename",
        help="Rename one value by its exact name, or replace a regular expression in names, as re.sub does:"
        " '^backbone[.]=' or 'layer(\\d+)=layers.\\1' (repeatable, applied in order).",
        metavar="NAME=NEW",
    ),
]
DTypes = Annotated[
    list[str],
    typer.Option(
        "--dtype",
        help="Convert floating-point tensors to this type, such as Float16, except the state of an optimizer; or only"
        " those that match a pattern: 'model.*=BFloat16' (repeatable, the last match counts). '*=BFloat16' converts"
        " state, too, and '*norm*=keep' leaves values alone.",
        metavar="[PATTERN=]TYPE",
    ),
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
    dtype: DTypes = [],
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
    step: Step = None,
) -> None:
    """Convert a checkpoint to .ckpt or .safetensors. The copy can be encrypted, renamed, cast or divided into shards.

    Values are copied in pieces of 8 MiB. An existing OUT needs --force, and is replaced once the new file is complete.
    """
    with errors_as_exit_codes(), _opened(file, strategy, step, KeyReference(key_file, key_env)) as checkpoint:
        names = _selected(checkpoint, include, exclude)
        new_key = KeyReference(new_key_file, new_key_env).read()
        _write(
            checkpoint, out, names,
            rename=_renaming(rename, checkpoint) if rename else None, dtype=_dtypes(dtype), crc_check=crc, align=align,
            enc_mode=enc_mode,
            enc_key=None if new_key is None else new_key.reveal(), mode=_permissions(mode),
            max_shard_size=None if max_shard_size is None else bytes_of("--max-shard-size", max_shard_size),
            overwrite=force, in_place=in_place,
        )  # fmt: skip


@app.command()
def extract(
    file: File,
    out: Annotated[str, typer.Option("--out", "-o", help="The file to write.", metavar="OUT")],
    names: Annotated[
        list[str] | None, typer.Argument(help=f"The values: {PATTERNS}.", metavar="NAMES…", show_default=False)
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Write what is whole of a damaged FILE; without NAMES, all of that.")
    ] = False,
    align: Align = 64,
    mode: Mode = "400",
    force: Force = False,
    in_place: InPlace = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    strategy: Strategy = [],
    step: Step = None,
) -> None:
    """Write some parameters to another file, reading only these."""
    if not names and not whole:
        raise typer.BadParameter("give names, or --whole", param_hint="NAMES")
    key = KeyReference(key_file, key_env)
    with (
        errors_as_exit_codes(),
        _opened_whole(file, names or [], strategy, key) if whole else _opened(file, strategy, step, key) as checkpoint,
    ):
        wanted = require_matches(checkpoint._access.names, names) if names else list(checkpoint)
        in_file_order = sorted(wanted, key=lambda name: checkpoint.entry(name).start)
        _write(
            checkpoint, out, in_file_order,
            align=align, mode=_permissions(mode), overwrite=force, in_place=in_place,
        )  # fmt: skip


def _opened(path: str, strategy: list[str], step: str | None, reference: KeyReference) -> Checkpoint:
    if is_several(path, strategy, step):
        return distributed(path, strategy, step, reference)
    from lazyckpt.loading import open_checkpoint

    return open_checkpoint(path, *key_of(path, reference), block_cache=CACHE_BYTES)


@contextmanager
def _opened_whole(path: str, names: list[str], strategy: list[str], reference: KeyReference) -> Iterator[Checkpoint]:
    """What is whole of a damaged file; says what that is at the end."""
    from lazyckpt.explore.salvage import salvage

    if strategy:
        raise ArgumentValueError("--whole is for files and their parts; of ranks, what is whole can be loaded as it is")
    with salvage(path, key_of(path, reference, optional=True)[0]) as found:
        lost = sorted(set(names) & set(found.lost))
        if lost:
            raise CorruptFile(f"{', '.join(map(repr, lost[:5]))} cannot be saved: {found}", file=path)
        yield found.checkpoint
        echo(str(found), err=not found.is_complete)


def _write(checkpoint: Checkpoint, out: str, names: list[str], **how: Any) -> None:
    with byte_bar() as bar:
        task = bar.add_task(printable(os.path.basename(out)), total=None)
        with warnings_as(lambda text: echo(f"lazyckpt: {text}", err=True)):
            written = checkpoint.save(
                out, names, progress=lambda done, total: bar.update(task, completed=done, total=total), **how
            )
    for path in written:
        echo(f"{printable_path(path)}: {human_size(os.path.getsize(path))}")
    echo(f"{len(names):,} parameters" + (f", {written.casts.cast:,} converted" if how.get("dtype") else ""))


def _selected(checkpoint: Checkpoint, include: list[str], exclude: list[str]) -> list[str]:
    """The names to write, in file order.

    Raises:
        MissingName: a pattern matches nothing.
        LazyCkptError: no name is left.
    """
    found = require_matches(checkpoint._access.names, include)
    dropped = require_matches(checkpoint._access.names, exclude)
    kept = sorted(found, key=found.__getitem__) if include else checkpoint
    names = [name for name in kept if name not in dropped]
    if not names:
        raise LazyCkptError(f"none of the {len(checkpoint):,} names is left: check --include and --exclude")
    return names


def _renaming(rules: list[str], names: Iterable[str]) -> dict[str, str]:
    """New names by old ones. Each rule sees the results of those before it.

    Raises:
        ArgumentValueError: a rule is not valid.
        MissingName: a rule matches no name.
    """
    new = {name: name for name in names}
    for rule in rules:
        known = set(new.values())
        cuts = [place for place, sign in enumerate(rule) if sign == "="]
        if not cuts:
            raise ArgumentValueError(f"--rename {rule!r}: expected NAME=NEW or REGEX=REPLACEMENT")
        exact = next((place for place in cuts if rule[:place] in known), None)
        if exact is not None:
            changed = {name: rule[exact + 1 :] for name, now in new.items() if now == rule[:exact]}
        else:
            changed = _replaced(rule, new)
        if not changed:
            raise missing(f"{REGULAR}{rule[: cuts[0]].removeprefix(REGULAR)}", known)
        new.update(changed)
    return new


def _replaced(rule: str, names: dict[str, str]) -> dict[str, str]:
    """The names in which a rule replaces something."""
    pattern, _, replacement = rule.partition("=")
    try:
        regular = re.compile(pattern.removeprefix(REGULAR))
        made = ((name, regular.subn(replacement, now)) for name, now in names.items())
        return {name: text for name, (text, count) in made if count}
    except (re.error, IndexError, OverflowError, RecursionError) as error:
        raise ArgumentValueError(f"--rename {rule!r}: {error}") from None


def _dtypes(given: list[str]) -> dict[str | None, str | None] | None:
    """The types by pattern; those without a pattern under None.

    Raises:
        ArgumentValueError: a pattern is empty, or two types have none.
    """
    found: dict[str | None, str | None] = {}
    for text in given:
        pattern, equals, dtype = text.rpartition("=")
        if equals and not pattern:
            raise ArgumentValueError(f"--dtype {text!r}: expected TYPE or PATTERN=TYPE")
        if not equals and None in found:
            raise ArgumentValueError(
                f"--dtype {text!r}: one type without a pattern has been given; expected PATTERN=TYPE"
            )
        key = pattern if equals else None
        found.pop(key, None)  # so that the last one comes last
        found[key] = None if dtype == _KEEP else dtype
    return found or None


def _permissions(given: str) -> int:
    try:
        mode = int(given, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ArgumentValueError(f"--mode {given!r}: expected permissions in octal, such as 400 or 644")
    return mode
