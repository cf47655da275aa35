"""Log-likelihoods of a fixed model on fixed requests, tied to the version of the scoring maths."""

from pathlib import Path

import pytest

import tiny
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.scoring.version import SCORING_VERSION

# SCORING_VERSION → log-likelihoods of `tiny.ROWS` (nats)
GOLDEN = {
    1: {
        "gpt_neox": [-15.420469, -28.218615, -5.366465, -11.891551, -12.887445, -7.870916],
        "llama": [-11.896742, -27.856118, -6.408519, -12.631175, -11.369977, -5.452306],
    },
}

CHANGED = """
The scoring maths has changed: these log-likelihoods moved, and SCORING_VERSION is still {version}.
If that is meant, raise SCORING_VERSION in workflow/ebbtide/scoring/version.py (every cell is then planned
again, as it must be) and store the new numbers under the new version in tests/unit/scoring/test_golden.py:
{found}
"""


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
def test_scores_move_only_with_the_recipe_version(family: str, tmp_path: Path) -> None:
    requests = tiny.requests(tmp_path / "task.parquet")
    scorer = load_scorer(tiny.checkpoint(tmp_path / family, family))
    found = score_requests(scorer, requests).rows["loglikelihood"].to_pylist()

    expected = GOLDEN.get(SCORING_VERSION, {}).get(family)
    message = CHANGED.format(version=SCORING_VERSION, found=[round(value, 6) for value in found])
    assert found == pytest.approx(expected, abs=1e-5), message
