"""Read the public testbed of Gadre et al. 2024 into a table of runs.

The directory has the layout of its repository: `models/*.json` (one run each: size, tokens, losses),
`evals/evaluation_*_heavy.json` (accuracy by task), `eval_metadata.csv` (chance levels) and `grid.json`
(losses of the configuration search).
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.errors import ScalingError
from ebbtide.files import read_json
from ebbtide.statistics.compute import compute
from ebbtide.statistics.scaling_laws.runs import ERROR_PREFIX, LOSS_PREFIX, make_runs

# The testbed calls 20 tokens per parameter optimal, and names runs by multiples of it.
TOKENS_PER_PARAMETER = 20.0


def read_testbed(directory: str | Path) -> pd.DataFrame:
    """Return every run of the testbed: losses by evaluation set, errors by task (columns `runs.RUNS`).

    Raises `ScalingError` for a missing or invalid file.
    """
    directory = Path(directory)
    files = sorted((directory / "models").glob("*.json"))
    if not files:
        raise ScalingError(f"{directory}: found no models/*.json; expected the testbed's directory exp_data.")
    rows = [row for file in files for row in _run(file, directory / "evals")]
    return make_runs(rows, str(directory))


def read_chance(directory: str | Path) -> pd.Series:
    """Return the chance level of accuracy by task, as a share. Raises `ScalingError` for an invalid file."""
    file = Path(directory) / "eval_metadata.csv"
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return pd.Series({row["Eval Task"]: float(row["Random baseline"]) / 100 for row in rows})
    except (OSError, KeyError, ValueError) as error:
        raise ScalingError(f"{file} is not the testbed's table of tasks: {error}.") from error


def read_grid(directory: str | Path) -> pd.DataFrame:
    """Return the configuration search, one row per run: configuration, warmup, parameters, tokens, C, loss.

    Runs are named `d=…_l=…_h=…-batch-lr-wd-batch-tokens-warmup-cooldown` and have 20 tokens per parameter. C
    is in FLOPs, the loss in nats per token. Raises `ScalingError` for an invalid name.
    """
    rows = []
    for name, loss in read_json(Path(directory) / "grid.json", ScalingError).items():
        # The cooldown contains a hyphen (3e-05), so use the parts from the left.
        parts = name.split("-")
        if len(parts) < 7 or not (parts[5].isdigit() and parts[6].isdigit()):
            raise ScalingError(f"{directory}/grid.json: {name!r} is not the name of a run of the search.")
        tokens = int(parts[5])
        size = tokens / TOKENS_PER_PARAMETER
        rows.append(
            {
                "configuration": parts[0],
                "warmup": int(parts[6]),
                "parameters": round(size),
                "tokens": tokens,
                "C": compute(size, tokens),
                "loss": float(loss),
            }
        )
    return pd.DataFrame(rows).sort_values(["C", "loss"], ignore_index=True, kind="stable")


def _run(file: Path, evaluations: Path) -> Iterator[dict[str, Any]]:
    document = read_json(file, ScalingError)
    try:
        settings = document["hyperparameters"]
        run = {
            "train_set": document["dataset_name"],
            "model": Path(settings["model"]).name,
            "parameters": int(settings["params"]),
            "tokens": int(settings["tokens"]),
            "M": TOKENS_PER_PARAMETER * float(settings["chinchilla_multiplier"]),
        }
        run["model"] = run["model"].split(".")[0]
        for result in document["results"]:
            yield {
                **run,
                "quantity": LOSS_PREFIX + _evaluation_set(result["val_data"][0]),
                "value": result["loss"],
            }
        evaluation = read_json(evaluations / f"evaluation_{file.stem}_heavy.json", ScalingError)
        accuracy = evaluation["eval_metrics"]["icl"]
        for task, value in accuracy.items():
            yield {**run, "quantity": ERROR_PREFIX + task, "value": 1.0 - float(value)}
    except (KeyError, TypeError, IndexError) as error:
        raise ScalingError(f"{file} is not a run of the testbed: {error!r}.") from error


def _evaluation_set(path: str) -> str:
    """`…/c4_val/shard-….tar` → `c4_val`; the German set is named by its file."""
    place = Path(path)
    return place.name.removesuffix(".tar") if place.parent.name == "de-en" else place.parent.name
