"""Curves of the page: the data of every curve, compact, and the chart that draws a choice of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ebbtide.metrics.chosen import main_metric, metrics_by_task
from ebbtide.metrics.direction import direction_of, is_of_group, is_share, sign_of, unit_of
from ebbtide.report.page.numbers import rounded
from ebbtide.statistics.panel import in_training_order

MOST_POINTS = 40_000  # with more, only main and followed metrics are on the page


SIZES = {
    "parameters_non_embedding": "non-embedding parameters",
    "parameters_total": "parameters",
    "parameters_nominal": "nominal parameters",
}
NAMED = {"name": "model", "checkpoint": "checkpoint", "alarm": "alarm"}
READ = {"value": "value", "low": "low (95 %)", "high": "high (95 %)"}  # numbers of the tooltip
# 300B tokens: SI prefixes but for G, which readers of this field write B; compute has powers of ten
SHORT = "replace(format(datum.value, '.3~s'), 'G', 'B')"


def curve_data(metrics: pd.DataFrame, followed: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the curves of all models, and sentences about what is left out.

    Parameters
    ----------
    metrics
        Rows of `tables.METRICS`.
    followed
        `trajectories.metrics`, which are never left out.

    Returns
    -------
    `models`: name → parameters, and names, steps and tokens of its checkpoints (arrays of length T).
    `size`: which parameters these are, the first count that is known of all models; empty if there is none.
    `metrics`: name → unit, direction, sign and whether it is a share. `curves`: task, metric, model, values
    and standard errors (arrays of length T; null where there is no value), and chance.
    """
    whole = metrics[~metrics["metric"].map(is_of_group).astype(bool)]
    left = []
    if len(whole) < len(metrics):
        left.append("Metrics of single groups have no curves here; they are in metrics.parquet.")
    if len(whole) > MOST_POINTS:
        found = metrics_by_task(whole)
        kept = {(task, n) for task, names in found.items() for n in (main_metric(names), *followed)}
        keys = pd.MultiIndex.from_frame(whole[["task", "metric"]])
        few = whole[keys.isin(kept)]
        more = whole["metric"].nunique() - few["metric"].nunique()
        left.append(f"{more} further metrics are in metrics.parquet only.")
        whole = few
    size = next((kind for kind in SIZES if (whole.groupby("model")[kind].max() > 0).all()), "")
    models: dict[str, Any] = {}
    curves = []
    for model, of_model in whole.groupby("model", sort=False):
        checkpoints = in_training_order(of_model.drop_duplicates("checkpoint"))
        index = pd.Index(checkpoints["checkpoint"])
        models[str(model)] = {
            "parameters": int(of_model[size].max()) if size else 0,
            "checkpoints": list(index),
            "steps": checkpoints["step"].astype(int).tolist(),
            "tokens": checkpoints["tokens"].astype(int).tolist(),
        }
        for (task, metric), rows in of_model.groupby(["task", "metric"], sort=False):
            ordered = rows.drop_duplicates("checkpoint").set_index("checkpoint").reindex(index)
            chance = ordered["chance"].dropna()
            curves.append(
                {
                    "task": str(task),
                    "metric": str(metric),
                    "model": str(model),
                    "values": [rounded(value) for value in ordered["value"]],
                    "stderrs": [rounded(value) for value in ordered["stderr"]],
                    "chance": rounded(chance.iloc[-1]) if len(chance) else None,
                }
            )
    properties = {
        str(name): {
            "unit": unit_of(str(name)),
            "direction": direction_of(str(name)),
            "sign": sign_of(str(name)),
            "share": bool(is_share(str(name), rows["value"].dropna())),
        }
        for name, rows in whole.groupby("metric", sort=False)
    }
    order = sorted(models, key=lambda name: models[name]["parameters"])
    data = {"models": {name: models[name] for name in order}, "size": SIZES.get(size, "")}
    return {**data, "metrics": properties, "curves": curves}, left


def chart(names: Sequence[str]) -> Mapping[str, Any]:
    """Return the Vega-Lite specification of curves, with an empty data set `points`.

    The script of the page fills it: `row, name, kind, x, value, low, high, best, chance, checkpoint, alarm`.
    It also sets the colours, which depend on light or dark, and the ticks. `kind` is `run`, or `mean` for a
    mean over seeds. The parameter `chosen` is the `row` that is ringed; -1 is none.

    Parameters
    ----------
    names
        Names of all lines: of models, and of recipes whose means are drawn.
    """
    import altair as alt

    domain = list(names)
    key = alt.Legend(title=None, orient="bottom", columns=4, symbolLimit=40, labelLimit=220, symbolOpacity=1)
    colour = alt.Color("name:N", legend=key, scale=alt.Scale(domain=domain))
    dash = alt.StrokeDash("name:N", legend=key, scale=alt.Scale(domain=domain))
    shape = alt.Shape("name:N", legend=key, scale=alt.Scale(domain=domain))
    x = alt.X("x:Q", title="x", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(labelExpr=SHORT))
    y = alt.Y("value:Q", title="value", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6))
    tooltip = [
        *(alt.Tooltip(f"{field}:N", title=title) for field, title in NAMED.items()),
        *(alt.Tooltip(f"{field}:Q", format=".4~g", title=title) for field, title in READ.items()),
    ]
    base = alt.Chart(alt.NamedData(name="points"))
    band = base.mark_area(opacity=0.13).encode(
        x=x, y=alt.Y("low:Q", title="value"), y2="high:Q", color=colour
    )
    line = base.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=colour, strokeDash=dash)
    mean = base.mark_line(strokeWidth=4).encode(x=x, y=y, color=colour)
    best = base.mark_line(interpolate="step-after", strokeDash=[2, 3], strokeWidth=1, opacity=0.7).encode(
        x=x, y="best:Q", color=colour
    )
    chance = base.mark_rule(strokeDash=[6, 4], strokeWidth=1, color="#808080").encode(y="chance:Q")
    ringed = {"size": (260, 50), "stroke": ("#808080", "transparent"), "strokeWidth": (3, 0)}
    marks = base.mark_point(filled=True, opacity=1, cursor="pointer").encode(
        x=x,
        y=y,
        color=colour,
        shape=shape,
        tooltip=tooltip,
        **{
            channel: alt.condition("datum.row === chosen", alt.value(yes), alt.value(no))
            for channel, (yes, no) in ringed.items()
        },
    )
    alarms = (
        base.mark_point(
            shape="triangle-down",
            filled=True,
            size=110,
            color="#d55e00",
            opacity=1,
            yOffset=-12,
            cursor="pointer",
        )
        .encode(x=x, y=y, tooltip=tooltip)
        .transform_filter("datum.alarm != ''")
    )
    layered = alt.layer(
        chance,
        band,
        best,
        mean.transform_filter("datum.kind == 'mean'"),
        line.transform_filter("datum.kind == 'run'"),
        marks,
        alarms,
    ).properties(width="container", height=360)
    spec: dict[str, Any] = layered.configure_view(stroke=None).to_dict(validate=False)
    spec["datasets"] = {"points": []}
    spec["params"] = [{"name": "chosen", "value": -1}]
    return spec
