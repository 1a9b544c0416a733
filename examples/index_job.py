"""Index all checkpoints in a folder with dask, on a running cluster or on local workers.

    python examples/index_job.py                                        # writes some small checkpoints first
    python examples/index_job.py /shared/runs --workers 8
    python examples/index_job.py /shared/runs --scheduler-file job.json  # inside a job, see index_job.slurm

A job that was stopped can be started again: fresh indexes are kept. Exit codes: 0 if every file has an index, 1 if
not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster

import lazyckpt
from lazyckpt.index.batch import Built, find_checkpoints


def made_checkpoints(folder: Path, count: int = 6) -> None:
    """Write small checkpoints, and a truncated one like that of an interrupted run."""
    for number in range(count):
        values = {f"layer{layer}.weight": np.full((8, 8), number, np.float32) for layer in range(4)}
        lazyckpt.save_checkpoint(values, folder / f"step{number}.ckpt")
        (folder / f"step{number}.ckpt.lmdb").unlink()  # MindSpore writes no index
    whole = (folder / "step0.ckpt").read_bytes()
    (folder / "unfinished.ckpt").write_bytes(whole[:-100])


def tell(result: Built) -> None:
    """Print the result for a file as soon as it arrives."""
    if result.error:
        print(f"{result.path}: {result.error}", file=sys.stderr)
    else:
        print(f"{result.path}: {result.parameters} parameters{' (index was fresh)' if result.fresh else ''}")


def index(folder: Path, client: Client) -> int:
    """Index the checkpoints in a folder on a cluster; returns how many failed. The workers must see the same paths."""
    results = lazyckpt.build_indexes(find_checkpoints([str(folder)]), executor=client, progress=tell)
    failed = sum(bool(result.error) for result in results)
    print(f"{len(results)} files, {len(results) - failed} with an index, {failed} without")
    return failed


def main() -> int:
    """Connect to a cluster or start one, and index."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument(
        "folder", nargs="?", type=Path, help="the folder of checkpoints (default: a temporary folder with examples)"
    )
    options.add_argument("--scheduler-file", help="the file in which a dask scheduler stores its address")
    options.add_argument("--workers", type=int, default=2, help="the number of local processes, without a scheduler")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as own:
        folder = given.folder or Path(own)
        if given.folder is None:
            made_checkpoints(folder)
        if given.scheduler_file:
            with Client(scheduler_file=given.scheduler_file) as client:
                return min(1, index(folder, client))
        with (
            LocalCluster(n_workers=given.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
            Client(cluster) as client,
        ):
            return min(1, index(folder, client))


if __name__ == "__main__":
    sys.exit(main())
