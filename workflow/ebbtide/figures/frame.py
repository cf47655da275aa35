"""The rows of a figure: one metric, models by size, tasks in the study's order."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from ebbtide.errors import FigureError
from ebbtide.figures.theme import compact
from ebbtide.titles import Ability, title

REALS = ("step", "tokens", "value", "stderr", "chance")
SIZE_TITLES = {
    "non_embedding": "Model (non-embedding parameters)",
    "total": "Model (all parameters)",
    "active": "Model (active non-embedding parameters)",
    "nominal": "Model (parameters by its name)",
}


def ability_rows(metrics: pd.DataFrame, abilities: Sequence[Ability], metric: str) -> pd.DataFrame:
    """The rows of these abilities, in their order, for a figure with a panel for each.

    `task` becomes the ability's name and `metric` the one given, so that MC1 and MC2 of one task are two
    panels. The figure needs the titles of `ability_titles`.
    """
    parts = [
        metrics[(metrics["task"] == a.task) & (metrics["metric"] == a.metric)].assign(task=a.name)
        for a in abilities
    ]
    return pd.concat(parts, ignore_index=True).assign(metric=metric) if parts else metrics.iloc[:0]


def ability_titles(abilities: Sequence[Ability]) -> dict[str, str]:
    """Titles of the panels of `ability_rows`: the abilities' names, unchanged."""
    return {ability.name: ability.name for ability in abilities}


def labeller(titles: Mapping[str, str] | None) -> Callable[[str], str]:
    """A function from task to panel title: the one given, else one made from the task's name."""
    return lambda task: (titles or {}).get(task, title(task))


def choose(metrics: pd.DataFrame, metric: str, parameters: str = "non_embedding") -> pd.DataFrame:
    """The rows of `metrics` with a value of `metric`, sorted by task, size and training tokens.

    Two columns become ordered categories: `task`, in order of first appearance, and `size`
    (`pythia-70m (18.9M)`), from the smallest model to the largest by `parameters`, equal ones by name.
    Models of unknown size (missing or 0) come last, without a number.

    Raises `FigureError` when no row is left.
    """
    rows = metrics[(metrics["metric"] == metric) & metrics["value"].notna()]
    if rows.empty:
        found = ", ".join(sorted(metrics["metric"].unique())) or "no rows"
        raise FigureError(f"metrics: no row has a value of metric {metric!r} (metrics found: {found}).")
    sizes = rows.groupby("model")[f"parameters_{parameters}"].max()
    known = sizes.where(sizes > 0)
    order = known.rename("size").reset_index().sort_values(["size", "model"])["model"]
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
    """Panels side by side, at most `most`, in rows as even as possible: four tasks are 2 × 2, not 3 + 1."""
    rows = -(-tasks // most)
    return -(-tasks // rows)


def _size(model: str, parameters: float) -> str:
    return model if pd.isna(parameters) else f"{model} ({compact(parameters)})"
