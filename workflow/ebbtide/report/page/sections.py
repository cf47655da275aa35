"""Sections of the page, one per stage: sentences of result, figures, tables, the method."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ebbtide.notices import counted, listed
from ebbtide.report.page.predictability import PREDICTABILITY
from ebbtide.report.page.section import Section, Tables
from ebbtide.report.summary import run_lines, verdict_lines
from ebbtide.statistics.alarms.alarms import SEVERITIES
from ebbtide.titles import in_words

MOST_SENTENCES = 8
HOUR = 3600  # seconds


def _alarms(tables: Tables) -> list[str]:
    rows = tables["alarms"]
    whole = rows[rows["group"] == ""]
    raised = whole[whole["severity"] != ""]
    rank = raised["severity"].map({name: i for i, name in enumerate(SEVERITIES)})
    worst = rank.groupby([raised[name] for name in ("model", "task", "metric", "checkpoint")]).max()
    counts = ", ".join(
        f"{int((worst == i).sum())} {name}" for i, name in reversed(list(enumerate(SEVERITIES)))
    )
    alarms = f"{len(raised)} of {counted(len(whole), 'comparison')} of checkpoints raise an alarm"
    return [f"{counted(len(worst), 'drop')} ({counts}); {alarms}."]


def _trends(tables: Tables) -> list[str]:
    counts = tables["trends"]["class"].value_counts()
    classes = ", ".join(f"{count} {name}" for name, count in counts.items())
    return [f"{counted(len(tables['trends']), 'curve')}: {classes}."]


def _forgetting(tables: Tables) -> list[str]:
    rows = tables["forgetting"]
    known = rows[rows["streak"].notna()]
    if known.empty:
        return [f"No curve could be followed: {listed(rows['note'].dropna().unique(), 2)}."]
    forgets = known[known["verdict"] == "forgets"]
    if forgets.empty:
        return [f"No curve of {len(known)} forgets examples beyond noise."]
    tasks = forgets["task"].drop_duplicates()
    curves = f"{counted(len(forgets), 'curve')} of {len(known)}"
    return [f"{curves} forget examples beyond noise: {listed(tasks, 6)}."]


def _early_warning(tables: Tables) -> list[str]:
    rows = tables["early_warning"]
    tested = rows[rows["lead"].notna()]
    if tested.empty:
        return [f"Nothing is tested: {listed(rows['note'].dropna().unique(), 2)}."]
    ahead = int((tested["low"] > 0).sum())
    pairs = counted(len(tested), "pair")
    return [f"In {ahead} of {pairs} of falling accuracy and signal, the interval of the lead is above 0."]


def _robustness(tables: Tables) -> list[str]:
    """Whether the interaction of size and tokens stays a loss for larger models ("consistent")."""
    rows = tables["robustness_verdicts"]
    known = rows[rows["base"].fillna("") != ""]
    if known.empty:
        return ["No regression could be computed."]
    words = {"consistent": "larger models lose more", "not consistent": "larger models do not lose more"}
    said = [
        f"{row['task']}: {words.get(row['base'], row['base'])}; the same under {row['survives']} choices."
        for row in known.head(MOST_SENTENCES).to_dict("records")
    ]
    more = len(known) - len(said)
    return [*said, *([f"{counted(more, 'more row')} in robustness_verdicts.tsv."] if more else [])]


def _resolution(tables: Tables) -> list[str]:
    rows = tables["resolution"].drop_duplicates(["task", "metric"], keep="last")
    parts = [
        f"{listed(of['task'], 6)} ({verdict})"
        for verdict, of in rows.groupby("verdict", sort=False)
        if len(of)
    ]
    return [f"At the largest size: {'; '.join(parts)}."] if parts else []


def _proxies(tables: Tables) -> list[str]:
    if "proxies" not in tables:
        return []
    rows = tables["proxies"]
    good, bad = (rows[rows["verdict"] == verdict] for verdict in ("supported", "runs against"))
    sentences = [f"Supported proxies: {listed(_on_tasks(good), 6)}."] if len(good) else []
    if len(bad):
        sentences.append(f"Metrics that run against the followed one: {listed(_on_tasks(bad), 6)}.")
    return sentences or ["No other metric is supported as a proxy."]


def _on_tasks(proxies: pd.DataFrame) -> list[str]:
    """Return proxies in words, each with its tasks in brackets."""
    groups = proxies.groupby("proxy", sort=False)["task"]
    return [f"{in_words(str(proxy))} ({listed(tasks, 6)})" for proxy, tasks in groups]


def _scaling_trends(tables: Tables) -> list[str]:
    counts = tables["scale_trends"]["class"].value_counts()
    return [f"Against training compute: {', '.join(f'{n} {name}' for name, n in counts.items())}."]


def _provenance(tables: Tables) -> list[str]:
    """What the scores cost, on what, and what one more checkpoint would."""
    if "cost" not in tables or tables["cost"].empty:
        return []
    whole = tables["cost"].iloc[0].to_dict()
    parts = []
    if pd.notna(whole["unique_tokens"]) and whole["unique_tokens"] > 0:
        ratio = whole["forwarded_tokens"] / whole["unique_tokens"]
        parts.append(f"{whole['forwarded_tokens']:,.0f} tokens forwarded, {ratio:.2f} per unique token")
    if pd.notna(whole.get("generated_tokens")):
        parts.append(f"{whole['generated_tokens']:,.0f} tokens generated")
    parts += _amounts(whole, "")
    found = [f"{', '.join(parts)}."] if parts else []
    mfu = tables["provenance"]["mfu"].dropna() if "mfu" in tables["provenance"] else pd.Series(dtype=float)
    if len(mfu):
        found.append(f"Median model FLOP utilisation (MFU): {100 * mfu.median():.3g} %.")
    device = f" on {whole['device']}" if isinstance(whole.get("device"), str) and whole["device"] else ""
    new = _amounts(whole, "new_checkpoint_")
    if new:
        found.append(f"One more checkpoint of every model would cost {', '.join(new)}{device}.")
    elif parts:
        found.append("What one more checkpoint of every model would cost is unknown.")
    return found


def _amounts(row: Mapping[Any, Any], prefix: str) -> list[str]:
    """Return time and price in words, as far as they are known; short times in seconds."""
    found = []
    known = {n: row.get(prefix + n) for n in ("total_seconds", "gpu_hours", "core_hours", "price")}
    for name, value in known.items():
        if value is None or pd.isna(value) or value <= 0:
            continue
        if name == "price":
            found.append(f"{value:.3g} {row['currency']}")
        elif name == "total_seconds":
            found.append(f"{value:.3g} s of jobs" if value < HOUR else f"{value / HOUR:.3g} h of jobs")
        else:
            unit = name.removesuffix("_hours").replace("gpu", "GPU")
            found.append(
                f"{value:.3g} {unit}-hours" if value >= 0.1 else f"{value * HOUR:.3g} {unit}-seconds"
            )
    return found


SECTIONS = (
    Section(
        "runs",
        "Runs compared",
        lambda tables: run_lines(tables["run_sentences"]),
        ("run_matrix", "run_curves"),
        ("run_verdicts", "run_differences", "seeds", "run_arms"),
        "Arms are compared at equal training tokens and size, over their last checkpoints. The interval "
        "joins the noise of examples, checkpoints and seeds; p is adjusted over the family.",
        "runs.md",
    ),
    Section(
        "alarms",
        "Alarms",
        _alarms,
        ("alarms", "changes"),
        ("alarms", "flips", "flip_groups", "not_compared"),
        "Each checkpoint is compared with the previous one, the best so far and a baseline, on the same "
        "examples: McNemar's mid-p test for right and wrong, a permutation test for other metrics. p is "
        "adjusted by Benjamini–Hochberg.",
        "statistics.md",
    ),
    Section(
        "trends",
        "Trends",
        _trends,
        ("trends",),
        ("trends", "trend_differences", "trend_seeds", "seed_curves"),
        "Slopes are over log10 training tokens, with intervals by resampling examples. A class needs a "
        "significant rise or fall among all pairs of checkpoints, controlled together.",
        "statistics.md",
    ),
    Section(
        "forgetting",
        "Forgetting",
        _forgetting,
        ("forgetting",),
        ("forgetting", "forgotten_together", "forgotten_examples"),
        "An example is learned after a streak of right answers, and forgotten after as many wrong ones at "
        "the end. Counts are compared with what the same answers give in random order.",
        "statistics.md",
    ),
    Section(
        "early_warning",
        "Early warning",
        _early_warning,
        ("early_warning",),
        ("early_warning",),
        "For each falling accuracy: does margin, coverage or choice probability fall earlier? The lead is "
        "in decades of tokens.",
        "statistics.md",
    ),
    Section(
        "verdicts",
        "Regression on size and training tokens",
        lambda tables: verdict_lines(tables["verdicts"], tables.get("robustness_verdicts"))[1:],  # title
        ("paper",),
        ("verdicts", "regressions", "regressions_raw", "example_model"),
        "Per task, z(metric) ~ z(log10 N) × z(log10 D) by least squares. An ability ebbs if its slope "
        "over tokens is negative and significant and the largest model ended lower.",
        "statistics.md",
    ),
    Section(
        "robustness_verdicts",
        "Robustness",
        _robustness,
        ("robustness",),
        ("robustness_verdicts", "robustness"),
        "Every regression again with one choice changed: how size is counted, HC3 or clustered errors, "
        "random slopes, quasi-binomial, a model left out, another correction of p.",
        "statistics.md",
    ),
    Section(
        "resolution",
        "What each benchmark can tell",
        lambda tables: [*_resolution(tables), *_proxies(tables)],
        ("resolution",),
        ("resolution", "proxies"),
        "Signal is the spread of runs or sizes, noise the scatter of checkpoints around a line, of "
        "examples, and of seeds where known. A proxy must order runs as the followed metric does.",
        "resolution.md",
    ),
    Section(
        "scale_trends",
        "Scaling trends",
        _scaling_trends,
        ("scale_*",),
        ("scale_trends", "scale_points"),
        "Every model is a point at its training compute C = 6 N D; the class of each curve follows from "
        "pairwise tests.",
        "statistics.md",
    ),
    *PREDICTABILITY,
    Section(
        "predictions",
        "Scaling laws",
        lambda tables: [f"{counted(len(tables['predictions']), 'prediction')} of larger runs."],
        ("scaling_*",),
        ("predictions", "fits", "exponents", "sensitivity", "tradeoff", "configurations"),
        "Laws of loss and downstream error are fitted to small runs and checked on larger ones; "
        "parameters that the runs do not identify are named.",
        "scaling.md",
    ),
    Section(
        "provenance",
        "Provenance and cost",
        _provenance,
        (),
        ("cost", "provenance", "load_proofs", "checkpoint_audit", "result_audit"),
        "From the footers of the cells. What a new checkpoint would cost is the median of the model's "
        "checkpoints on the device that scored last. The row without a model is the study. Empty is unknown.",
        "store.md",
    ),
)


def sections_of(tables: Tables) -> list[Section]:
    """Return the sections whose first table the study has, with rows."""
    first = {"runs": "run_sentences"}
    found = []
    for section in SECTIONS:
        name = first.get(section.name, section.name)
        if name in tables and len(tables[name]):
            found.append(section)
    return found
