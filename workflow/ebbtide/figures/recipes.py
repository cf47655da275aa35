"""Recipes: runs that differ only by seed as one line with their mean, for the figure of curves."""

from dataclasses import dataclass

import pandas as pd

NOTE = (
    "Of runs that differ only by seed, the line is the mean; thin lines are the runs. Filled band: interval "
    "of the mean over other examples. Dotted: over other seeds."
)
_KEY = ["model", "task", "metric"]
_POINT = ["recipe", "task", "metric", "tokens"]


@dataclass(frozen=True)
class WithRecipes:
    """Metrics with a row per recipe and checkpoint instead of rows of its runs.

    Attributes
    ----------
    metrics
        `model` is the label of a recipe, such as `facts 15.3K, 3 runs`, or a model without replicates.
        `low_seeds` and `high_seeds` are missing for the latter.
    runs
        The rows of the runs at trained checkpoints, with their `label`.
    labels
        Model of a run → label of its recipe.
    """

    metrics: pd.DataFrame
    runs: pd.DataFrame
    labels: dict[str, str]


def with_recipes(metrics: pd.DataFrame, seeds: pd.DataFrame, z: float) -> WithRecipes:
    """Replace runs by the means over them.

    Parameters
    ----------
    metrics
        As in `curves.plot_curves`.
    seeds
        Rows of seed_curves.tsv.
    z
        Standard errors of a band: `stderr` of a recipe is its half-width over examples, divided by this.
    """
    of_runs = seeds.assign(model=seeds["models"].str.split(", ")).explode("model")
    recipes = of_runs[[*_KEY, "recipe"]].drop_duplicates(_KEY)
    joined = metrics.merge(recipes, on=_KEY, how="left")
    is_run = joined["recipe"].notna()
    counts = recipes.drop_duplicates(["recipe", "model"])["recipe"].value_counts()
    names = {recipe: f"{recipe}, {count} runs" for recipe, count in counts.items()}
    runs = joined[is_run & (joined["tokens"] > 0)]
    places = runs.drop_duplicates(_POINT).drop(columns=["value", "stderr", "n"]).astype({"tokens": float})
    means = seeds[[*_POINT, "value", "n", "low_seeds", "high_seeds"]].assign(
        tokens=seeds["tokens"].astype(float),
        stderr=(seeds["high_examples"] - seeds["low_examples"]) / (2 * z),
    )
    means = places.merge(means, on=_POINT)
    means["model"] = means["recipe"].map(names)
    kept = joined[~is_run].assign(low_seeds=float("nan"), high_seeds=float("nan"))
    found = pd.concat([kept, means[kept.columns]], ignore_index=True) if len(kept) else means
    return WithRecipes(
        found.drop(columns="recipe"),
        runs.assign(label=runs["recipe"].map(names)),
        {
            str(model): names[recipe]
            for model, recipe in zip(recipes["model"], recipes["recipe"], strict=True)
        },
    )
