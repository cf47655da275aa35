"""Summarise in sentences the predictions of runs outside the fit, and the irreducible loss."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ebbtide.statistics.scaling_laws.laws import ERROR, ERROR_SIGMOID
from ebbtide.statistics.scaling_laws.predictions import out_of_range
from ebbtide.statistics.scaling_laws.runs import LOSS_PREFIX
from ebbtide.statistics.scaling_laws.subset import AVERAGE


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
        held_out = of[~of["in_fit"] & of["quantity"].isin([chain, AVERAGE])]
        order = held_out.sort_values(["C", "quantity", "law"], ascending=[False, False, True])
        lines += [_run(run, source) for _, run in order.iterrows()]
        lines += _error_laws(fits[(fits["train_set"] == name) & (fits["quantity"] == AVERAGE)])
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


def _run(run: pd.Series, source: Source | None) -> str:
    is_loss = run["quantity"].startswith(LOSS_PREFIX)
    if not np.isfinite(run["predicted"]):
        return f"{run['model']} (M = {run['M']:g}): {_named(run)} not predicted. {run['note']}"
    between = f" ({run['low']:.3f} to {run['high']:.3f})" if np.isfinite(run["low"]) else ""
    inside = run["low"] <= run["actual"] <= run["high"]
    # An error may be 0, which has no relative error.
    points = f"{100 * abs(run['predicted'] - run['actual']):.1f} percentage points"
    return (
        f"{run['model']} (M = {run['M']:g}, {run['compute_ratio']:.2g} times the compute of the fit): "
        f"{_named(run)} predicted {run['predicted']:.3f}{between}, actual "
        f"{run['actual']:.3f}: off by {format(run['relative_error'], '.1%') if is_loss else points}"
        f"{', inside the interval' if between and inside else ', outside the interval' if between else ''}."
        f"{_impossible(run, source)}"
    )


def _named(run: pd.Series) -> str:
    if run["quantity"].startswith(LOSS_PREFIX):
        return "loss"
    return "mean error by the sigmoid" if run["law"] == ERROR_SIGMOID.name else "mean error"


def _impossible(run: pd.Series, source: Source | None) -> str:
    """Return a sentence if the quantity cannot take the predicted value, with a leading space."""
    [text] = out_of_range(run["quantity"], run["predicted"], run["actual"])
    if text:
        return f" {text[0].upper()}{text[1:]}."
    if source is not None and run["quantity"].startswith(LOSS_PREFIX) and run["predicted"] < source.sample:
        return f" No model can reach this prediction: the entropy of the text is {source.sample:.4f}."
    return ""


def _error_laws(laws: pd.DataFrame) -> list[str]:
    """Compare the laws of the mean error: how well each predicts a run that is left out of its fit."""
    fitted = laws.dropna(subset="estimate").drop_duplicates("law").set_index("law")
    if ERROR.name not in fitted.index or ERROR_SIGMOID.name not in fitted.index:
        return [
            f"Mean error: no fit of {law}. {why}"
            for law, why in zip(laws["law"], laws["note"], strict=True)
            if law not in fitted.index
        ]
    plain, sigmoid = (fitted.loc[law] for law in (ERROR.name, ERROR_SIGMOID.name))
    return [
        "Mean error of a run left out of the fit, at its measured loss (root mean square): off by "
        f"{100 * plain['left_out_rmse']:.1f} percentage points by {plain['formula']}; by "
        f"{100 * sigmoid['left_out_rmse']:.1f} by the sigmoid {sigmoid['formula']}, "
        "whose predictions stay between 0 and 1."
    ]


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
