"""`lazyckpt references`: a file with which zarr, xarray and dask open a checkpoint in place."""

from __future__ import annotations

import fnmatch
import os
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lazyckpt.cli.app import File, Force, Strategy, app, bytes_of, told_plainly
from lazyckpt.errors import EncryptedFile, LazyCkptError

if TYPE_CHECKING:
    from lazyckpt.checkpoint import Checkpoint

_TOLD: Final = 20  # names that were left out and are told of


@app.command()
def references(
    file: File,
    output: Annotated[
        str, typer.Option("--output", "-o", help="What to write: refs.json, or a folder refs.parquet.", metavar="PATH")
    ],
    include: Annotated[
        list[str], typer.Option(help="Only names that match this pattern (repeatable).", metavar="GLOB")
    ] = [],
    url: Annotated[
        str | None,
        typer.Option(
            help="Where readers will find FILE, such as s3://bucket/net.ckpt; of several files their folder, ending"
            " with '/'. Else where it is now.",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    chunk: Annotated[
        str | None,
        typer.Option(
            help="Cut large values into chunks of at most about so many bytes (64MiB), to be read in parallel.",
            metavar="SIZE",
            show_default=False,
        ),
    ] = None,
    inline: Annotated[
        str, typer.Option(help="Copy values of up to so many bytes into the references.", metavar="SIZE")
    ] = "0",
    nested: Annotated[bool, typer.Option("--nested", help="Make groups of the dots in names.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a value cannot be expressed, and do not leave it out.")
    ] = False,
    force: Force = False,
    strategy: Strategy = [],
) -> None:
    """Write references (kerchunk's) with which zarr, xarray and dask open FILE in place, without lazyckpt.

    No value is read. What zarr cannot express is left out and told of.
    """
    with told_plainly(), _opened(file, strategy) as checkpoint:
        names = [name for name in checkpoint if any(fnmatch.fnmatchcase(name, one) for one in include)]
        if include and not names:
            raise LazyCkptError("no name matches --include")
        made = checkpoint.references(
            names if include else None, url=url, chunk_size=None if chunk is None else bytes_of("--chunk", chunk),
            inline=bytes_of("--inline", inline), nested=nested, strict=strict,
        )  # fmt: skip
        left_out = made.save(output, overwrite=force)
        for name, why in islice(left_out.items(), _TOLD):
            typer.echo(f"left out: {name!r}: {why}", err=True)
        if len(left_out) > _TOLD:
            typer.echo(f"left out: {len(left_out) - _TOLD:,} more", err=True)
        count = len(names) if include else len(checkpoint)
        typer.echo(f"{output}: {count - len(left_out):,} of {count:,} parameters")


def _opened(path: str, strategy: list[str]) -> Checkpoint:
    """A checkpoint with all its entries; never asks for a key."""
    from lazyckpt.references.files import REFUSED

    try:
        if strategy or os.path.isdir(path):
            from lazyckpt.sharding.opening import open_sharded

            return open_sharded(path, strategy or None)
        from lazyckpt.loading import open_all

        return open_all(path)
    except EncryptedFile as error:
        raise EncryptedFile(REFUSED, file=error.file) from None
