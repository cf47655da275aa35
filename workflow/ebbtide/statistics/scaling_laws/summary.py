"""Summarise in sentences the predictions of runs outside the fit, and the irreducible loss."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Source:
    """A source of held-out text with known entropy.

    Attributes
    ----------
    entropy
        Entropy in nats per token, a lower bound on the loss of every model.
    sample
        Loss of the source itself on the scored text, in nats per token; differs from `entropy` by sampling
        noise.
    """

    entropy: float
    sample: float


def summarise(predictions: pd.DataFrame, fits: pd.DataFrame, chain: str, source: Source | None) -> str:
    """Return lines for each train set: its fit, each run outside the fit, and E.

    `predictions` and `fits` are the tables of `overtraining`, `chain` is the loss that errors are predicted
    from.
    """
    lines = []
    for name, of in predictions.groupby("train_set"):
        laws = fits[(fits["train_set"] == name) & (fits["quantity"] == chain)]
        if laws["estimate"].notna().sum() == 0:
            lines.append(f"{name}: no fitted law of the loss. {laws['note'].iloc[0]}")
            continue
        lines.append(_fit(str(name), laws, of[of["quantity"] == chain]))
        held_out = of[~of["in_fit"] & of["quantity"].isin([chain, "err_avg"])]
        lines += [_run(run) for _, run in held_out.sort_values(["C", "quantity"], ascending=False).iterrows()]
        lines.append(_irreducible(laws[laws["parameter"] == "E"].iloc[0], source))
        if source is not None:
            lines.append(_lowest_loss(of[of["quantity"] == chain], source))
    return "\n".join([*lines, ""])


def _fit(name: str, laws: pd.DataFrame, losses: pd.DataFrame) -> str:
    first = laws.iloc[0]
    worst = losses.loc[losses["in_fit"], "relative_error"].max()
    return (
        f"{name}: {first['formula']} on {first['points']:.0f} runs of {first['compute']:.2g} FLOPs in total; "
        f"residual standard deviation {first['sigma']:.3f} nats, largest relative error {worst:.1%}."
    )


def _run(run: pd.Series) -> str:
    is_loss = run["quantity"].startswith("loss_")
    between = f" ({run['low']:.3f} to {run['high']:.3f})" if np.isfinite(run["low"]) else ""
    inside = run["low"] <= run["actual"] <= run["high"]
    # An error may be 0, which has no relative error.
    points = f"{100 * abs(run['predicted'] - run['actual']):.1f} percentage points"
    return (
        f"{run['model']} (M = {run['M']:g}, {run['compute_ratio']:.2g} times the compute of the fit): "
        f"{'loss' if is_loss else 'mean error'} predicted {run['predicted']:.3f}{between}, actual "
        f"{run['actual']:.3f}: off by {format(run['relative_error'], '.1%') if is_loss else points}"
        f"{', inside the interval' if between and inside else ', outside the interval' if between else ''}."
    )


def _irreducible(E: pd.Series, source: Source | None) -> str:
    text = f"E = {E['estimate']:.3f} nats per token, {E['verdict']}: {E['why']}."
    if source is None:
        return text
    if not (np.isfinite(E["low"]) and np.isfinite(E["high"])):
        where = "which cannot be compared with E, because E has no finite interval"
    else:
        where = "inside" if E["low"] <= source.sample <= E["high"] else "outside"
        where = f"which is {where} that interval, {abs(E['estimate'] - source.sample):.3f} from E"
    return (
        f"{text} The entropy of the source is {source.entropy:.4f} ({source.sample:.4f} on the text scored), "
        f"{where}."
    )


def _lowest_loss(losses: pd.DataFrame, source: Source) -> str:
    best = losses.sort_values("actual").iloc[0]
    above = best["actual"] - source.sample
    verdict = (
        "no run is below it"
        if above > 0
        else "a run is below the entropy, which is impossible: check units and tokenizer"
    )
    return f"The lowest loss, of {best['model']}, is {above:.3f} above the entropy of the text: {verdict}."
