"""A study of a table alone: it plans, runs, has a summary, a page and figures, and refuses another table."""

from pathlib import Path

import pandas as pd
import pytest

from ebbtide.files import file_sha256
from ebbtide.statistics.compute_trends.models import READ
from workspace import Workspace

pytestmark = pytest.mark.slow


def write_table(path: Path, **changes: str) -> None:
    """Write 24 models, of which compute doubles every 12 months; `changes` are of the first."""
    rows = [
        {
            **dict.fromkeys(READ, ""),
            "Model": f"model {i}",
            "Publication date": f"20{10 + i // 2}-0{1 + 6 * (i % 2)}-01",
            "Organization categorization": ("Industry", "Academia,Industry", "Academia")[i % 3],
            "Training compute (FLOP)": "" if i == 5 else f"{1e15 * 2 ** (i / 2) * (1.5 if i % 4 else 1):g}",
            "Parameters": f"{1e10 * i + 1:g}",
        }
        for i in range(24)
    ]
    pd.DataFrame([rows[0] | changes, *rows[1:]]).to_csv(path, index=False)


def test_a_study_of_a_table_alone(tmp_path: Path) -> None:
    study = Workspace(tmp_path)
    table = tmp_path / "models.csv"
    write_table(table)
    config = {"study": "alone", "compute_trends": {"source": "models.csv", "sha256": file_sha256(table)}}
    study.write_yaml("config.yaml", config)
    stages = {"fetch_imported", "compute_trends", "plot_compute_trends", "summary", "report_page"}
    assert study.planned() == dict.fromkeys(stages, 1)
    said = study.run().stdout
    assert "All models (23 models, 2010-01-01 to 2021-07-01): training compute doubles every 1" in said
    assert "1 of 24 models of the table are in no line, doubling time or share: no training compute" in said
    results = tmp_path / "results/alone"
    assert (results / "summary.txt").read_text() in said
    for figure in ("compute_trends", "academia", "timeline"):
        assert (results / f"figures/{figure}.pdf").is_file()
    assert (results / "report/index.html").read_text().count("<figure>") == 3
    assert not (results / "metrics.parquet").exists()
    assert study.planned() == {}

    # A setting is cheap: the table is not fetched again.
    with study.edited("config.yaml") as content:
        content["compute_trends"]["iterations"] = [0]
    assert study.planned() == dict.fromkeys(stages - {"fetch_imported"}, 1)

    # A table that changes is refused until its hash does; a wrong value then is named.
    write_table(table, **{"Publication date": "January 2010"})
    refused = study.snakemake("--dry-run", check=False)
    assert refused.returncode == 2
    assert "config.yaml: compute_trends.source: models.csv has sha256" in refused.stdout
    with study.edited("config.yaml") as content:
        content["compute_trends"]["sha256"] = file_sha256(table)
    failed = study.snakemake("--cores", "1", check=False)
    assert failed.returncode != 0
    cause = failed.stdout.rpartition("logs/compute_trends/alone.log: SourceError: ")[2]
    assert "models.csv: row 1 ('model 0'), Publication date: found 'January 2010'; allowed: a day" in cause
