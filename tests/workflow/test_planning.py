"""Planning hashes, opens and lists in proportion to the grid, and a job on a cluster to its own model.

Seconds are in `benchmarks/planning.py`; here are the counters behind them.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from planning import expected_wildcard, prepare_submission, submission, write_study
from workspace import ROOT

pytestmark = pytest.mark.slow

# Snakemake with counters: canonical texts made (one per digest, and per identity in the params), files of
# cells opened, directories of cells listed.
COUNTING = f"""
import atexit, json, sys
from collections import Counter

sys.path.insert(0, {str(ROOT / "workflow")!r})
from ebbtide import files

counts = Counter()
encoder = files._ENCODER

class Counting:
    def encode(self, value):
        counts["texts"] += 1
        return encoder.encode(value)

def count(event, arguments):
    if event in ("open", "os.scandir") and str(arguments[0]).startswith(("cells", "results/scores")):
        counts[event] += 1

files._ENCODER = Counting()
sys.addaudithook(count)
atexit.register(lambda: open("counts.json", "w").write(json.dumps(counts)))
from snakemake.cli import main
main(sys.argv[1:])
"""


def counts(directory: Path, *arguments: str) -> dict[str, int]:
    """Counters of a run of Snakemake on the study in a directory."""
    command = [sys.executable, "-c", COUNTING, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", "study.yaml", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found: dict[str, int] = json.loads((directory / "counts.json").read_text())
    return found


def test_planning_grows_with_the_cells_and_reading_the_rules_looks_at_none(tmp_path: Path) -> None:
    planned, parsed = [], []
    for steps in ([0, 1, 2], [0, 1, 2, 4, 8, 16]):
        directory = tmp_path / str(len(steps))
        study = write_study(directory, 1, steps)
        parsed.append(counts(directory, "--list-rules"))
        planned.append(counts(directory, "-n", "--quiet", "rules"))
    more = 3  # checkpoints
    cells = more * len(study.tasks)
    # The key in the store and the text in the params of each cell; per checkpoint three digests of the lock,
    # the cells that its tables expect, as text and as digest, and the key of its load proof.
    assert planned[1]["texts"] - planned[0]["texts"] <= 2 * cells + 6 * more
    assert planned[1]["open"] - planned[0]["open"] <= cells
    assert planned[1]["os.scandir"] - planned[0]["os.scandir"] <= more
    assert parsed[1]["texts"] - parsed[0]["texts"] <= 3 * more
    assert not {"open", "os.scandir"} & parsed[1].keys()


def test_a_job_on_a_cluster_reads_its_own_model_and_looks_for_its_own_cells(tmp_path: Path) -> None:
    found = []
    for models in (1, 3):
        directory = tmp_path / str(models)
        study = write_study(directory, models, [0, 1])
        prepare_submission(study, directory)
        found.append(counts(directory, *submission(study, expected_wildcard(study))))
    assert found[0]["texts"] == found[1]["texts"]
    assert found[1]["open"] <= len(study.tasks)
    assert found[1]["os.scandir"] <= 1
