"""Made-up tables of studies of every size, and the figures drawn from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.figures import (
    plot_alarms,
    plot_changes,
    plot_curves,
    plot_early_warning,
    plot_heat,
    plot_paper,
    plot_robustness,
    plot_scale,
    plot_trends,
    scaling,
)
from ebbtide.figures.forgetting import plot_forgetting
from ebbtide.figures.resolution import plot_resolution
from ebbtide.figures.runs import plot_run_curves, plot_run_matrix
from ebbtide.figures.theme import PAGE_CM, fitted
from ebbtide.metrics.direction import with_properties

LONG = "truthful_qa_multiple_choice_with_a_few_shot_prefix_of_the_original_paper"
OUTCOMES = ("improves", "worsens, then improves", "improves, then worsens", "worsens", "undecided", "flat")


@dataclass(frozen=True)
class Shape:
    """The size of a study: models with parameters, tasks with their metric, steps, tokens per step."""

    models: Mapping[str, int]
    tasks: Mapping[str, str]
    steps: tuple[int, ...]
    tokens: int = 2097152

    def grid(self) -> pd.DataFrame:
        """One row per model, task and checkpoint, with a value between 0 and 1 that rises and ebbs."""
        rows = [
            (model, size, i, task, metric, j, step)
            for i, (model, size) in enumerate(self.models.items())
            for j, (task, metric) in enumerate(self.tasks.items())
            for step in self.steps
        ]
        table = pd.DataFrame(rows, columns=["model", "size", "i", "task", "metric", "j", "step"])
        progress = np.log1p(table["step"]) / np.log1p(max(self.steps))
        wave = 0.3 + 0.02 * table["i"] + (0.02 + 0.05 * (table["j"] % 3)) * np.sin(4 * progress + table["i"])
        return with_properties(
            table.assign(
                checkpoint="step" + table["step"].astype(str),
                tokens=table["step"] * self.tokens,
                value=wave.where(table["metric"] != "perplexity", 400 * wave),
                **{f"parameters_{n}": table["size"] for n in ("total", "active", "nominal", "non_embedding")},
                parameters=table["size"],
                stderr=0.01,
                n=200,
                chance=np.where(table["metric"] == "accuracy", 0.25, np.nan),
                source="scored",
                wave=wave,
            )
        )


POWERS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# Pythia has 154 checkpoints: 0, powers of two, and every thousandth step.
PYTHIA = (*POWERS, *range(1000, 144000, 1000))
SHAPES = {
    "demo": Shape(
        {"ladder-d8": 888, "ladder-d16": 6592, "ladder-d32": 25472, "ladder-d64": 150080},
        dict.fromkeys(("memo_trap", "fact_qa", "arithmetic", "modus_tollens"), "accuracy"),
        (0, 16, 32, 64, 128, 256, 512, 1024),
        1024,
    ),
    "one": Shape({"smollm2-135m": 106_203_456}, {"memo_trap": "accuracy"}, (1000, 2000)),
    "mixed": Shape(
        {f"pythia-{n}m-deduped": n * 10**6 for n in (70, 160, 410, 1000, 1400, 2800)},
        {"memo_trap": "accuracy", LONG: "accuracy", "documents": "loss", "text": "perplexity",
         "q": "log_odds"},
        (1, 64, 512, 4000, 32000, 143000),
    ),
    "series": Shape(
        {f"pythia-{n}m{kind}": n * 10**6 for n in (70, 160, 410, 1000, 1400, 2800, 6900, 12000)
         for kind in ("", "-deduped")},
        {f"task_{i}": "accuracy" for i in range(12)},
        (*POWERS, *range(1000, 144000, 8000)),
    ),
    "many": Shape(
        {f"a-model-with-a-rather-long-name-{n}m": n * 10**6 for n in range(10, 170, 10)},
        {f"{name}_{i}": "accuracy" for i in range(6) for name in (LONG, "task")},
        PYTHIA,
    ),
}  # fmt: skip


def drops(shape: Shape) -> pd.DataFrame:
    """Rows of alarms.tsv."""
    grid = shape.grid()[lambda rows: rows["step"] > 0]
    keys = ["model", "task"]
    change = grid["wave"] - grid.groupby(keys)["wave"].shift()
    rows = grid.assign(change=change, reference=grid.groupby(keys)["checkpoint"].shift())
    rows = rows[rows["change"].notna()].assign(against="predecessor")
    best = rows.assign(against="best", change=-rows["wave"])
    rows = pd.concat([rows, best[best["step"] == max(shape.steps)]], ignore_index=True)
    cycle = np.array(["", "", "minor", "moderate", "severe", ""])
    return rows.assign(
        effect=5 * rows["change"],
        p_adjusted=np.where(rows["change"] < -0.01, 0.01, 0.5),
        severity=cycle[np.arange(len(rows)) % 6],
        minimum_detectable_drop=0.02 + 0.01 * (np.arange(len(rows)) % 7),
    )


def slopes(shape: Shape) -> pd.DataFrame:
    """Rows of trends.tsv."""
    rows = shape.grid().drop_duplicates(["model", "task"]).reset_index(drop=True)
    slope = 0.02 * (rows["i"] - 1) * np.where(rows["metric"] == "perplexity", 100, 1)
    reach = 0.02 + 0.3 * slope.abs()
    ability = np.array(OUTCOMES)[np.arange(len(rows)) % len(OUTCOMES)]
    return rows.assign(slope=slope, low=slope - reach, high=slope + reach, ability=ability, note="")


def shares(shape: Shape) -> pd.DataFrame:
    """Rows of forgetting_curves.tsv."""
    rows = shape.grid()[lambda rows: rows["step"] > 0]
    return rows.assign(
        metric="accuracy", forgotten=rows["wave"] - 0.2, forgotten_expected=rows["wave"] - 0.15
    )


def choices(shape: Shape) -> pd.DataFrame:
    """Rows of robustness.tsv."""
    groups = {
        "base": ["base"],
        "metric": ["margin", "choice_probability"],
        "axis": ["log10 of training tokens and its square", "steps", "without the first checkpoint"],
        "errors": ["CR2 by model", "HC3", "random slopes by model"],
        "correction": ["Benjamini-Hochberg", "Holm"],
        "model left out": [f"without {model}" for model in shape.models],
    }
    rows = [
        (task, "accuracy", group, choice, (-1) ** j * (2 + k / 3), 10.0 ** -(1 + k / 3))
        for j, task in enumerate(shape.tasks)
        for k, (group, choice) in enumerate((g, c) for g, cs in groups.items() for c in cs)
    ]
    table = pd.DataFrame(rows, columns=["task", "metric", "group", "choice", "t", "p_adjusted"])
    return table.assign(
        term="interaction", note="", survives=np.where(table["p_adjusted"] < 0.05, "yes", "no")
    )


def ratios(shape: Shape) -> pd.DataFrame:
    """Rows of resolution.tsv."""
    rows = [
        (task, metric, str(size), 10.0 ** ((i + j) % 4 - 1))
        for i, (task, metric) in enumerate(shape.tasks.items())
        for j, size in enumerate(list(shape.models.values())[:6])
    ]
    table = pd.DataFrame(rows, columns=["task", "metric", "size", "snr_within"])
    verdicts = np.array(["use", "use averaged over 5", "watch by proxy: margin", "cannot tell"])
    return with_properties(
        table.assign(
            snr_within_low=table["snr_within"] / 3,
            snr_within_high=table["snr_within"] * 3,
            verdict=verdicts[np.arange(len(table)) % 4],
            signal_of="sizes",
            note="",
        )
    )


def verdicts(shape: Shape) -> pd.DataFrame:
    """Rows of run_verdicts.tsv."""
    sizes = [f"{n // 10**6}M" if n >= 10**6 else str(n) for n in shape.models.values()][:8]
    names = np.array(["wins", "loses", "equivalent", "undecided"])
    rows = [
        ("new", "old", task, suite, size, metric, 0.1234 * (-1) ** i)
        for i, (task, suite, metric) in enumerate([*((t, "", m) for t, m in shape.tasks.items()),
                                                   ("", "zero_shot", "accuracy")])
        for size in (*sizes, "all")
    ]  # fmt: skip
    columns = ["arm", "reference", "task", "suite", "size", "metric", "difference"]
    table = pd.DataFrame(rows, columns=columns)
    verdict = names[np.arange(len(table)) % 4]
    reason = "the noise of seeds is not known"
    return with_properties(table.assign(verdict=verdict, p_adjusted=0.02, reason=reason))


def differences(shape: Shape) -> pd.DataFrame:
    """Rows of run_differences.tsv."""
    rows = shape.grid()[lambda rows: rows["step"] > 0]
    rows = rows.assign(size=rows["size"].map("{:,}".format), difference=rows["wave"] - 0.3, suite="")
    rows = rows.assign(low=rows["difference"] - 0.05, high=rows["difference"] + 0.05, scope="point")
    return rows.assign(arm="new", reference="old", source_of_noise="examples, checkpoints; not seeds")


def leads(shape: Shape) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics of falling tasks, and rows of early_warning.tsv."""
    rows = shape.grid().query("metric == 'accuracy' and step > 0").reset_index(drop=True)
    signals = [rows.assign(metric=name, value=rows["wave"]) for name in ("accuracy", "margin", "coverage")]
    steps = sorted(step for step in shape.steps if step)
    ends = (f"step{steps[0]}", f"step{steps[-1]}")
    half = shape.tokens * float(np.sqrt(steps[0] * steps[-1]))
    pairs = rows[["model", "task"]].drop_duplicates().merge(pd.DataFrame({"signal": ["margin", "coverage"]}),
                                                             how="cross")  # fmt: skip
    table = pairs.assign(
        lead=0.3, fall=0.2, half=half, signal_half=half / 2, note="", fall_from=ends[0], fall_to=ends[1],
        signal_from=ends[0], signal_to=ends[1],
    )  # fmt: skip
    return pd.concat(signals, ignore_index=True), table


def over_compute(shape: Shape) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of scale_points.tsv and scale_trends.tsv for accuracy."""
    rows = shape.grid().query("metric == 'accuracy'").drop_duplicates(["model", "task"], keep="last")
    rows = rows.assign(flops=6.0 * rows["size"] * max(rows["tokens"].max(), 1), asked=rows["task"])
    shots = [rows.assign(shots=n, value=rows["wave"] + 0.05 * k) for k, n in enumerate(("0", "5"))]
    points = pd.concat([part.assign(series=f"series-{s}") for part in shots for s in ("a", "b")])
    classes = np.array(["standard", "inverse", "U-shaped", "inverted-U", "flat", "undecided"])
    trends = points[["series", "task", "shots", "metric"]].drop_duplicates().reset_index(drop=True)
    return points, trends.assign(**{"class": classes[np.arange(len(trends)) % 6]})


def laws() -> dict[str, pd.DataFrame]:
    """Tables of the scaling laws of three train sets, as their figures need them."""
    sizes, ratios_ = (11e6, 79e6, 154e6, 411e6, 6.9e9), (20.0, 40.0, 80.0, 320.0)
    grid = pd.DataFrame(
        [(s, n, m) for s in ("c4_original", "red_pajama", "refined_web") for n in sizes for m in ratios_],
        columns=["train_set", "parameters", "M"],
    )
    grid["C"] = 6 * grid["parameters"] ** 2 * grid["M"]
    loss = 1.7 + 90 * grid["C"] ** -0.1
    named = grid.assign(
        model="a-run-" + grid["parameters"].map("{:.2g}".format), in_fit=grid["M"] < 80, note=""
    )
    tables = [
        named.assign(quantity=q, actual=v, predicted=v * 1.01, relative_error=e, law="loss")
        for q, v, e in (
            ("loss_c4_val", loss, 0.004 + 0.02 * (grid["M"] > 80)),
            ("err_avg", loss / 6, 0.02),
            ("err_a_task_with_a_long_name", loss / 7, 0.03),
        )
    ]
    curves = pd.concat(table.assign(value=table["predicted"], loss=loss) for table in tables[:2])
    exponents = grid[["train_set", "M"]].drop_duplicates().assign(E=1.7, eta=0.1, note="")
    exponents["lambda"] = 90.0
    tradeoff = pd.concat(tables[:2]).query("not in_fit and parameters > 4e8").assign(published=False)
    tradeoff = pd.concat([tradeoff.assign(fit_compute=tradeoff["C"] / k) for k in (2.0, 10.0, 50.0)])
    tradeoff.loc[tradeoff["M"] == 80, "published"] = True
    return {"predictions": pd.concat(tables, ignore_index=True), "curves": curves, "exponents": exponents,
            "tradeoff": tradeoff}  # fmt: skip


def configurations() -> pd.DataFrame:
    """Rows of configurations.tsv."""
    C = np.logspace(14, 18, 60)
    trend = 1.7 + 90 * C**-0.1
    kinds = np.arange(60) % 6
    return pd.DataFrame(
        {"C": C, "loss": trend * (1 + 0.02 * kinds), "trend": trend, "low": trend * 0.97,
         "high": trend * 1.03,
         "front": kinds < 3, "kept": kinds < 2, "chosen": kinds < 1}
    )  # fmt: skip


# Figures as wide as a page or a column.
FITTED: dict[str, Callable[[Shape, float], p9.ggplot]] = {
    "curves": lambda shape, cm: plot_curves(shape.grid(), width_cm=cm),
    "alarms": lambda shape, cm: plot_alarms(drops(shape), width_cm=cm),
    "changes": lambda shape, cm: plot_changes(drops(shape), width_cm=cm),
    "trends": lambda shape, cm: plot_trends(slopes(shape), width_cm=cm),
    "early_warning": lambda shape, cm: plot_early_warning(*leads(shape), width_cm=cm),
    "forgetting": lambda shape, cm: plot_forgetting(shares(shape), pd.DataFrame({"note": [""]}), width_cm=cm),
    "robustness": lambda shape, cm: plot_robustness(choices(shape), width_cm=cm),
    "resolution": lambda shape, cm: plot_resolution(ratios(shape), width_cm=cm),
    "run_matrix": lambda shape, cm: plot_run_matrix(verdicts(shape), width_cm=cm),
    "run_curves": lambda shape, cm: plot_run_curves(differences(shape), width_cm=cm),
    "scale_accuracy": lambda shape, cm: plot_scale(*over_compute(shape), "accuracy", width_cm=cm),
}


def figures_of(shape: Shape, width_cm: float = PAGE_CM) -> dict[str, Callable[[], p9.ggplot]]:
    """Every figure that depends on the size of a study, by name."""
    metrics = shape.grid()
    return {
        "paper": lambda: plot_paper(metrics, parameters="non_embedding"),
        "heat": lambda: plot_heat(metrics),
        **{name: partial(fitted, partial(draw, shape), width_cm) for name, draw in FITTED.items()},
    }


def figures_of_laws() -> dict[str, Callable[[], p9.ggplot]]:
    """The figures of scaling laws, by name."""
    found = laws()
    predictions, curves, loss = found["predictions"], found["curves"], "loss_c4_val"
    return {
        "scaling_laws": lambda: scaling.plot_laws(predictions, curves, "red_pajama"),
        "scaling_exponents": lambda: scaling.plot_exponents(predictions, found["exponents"], loss),
        "scaling_error": lambda: scaling.plot_error_of_loss(predictions, curves, loss),
        "scaling_relative_error": lambda: scaling.plot_relative_error(predictions, loss),
        "scaling_tradeoff": lambda: scaling.plot_tradeoff(found["tradeoff"]),
        "scaling_search": lambda: scaling.plot_search(configurations()),
    }
