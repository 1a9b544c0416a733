"""Index all checkpoints of a folder with dask: on a cluster that runs already, or on workers of this machine.

    python examples/index_job.py                                        # makes some checkpoints of its own
    python examples/index_job.py /shared/runs --workers 8
    python examples/index_job.py /shared/runs --scheduler-file job.json  # inside a job, see index_job.slurm

A job that was stopped is started again: what has a fresh index is left as it is. Exit codes: 0 all files have one,
1 some have none.
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
    """Write small checkpoints, and the beginning of one, as a run leaves it that was stopped."""
    for number in range(count):
        values = {f"layer{layer}.weight": np.full((8, 8), number, np.float32) for layer in range(4)}
        lazyckpt.save_checkpoint(values, folder / f"step{number}.ckpt")
        (folder / f"step{number}.ckpt.lmdb").unlink()  # MindSpore writes no index along
    whole = (folder / "step0.ckpt").read_bytes()
    (folder / "unfinished.ckpt").write_bytes(whole[:-100])


def tell(result: Built) -> None:
    """Print what became of a file as soon as it is known."""
    if result.error:
        print(f"{result.path}: {result.error}", file=sys.stderr)
    else:
        print(f"{result.path}: {result.parameters} parameters{', as before' if result.fresh else ''}")


def index(folder: Path, client: Client) -> int:
    """Index the folder's checkpoints by a cluster's workers, who must see the same paths; how many have no index."""
    results = lazyckpt.build_indexes(find_checkpoints([str(folder)]), executor=client, progress=tell)
    failed = sum(bool(result.error) for result in results)
    print(f"{len(results)} files, {len(results) - failed} with an index, {failed} without")
    return failed


def main() -> int:
    """Find or start a cluster, and index."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument(
        "folder", nargs="?", type=Path, help="where the checkpoints are (a temporary folder of made ones)"
    )
    options.add_argument("--scheduler-file", help="the file in which a dask scheduler tells where it is")
    options.add_argument("--workers", type=int, default=2, help="processes of this machine, without a scheduler")
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
