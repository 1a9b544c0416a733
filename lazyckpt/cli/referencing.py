"""`lazyckpt references`: references with which zarr, xarray and dask read a checkpoint."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lazyckpt.cli.app import (
    PATTERNS,
    File,
    Force,
    Step,
    Strategy,
    app,
    bytes_of,
    distributed,
    echo,
    errors_as_exit_codes,
    is_several,
)
from lazyckpt.display import one_line, printable_path
from lazyckpt.errors import EncryptedFile
from lazyckpt.index.matching import require_matches

if TYPE_CHECKING:
    from lazyckpt.checkpoint import Checkpoint

_TOLD: Final = 20  # names that are left out and listed on stderr


@app.command()
def references(
    file: File,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The output: refs.json, or a folder refs.parquet.", metavar="PATH")
    ],
    include: Annotated[
        list[str], typer.Option(help=f"Keep only these (repeatable): {PATTERNS}.", metavar="PATTERN")
    ] = [],
    url: Annotated[
        str | None,
        typer.Option(
            help="The URL of FILE for readers, such as s3://bucket/net.ckpt, or for several files that of their folder,"
            " ending with '/' (default: the current path).",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    chunk: Annotated[
        str | None,
        typer.Option(
            help="Divide large values into chunks of about this size (64MiB) at most, for parallel reads.",
            metavar="SIZE",
            show_default=False,
        ),
    ] = None,
    inline: Annotated[
        str, typer.Option(help="Copy values of up to this size into the references.", metavar="SIZE")
    ] = "0",
    nested: Annotated[bool, typer.Option("--nested", help="Turn dotted names into nested groups.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a value cannot be expressed, instead of leaving it out.")
    ] = False,
    force: Force = False,
    strategy: Strategy = [],
    step: Step = None,
) -> None:
    """Write kerchunk references to a checkpoint. With them, zarr, xarray and dask open FILE in place, without lazyckpt.

    Reads no values. Values that zarr cannot express are left out and listed on stderr.
    """
    with errors_as_exit_codes(), _opened(file, strategy, step) as checkpoint:
        found = require_matches(checkpoint._access.names, include)
        names = sorted(found, key=found.__getitem__)
        made = checkpoint.references(
            names if include else None, url=url, chunk_size=None if chunk is None else bytes_of("--chunk", chunk),
            inline=bytes_of("--inline", inline), nested=nested, strict=strict,
        )  # fmt: skip
        left_out = made.save(output, overwrite=force)
        for name, why in islice(left_out.items(), _TOLD):
            echo(f"left out: {name!r}: {one_line(why)}", err=True)
        if len(left_out) > _TOLD:
            echo(f"left out: {len(left_out) - _TOLD:,} more", err=True)
        count = len(names) if include else len(checkpoint)
        echo(f"{printable_path(output)}: {count - len(left_out):,} of {count:,} parameters")


def _opened(path: str, strategy: list[str], step: str | None) -> Checkpoint:
    """Open a checkpoint with all its entries. An encrypted file is an error, without asking for a key."""
    from lazyckpt.references.files import REFUSED

    try:
        if is_several(path, strategy, step):
            return distributed(path, strategy, step)
        from lazyckpt.loading import open_all

        return open_all(path)
    except EncryptedFile as error:
        raise EncryptedFile(REFUSED, file=error.file) from None
