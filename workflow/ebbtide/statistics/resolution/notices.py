"""Notices of resolution: tasks that cannot tell runs apart, and what these runs cannot say about a task."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ebbtide.notices import Notice, counted, listed
from ebbtide.statistics.panel import trained_in_order
from ebbtide.statistics.resolution.cells import CANNOT
from ebbtide.statistics.resolution.left_out import LEFT_OUT, NOT_COMPARED
from ebbtide.statistics.resolution.proxies import AGAINST
from ebbtide.statistics.resolution.tables import LONG_SPAN, NO_SEEDS, NO_SIZE
from ebbtide.statistics.resolution.windows import is_judged
from ebbtide.study.arms import UNKNOWN


def notices(
    resolution: pd.DataFrame,
    proxies: pd.DataFrame,
    metrics: pd.DataFrame | None = None,
    followed: Sequence[str] = (),
) -> list[Notice]:
    """Return what readers of both tables should know, also of results that only `metrics` has.

    Parameters
    ----------
    metrics
        Rows of `tables.METRICS`.
    followed
        Metrics that the study follows (`trajectories.metrics`).
    """
    found = [] if metrics is None else [*_absent(resolution, metrics), *_unjudged(metrics, followed)]
    return [*_cannot_tell(resolution), *found, *_missing(resolution), *_against(proxies)]


def _absent(resolution: pd.DataFrame, metrics: pd.DataFrame) -> list[Notice]:
    """Tasks without a row, such as log odds, of which neither end is better."""
    rows = metrics[~metrics["task"].isin(resolution["task"])]
    judged = rows[rows["value"].notna() & rows["metric"].map(lambda name: is_judged(str(name))).astype(bool)]
    reasons = {
        "no metric with a value of which higher or lower is better": rows[~rows["task"].isin(judged["task"])],
        "their values are infinite at trained checkpoints of all models": judged,
    }
    return [
        _of_tasks(of, f"resolution.tsv has no row for {listed(map(str, of['task'].unique()))}: {why}.")
        for why, of in reasons.items()
        if len(of)
    ]


def _unjudged(metrics: pd.DataFrame, followed: Sequence[str]) -> list[Notice]:
    """Followed metrics that tasks have, but that resolution.tsv does not judge."""
    found = []
    for metric in followed:
        rows = metrics[metrics["metric"] == metric]
        if rows.empty:
            continue
        if not is_judged(metric):
            text = f"resolution.tsv does not judge {metric}, of which neither higher nor lower is better."
            found.append(_of_tasks(rows, text))
            continue
        infinite = pd.concat(
            [trained_in_order(of) for _, of in rows.groupby(["model", "task"], sort=False)]
        ).pipe(lambda of: of[np.isinf(of["value"])])
        for model, of in infinite.groupby("model", sort=False):
            tasks = listed(map(str, of["task"].unique()))
            text = f"resolution.tsv leaves out {metric} of {model} on {tasks}: it is infinite at "
            text += f"{listed(map(str, of['checkpoint'].unique()))}."
            found.append(_of_tasks(of, text))
        if none := [str(t) for t, of in rows.groupby("task", sort=False) if of["value"].isna().all()]:
            of = rows[rows["task"].isin(none)]
            text = f"resolution.tsv does not judge {metric} on {listed(none)}: it has no value there."
            found.append(_of_tasks(of, text))
    return found


def _of_tasks(rows: pd.DataFrame, text: str) -> Notice:
    tasks = list(map(str, rows["task"].unique()))
    return Notice("note", "not_compared", text, task=tasks[0] if len(tasks) == 1 else "", count=len(tasks))


def _cannot_tell(table: pd.DataFrame) -> list[Notice]:
    """Tasks that tell nothing at any size, though the noise is known."""
    known = table[table["step_noise"].notna() & table["signal"].notna()]
    tells = known.assign(tells=known["verdict"] != CANNOT).groupby("task", sort=False)["tells"].any()
    dull = list(tells.index[~tells])
    if not dull:
        return []
    of = known[known["task"].isin(dull)]
    wide, kinds = of["span"] > LONG_SPAN, sorted(of["signal_of"].unique())
    remedy = "resolution.tsv has the smallest detectable difference of each."
    if wide.any():
        remedy += (
            f" In {int(wide.sum())} of {len(of)} rows, the window spans more than half of training, so that "
            "learning counts as noise: save more checkpoints near the end, or lower resolution.last."
        )
    detail = (
        f"{counted(dull, 'task')} of {len(tells)} cannot clearly tell the {' or '.join(kinds)} of this study "
        f"apart, at any size ({listed(dull)})."
    )
    task = str(dull[0]) if len(dull) == 1 else ""
    return [Notice("note", "low_power", detail, remedy, task=task, count=len(dull))]


def _missing(table: pd.DataFrame) -> list[Notice]:
    """What the runs of the study do not show."""
    found = []
    alone = table["note"].str.startswith(NOT_COMPARED)
    if alone.any():
        sizes, tasks = (listed(table.loc[alone, name].astype(str).unique()) for name in ("size", "task"))
        found.append(
            _notice(
                table[alone],
                f"resolution.tsv does not compare the models of size {sizes} on {tasks}: no two have a "
                "checkpoint at the same training tokens.",
                "Save checkpoints at the same tokens, or raise runs.tolerance.",
            )
        )
    early = table[table["note"].str.contains(LEFT_OUT, regex=False)]
    if len(early):
        sizes, tasks = (listed(early[name].astype(str).unique()) for name in ("size", "task"))
        found.append(
            _notice(
                early,
                f"resolution.tsv compares runs of size {sizes} on {tasks} before some of them end, at the "
                "last training tokens that all of them have.",
                "Its column note counts the checkpoints that are left out.",
            )
        )
    short = table[table["step_noise"].isna() & ~alone]
    if len(short):
        some = table["task"].isin(short["task"]).sum() > len(short)
        runs = f"no run of size {listed(short['size'].astype(str).unique())}" if some else "no run"
        found.append(
            _notice(
                short,
                f"Resolution has no noise for {listed(short['task'].unique())}: {runs} has three trained "
                "checkpoints.",
                "Add checkpoints.",
            )
        )
    noisy = table[table["step_noise"].notna()]
    if len(noisy) and noisy["sd_runs"].isna().all():
        sized = (noisy["size"] != UNKNOWN).any()
        found.append(
            _notice(
                noisy,
                "Detectable differences in resolution.tsv leave out the noise of seeds: "
                f"{NO_SEEDS if sized else NO_SIZE}.",
                "Add runs with other seeds (arm and seed in rows of models)."
                if sized
                else "Give their parameters (nominal in rows of models, parameters in rows of imports).",
            )
        )
    unknown = noisy[(noisy["size"] == UNKNOWN) & (noisy["arms"] > 1)]
    if len(unknown):
        found.append(
            _notice(
                unknown,
                "The sizes of some models are unknown. resolution.tsv compares these models with each other, "
                "as if they had one size.",
                "Give their parameters (nominal in rows of models, parameters in rows of imports).",
            )
        )
    if len(noisy) and noisy["decision_accuracy"].isna().all():
        found.append(
            _notice(
                noisy,
                "resolution.tsv has no decision accuracy: no two arms have runs at two sizes.",
                "Name the arms (arm in rows of models, or runs.arms), if there are any.",
            )
        )
    return found


def _against(proxies: pd.DataFrame) -> list[Notice]:
    """Metrics that run against the one followed."""
    found = []
    for proxy, rows in proxies[proxies["verdict"] == AGAINST].groupby("proxy", sort=False):
        tasks = list(dict.fromkeys(rows["task"]))
        text = f"{proxy} runs against {listed(rows['metric'].unique())} on {listed(tasks)} (proxies.tsv)."
        remedy = "Do not watch it in place of the followed metric there."
        task = str(tasks[0]) if len(tasks) == 1 else ""
        found.append(Notice("note", "suspicious", text, remedy, task=task, count=len(tasks)))
    return found


def _notice(rows: pd.DataFrame, detail: str, remedy: str) -> Notice:
    return Notice("note", "not_compared", detail, remedy, count=len(rows))
