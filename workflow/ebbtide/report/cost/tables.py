"""Tables of provenance and cost, from the records of checkpoints (`cells.provenance`)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.errors import CellError
from ebbtide.report.cost.peaks import peak_tflops
from ebbtide.tables import METRICS, read_footer

HOUR = 3600.0  # seconds
TERA = 1e12
TEXT = (
    *("origin", "weights", "weights_sha256", "tokenizer", "dtype", "implementation", "method", "versions"),
    *("device", "gpus", "first_scored", "last_scored", "currency"),
)
TOKENS = ("forwarded_tokens", "unique_tokens", "generated_tokens")
COUNTS = ("step", "tokens", "cells", "scoring_version", "hosts", *TOKENS)
PROVENANCE = (
    *("model", "checkpoint", "step", "tokens", "origin", "weights", "weights_sha256", "tokenizer", "dtype"),
    *("scoring_version", "implementation", "method", "versions", "device", "gpus", "hosts"),
    *("cells", *TOKENS, "forwarded_per_unique"),
    *("scoring_seconds", "tokens_per_second", "peak_tflops", "mfu"),
    *("total_seconds", "gpu_hours", "core_hours", "price", "currency", "first_scored", "last_scored"),
)
SAME_CELLS = ["weights", "tokenizer", "dtype"]  # checkpoints with these in common share their cells
SUMS = ("cells", *TOKENS, "total_seconds", "gpu_hours", "core_hours", "price")
NEW = ("total_seconds", "gpu_hours", "core_hours", "price")  # of a new checkpoint
COST = (
    *("model", "checkpoints", "distinct_checkpoints", "costed_checkpoints", *SUMS),
    *("device", *(f"new_checkpoint_{name}" for name in NEW), "currency"),
)


def read_records(parts: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Return the record of each checkpoint from the footers of its table of metrics.

    Raises `CellError` for a table without one.
    """
    found = []
    for path in parts:
        footer = read_footer(path, METRICS)
        if "provenance" not in footer:
            raise CellError(f"{path}: the footer has no 'provenance'; {METRICS.remedy}.")
        found.append(footer["provenance"])
    return found


def provenance_table(
    records: Iterable[Mapping[str, Any]],
    origins: Mapping[str, Mapping[str, str]],
    cost: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Return one row per model and checkpoint: `PROVENANCE`. What is unknown is missing.

    Parameters
    ----------
    records
        Of the checkpoints, see `cells.provenance.provenance_of`.
    origins
        Model → checkpoint → where its weights come from.
    cost
        `gpu_hour`, the price of an hour of one GPU, and its `currency`; None if the study does not say.
    """
    rows = [_row(record, origins[record["model"]][record["checkpoint"]], cost) for record in records]
    table = pd.DataFrame(rows, columns=list(PROVENANCE))
    real = [name for name in PROVENANCE if name not in (*TEXT, *COUNTS, "model", "checkpoint")]
    table = table.astype({**dict.fromkeys(COUNTS, "Int64"), **dict.fromkeys(real, float)})
    return table.fillna(dict.fromkeys(TEXT, ""))


def _row(record: Mapping[str, Any], origin: str, cost: Mapping[str, Any] | None) -> dict[str, Any]:
    unique, forwarded, seconds = (record[n] for n in ("unique_tokens", "forwarded_tokens", "scoring_seconds"))
    [device] = record["device"] if len(record["device"]) == 1 else [""]
    peak = peak_tflops(device, record["dtype"] or "")
    gpu_hours = _ratio(record["gpu_seconds"], HOUR)
    return {
        **{name: record.get(name) for name in PROVENANCE},
        **{n: ", ".join(map(str, record[n])) for n in ("implementation", "method", "versions", "gpus")},
        "device": ", ".join(record["device"]),
        "origin": origin,
        "forwarded_per_unique": _ratio(forwarded, unique),
        "tokens_per_second": _ratio(forwarded, seconds) if forwarded else None,
        "gpu_hours": gpu_hours,
        "core_hours": _ratio(record["core_seconds"], HOUR),
        "peak_tflops": peak,
        "mfu": _ratio(record["flop"], record["scoring_gpu_seconds"], (peak or 0) * TERA),
        "price": cost["gpu_hour"] * gpu_hours if cost and gpu_hours else None,  # CPUs have no price
        "currency": cost["currency"] if cost else "",
    }


def _ratio(value: float | None, *divisors: float | None) -> float | None:
    """The value by all divisors; None if one of them is unknown or 0."""
    if value is None:
        return None
    for divisor in divisors:
        if not divisor:
            return None
        value /= divisor
    return value


def cost_table(provenance: pd.DataFrame) -> pd.DataFrame:
    """Return what the cells of a study cost, and what one more checkpoint would: `COST`, one row per model.

    The first row, with an empty `model`, is the whole study; its new checkpoint is one of every model. Sums
    are over distinct checkpoints with a known value, and missing if there is none. The costs of a new
    checkpoint are medians over the model's checkpoints that were scored on the device that scored last.
    """
    by_model = [
        _sums(rows, str(model)) | _new(rows) for model, rows in provenance.groupby("model", sort=False)
    ]
    study = _sums(provenance, "")
    for name in NEW:
        values = pd.Series([of[f"new_checkpoint_{name}"] for of in by_model], dtype=float)
        study[f"new_checkpoint_{name}"] = values.sum(skipna=False) if len(values) else None
    study["device"] = ", ".join(dict.fromkeys(of["device"] for of in by_model))
    table = pd.DataFrame([study, *by_model], columns=list(COST))
    counts = [n for n in COST if n.endswith("checkpoints") or n in COUNTS]
    return table.astype(dict.fromkeys(counts, "Int64"))


def _sums(rows: pd.DataFrame, model: str) -> dict[str, Any]:
    """Sums over checkpoints; those that share their cells count once."""
    known = rows["weights"] != ""  # differs between the cells of a checkpoint, which no study has
    distinct = rows[~(known & rows.duplicated(SAME_CELLS))]
    return {
        "model": model,
        "checkpoints": len(rows),
        "distinct_checkpoints": len(distinct),
        "costed_checkpoints": int(distinct["total_seconds"].notna().sum()),
        **{name: distinct[name].sum(min_count=1) for name in SUMS},
        "currency": ", ".join(c for c in rows["currency"].unique() if c),
    }


def _new(rows: pd.DataFrame) -> dict[str, Any]:
    """Cost of one more checkpoint of a model."""
    known = rows[rows["total_seconds"].notna()]
    if known.empty:
        return {"device": "", **{f"new_checkpoint_{name}": None for name in NEW}}
    device = known.sort_values("last_scored", kind="stable")["device"].iloc[-1]
    alike = known[known["device"] == device]
    return {
        "device": device,
        **{f"new_checkpoint_{name}": alike[name].median() for name in NEW},
    }
