"""The answer of a study in sentences: what rose, what fell, how sure, and what could not have been seen."""

import pandas as pd

from ebbtide.metrics.direction import is_share
from ebbtide.notices import counted, listed
from ebbtide.statistics.compute_trends.sentences import growth_sentences
from ebbtide.titles import in_words

# Outcomes → what a sentence says of them, the most important first.
WORDS = {
    "got worse": "got worse over training",
    "peaked, then got worse": "peaked, then got worse",
    "got worse, then better": "got worse, then better",
    "got better": "got better",
    "fell": "fell",
    "rose": "rose",
    "rose, then fell": "rose, then fell",
    "fell, then rose": "fell, then rose",
}
MOST_RUNS = 4  # sentences about arms
MOST_TASKS = 6


def answer(
    outcomes: pd.DataFrame,
    alarms: pd.DataFrame | None,
    runs: pd.DataFrame | None = None,
    compute: pd.DataFrame | None = None,
) -> list[str]:
    """Return a few sentences, the most important first.

    Parameters
    ----------
    outcomes
        Rows of outcomes.tsv: one per model, task and followed metric.
    alarms
        Rows of alarms.tsv; None if the study has no examples.
    runs
        Rows of run_sentences.tsv; None if the study compares no runs.
    compute
        Rows of compute_trends.tsv; None if the study has no table of models.
    """
    alone = outcomes["first_checkpoint"] == outcomes["last_checkpoint"]
    found = [
        *_runs(runs),
        *_not_judged(outcomes[alone]),
        *(_direction(outcomes[~alone], outcome) for outcome in WORDS),
        _undecided(outcomes[~alone]),
        *(_alarms(alarms) if alarms is not None and len(alarms) else []),
        *(growth_sentences(compute) if compute is not None else []),
    ]
    return [sentence for sentence in found if sentence]


def _runs(runs: pd.DataFrame | None) -> list[str]:
    """Return the sentences over all sizes, or else the first."""
    if runs is None or runs.empty:
        return []
    over_all = runs[runs["sentence"].str.contains("over all sizes", regex=False)]
    kept = (over_all if len(over_all) else runs)["sentence"].head(MOST_RUNS)
    more = len(runs) - len(kept)
    rest = f"Section Runs compared has {counted(more, 'more sentence')}, about single sizes."
    return [*kept, *([rest] if more else [])]


def _not_judged(alone: pd.DataFrame) -> list[str]:
    if alone.empty:
        return []
    curves = counted(len(alone), "curve")
    return [f"{curves} could not be judged, with one checkpoint each: {listed(alone['task'].unique())}."]


def _direction(outcomes: pd.DataFrame, outcome: str) -> str:
    of, words = outcomes[outcomes["outcome"] == outcome], WORDS[outcome]
    if of.empty:
        judged = outcomes["outcome"] != "undecided"  # of which nothing is known, not even this
        return f"No task {words} in any model." if outcome == "got worse" and judged.any() else ""
    tasks: dict[str, int] = dict(of.groupby("task", sort=False)["model"].nunique())
    models: dict[str, int] = dict(outcomes.groupby("task", sort=False)["model"].nunique())
    parts = []
    for task, count in sorted(tasks.items(), key=lambda of: -of[1]):
        share = f"all {count}" if count == models[task] else f"{count} of {models[task]}"
        parts.append(f"{task} ({share} models)" if models[task] > 1 else task)
    return f"{len(tasks)} of {counted(len(models), 'task')} {words}: {listed(parts, MOST_TASKS)}."


def _undecided(outcomes: pd.DataFrame) -> str:
    undecided = outcomes[outcomes["outcome"] == "undecided"]
    flat = int((outcomes["outcome"] == "no change").sum())
    count = len(undecided)
    parts = [f"{counted(count, 'curve')} of {len(outcomes)} undecided"] if count else []
    parts += [f"{counted(flat, 'curve')} without a change"] if flat else []
    said = [f"{' and '.join(parts).capitalize()}."] if parts else []
    reasons = undecided["reason"].fillna("").unique()
    if len(reasons) == 1 and reasons[0]:
        said.append(f"The reason: {reasons[0]}.")
    elif len(reasons) > 1:
        said.append("The reasons are in outcomes.tsv.")
    return " ".join(said)


def _alarms(alarms: pd.DataFrame) -> list[str]:
    whole = alarms[alarms["group"] == ""]
    raised = whole[whole["severity"] != ""]
    quiet = whole[whole["severity"] == ""]
    keys = ["model", "task", "metric", "checkpoint"]
    sentences = []
    if raised.empty:
        sentences.append(f"No alarm in {counted(len(whole), 'comparison')} of checkpoints.")
    else:
        worst = raised.iloc[int(raised["effect"].abs().to_numpy().argmax())]
        drops = len(raised.drop_duplicates(keys))
        sentences.append(
            f"{counted(drops, 'drop')} in {counted(len(whole), 'comparison')} of checkpoints; the largest: "
            f"{worst['task']}, {worst['model']} at {worst['checkpoint']}, {in_words(worst['metric'])} "
            f"{worst['reference_value']:.3g} → {worst['value']:.3g} (adjusted p {_p(worst['p_adjusted'])})."
        )
    for metric, rows in quiet.groupby("metric", sort=False):
        seen = rows["minimum_detectable_drop"].dropna()
        if len(seen) and is_share(str(metric), [0.0, 1.0]):
            what = in_words(str(metric))
            sentences.append(
                f"A drop of {what} below {seen.median():.2g} could not have been seen in half of the "
                f"comparisons without an alarm (80 % power; {seen.min():.2g} to {seen.max():.2g})."
            )
    return sentences


def _p(value: float) -> str:
    return "< 1e-16" if value < 1e-16 else f"= {value:.2g}"
