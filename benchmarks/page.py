"""The report page of a grid of 29,568 cells: CPU seconds and bytes.

    python benchmarks/page.py [--models 16]

Tables are made up: 16 models × 154 checkpoints × 12 tasks, 25 metrics, comparisons with the previous
checkpoint and the best, of which 5 % are alarms with 20 examples each.
"""

import argparse
import time

import numpy as np
import pandas as pd

from ebbtide.report.outcomes import outcomes
from ebbtide.report.page.page import Page, report_page

CHECKPOINTS, TASKS, METRICS = 154, 12, 25


def metrics(models: int, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of metrics.parquet."""
    index = pd.MultiIndex.from_product(
        [range(models), range(CHECKPOINTS), range(TASKS), range(METRICS)], names=["m", "c", "t", "k"]
    )
    of = index.to_frame(index=False)
    names = ["accuracy", *(f"made_up_{k}" for k in range(1, METRICS))]
    return pd.DataFrame(
        {
            "model": "model-" + of["m"].astype(str),
            "checkpoint": "step" + (of["c"] * 1000).astype(str),
            "step": of["c"] * 1000,
            "tokens": of["c"] * 2097152000,
            "task": "task-" + of["t"].astype(str),
            "metric": pd.Series(names).iloc[of["k"]].to_numpy(),
            "value": rng.random(len(of)),
            "stderr": 0.01,
            "n": 1000,
            "chance": 0.25,
            "source": "scored",
            **{
                f"parameters_{kind}": 10 ** (of["m"] % 5 + 7)
                for kind in ("non_embedding", "total", "nominal")
            },
        }
    )


def alarms(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of alarms.tsv, against two references."""
    of = rows[(rows["metric"] == "accuracy") & (rows["step"] > 0)]
    parts = []
    for against in ("predecessor", "best"):
        raised = rng.random(len(of)) < 0.05
        parts.append(
            of[["model", "task", "metric", "checkpoint", "step", "tokens", "value"]].assign(
                **{
                    "group": "",
                    "against": against,
                    "reference": "step1000",
                    "reference_value": 0.5,
                    "n": 1000,
                },
                **{"change": -0.1, "p_adjusted": np.where(raised, 1e-4, 0.5), "effect": -0.3},
                **{"minimum_detectable_drop": 0.03, "severity": np.where(raised, "moderate", "")},
            )
        )
    return pd.concat(parts, ignore_index=True)


def flips(raised: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of flips.parquet and flips.tsv."""
    pairs = raised.assign(from_model=raised["model"], to=raised["checkpoint"]).rename(
        columns={"reference": "from"}
    )
    pairs = pairs[["model", "task", "metric", "from_model", "from", "to"]].drop_duplicates()
    examples = pairs.loc[pairs.index.repeat(20)].assign(
        flip="lost", shots=0, prompt="A question of some length? " * 8
    )
    examples["rank"] = examples.groupby(list(pairs), sort=False).cumcount() + 1
    examples["example"] = examples["rank"].astype(str)
    for name, value in (("choices", [" yes", " no"]), ("right", [0]), ("probability_before", [0.6, 0.4])):
        examples[name] = [value] * len(examples)
    examples["probability_after"] = examples["probability_before"]
    examples = examples.assign(
        chosen_before=0, chosen_after=1, value_before=1.0, value_after=0.0, margin_lost=1.0
    )
    examples = examples.assign(also_flipped=1, other_models=2)
    return examples, pairs.assign(
        lost=20, gained=0, sentence="20 of 1,000 examples were lost.", groups="", note=""
    )


def main() -> None:
    """Print CPU seconds and megabytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=16)
    models = parser.parse_args().models
    rng = np.random.default_rng(0)
    rows = metrics(models, rng)
    of_alarms = alarms(rows, rng)
    examples, pairs = flips(of_alarms[of_alarms["severity"] != ""])
    tables = {
        "outcomes": outcomes(rows, None, of_alarms, followed=["accuracy"]),
        "alarms": of_alarms,
        "flips": pairs,
    }
    start = time.process_time()
    page = report_page(Page("made_up", rows, tables, ["accuracy"], {}, flips=examples))
    seconds = time.process_time() - start
    cells = models * CHECKPOINTS * TASKS
    print(f"{cells:,} cells, {len(rows):,} rows of metrics, {len(pairs):,} pairs with an alarm")
    print(f"{seconds:.1f} CPU s, {len(page.encode()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
