"""Lines of the curves: a colour, dash and shape for every model, and means of runs that differ by seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.report.page.numbers import rounded
from ebbtide.titles import among_equals, order_of_sizes

# Told apart with any colour vision, with a contrast of at least 3 on the paper of their mode.
COLOURS = {
    "light": ("#0072b2", "#d55e00", "#00805d", "#aa4c84", "#8a6400", "#3d3d3d"),
    "dark": ("#56a9e0", "#f0803c", "#2cc59a", "#e394c0", "#e6c34d", "#f2f2f2"),
}
# Ends of viridis that have this contrast; sizes are ordered, so their colours are too.
ORDERED = {"light": (0.0, 0.58), "dark": (0.4, 1.0)}
VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
DASHES = ([1, 0], [7, 3], [2, 2], [10, 3, 2, 3], [5, 2, 1, 2, 1, 2], [14, 4])
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-right")  # ▼ is an alarm


def line_styles(
    models: Mapping[str, int], seeds: pd.DataFrame | None, averaged: Mapping[str, str]
) -> dict[str, Any]:
    """Return `names`, and for each of these names a colour per mode, a dash and a shape.

    Runs of one recipe, and averages of a model's checkpoints, have one colour. Of three sizes or more, each
    has a colour, in their order; else each recipe has one. Dashes and shapes tell lines of one colour apart.
    The names of recipes with several runs, whose means are drawn, come last.

    Parameters
    ----------
    models
        Model → parameters, smallest first.
    seeds
        Rows of seed_curves.tsv; None if the study has none.
    averaged
        Model whose checkpoints are averages → the model that they average.
    """
    recipe = {model: name for name, of in _recipes(seeds).items() for model in of if model in models}
    group = {model: recipe.get(of := averaged.get(model, model), of) for model in models}
    groups = list(dict.fromkeys(group.values()))
    sizes = [max(size for model, size in models.items() if group[model] == name) for name in groups]
    order = order_of_sizes(sizes)
    names = [*models, *dict.fromkeys(recipe.values())]
    at = [groups.index(group.get(name, name)) for name in names]
    colour_of = order or [i % len(COLOURS["light"]) for i in range(len(groups))]
    members = among_equals([colour_of[of_group] for of_group in at[: len(models)]])
    members += [
        members[at.index(of_group)] for of_group in at[len(models) :]
    ]  # a mean looks as its first run
    found: dict[str, Any] = {
        "names": names,
        "dash": [DASHES[member % len(DASHES)] for member in members],
        "shape": [
            SHAPES[(colour_of[of_group] + member) % len(SHAPES)]
            for of_group, member in zip(at, members, strict=True)
        ],
    }
    for mode, colours in COLOURS.items():
        chosen = _ordered(max(order) + 1, *ORDERED[mode]) if order else colours
        found[mode] = [chosen[colour_of[of_group]] for of_group in at]
    return found


def mean_curves(seeds: pd.DataFrame | None, models: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the means over seeds: task, metric, recipe, how many runs, and arrays over their checkpoints.

    `steps` and `parameters` are those of the recipe's first model; `low` and `high` hold the noise of seeds
    and of examples.
    """
    found: list[dict[str, Any]] = []
    if seeds is None or seeds.empty:
        return found
    known = seeds[seeds["value"].notna()]
    for (task, metric, recipe), of in known.groupby(["task", "metric", "recipe"], sort=False):
        runs = [name for name in str(of["models"].iloc[0]).split(", ") if name in models]
        if not runs:
            continue
        first = models[runs[0]]
        step = dict(zip(first["tokens"], first["steps"], strict=True))
        found.append(
            {
                **{"task": str(task), "metric": str(metric), "recipe": str(recipe), "models": runs},
                "parameters": first["parameters"],
                "tokens": of["tokens"].astype(int).tolist(),
                "steps": [step.get(int(tokens), 0) for tokens in of["tokens"]],
                **{name: [rounded(v) for v in of[name]] for name in ("value", "low", "high")},
            }
        )
    return found


def _recipes(seeds: pd.DataFrame | None) -> dict[str, Sequence[str]]:
    if seeds is None or seeds.empty:
        return {}
    rows = seeds.drop_duplicates("recipe")
    return {str(row["recipe"]): str(row["models"]).split(", ") for row in rows.to_dict("records")}


def _ordered(count: int, low: float, high: float) -> list[str]:
    """Return colours of viridis from one share of its length to another."""
    known = np.array([[int(of[i : i + 2], 16) for i in (1, 3, 5)] for of in VIRIDIS])
    at = np.linspace(low, high, count) * (len(VIRIDIS) - 1) if count > 1 else np.array([low * 8])
    channels = [np.interp(at, np.arange(len(VIRIDIS)), known[:, i]).round().astype(int) for i in range(3)]
    return ["#" + "".join(f"{value:02x}" for value in colour) for colour in zip(*channels, strict=True)]
