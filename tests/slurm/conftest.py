"""The private Slurm of these tests, started once per session."""

from collections.abc import Iterator

import cluster
import pytest


@pytest.fixture(scope="session")
def slurm() -> Iterator[cluster.Cluster]:
    if reason := cluster.obstacle():
        pytest.skip(reason)
    with cluster.running() as running:
        yield running
