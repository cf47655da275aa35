"""Planning a study of large checkpoints on disk reads a bounded sample of their weights, and only once."""

from pathlib import Path

import pytest

from ebbtide.checkpoints.fingerprint import SAMPLED_BYTES
from planning_on_disk import dry_run, write_study
from reading import needs_proc

pytestmark = pytest.mark.slow

CHECKPOINTS = 4
OWN = 100_000_000  # bytes that a dry run reads at most of Snakemake's and Ebbtide's own modules


@needs_proc
def test_a_dry_run_reads_a_bounded_sample_and_the_next_one_nothing(tmp_path: Path) -> None:
    size = write_study(tmp_path, CHECKPOINTS)
    assert size > 50e9
    cold = dry_run(tmp_path).read
    records = sorted(tmp_path.glob("resources/checkpoints/large/*/located.json"))
    assert len(records) == CHECKPOINTS
    assert CHECKPOINTS * SAMPLED_BYTES / 2 < cold < CHECKPOINTS * SAMPLED_BYTES + OWN
    written = [record.stat().st_mtime_ns for record in records]
    warm = dry_run(tmp_path).read
    assert warm < OWN
    assert [record.stat().st_mtime_ns for record in records] == written
