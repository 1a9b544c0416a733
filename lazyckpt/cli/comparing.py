"""`lazyckpt diff`: compare two checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lazyckpt.cli.app import (
    AsJson,
    KeyFile,
    KeyVariable,
    Names,
    Step,
    app,
    byte_bar,
    distributed,
    errors_as_exit_codes,
    is_several,
    key_of,
    print_report,
)
from lazyckpt.sources.encryption.keys import KeyReference

if TYPE_CHECKING:
    from lazyckpt.checkpoint import Checkpoint

TROUBLE = 2  # exit code, as in diff(1)


@app.command(name="diff")
def diff_command(
    a: Annotated[str, typer.Argument(help="The first checkpoint.", metavar="A")],
    b: Annotated[str, typer.Argument(help="The second checkpoint.", metavar="B")],
    names: Names = None,
    names_only: Annotated[
        bool, typer.Option("--names-only", help="Compare only names, dtypes and shapes; read no values.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="The number of threads.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    key_file: KeyFile = None,
    key_env: KeyVariable = None,
    key_file_b: Annotated[
        str | None,
        typer.Option("--key-file-b", help="The file that holds the key of B, if it differs.", metavar="PATH"),
    ] = None,
    key_env_b: Annotated[
        str | None,
        typer.Option("--key-env-b", help="The variable that holds the key of B, if it differs.", metavar="NAME"),
    ] = None,
    step: Step = None,
    step_b: Annotated[
        str | None,
        typer.Option("--step-b", help="The step of B, if B is a folder (default: the newest).", metavar="STEP"),
    ] = None,
) -> None:
    """Compare two checkpoints. Exits with 0 if they are equal, 1 if they differ, 2 on an error."""
    from lazyckpt.explore.diff import diff

    key = KeyReference(key_file, key_env)
    key_b = KeyReference(key_file_b, key_env_b)
    with errors_as_exit_codes(TROUBLE):
        same_key = key_b == KeyReference()
        with (
            _opened(a, key, step, optional=same_key) as one,
            _opened(b, key if same_key else key_b, step_b, optional=same_key) as two,
        ):
            with byte_bar() as bar:
                task = bar.add_task("comparing", total=None)
                report = diff(
                    one, two, names=names or None, values=not names_only, workers=jobs,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                )  # fmt: skip
            print_report(report, as_json)
    if not report.same:
        raise typer.Exit(1)


def _opened(path: str, reference: KeyReference, step: str | None, optional: bool) -> Checkpoint:
    """Open one of the two; a plain file accepts an optional key, which may belong to the other."""
    from lazyckpt.loading import open_all

    if is_several(path, [], step):
        return distributed(path, [], step, reference, optional)
    return open_all(path, *key_of(path, reference, optional))
