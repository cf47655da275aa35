"""A real pretrained model on the real MemoTrap, against lm-evaluation-harness and float64."""

import pandas as pd
import pytest

from ebbtide.tables import CELL, METRICS, read_frame
from real_models import smollm2
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("real")]


def test_all_choices_of_memo_trap_agree_with_float64(shared, tmp_path):
    workspace = Workspace(tmp_path)
    workspace.write_yaml(
        "config.yaml",
        {
            "study": "real",
            "models": [{"name": "smollm2-135m", "path": str(smollm2())}],
            "tasks": ["memo_trap_proverbs"],
            "mirrors": [str(shared / "mirror")],
        },
    )
    workspace.run(cores=1)

    cell = read_frame(tmp_path / "results/scores/smollm2-135m/main/memo_trap_proverbs.parquet", CELL)
    reference = pd.read_parquet(shared / "reference/lm_eval_smollm2_memo_trap.parquet")
    reference["example"] = reference["example_index"].astype(str)
    joined = cell.merge(
        reference,
        left_on=["example", "choice"],
        right_on=["example", "choice_index"],
        suffixes=("", "_reference"),
    )
    assert len(joined) == 1720
    assert (joined["loglikelihood"] - joined["loglikelihood_fp64"]).abs().max() < 1e-4
    assert (joined["tokens"] == joined["n_continuation_tokens"]).all()
    assert (joined["context_tokens"] == joined["n_context_tokens"]).all()
    assert (joined["greedy"] == joined["is_greedy"]).all()

    metrics = read_frame(tmp_path / "results/real/metrics.parquet", METRICS).set_index("metric")
    assert metrics.loc["accuracy", "value"] == pytest.approx(0.65814, abs=5e-6)
    assert metrics.loc["accuracy", "stderr"] == pytest.approx(0.01618, abs=5e-6)
    # One checkpoint of unknown training: no regression, and the tables say so.
    reason = "no regression: the training tokens of all 1 cells are 0 or unknown"
    regressions = pd.read_csv(tmp_path / "results/real/regressions.tsv", sep="\t")
    assert regressions["note"].str.startswith(reason).all()
