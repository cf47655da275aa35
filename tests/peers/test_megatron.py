"""Checkpoints that Megatron-Core itself writes: their conversion has the logits of its own forward pass."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from library_runs import check_logits, run_library
from megatron_models import CASES

pytestmark = [
    pytest.mark.skipif(find_spec("megatron") is None, reason="megatron-core is not installed"),
    pytest.mark.xdist_group("megatron"),
]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of all cases, written by one process or with tensor parallelism."""
    return run_library("megatron_models.py", tmp_path_factory.mktemp("megatron"), request.param)


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_megatron_core(written: Path, name: str) -> None:
    check_logits(written / name, written / name / "iter_0000007", "megatron")
