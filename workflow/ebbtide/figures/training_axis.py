"""The axis of training: tokens where they are known, else steps, else the order of the checkpoints."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.figures.theme import compact

MOST_NAMES = 8  # checkpoint names below one panel


@dataclass(frozen=True)
class TrainingAxis:
    """How checkpoints are placed along training.

    Attributes
    ----------
    title
        Title of the axis, with the key that would change it.
    logarithmic
        Whether the axis is logarithmic.
    names
        Position → name of the checkpoint, of an axis in the order of the checkpoints; else empty.
    left_out
        A sentence about the models that are not on this axis; empty if all are.
    """

    title: str
    logarithmic: bool
    names: dict[float, str]
    left_out: str = ""

    def scale(self, x: pd.Series) -> p9.scale_x_continuous:
        """The scale of the axis, with round ticks within the range of `x`."""
        if self.logarithmic:
            ticks, minor = _ticks(x)
            return p9.scale_x_log10(
                breaks=ticks, minor_breaks=minor, labels=lambda ticks: [compact(tick) for tick in ticks]
            )
        shown = list(self.names)[:: -(-len(self.names) // MOST_NAMES)]
        return p9.scale_x_continuous(
            breaks=shown, minor_breaks=[], labels=[self.names[place] for place in shown], expand=(0.08, 0.3)
        )


def on_training_axis(rows: pd.DataFrame) -> tuple[pd.DataFrame, TrainingAxis]:
    """Return the rows that are on the axis, with their place `x`, and the axis.

    `rows` have `model, checkpoint, step, tokens`. With tokens, untrained checkpoints and those of unknown
    tokens are left out; with steps, untrained ones. If neither is known, nothing is.
    """
    for column, title, unknown in (
        ("tokens", "Training tokens (log scale)", "training tokens unknown; set tokens_per_step"),
        ("step", "Training step (log scale; tokens unknown: set tokens_per_step)", "step unknown"),
    ):
        places = rows[column].astype(float)
        if (places > 0).any():
            kept = rows[places > 0].assign(x=places[places > 0])
            missing = sorted(set(map(str, rows["model"])) - set(map(str, kept["model"])))
            words = f"Not on this axis: {_listed(missing)} ({unknown})." if missing else ""
            return kept, TrainingAxis(title, True, {}, words)
    names = list(rows["checkpoint"].drop_duplicates())
    places = rows["checkpoint"].map({name: i for i, name in enumerate(names)}).astype(float)
    title = "Checkpoint, in order (no training tokens or steps above 0)"
    return rows.assign(x=places), TrainingAxis(title, False, {float(i): n for i, n in enumerate(names)})


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _ticks(places: pd.Series) -> tuple[list[float], list[float]]:
    """Labelled and minor ticks within the range of `places`; a single checkpoint is labelled itself."""
    low, high = places.min(), places.max()
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    decades = np.log10(high / low)

    def within(digits: Iterable[int], stride: int = 1) -> list[float]:
        ticks = (digit * 10.0**power for power in range(first, last + 1, stride) for digit in digits)
        return [tick for tick in ticks if low <= tick <= high]

    if decades < 0.75:
        return sorted({low, high}), []
    if decades < 2.5:
        return within((1, 2, 5) if decades < 1.2 else (1, 3)), within(range(1, 10))
    return within((1,), stride=max(1, round(decades / 4))), within((1,))
