"""A real dask cluster, of two processes with two threads each, and a real Slurm, for the tests that need them."""

from __future__ import annotations

import os

import pytest
from distributed import Client, LocalCluster
from slurm_cluster import Slurm, missing_programs


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """The cluster, with a cache folder for its workers."""
    before = os.environ.get("LAZYCKPT_CACHE")
    os.environ["LAZYCKPT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        yield cluster
    if before is None:
        del os.environ["LAZYCKPT_CACHE"]
    else:
        os.environ["LAZYCKPT_CACHE"] = before


@pytest.fixture
def client(cluster):
    """A client of the cluster, once all of its workers have started."""
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=200)
        yield client


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A Slurm of two nodes, for which `apt-get install slurmctld slurmd slurm-client munge` is enough."""
    if missing := missing_programs():
        pytest.skip(f"there is no Slurm here: no {', '.join(missing)}")
    try:
        slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    except TimeoutError as error:
        pytest.skip(f"Slurm does not start here: {error}")
    yield slurm
    slurm.close()


@pytest.fixture(scope="module", autouse=True)
def _nothing_left():
    """The cluster and dask's threads stay for the following tests; files are checked after each test."""
