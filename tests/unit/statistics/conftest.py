"""The published accuracies of *Emergent inabilities?*."""

from pathlib import Path

import pandas as pd
import pytest

from metrics_tables import table

NAMES = {
    "isp_hindsight_neglect": "Hindsight Neglect",
    "isp_into_the_unknown": "Into the Unknown",
    "isp_memo_trap": "Memo Trap",
    "isp_modus_tollens": "Modus Tollens",
    "isp_neqa": "NeQA",
    "isp_pattern_matching_suppression": "Pattern Match Suppression",
    "isp_redefine": "Redefine",
    "isp_repetitive_algebra": "Repetitive Algebra",
    "isp_resisting_correction": "Resisting Correction",
    "isp_sig_figs": "Sig Figs",
    "truthfulqa_mc1": "TruthfulQA-MC1",
    "truthfulqa_mc2": "TruthfulQA-MC2",
}
TOKENS_PER_STEP = 2_097_152


@pytest.fixture(scope="module")
def published(shared: Path) -> pd.DataFrame:
    """Accuracies of eight Pythia models at eight checkpoints; sizes are the nominal ones."""
    found = sorted(shared.glob("mirror/github/jmichaelov/emergent-inabilities/*/results/all_results.tsv"))
    if not found:
        pytest.skip("no reference data: ../shared has no results of Emergent inabilities")
    raw = pd.read_csv(found[-1], sep="\t")
    size = raw["ModelName"].str.extract(r"pythia-([\d.]+)([mb])$")
    parameters = size[0].astype(float) * size[1].map({"m": 1e6, "b": 1e9})
    steps = raw["ModelRevision"].str.removeprefix("step").astype(int)
    metrics = table("", raw["Accuracy"].to_numpy(), parameters.round(), steps * TOKENS_PER_STEP)
    return metrics.assign(task=raw["Task"].map(NAMES))
