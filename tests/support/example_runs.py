"""The examples of this repository, run as a reader runs them: each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(command, *arguments, folder, **variables):
    """Run an example in a folder: its exit code, what it printed, and its complaints.

    Args:
        command: the program, its options and the name of the example, such as `["bash", "index_job.slurm"]`.
        arguments: of the example.
        folder: where it stands.
        variables: of the environment, beside those that are there.
    """
    *program, name = command
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # as in an environment that is active
        **variables,
    }
    ended = subprocess.run(
        [*program, str(EXAMPLES / name), *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=240,
    )  # fmt: skip
    return ended.returncode, ended.stdout, ended.stderr


def module(name, folder=EXAMPLES):
    """An example (or a tool of another folder) as a module, for its parts."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
