"""How much was forgotten, and whether it is more than noise.

Noise makes examples look forgotten, so every count has two comparisons:

flicker
    the number that an exchangeable order of the same answers gives (`flicker`); p by the binomial with the
    same mean, which has heavier tails than the sum of unequal chances (Hoeffding 1956, Ann. Math. Stat. 27).
    Answers that drift slowly up and down, without any trend, exceed it, too: that is turnover.
net
    held around s and lost at the end, against not known around s and held at the end. Without a trend the two
    are as likely however slowly answers drift, as the reverse of a stationary reversible sequence is as
    likely as the sequence. Largest z over all s, null by random signs of examples (max-T), one-sided.

`forgets` needs the second, and is what a noisy but steady model is called in less than alpha of all tasks.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.forgetting.flicker import expected_falls, looks_forgotten
from ebbtide.statistics.forgetting.history import STATES, History
from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.resampling import signs

SUMMARY = (
    *("model", "task", "metric", "checkpoints", "hold", "n"),
    *STATES,
    *(f"{state}_share" for state in STATES),
    *("rises", "falls", "falls_expected", "forgotten_expected", "forgotten_excess_share", "p_flicker"),
    *("net_from", "lost", "gained", "z_net", "p_net", "p_flicker_adjusted", "p_net_adjusted", "verdict"),
    *("ever_held", "ever_lost", "not_lost", "median_decades_to_forget", "note"),
)
CURVES = (
    *("model", "task", "metric", "parameters", "checkpoint", "step", "tokens", "n"),
    *("right", "held", "forgotten", "forgotten_expected"),
)


def summarise_histories(
    histories: Iterable[History | tuple[str, str, str, str]], alpha: float
) -> pd.DataFrame:
    """One row per model and task, columns `SUMMARY`; p adjusted by Benjamini-Hochberg over all rows.

    Parameters
    ----------
    histories
        Or, of a trajectory without one, its model, task, metric and why.
    """
    rows = [
        _summary(h)
        if isinstance(h, History)
        else dict(zip(("model", "task", "metric", "note"), h, strict=True))
        for h in histories
    ]
    if not rows:
        rows = [{"note": "no example was scored here: imported results have none"}]
    table = pd.DataFrame(rows).reindex(columns=list(SUMMARY))
    for name in ("p_flicker", "p_net"):
        table[f"{name}_adjusted"] = adjusted(table[name].to_numpy(dtype=float), "bh")
    forgets = table["p_net_adjusted"] < alpha
    turns = table["p_flicker_adjusted"] < alpha
    table["verdict"] = np.select([forgets, turns], ["forgets", "turnover"], "no more than flicker")
    table.loc[table["p_net"].isna(), "verdict"] = ""
    return table


def curves(history: History) -> pd.DataFrame:
    """Shares of all examples at each checkpoint, as if training had ended there; columns `CURVES`."""
    T, n = history.right.shape
    held = history.held_by
    counts = np.cumsum(history.right, axis=0)
    expected = [
        looks_forgotten(t + 1, history.hold)[counts[t]].mean() if t + 1 > history.hold else 0.0
        for t in range(T)
    ]
    table = history.places.assign(
        model=history.model,
        task=history.task,
        metric=history.metric,
        parameters=history.size,
        n=n,
        right=history.right.mean(axis=1),
        held=held.mean(axis=1),
        forgotten=(held & (history.wrong_run >= history.hold)).mean(axis=1),
        forgotten_expected=expected,
    )
    return table[list(CURVES)]


def net_test(history: History) -> dict[str, Any]:
    """More lost than gained since some checkpoint? The one that says so most, with p for having chosen it."""
    from scipy.stats import binom, norm

    hold, T = history.hold, len(history.right)
    starts = np.arange(hold - 1, T - hold)  # the window that ends here does not touch the last one
    known, unknown = history.right_run[starts] >= hold, history.wrong_run[starts] >= hold
    lost = known & (history.wrong_run[-1] >= hold)
    gained = unknown & (history.right_run[-1] >= hold)
    difference = lost.astype(float) - gained
    groups = int(history.clusters.max()) + 1
    sums = np.stack([np.bincount(history.clusters, weights=row, minlength=groups) for row in difference])
    scale = np.sqrt((sums**2).sum(axis=1))
    z = np.divide(sums.sum(axis=1), scale, out=np.zeros(len(scale)), where=scale > 0)
    best = int(z.argmax())
    found: dict[str, Any] = {
        "lost": int(lost[best].sum()),
        "gained": int(gained[best].sum()),
        "z_net": float(z[best]),
    }
    found["net_from"] = str(history.places["checkpoint"].iloc[starts[best]])
    if not scale.any():
        return found | {"p_net": 1.0}
    drawn = signs(sums, np.arange(groups), history.task) / np.where(scale > 0, scale, np.inf)
    exceeding = int((drawn.max(axis=1) >= z[best] - 1e-9).sum())
    p = (1 + exceeding) / (1 + len(drawn))
    if not exceeding:  # beyond what the draws resolve: one test per start, Bonferroni
        each = norm.sf(z)
        if groups == history.right.shape[1]:
            each = binom.sf(lost.sum(axis=1) - 1, lost.sum(axis=1) + gained.sum(axis=1), 0.5)
        p = min(p, len(starts) * float(each.min()))
    return found | {"p_net": p}


def _summary(history: History) -> dict[str, Any]:
    T, n = history.right.shape
    states = history.states
    counts = {state: int((states == state).sum()) for state in STATES}
    steps = np.diff(history.right.astype(np.int8), axis=0)
    expected = history.flicker.sum()
    notes = [] if history.hold > 1 else [f"only {T} trained checkpoints: knowledge is one right answer"]
    if history.right.all() or not history.right.any():
        notes.append(f"every answer is {'right' if history.right.all() else 'wrong'} at every checkpoint")
    times, note = _time_to_forget(history)
    return {
        "model": history.model,
        "task": history.task,
        "metric": history.metric,
        "checkpoints": T,
        "hold": history.hold,
        "n": n,
        **counts,
        **{f"{state}_share": count / n for state, count in counts.items()},
        "rises": int((steps > 0).sum()),
        "falls": int((steps < 0).sum()),
        "falls_expected": expected_falls(history.right),
        "forgotten_expected": expected,
        "forgotten_excess_share": (counts["forgotten"] - expected) / n,
        "p_flicker": _p_flicker(history),
        **net_test(history),
        **times,
        "note": "; ".join([*notes, *note]),
    }


def _p_flicker(history: History) -> float:
    from scipy.stats import binom, norm

    chances, found = history.flicker, history.forgotten
    groups = int(history.clusters.max()) + 1
    if groups < len(found):  # examples of a cluster go together: the scatter of cluster sums
        residuals = np.bincount(history.clusters, weights=found - chances)
        scale = np.sqrt((residuals**2).sum())
        return float(norm.sf(residuals.sum() / scale)) if scale > 0 else 1.0
    possible = chances > 0
    if not possible.any():
        return 1.0
    return float(binom.sf(found.sum() - 1, int(possible.sum()), chances[possible].mean()))


def _time_to_forget(history: History) -> tuple[dict[str, Any], Sequence[str]]:
    """Decades of tokens from learned to lost; examples not lost are censored at the last checkpoint."""
    learned, lost = history.spans()
    held, gone = learned >= 0, lost >= 0
    counts = {
        "ever_held": int(held.sum()),
        "ever_lost": int(gone.sum()),
        "not_lost": int((held & ~gone).sum()),
    }
    tokens = history.places["tokens"].to_numpy(dtype=float)
    if (tokens <= 0).any():
        return counts, ["training tokens are unknown: no time to forget"]
    if not gone.any():
        return counts, ["nothing held was lost: no time to forget"]
    decades = np.log10(tokens)
    until = np.where(gone, lost, len(tokens) - 1)
    spent = np.maximum(decades[until[held]] - decades[learned[held]], 0.0)
    median = median_survival(spent, gone[held])
    if np.isnan(median):
        return counts, [
            "less than half of what was held was lost: the median time to forget is beyond the end"
        ]
    return counts | {"median_decades_to_forget": median}, []


def median_survival(times: np.ndarray, observed: np.ndarray) -> float:
    """Kaplan-Meier median of times, those not `observed` right-censored; NaN if beyond the data."""
    from scipy.stats import CensoredData, ecdf

    survival = ecdf(CensoredData(uncensored=times[observed], right=times[~observed])).sf
    passed = survival.quantiles[survival.probabilities <= 0.5 + 1e-12]
    return float(passed[0]) if len(passed) else np.nan
