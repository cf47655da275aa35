"""The axis of training: tokens where they are known, else steps, else the order of the checkpoints."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.figures.theme import EXPAND, POINTS, compact, text_cm

MOST_NAMES = 8  # checkpoint names below one panel
LABEL_GAP_CM = 0.3  # between labels of ticks


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

    def scale(
        self, x: pd.Series, panel_cm: float, points: float = POINTS - 1, *, right: float = EXPAND
    ) -> p9.scale_x_continuous:
        """The scale of the axis in a panel of this width: the ends of `x` and round numbers between them.

        `right` is the room at the right end of a logarithmic axis, as a share of its range; `panel_cm` is
        without what it has more than usual.
        """
        if self.logarithmic:
            return p9.scale_x_log10(
                breaks=token_ticks(x.min(), x.max(), panel_cm, points),
                minor_breaks=_minor(x.min(), x.max()),
                labels=lambda ticks: [compact(tick) for tick in ticks],
                expand=(EXPAND, 0, right, 0),
            )
        longest = max(text_cm(name, points) for name in self.names.values())
        most = max(1, min(MOST_NAMES, int(0.85 * panel_cm // (longest + LABEL_GAP_CM))))
        shown = list(self.names)[:: -(-len(self.names) // most)]
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


def token_ticks(
    low: float, high: float, panel_cm: float, points: float = POINTS - 1, *, with_ends: bool = True
) -> list[float]:
    """Ticks of a logarithmic axis: its ends, unless left out, and the most round numbers whose labels fit."""
    if low == high:
        return [low]
    cm_per_decade = 0.9 * panel_cm / np.log10(high / low)

    def apart(one: float, other: float) -> bool:
        labels_cm = (text_cm(compact(one), points) + text_cm(compact(other), points)) / 2
        return bool(abs(np.log10(other / one)) * cm_per_decade >= labels_cm + LABEL_GAP_CM)

    ends = ([low, high] if apart(low, high) else [high]) if with_ends else []
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    found: list[list[float]] = []
    for digits, stride in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), stride) for stride in range(1, 20))):
        for phase in range(stride):
            powers = range(first + phase, last + 1, stride)
            inner = [x for power in powers for digit in digits if low < (x := digit * 10.0**power) < high]
            if all(apart(one, other) for one, other in pairwise(inner)):
                found.append([tick for tick in inner if all(apart(tick, end) for end in ends)])
        if found:
            break
    return sorted([*ends, *max(found, key=len)]) or [high]


def _minor(low: float, high: float) -> list[float]:
    """Powers of ten within the range, and all their multiples where the range is short."""
    digits = range(1, 10) if high < low * 10**2.5 else (1,)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [tick for power in powers for digit in digits if low <= (tick := digit * 10.0**power) <= high]
