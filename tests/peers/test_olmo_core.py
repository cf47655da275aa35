"""Checkpoints that OLMo-core itself writes: their conversion has the logits of its own forward pass."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ebbtide.checkpoints.weight_files import WHOLE
from library_runs import check_logits, run_library
from olmo_core_models import CASES

pytestmark = [
    pytest.mark.skipif(find_spec("olmo_core") is None, reason="olmo_core is not installed"),
    pytest.mark.xdist_group("olmo_core"),
]
CHECKPOINT = "step7/model_and_optim"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of all cases, written by one process."""
    return run_library("olmo_core_models.py", tmp_path_factory.mktemp("olmo_core"), 1)


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_olmo_core(written: Path, name: str) -> None:
    to = check_logits(written / name, written / name / CHECKPOINT, "olmo_core")
    if CASES[name].exported:
        found, expected = (load_file(of / WHOLE) for of in (to, written / name / "exported"))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


@pytest.mark.parametrize("name", ["olmo2", "llama, tied"])
def test_logits_are_those_of_two_processes_with_fsdp(tmp_path: Path, name: str) -> None:
    run_library("olmo_core_models.py", tmp_path, 2, name)
    assert list((tmp_path / name / CHECKPOINT).glob("__1_*.distcp"))
    check_logits(tmp_path / name, tmp_path / name / CHECKPOINT, "olmo_core")
