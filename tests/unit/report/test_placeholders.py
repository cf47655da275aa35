"""A figure that cannot be drawn contains the reason, and drawing is never the end of a run."""

from pathlib import Path

import numpy as np
import pandas as pd
import plotnine as p9
import pytest

from ebbtide.figures import theme
from ebbtide.report.draw import Figures, draw_figures
from ebbtide.statistics.alarms.alarms import COLUMNS as ALARMS
from ebbtide.statistics.forgetting.forgetting import CURVES
from ebbtide.statistics.forgetting.forgetting import SUMMARY as FORGETTING
from ebbtide.statistics.regression import regress, robustness
from ebbtide.statistics.resolution.tables import COLUMNS as RESOLUTION
from ebbtide.statistics.trends.early_warning import COLUMNS as EARLY_WARNING
from ebbtide.statistics.trends.trends import COLUMNS as TRENDS
from ebbtide.tables import METRICS, write_parquet, write_tsv
from metrics_tables import table

NO_RESULTS = "no model has results by example; score its checkpoints, or import samples"
ONE_SIZE = (
    "no regression: one model size only, but the regression is over sizes; see summary.txt for the trend of "
    "each model"
)


def losses() -> pd.DataFrame:
    """One model with a loss at three checkpoints, imported as means."""
    found = table("documents", np.array([3.0, 2.5, 2.0]), [10**6] * 3, [100, 200, 400], "loss")
    sizes = {"parameters_active": 0, "parameters_nominal": 0, "stderr": np.nan, "n": 0, "chance": np.nan}
    return found.assign(**sizes, source="imported")[list(METRICS.columns)]


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, p9.ggplot]:
    """The plots of a study of imported losses, by name, and one with tables that have no rows."""
    metrics = losses()
    empty = {"alarms": ALARMS, "trends": TRENDS, "early_warning": EARLY_WARNING, "forgetting_curves": CURVES}
    empty["resolution"] = RESOLUTION
    tables = {name: pd.DataFrame(columns=list(columns)) for name, columns in empty.items()}
    tables |= {"forgetting": pd.DataFrame(columns=list(FORGETTING)), "robustness": robustness(metrics)}
    write_parquet(metrics, tmp_path / "metrics.parquet", METRICS)
    for name, frame in tables.items():
        write_tsv(frame, tmp_path / f"{name}.tsv")
    plots: dict[str, p9.ggplot] = {}
    monkeypatch.setattr(theme, "save", lambda plot, path, **_: plots.update({Path(path).stem: plot}))
    names = ["curves", "heat", "paper", "alarms", "changes", "trends", "early_warning", "forgetting"]
    names += ["robustness", "resolution"]
    draw_figures(
        names,
        {n: str(tmp_path / f"{n}.tsv") for n in tables} | {"metrics": str(tmp_path / "metrics.parquet")},
        {
            "titles": {},
            "regression": {"metric": None, "metrics": {}, "parameters": "non_embedding", "alpha": 0.05},
            "alpha": 0.05,
            "scaling_laws": {},
            "share_y": False,
            "width": "page",
            "dropped": [],
        },
        [str(tmp_path / f"{name}.png") for name in names],
    )
    return plots


def test_placeholders_have_the_true_reason(drawn: dict[str, p9.ggplot]) -> None:
    reasons = {
        name: " ".join(plot.data["text"].iloc[0].split())
        for name, plot in drawn.items()
        if "text" in plot.data and len(plot.data) == 1
    }
    nothing = (
        "alarms.tsv: nothing was compared, because no model has two trained checkpoints with results by "
        "example. Add checkpoints to the models, or import samples instead of means."
    )
    assert reasons == {
        "alarms": nothing,
        "changes": nothing,
        "trends": f"trends.tsv: no row has a slope: {NO_RESULTS} instead of means.",
        "early_warning": (
            "early_warning.tsv: nothing to compare: no model has results by example of accuracy and of one "
            "of its signals (margin, coverage, choice_probability); the metrics are loss."
        ),
        "forgetting": f"forgetting.tsv: nothing to draw: {NO_RESULTS}.",
        "resolution": ("resolution.tsv: no row has a signal-to-noise ratio: the table has no rows."),
        "robustness": f"robustness.tsv: no task has a regression ({ONE_SIZE}).",
    }


def test_a_study_of_imported_losses_has_its_curves(drawn: dict[str, p9.ggplot]) -> None:
    for name in ("curves", "paper"):
        assert drawn[name].labels.y == "Loss (nats per token, lower is better)"
        assert drawn[name].data["value"].tolist() == [3.0, 2.5, 2.0]
    assert drawn["heat"].data["difference"].tolist() == [0.0, -0.5, -1.0]
    assert regress(losses())["note"].unique().tolist() == [ONE_SIZE]


@pytest.mark.parametrize(("width", "cm"), [("column", 8.5), ("page", 11.0)])
def test_figures_have_the_width_that_the_study_sets(tmp_path: Path, width: str, cm: float) -> None:
    write_parquet(losses(), tmp_path / "metrics.parquet", METRICS)
    regression = {"metric": None, "metrics": {}, "parameters": "non_embedding", "alpha": 0.05}
    settings = {"titles": {}, "regression": regression, "share_y": False, "dropped": []}
    tables = {"metrics": str(tmp_path / "metrics.parquet")}
    plot = Figures(tables, settings | {"width": width}).curves()
    assert plot.theme.getp("figure_size")[0] * theme.CM_PER_INCH == pytest.approx(cm)
