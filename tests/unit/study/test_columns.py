"""Every table is described, column by column, as the code writes it."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from described import TABLES, order_differs, undescribed
from ebbtide.cells import result_audit
from ebbtide.cells.samples import SAMPLES
from ebbtide.checkpoints import findings
from ebbtide.errors import CellError
from ebbtide.exchange import tidy
from ebbtide.metrics.calibration import reliability_table
from ebbtide.notices import COLUMNS as NOTICES
from ebbtide.report import outcomes
from ebbtide.report.cost.tables import COST, PROVENANCE
from ebbtide.scoring.documents import LOSSES
from ebbtide.scoring.proof.table import COLUMNS as LOAD_PROOFS
from ebbtide.statistics.alarms import alarms, not_compared
from ebbtide.statistics.compute_trends import academia, growth, models, timeline
from ebbtide.statistics.flips.changes import GROUPS
from ebbtide.statistics.flips.on_disk import EXAMPLES, PAIR
from ebbtide.statistics.flips.tables import SUMMARY as FLIPS
from ebbtide.statistics.forgetting import forgetting, together
from ebbtide.statistics.forgetting.tables import EXAMPLES as FORGOTTEN
from ebbtide.statistics.ratings import law
from ebbtide.statistics.ratings import tables as ratings
from ebbtide.statistics.regression import COLUMNS as REGRESSIONS
from ebbtide.statistics.regression import ROBUSTNESS_COLUMNS
from ebbtide.statistics.regression.example_model import COLUMNS as EXAMPLE_MODEL
from ebbtide.statistics.resolution import proxies, tables
from ebbtide.statistics.runs import compare, seeds, verdicts
from ebbtide.statistics.scaling_laws import overtraining, search
from ebbtide.statistics.scaling_laws import trends as laws
from ebbtide.statistics.scaling_laws.runs import RUNS
from ebbtide.statistics.scaling_laws.subset import with_averages
from ebbtide.statistics.scaling_trends import points
from ebbtide.statistics.scaling_trends import trends as scale_trends
from ebbtide.statistics.trends import differences, early_warning, seed_curves, trends
from ebbtide.statistics.trends import seeds as trend_seeds
from ebbtide.study import arms
from ebbtide.study.columns import read_described
from ebbtide.tables import CELL, METRICS, TOKENS, read_frame, read_parquet, read_tsv, write_parquet, write_tsv
from workspace import ROOT

CELLS = "results/scores/{model}/{checkpoint}/{task}.parquet"
WRITTEN = {
    "checkpoint_audit.tsv": findings.COLUMNS,
    CELLS: (*CELL.columns, *CELL.optional),
    "result_audit.tsv": result_audit.COLUMNS,
    "regressions.tsv": REGRESSIONS,
    "regressions_raw.tsv": REGRESSIONS,
    "robustness.tsv": ROBUSTNESS_COLUMNS,
    "example_model.tsv": EXAMPLE_MODEL,
    "alarms.tsv": alarms.COLUMNS,
    "not_compared.tsv": not_compared.COLUMNS,
    "flips.parquet": EXAMPLES,
    "flips.tsv": FLIPS,
    "flip_groups.tsv": (*PAIR, *GROUPS),
    "trends.tsv": trends.COLUMNS,
    "trend_differences.tsv": differences.COLUMNS,
    "trend_seeds.tsv": trend_seeds.COLUMNS,
    "seed_curves.tsv": seed_curves.COLUMNS,
    "early_warning.tsv": early_warning.COLUMNS,
    "forgetting.tsv": forgetting.SUMMARY,
    "forgotten_together.tsv": together.COLUMNS,
    "forgetting_curves.tsv": forgetting.CURVES,
    "forgotten_examples.tsv": FORGOTTEN,
    "resolution.tsv": tables.COLUMNS,
    "proxies.tsv": proxies.COLUMNS,
    "run_arms.tsv": arms.COLUMNS,
    "run_differences.tsv": compare.COLUMNS,
    "run_verdicts.tsv": verdicts.COLUMNS,
    "run_sentences.tsv": verdicts.SENTENCE_COLUMNS,
    "seeds.tsv": seeds.COLUMNS,
    "run_notices.tsv": NOTICES,
    "scale_points.tsv": points.POINTS,
    "scale_trends.tsv": scale_trends.COLUMNS,
    "ratings.tsv": ratings.COLUMNS,
    "ratings_law.tsv": law.LAW,
    "compute_models.tsv": models.COLUMNS,
    "compute_trends.tsv": growth.COLUMNS,
    "academia.tsv": academia.COLUMNS,
    "timeline.tsv": timeline.COLUMNS,
    "runs.parquet": RUNS.columns,
    "fits.tsv": overtraining.FITS,
    "exponents.tsv": laws.EXPONENTS,
    "tradeoff.tsv": laws.TRADEOFF,
    "curves.tsv": laws.CURVES,
    "load_proofs.tsv": LOAD_PROOFS,
    "provenance.tsv": PROVENANCE,
    "cost.tsv": COST,
    "outcomes.tsv": outcomes.COLUMNS,
    "notices.tsv": NOTICES,
    "examples.parquet": tidy.SCHEMA.names,
    "results/scores/{model}/{checkpoint}/{generation_task}.parquet": [*SAMPLES.columns, *SAMPLES.optional],
    "PER_TOKEN.parquet": TOKENS.columns,
    "LOSSES.parquet": LOSSES.columns,
}
ONLY_EXPORTED = {table.file for table in TABLES.values() if table.stage == "commands"}


@pytest.mark.parametrize("file", WRITTEN)
def test_the_columns_that_the_code_writes(file: str) -> None:
    assert not order_differs(file, WRITTEN[file])


def test_every_registered_table_is_described() -> None:
    """docs/outputs.md lists what the rule files register; tests/workflow keeps it in step with them."""
    page = (ROOT / "docs/outputs.md").read_text()
    paths = re.findall(r"\[`(?:results/\{study\}/)?([^`]+)`\]\(reference/tables\.md#", page)
    assert len(paths) > 40
    assert not [path for path in paths if path not in TABLES], "describe it in workflow/schemas/tables.yaml"
    other_layout = "results/scores/{model}/{checkpoint}/{generation_task}.parquet"  # of a registered path
    assert TABLES.keys() - ONLY_EXPORTED - set(paths) <= {"imported/requests", other_layout}, (
        "no rule file registers it"
    )


def test_keys_are_columns_and_every_column_has_a_text() -> None:
    for table in TABLES.values():
        assert set(table.key) <= {column.name for column in table.columns}, table.file
        assert table.row and all(column.about for column in table.columns), table.file


def test_tables_without_a_list_of_columns_in_the_code() -> None:
    grid = pd.DataFrame({"configuration": list("abcd"), "warmup": 1, "parameters": 10, "tokens": 200})
    grid = grid.assign(C=[1e12, 1e13, 1e14, 1e15], loss=[5.0, 4.0, 3.4, 3.1])
    assert not order_differs("configurations.tsv", search.configurations(grid, drop=None, draws=2)[0])
    runs = pd.DataFrame({"quantity": ["err_t"], "train_set": "s", "model": "m", "M": 1.0, "value": 0.2})
    averaged = with_averages(runs, pd.Series({"t": 0.5}), {"model": "m", "margin": 0.1})[1]
    assert averaged.columns.tolist() == ["task", "chance", "best", "in_subset"]
    assert not order_differs("tasks.tsv", averaged) and not order_differs("tasks.tsv", ["task", "chance"])
    assert reliability_table.__doc__ and not order_differs(
        "reliability.csv", ["model", "checkpoint", "task", "low", "high", "n", "confidence", "accuracy"]
    )


def test_what_is_not_described_is_named(tmp_path) -> None:
    write_tsv(pd.DataFrame({"task": ["t"]}), tmp_path / "onset.tsv")
    write_tsv(pd.DataFrame(columns=[*arms.COLUMNS, "more"]), tmp_path / "run_arms.tsv")
    write_tsv(pd.DataFrame(columns=["arm", "size", "reference"]), tmp_path / "run_sentences.tsv")
    row = dict.fromkeys(NOTICES, "")
    write_tsv(pd.DataFrame([row]), tmp_path / "notices.tsv")
    problems = "\n".join(undescribed(tmp_path))
    for sentence in (
        "onset.tsv is a table without a description: describe it in workflow/schemas/tables.yaml",
        "run_arms.tsv: 'more' is not described",
        "run_sentences.tsv: 'size' where 'reference' is described",
        "notices.tsv: severity is described as never missing, and is in 1 rows",
    ):
        assert sentence in problems


def test_a_table_with_other_columns_is_refused(tmp_path) -> None:
    file = tmp_path / "alarms.tsv"
    write_tsv(pd.DataFrame(columns=list(alarms.COLUMNS)), file)
    assert list(read_described(file)) == list(alarms.COLUMNS)
    write_tsv(pd.DataFrame(columns=[name for name in alarms.COLUMNS if name != "severity"]), file)
    with pytest.raises(CellError) as caught:
        read_described(file)
    assert "alarms.tsv is of another program or version (columns of alarms.tsv: " in str(caught.value)
    assert "where 'severity' is described); delete it and run snakemake" in str(caught.value)


def metrics(**columns: object) -> pd.DataFrame:
    row = {
        **{"model": "m", "checkpoint": "step5", "step": 5, "tokens": 7, "parameters_total": 1},
        **{"parameters_non_embedding": 2, "parameters_active": 3, "parameters_nominal": 4, "task": "t"},
        **{"metric": "accuracy", "value": 0.5, "stderr": 0.1, "n": 9, "chance": 0.5, "source": "scored"},
    }
    return pd.DataFrame({name: columns.get(name, value) for name, value in row.items()}, index=range(4))


def test_metrics_are_as_described_and_groups_are_a_column(tmp_path) -> None:
    names = ["accuracy", "accuracy[part=1]", "accuracy[a=x/y]", "loss"]
    write_parquet(metrics(metric=names), tmp_path / "metrics.parquet", METRICS)
    assert not undescribed(tmp_path)
    stored = pq.read_table(tmp_path / "metrics.parquet")
    assert stored["metric"].to_pylist() == names
    assert stored["group"].to_pylist() == [None, "part=1", "a=x/y", None]


def test_unknown_counts_are_missing_for_others_and_0_for_us(tmp_path) -> None:
    """Training tokens are 0 at step 0, and examples are 0 where nothing is measured."""
    file = tmp_path / "metrics.parquet"
    written = metrics(
        metric=list("abcd"),
        step=[0, 5, 5, 5],
        tokens=[0, 0, 7, 0],
        parameters_nominal=[0, 0, 4, 4],
        parameters_total=[1, 0, 3, 4],
        value=[0.0, 0.5, np.nan, 0.5],
        n=[0, 9, 0, 0],
    )
    write_parquet(written, file, METRICS)
    stored = pq.read_table(file)
    assert stored["tokens"].to_pylist() == [0, None, 7, None]
    assert stored["parameters_nominal"].to_pylist() == [None, None, 4, 4]
    assert stored["parameters_total"].to_pylist() == [1, None, 3, 4]
    assert stored["n"].to_pylist() == [None, 9, 0, None]
    pd.testing.assert_frame_equal(read_frame(file, METRICS), written)
    assert read_parquet(file, METRICS)["tokens"].to_pylist() == written["tokens"].tolist()
    sheet = written[["step", "tokens", "parameters_total", "value", "n"]]
    write_tsv(sheet, tmp_path / "t.tsv")
    assert (tmp_path / "t.tsv").read_text().splitlines()[1:3] == ["0\t0\t1\t0\t", "5\t\t\t0.5\t9"]
    pd.testing.assert_frame_equal(read_tsv(tmp_path / "t.tsv"), sheet)


def test_metrics_of_an_earlier_version_are_read(tmp_path) -> None:
    """They have 0 for unknown counts, and no column `group`."""
    file, written = tmp_path / "metrics.parquet", metrics(metric=list("abcd"), tokens=[0, 0, 7, 7])
    earlier = replace(METRICS, on_disk=None, in_memory=None)
    write_parquet(written, file, earlier)
    assert pq.read_table(file)["tokens"].null_count == 0 and "group" not in pq.read_schema(file).names
    pd.testing.assert_frame_equal(read_frame(file, METRICS), written)


def test_a_changed_metric_is_detected(tmp_path) -> None:
    file = tmp_path / "metrics.parquet"
    write_parquet(metrics(metric=list("abcd"), tokens=0), file, METRICS)
    table = pq.read_table(file)
    forged = table.set_column(3, "tokens", [[0, 0, 0, 0]])
    pq.write_table(forged, file)
    with pytest.raises(CellError, match="the rows have the sha256"):
        read_frame(file, METRICS)


def test_example_tables_are_as_described() -> None:
    names = ["task", "example", "cluster", "accuracy", "margin"]
    assert not order_differs("examples/{model}/{checkpoint}-{expected}.parquet", names)
    assert np.isin(["task", "example"], TABLES["imported/examples"].key).all()
