"""The rows of a figure: one metric, models by size, tasks in the study's order."""

import pandas as pd

from ebbtide.errors import FigureError
from ebbtide.figures.theme import compact

REALS = ("step", "tokens", "value", "stderr", "chance")
SIZE_TITLE = "Model (non-embedding parameters)"


def choose(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of `metrics` that hold a value of `metric`, sorted by task, size and training tokens.

    Two columns become ordered categories: `task`, in order of first appearance, and `size`
    (`pythia-70m (18.9M)`), from the smallest model to the largest, equal ones by name.
    Unknown parameter counts (missing or 0) come last and are not shown.
    Raises `FigureError` when no row is left.
    """
    rows = metrics[(metrics["metric"] == metric) & metrics["value"].notna()]
    if rows.empty:
        found = ", ".join(sorted(metrics["metric"].unique())) or "no rows"
        raise FigureError(f"metrics: no row holds a value of metric {metric!r} (found: {found}).")
    parameters = rows.groupby("model")["parameters_non_embedding"].max()
    known = parameters.where(parameters > 0)
    order = known.reset_index().sort_values(["parameters_non_embedding", "model"])["model"]
    names = {model: _size(model, known[model]) for model in order}
    rows = rows.assign(
        **{name: rows[name].astype(float) for name in REALS},  # missing counts arrive as NA or NaN
        task=pd.Categorical(rows["task"], rows["task"].unique(), ordered=True),
        size=pd.Categorical(rows["model"].map(names), list(names.values()), ordered=True),
    )
    return rows.sort_values(["task", "size", "tokens", "step", "checkpoint"], ignore_index=True)


def prune(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with only the tasks and sizes that occur: an unused one would get an empty panel or key."""
    return rows.assign(
        task=rows["task"].cat.remove_unused_categories(), size=rows["size"].cat.remove_unused_categories()
    )


def panel_columns(tasks: int, most: int) -> int:
    """Panels side by side, at most `most`, with rows as even as can be: four tasks make 2 × 2, not 3 + 1."""
    rows = -(-tasks // most)
    return -(-tasks // rows)


def _size(model: str, parameters: float) -> str:
    return model if pd.isna(parameters) else f"{model} ({compact(parameters)})"
