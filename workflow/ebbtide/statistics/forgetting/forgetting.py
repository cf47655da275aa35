"""Count forgotten examples, and test whether there are more than noise produces.

Forgetting events follow Toneva et al. (2019), with a streak of checkpoints instead of one (see `history`).
Noise alone makes examples look forgotten, so every count is tested against two null hypotheses:

flicker
    The order of an example's answers is random (see `flicker`). p is from the binomial with the same mean,
    which has heavier tails than the sum of unequal probabilities (Hoeffding 1956, Ann. Math. Stat. 27).
    Answers that drift slowly without a trend are significant as well; the verdict is then `turnover`.
net
    As many examples are lost (held around s, wrong at the end) as gained (wrong around s, held at the end).
    Without a trend both are equally likely, however slowly answers drift, because a stationary reversible
    sequence is as likely as its reverse. One-sided p of the largest z over all s, with a null distribution
    from random signs of examples (max-T).

The verdict `forgets` requires the second test. Models without a trend get it in less than alpha of all tasks.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.forgetting.flicker import expected_falls, forgotten_by_chance
from ebbtide.statistics.forgetting.history import STATES, History
from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.resampling import signs

SUMMARY = (
    *("model", "task", "metric", "checkpoints", "streak", "n"),
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
        Histories, or (model, task, metric, reason) for trajectories without one.
    alpha
        Level of the adjusted p for `verdict`.
    """
    rows = [
        _summary(h)
        if isinstance(h, History)
        else dict(zip(("model", "task", "metric", "note"), h, strict=True))
        for h in histories
    ]
    if not rows:
        rows = [{"note": "no forgetting: the study has no results"}]
    table = pd.DataFrame(rows).reindex(columns=list(SUMMARY))
    for name in ("p_flicker", "p_net"):
        table[f"{name}_adjusted"] = adjusted(table[name].to_numpy(dtype=float), "bh")
    forgets = table["p_net_adjusted"] < alpha
    drifts = table["p_flicker_adjusted"] < alpha
    table["verdict"] = np.select([forgets, drifts], ["forgets", "turnover"], "no more than flicker")
    table.loc[table["p_net"].isna(), "verdict"] = ""
    return table


def curves(history: History) -> pd.DataFrame:
    """Shares of examples at each checkpoint, computed as if training had ended there; columns `CURVES`."""
    T, n = history.right.shape
    held = history.held_by
    counts = np.cumsum(history.right, axis=0)
    expected = [
        forgotten_by_chance(t + 1, history.streak)[counts[t]].mean() if t + 1 > history.streak else 0.0
        for t in range(T)
    ]
    table = history.checkpoints.assign(
        model=history.model,
        task=history.task,
        metric=history.metric,
        parameters=history.size,
        n=n,
        right=history.right.mean(axis=1),
        held=held.mean(axis=1),
        forgotten=(held & (history.wrong_run >= history.streak)).mean(axis=1),
        forgotten_expected=expected,
    )
    return table[list(CURVES)]


def net_test(history: History) -> dict[str, Any]:
    """Test whether more examples are lost than gained since some checkpoint; p accounts for its selection."""
    from scipy.stats import binom, norm

    streak, T = history.streak, len(history.right)
    starts = np.arange(streak - 1, T - streak)  # windows ending here do not overlap the last one
    known, unknown = history.right_run[starts] >= streak, history.wrong_run[starts] >= streak
    lost = known & (history.wrong_run[-1] >= streak)
    gained = unknown & (history.right_run[-1] >= streak)
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
    found["net_from"] = str(history.checkpoints["checkpoint"].iloc[starts[best]])
    if not scale.any():
        return found | {"p_net": 1.0}
    drawn = signs(sums, np.arange(groups), history.task) / np.where(scale > 0, scale, np.inf)
    exceeding = int((drawn.max(axis=1) >= z[best] - 1e-9).sum())
    p = (1 + exceeding) / (1 + len(drawn))
    if not exceeding:  # smaller than the draws resolve: Bonferroni over one test per start
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
    expected = history.forgotten_by_chance.sum()
    notes = list(history.notes)
    if history.right.all() or not history.right.any():
        notes.append(f"every answer is {'right' if history.right.all() else 'wrong'} at every checkpoint")
    times, note = _time_to_forget(history)
    return {
        "model": history.model,
        "task": history.task,
        "metric": history.metric,
        "checkpoints": T,
        "streak": history.streak,
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

    chances, found = history.forgotten_by_chance, history.forgotten
    groups = int(history.clusters.max()) + 1
    if groups < len(found):  # clustered examples are dependent, so use the variance of cluster sums
        residuals = np.bincount(history.clusters, weights=found - chances)
        scale = np.sqrt((residuals**2).sum())
        return float(norm.sf(residuals.sum() / scale)) if scale > 0 else 1.0
    possible = chances > 0
    if not possible.any():
        return 1.0
    return float(binom.sf(found.sum() - 1, int(possible.sum()), chances[possible].mean()))


def _time_to_forget(history: History) -> tuple[dict[str, Any], Sequence[str]]:
    """Median decades of tokens from learned to lost; others are censored at the last checkpoint."""
    learned, lost = history.spans()
    held, gone = learned >= 0, lost >= 0
    counts = {
        "ever_held": int(held.sum()),
        "ever_lost": int(gone.sum()),
        "not_lost": int((held & ~gone).sum()),
    }
    tokens = history.checkpoints["tokens"].to_numpy(dtype=float)
    if (tokens <= 0).any():
        return counts, [
            "training tokens are unknown, so there is no time to forget: set `tokens_per_step` of the model"
        ]
    if not gone.any():
        return counts, ["no held example was lost: no time to forget"]
    decades = np.log10(tokens)
    until = np.where(gone, lost, len(tokens) - 1)
    spent = np.maximum(decades[until[held]] - decades[learned[held]], 0.0)
    median = median_survival(spent, gone[held])
    if np.isnan(median):
        return counts, [
            "fewer than half of the held examples were lost: the median time to forget is beyond the end"
        ]
    return counts | {"median_decades_to_forget": median}, []


def median_survival(times: np.ndarray, observed: np.ndarray) -> float:
    """Kaplan-Meier median of times (n,), right-censored unless `observed` (n,); NaN if beyond the data."""
    from scipy.stats import CensoredData, ecdf

    survival = ecdf(CensoredData(uncensored=times[observed], right=times[~observed])).sf
    passed = survival.quantiles[survival.probabilities <= 0.5 + 1e-12]
    return float(passed[0]) if len(passed) else np.nan
