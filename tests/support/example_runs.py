"""Runs the examples of this repository as a user does, each in a separate process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(command, *arguments, folder, **variables):
    """Run an example in a folder; returns the exit code, stdout and stderr.

    Args:
        command: the program, its options and the name of the example, such as `["bash", "index_job.slurm"]`.
        arguments: arguments of the example.
        folder: the working directory.
        variables: additional environment variables.
    """
    *program, name = command
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # as in an activated environment
        **variables,
    }
    ended = subprocess.run(
        [*program, str(EXAMPLES / name), *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=240,
    )  # fmt: skip
    return ended.returncode, ended.stdout, ended.stderr


def module(name, folder=EXAMPLES):
    """Import an example, or a tool of another folder, as a module."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
