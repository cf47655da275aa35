"""Tables of provenance and cost."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ebbtide.errors import CellError
from ebbtide.report.cost.peaks import peak_tflops
from ebbtide.report.cost.tables import COST, PROVENANCE, cost_table, provenance_table, read_records
from ebbtide.tables import read_tsv, write_tsv

H100 = "NVIDIA H100 80GB HBM3"
PRICE = {"gpu_hour": 2.0, "currency": "EUR"}


def record(model: str, checkpoint: str, **entries: Any) -> dict[str, Any]:
    return {
        "model": model,
        "checkpoint": checkpoint,
        "step": 5,
        "tokens": 500,
        "cells": 3,
        "weights": f"hub:{model}{checkpoint}",
        "tokenizer": "hub:t",
        "dtype": "bfloat16",
        "weights_sha256": "0123456789012345",
        "scoring_version": 1,
        "implementation": ["ebbtide"],
        "method": ["trie"],
        "versions": ["ebbtide 0.4", "torch 2.13"],
        "device": [H100],
        "gpus": [1],
        "hosts": 1,
        "forwarded_tokens": 1200,
        "unique_tokens": 1000,
        "flop": 989.4e12,
        "scoring_seconds": 2.0,
        "scoring_gpu_seconds": 2.0,
        "total_seconds": 1800.0,
        "gpu_seconds": 1800.0,
        "core_seconds": 3600.0,
        "first_scored": "2026-03-01T00:00:00+00:00",
        "last_scored": "2026-03-02T00:00:00+00:00",
        **entries,
    }


UNKNOWN = dict.fromkeys(
    ("flop", "scoring_gpu_seconds", "total_seconds", "gpu_seconds", "core_seconds", "hosts", "weights_sha256")
)
CPU: dict[str, Any] = {"device": ["Xeon"], "gpus": [0], "gpu_seconds": 0.0, "scoring_gpu_seconds": 0.0}


def table(*records: dict[str, Any], cost: dict[str, Any] | None = None) -> pd.DataFrame:
    origins: dict[str, dict[str, str]] = {}
    for of in records:
        origins.setdefault(of["model"], {})[of["checkpoint"]] = "repo@commit"
    return provenance_table(records, origins, cost)


def test_rates_and_costs_of_a_checkpoint() -> None:
    (row,) = table(record("m", "a"), cost=PRICE).to_dict("records")
    assert tuple(row) == PROVENANCE
    assert row["forwarded_per_unique"] == 1.2
    assert row["tokens_per_second"] == 600
    assert (row["peak_tflops"], row["mfu"]) == (989.4, 0.5)
    assert (row["gpu_hours"], row["core_hours"], row["price"], row["currency"]) == (0.5, 1, 1, "EUR")
    assert (row["origin"], row["gpus"], row["device"]) == ("repo@commit", "1", H100)


def test_what_is_unknown_is_empty_also_on_disk(tmp_path: Path) -> None:
    old = record("m", "a", **UNKNOWN, device=["cuda"], gpus=[])
    write_tsv(table(old, record("m", "b", **CPU), cost=PRICE), tmp_path / "t.tsv")
    unknown, cpu = read_tsv(tmp_path / "t.tsv").to_dict("records")
    for name in ("hosts", "mfu", "peak_tflops", "total_seconds", "gpu_hours", "core_hours", "price"):
        assert pd.isna(unknown[name]), name
    assert unknown["weights_sha256"] == unknown["gpus"] == ""
    assert cpu["weights_sha256"] == "0123456789012345"  # text, not a number
    assert cpu["gpu_hours"] == 0  # known
    assert pd.isna(cpu["price"])  # a price of GPUs does not say what a processor costs
    assert pd.isna(cpu["mfu"])


@pytest.mark.parametrize(
    ("entries", "known"),
    [
        ({}, True),
        ({"device": [H100 + " MIG 1g.10gb"]}, False),  # a slice has a smaller peak
        ({"device": [H100, "NVIDIA L4"]}, False),
        ({"dtype": "float64"}, False),
        ({"dtype": None}, False),
    ],
)
def test_utilization_needs_one_device_with_a_known_peak(entries: dict[str, Any], known: bool) -> None:
    (row,) = table(record("m", "a", **entries)).to_dict("records")
    assert pd.notna(row["mfu"]) == pd.notna(row["peak_tflops"]) == known


def test_peaks_depend_on_the_type_of_numbers() -> None:
    assert (peak_tflops("Tesla T4", "float16"), peak_tflops("Tesla T4", "bfloat16")) == (65.0, None)


def test_a_study_costs_its_distinct_checkpoints_and_says_how_many_are_known() -> None:
    rows = [
        record("m", "a"),
        record("m", "b"),
        record("n", "b", weights="hub:mb"),
        record("n", "c", **UNKNOWN),
    ]
    costs = cost_table(table(*rows, cost=PRICE))
    assert tuple(costs) == COST
    study, m, n = costs.to_dict("records")
    counts = ["checkpoints", "distinct_checkpoints", "costed_checkpoints", "cells"]
    assert [study[name] for name in counts] == [4, 3, 2, 9]
    assert (study["model"], study["gpu_hours"], study["price"], study["currency"]) == ("", 1.0, 2.0, "EUR")
    assert (m["gpu_hours"], n["gpu_hours"]) == (1.0, 0.5)  # shared cells are in both


def test_a_new_checkpoint_costs_the_median_of_those_on_the_last_device() -> None:
    hours = [1, 2, 9]
    rows = [
        record("m", f"c{h}", gpu_seconds=3600.0 * h, last_scored=f"2026-03-0{h}T00:00:00+00:00")
        for h in hours
    ]
    old = record("m", "c0", **CPU, last_scored="2026-01-01T00:00:00+00:00")
    study, m = cost_table(table(old, *rows)).to_dict("records")
    assert (m["device"], m["new_checkpoint_gpu_hours"]) == (H100, 2.0)
    assert study["new_checkpoint_gpu_hours"] == 2.0
    unknown = cost_table(table(*rows, record("n", "a", **UNKNOWN))).to_dict("records")
    assert pd.isna(unknown[2]["new_checkpoint_gpu_hours"])
    assert pd.isna(unknown[0]["new_checkpoint_gpu_hours"])  # the sum over models has an unknown
    assert pd.isna(unknown[2]["gpu_hours"])
    assert unknown[0]["costed_checkpoints"] == 3


def test_a_table_of_metrics_without_a_record_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ebbtide.report.cost.tables.read_footer", lambda path, schema: {})
    with pytest.raises(CellError, match=r"m.parquet: the footer has no 'provenance'; delete the file"):
        read_records([tmp_path / "m.parquet"])
