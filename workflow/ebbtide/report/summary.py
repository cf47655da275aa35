"""The summary of a study, in five lines."""

import pandas as pd


def summarise(metrics: pd.DataFrame, verdicts: pd.DataFrame, results: str) -> str:
    """Five lines: the grid; tasks that ebb, that rise, that are undecided; where the results are.

    A warning comes first where numbers are made up.
    """
    cells = metrics[["model", "checkpoint", "task", "source"]].drop_duplicates()
    imported, fake = (int((cells["source"] == name).sum()) for name in ("imported", "fake"))
    warning = f"FAKE: {fake} cells hold made-up numbers (scoring.backend: fake); nothing below is a result."
    grid = " × ".join(
        f"{cells[column].nunique()} {name}"
        for column, name in (("model", "models"), ("checkpoint", "checkpoints"), ("task", "tasks"))
    )
    metric = metrics["metric"].iloc[0] if verdicts.empty else ", ".join(verdicts["metric"].unique())
    several = set(verdicts.loc[verdicts["task"].duplicated(), "task"])
    names = {
        v: [_one(row, row["task"] in several) for _, row in verdicts[verdicts["verdict"] == v].iterrows()]
        for v in _VERDICTS
    }
    ebbs = names["ebbs with size"] + names["ebbs"]
    largest = "" if verdicts.empty or pd.isna(verdicts["model"].iloc[0]) else str(verdicts["model"].iloc[0])
    of = f" ({metric} of {largest}, first → last trained checkpoint)" if largest else ""
    return "\n".join(
        [
            *([warning] if fake else []),
            f"{len(cells) - imported} cells scored{f', {imported} imported' if imported else ''}: {grid}.",
            f"Ebbs with training{of}: {', '.join(ebbs) or 'none'}.",
            f"Rises: {', '.join(names['rises']) or 'none'}.",
            f"Undecided: {', '.join(names['undecided']) or 'none'}.",
            f"Tables, figures, metrics: {results}/ (figures/accuracy.pdf, regressions.tsv, verdicts.tsv).",
            "",
        ]
    )


_VERDICTS = ("ebbs with size", "ebbs", "rises", "undecided")


def _one(row: pd.Series, several: bool) -> str:
    """A task, with its metric if the task has several, and its change."""
    name = f"{row['task']} {row['metric']}" if several else str(row["task"])
    return name if pd.isna(row["change"]) else f"{name} {row['first']:.2f} → {row['last']:.2f}"
