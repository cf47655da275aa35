"""Checkpoints that Megatron-Core itself writes: their conversion has the logits of its own forward pass."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from ebbtide.checkpoints.formats.rules import CATALOGUE
from library_runs import check_logits, run_library
from megatron_models import CASES, Case

pytestmark = [
    pytest.mark.skipif(find_spec("megatron") is None, reason="megatron-core is not installed"),
    pytest.mark.xdist_group("megatron"),
]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of all cases, written by one process or with tensor parallelism."""
    return run_library("megatron_models.py", tmp_path_factory.mktemp("megatron"), request.param)


def map_of(case: Case, place: Path) -> str:
    """The map of a case: the shipped one, or with pairs of rows that interleaved rotary embeddings turn."""
    if not case.settings.get("rotary_interleaved"):
        return "megatron"
    own = yaml.safe_load((CATALOGUE / "megatron.yaml").read_text())
    for rule in own["tensors"]:
        if "groups" in rule:
            rule["rotary"] = ["num_attention_heads", "num_key_value_heads", 0]
    (place / "interleaved.yaml").write_text(yaml.safe_dump(own))
    return str(place / "interleaved.yaml")


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_megatron_core(written: Path, name: str, tmp_path: Path) -> None:
    check_logits(written / name, written / name / "iter_0000007", map_of(CASES[name], tmp_path))
