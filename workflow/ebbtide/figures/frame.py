"""The rows of a figure: models by size, tasks in the study's order, and what their metrics are called."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ebbtide.errors import FigureError
from ebbtide.figures.theme import COLUMN_CM, PAGE_CM, PAGE_HEIGHT_CM, POINTS, compact, text_cm, wrapped
from ebbtide.titles import Ability, title

LOWEST_PANEL_CM = 2.0
REALS = ("step", "tokens", "value", "stderr", "chance")
SIZE_TITLES = {
    "non_embedding": "Model (non-embedding parameters)",
    "total": "Model (all parameters)",
    "active": "Model (active non-embedding parameters)",
    "nominal": "Model (parameters by its name)",
}


def ability_rows(metrics: pd.DataFrame, abilities: Sequence[Ability]) -> pd.DataFrame:
    """The rows of these abilities, in their order, for a figure with a panel for each.

    `task` becomes the ability's name, so that MC1 and MC2 of one task are two panels. The figure needs the
    titles of `ability_titles`.
    """
    parts = [
        metrics[(metrics["task"] == a.task) & (metrics["metric"] == a.metric)].assign(task=a.name)
        for a in abilities
    ]
    return pd.concat(parts, ignore_index=True) if parts else metrics.iloc[:0]


def ability_titles(abilities: Sequence[Ability]) -> dict[str, str]:
    """Titles of the panels of `ability_rows`: the abilities' names, unchanged."""
    return {ability.name: ability.name for ability in abilities}


def labeller(titles: Mapping[str, str] | None) -> Callable[[str], str]:
    """A function from task to panel title: the one given, else one made from the task's name."""
    return lambda task: (titles or {}).get(task, title(task))


def metric_labels(rows: pd.DataFrame) -> dict[str, str]:
    """Metric → its name, unit and direction: `Loss (nats per token, lower is better)`.

    `rows` have the columns `metric`, `unit` and `direction`.
    """
    found = rows[["metric", "unit", "direction"]].drop_duplicates("metric")
    return {
        metric: metric_label(metric, unit, direction)
        for metric, unit, direction in found.itertuples(index=False)
    }


def metric_label(metric: str, unit: str, direction: str) -> str:
    """Name, unit and direction of one metric; a unit that is the name is not repeated."""
    name = title(metric)
    words = [word for word in (unit if unit != name.lower() else "", direction) if word]
    return f"{name} ({', '.join(words)})" if words else name


def panel_width(columns: int, width_cm: float, labels_cm: float = 0.8, *, own: bool = False) -> float:
    """Width in cm of a panel, which its title must fit.

    `labels_cm` is that of the labels of the y axis, which the panels of a row share unless they have their
    `own`.
    """
    axes = labels_cm * (columns if own else 1)
    return (width_cm - 0.8 - axes - 0.3 * (columns - 1)) / columns


@dataclass(frozen=True)
class Grid:
    """Panels of a figure: how many are side by side and one above the other, and their widths in cm."""

    columns: int
    deep: int
    width_cm: float  # of the figure
    panel_cm: float

    @property
    def one_column(self) -> bool:
        """Whether the figure is as wide as one column of a journal."""
        return self.width_cm == COLUMN_CM

    @property
    def panels_cm(self) -> float:
        """Width of all panels of a row, below which titles of axes are centred."""
        return self.columns * self.panel_cm + 0.3 * (self.columns - 1)

    @property
    def keys_cm(self) -> float:
        """Width for the keys of a legend, which is centred below the panels, not below names beside them."""
        return self.panels_cm + 0.8

    def panel_height(self, wanted_cm: float, title_cm: float, others_cm: float) -> float:
        """Height of a panel: what is wanted, or less if the figure would be higher than a page.

        `title_cm` is above every panel; `others_cm` is all else in the figure (axes, legend, note).
        """
        room = (PAGE_HEIGHT_CM - others_cm) / self.deep - title_cm
        return min(wanted_cm, max(room, LOWEST_PANEL_CM))


def panel_grid(
    panels: int,
    width_cm: float,
    labels_cm: float = 0.8,
    *,
    own: bool = False,
    most: int = 3,
    least_cm: float = 2.7,
    alone_cm: float = 11.0,
) -> Grid:
    """The grid of a figure as wide as a page or as a column.

    In a column, at most two panels are side by side, and each is at least `least_cm` wide. If that leaves no
    room for one, because of long names beside it, the figure is as wide as a page.

    Parameters
    ----------
    panels
        How many there are.
    width_cm
        `PAGE_CM` or `COLUMN_CM`.
    labels_cm, own
        As in `panel_width`.
    most
        Panels side by side on a page.
    alone_cm
        Width of a figure of one panel on a page.
    """
    columns, width = panel_columns(panels, most), PAGE_CM if panels > 1 else alone_cm
    if width_cm < PAGE_CM:
        for fewer in (panel_columns(panels, 2), 1):
            if panel_width(fewer, width_cm, labels_cm, own=own) >= least_cm:
                columns, width = fewer, width_cm
                break
    return Grid(columns, -(-panels // columns), width, panel_width(columns, width, labels_cm, own=own))


def panel_titles(rows: pd.DataFrame, titles: Mapping[str, str] | None, width_cm: float) -> dict[str, str]:
    """Task → title of its panel, `width_cm` wide; of several metrics, with the label of its own below."""
    labels, name = metric_labels(rows), labeller(titles)
    pairs = rows[["task", "metric"]].drop_duplicates("task").itertuples(index=False)
    return {
        task: panel_title(name(task), labels[metric] if len(labels) > 1 else "", width_cm)
        for task, metric in pairs
    }


def panel_title(name: str, label: str, width_cm: float) -> str:
    """A name with the label of a metric below, if any, in lines of at most `width_cm`."""
    return "\n".join(wrapped(part, width_cm, bold=True) for part in (name, label) if part)


def lines_of(titles: Mapping[str, str]) -> int:
    """Lines of the longest title."""
    return max(text.count("\n") + 1 for text in titles.values())


def shared_label(rows: pd.DataFrame) -> str:
    """The label of the metric of all panels; of several, that the panels have it."""
    labels = list(metric_labels(rows).values())
    return labels[0] if len(labels) == 1 else "Metric of the panel"


def choose(metrics: pd.DataFrame, parameters: str = "non_embedding") -> pd.DataFrame:
    """The rows of `metrics` with a value, sorted by task, size and training.

    Two columns become ordered categories: `task`, in order of first appearance, and `size`
    (`pythia-70m (18.9M)`), from the smallest model to the largest by `parameters`, equal ones by name.
    Models of unknown size (missing or 0) come last, without a number.

    Raises `FigureError` when no row is left.
    """
    rows = metrics[metrics["value"].notna()]
    if rows.empty:
        found = f"all {len(metrics)} rows lack a value" if len(metrics) else "there are no rows"
        raise FigureError(f"metrics: nothing to draw: {found}. Add tasks and checkpoints to the study.")
    sizes = rows.groupby("model")[f"parameters_{parameters}"].max()
    known = sizes.where(sizes > 0)
    order = known.rename("size").reset_index().sort_values(["size", "model"])["model"]
    names = {model: _size(model, known[model]) for model in order}
    rows = rows.assign(
        **{name: rows[name].astype(float) for name in REALS},  # missing counts arrive as NA or NaN
        task=pd.Categorical(rows["task"], rows["task"].unique(), ordered=True),
        size=pd.Categorical(rows["model"].map(names), list(names.values()), ordered=True),
    )
    return rows.sort_values(["task", "size", "tokens", "step"], kind="stable", ignore_index=True)


def prune(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with only the tasks and sizes that occur: an unused one would get an empty panel or key."""
    return rows.assign(
        task=rows["task"].cat.remove_unused_categories(), size=rows["size"].cat.remove_unused_categories()
    )


def panel_columns(tasks: int, most: int) -> int:
    """Panels side by side, at most `most`, in rows as even as possible: four tasks are 2 × 2, not 3 + 1."""
    rows = -(-tasks // most)
    return -(-tasks // rows)


def key_columns(names: Sequence[str], width_cm: float) -> int:
    """Keys of a legend side by side, so that none is cut off."""
    key_cm = 0.95 + max(text_cm(name, POINTS - 0.5) for name in names)
    return max(1, min(len(names), int((width_cm - 0.4) // key_cm)))


def _size(model: str, parameters: float) -> str:
    return model if pd.isna(parameters) else f"{model} ({compact(parameters)})"
