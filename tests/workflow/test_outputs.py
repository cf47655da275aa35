"""What the stages register is what a run makes, and what the docs list."""

import re
from pathlib import Path

import pytest

from described import problems_of, undescribed
from workspace import ROOT, Workspace

CELLS = "results/scores/{model}/{checkpoint}/{task}.parquet"
REQUESTS, PREVIEW = "resources/tasks/{task}.parquet", "resources/tasks/{task}.preview.tsv"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]


def test_the_page_of_the_docs_is_in_step(tmp_path) -> None:
    embedded = Workspace(tmp_path)
    command = [
        part for part in embedded.command() if part not in ("--configfile", str(tmp_path / "config.yaml"))
    ]
    embedded.command = lambda: [*command, "--configfile", str(ROOT / "config.yaml")]
    embedded.run("outputs_page")
    found = (tmp_path / "docs/outputs.md").read_text()
    assert found == (ROOT / "docs/outputs.md").read_text(), "run `make outputs`"


def test_a_run_makes_what_is_registered_and_nothing_else(finished_study) -> None:
    """Tables of a stage that no rule file registers would be made, and listed nowhere."""
    page = (ROOT / "docs/outputs.md").read_text()
    listed = set()
    for path in re.findall(r"\| \[?`results/\{study\}/([^`]*)`", page):
        alternatives = re.search(r"\{(pdf,png)\}", path)
        listed |= {path.replace("{pdf,png}", form) for form in ("pdf", "png")} if alternatives else {path}
    results = finished_study.path / "results/small"
    parts = ("metrics/", "examples/")
    made = {str(p.relative_to(results)) for p in results.rglob("*") if p.is_file()}
    # Records of the study and of Snakemake are hidden.
    made = {name for name in made if not (name.startswith(parts) or Path(name).name.startswith("."))}
    assert made <= listed
    assert {"alarms.tsv", "figures/heat.png", "table.tex"} <= made


def test_the_tables_of_a_run_are_as_described(finished_study) -> None:
    assert not undescribed(finished_study.path / "results/small")
    for name in (CELLS, REQUESTS, PREVIEW):
        files = list(finished_study.path.glob(re.sub(r"\{.*?\}", "*", name)))
        assert files and not [problem for file in files for problem in problems_of(file, name)]


def test_reading_the_workflow_writes_a_small_cache_only(study) -> None:
    before = {p: p.stat().st_mtime_ns for p in study.path.rglob("*") if p.is_file()}
    study.planned()
    after = {p: p.stat().st_mtime_ns for p in study.path.rglob("*") if p.is_file()}
    changed = {p for p in after.keys() | before.keys() if after.get(p) != before.get(p)}
    assert all(".snakemake" in p.parts for p in changed)
