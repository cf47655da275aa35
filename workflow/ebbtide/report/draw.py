"""Every figure of a study: the tables and settings that it needs, and the files it is written to."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import pandas as pd
import plotnine as p9

from ebbtide.figures import scaling
from ebbtide.figures.abrupt import plot_abrupt
from ebbtide.figures.alarms import plot_alarms
from ebbtide.figures.changes import plot_changes
from ebbtide.figures.compute_trends import plot_academia, plot_compute, plot_timeline
from ebbtide.figures.curves import plot_curves
from ebbtide.figures.early_warning import plot_early_warning
from ebbtide.figures.fairness import plot_fairness
from ebbtide.figures.forgetting import plot_forgetting
from ebbtide.figures.frame import ability_rows, ability_titles
from ebbtide.figures.heat import plot_heat
from ebbtide.figures.paper import plot_paper
from ebbtide.figures.ratings import plot_ratings
from ebbtide.figures.resolution import plot_resolution
from ebbtide.figures.robustness import plot_robustness
from ebbtide.figures.runs import plot_run_curves, plot_run_matrix
from ebbtide.figures.scale import plot_scale
from ebbtide.figures.theme import COLUMN_CM, PAGE_CM, fitted, write
from ebbtide.figures.toxicity import plot_toxic_continuations, plot_toxicity
from ebbtide.figures.trends import plot_trends
from ebbtide.logs import log
from ebbtide.metrics.chosen import drawn_metrics
from ebbtide.metrics.direction import with_properties
from ebbtide.study.columns import read_described
from ebbtide.tables import METRICS, read_frame
from ebbtide.titles import Ability, abilities

SCALE = "scale_"  # a figure per metric: scale_accuracy, …


def draw_figures(
    names: Sequence[str], tables: Mapping[str, str], settings: Mapping[str, Any], outputs: Sequence[str]
) -> None:
    """Draw figures in every format; the files of a figure that cannot be drawn say why.

    Parameters
    ----------
    names
        Figures: methods of `Figures`, or `scale_{metric}`.
    tables
        Name → file of the tables that the study has.
    settings
        `titles`, `regression`, `alpha`, `runs`, `scaling_laws`, `share_y`, `width`, `dropped`,
        `published_points`: see `rules/figures.smk`.
    outputs
        Files; those of a figure are named after it.
    """
    figures = Figures(tables, settings)
    for name in names:
        paths = [path for path in outputs if path.rpartition("/")[2].rpartition(".")[0] == name]
        log.info("%s", name)
        write(figures.function(name), paths)


class Figures:
    """The figures of a study, one method each; tables are read when a figure needs them."""

    def __init__(self, tables: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        self._tables, self._settings = tables, settings
        self._regression: Mapping[str, Any] = settings["regression"]
        self._titles: Mapping[str, str] = settings["titles"]

    def function(self, name: str) -> Callable[[], p9.ggplot]:
        """The function that draws a figure."""
        if name.startswith(SCALE):
            return partial(self.scale, name.removeprefix(SCALE))
        found: Callable[[], p9.ggplot] = getattr(self, name)
        return found

    def curves(self) -> p9.ggplot:
        """Metrics along training."""
        columns = ["model", "checkpoint", "tokens"]
        dropped = pd.DataFrame(list(self._settings["dropped"]), columns=columns)
        rows, options = self._drawn
        seeds = None
        if "seed_curves" in self._tables:  # only studies with examples have it
            table = self._tsv("seed_curves")
            seeds = ability_rows(table[table["tokens"].notna()], self._abilities)  # others have no curve
        return self._fitted(
            plot_curves,
            rows,
            dropped=dropped,
            seeds=seeds,
            share_y=self._settings["share_y"],
            **options,
        )

    def paper(self) -> p9.ggplot:
        """Metrics along training in the form of the paper."""
        rows, options = self._drawn
        return plot_paper(rows, **options)

    def heat(self) -> p9.ggplot:
        """Metrics as a map of sizes and checkpoints."""
        rows, options = self._drawn
        return plot_heat(rows, **options)

    def robustness(self) -> p9.ggplot:
        """The interaction of every regression under every analysis choice."""
        return self._fitted(plot_robustness, self._tsv("robustness"), self._regression["alpha"], self._titles)

    def alarms(self) -> p9.ggplot:
        """Alarms along training."""
        return self._fitted(plot_alarms, self._alarms, self._titles)

    def changes(self) -> p9.ggplot:
        """Changes from checkpoint to checkpoint."""
        return self._fitted(plot_changes, self._alarms, self._settings["alpha"], self._titles)

    def trends(self) -> p9.ggplot:
        """Slopes with their intervals."""
        table = with_properties(self._tsv("trends"))
        return self._fitted(plot_trends, table, self._settings["alpha"], self._titles)

    def abrupt(self) -> p9.ggplot:
        """Right answers and log-probabilities over sizes."""
        published = pd.DataFrame(self._settings["published_points"])
        verdicts, points = self._tsv("abrupt"), self._tsv("abrupt_points")
        return self._fitted(plot_abrupt, verdicts, points, published, self._titles)

    def toxicity(self) -> p9.ggplot:
        """Toxicity of each size beside the smallest."""
        return plot_toxicity(self._tsv("toxicity"), self._titles)

    def toxic_continuations(self) -> p9.ggplot:
        """Log-odds of toxic continuations along training."""
        return plot_toxic_continuations(self._tsv("toxic_continuations"), self._titles)

    def fairness(self) -> p9.ggplot:
        """Accuracy and ratios of error rates over sizes."""
        return plot_fairness(self._tsv("fairness"))

    def early_warning(self) -> p9.ggplot:
        """Falling accuracy and the signals that may fall before it."""
        return self._fitted(plot_early_warning, self._metrics, self._tsv("early_warning"), self._titles)

    def forgetting(self) -> p9.ggplot:
        """The share of forgotten examples over training."""
        curves, summary = with_properties(self._tsv("forgetting_curves")), self._tsv("forgetting")
        return self._fitted(
            plot_forgetting,
            curves,
            summary,
            self._regression["parameters"],
            self._titles,
            share_y=self._settings["share_y"],
        )

    def resolution(self) -> p9.ggplot:
        """Tasks by signal-to-noise ratio."""
        table = with_properties(self._tsv("resolution").astype({"size": str}))
        return self._fitted(plot_resolution, table, self._settings["alpha"], self._titles)

    def run_matrix(self) -> p9.ggplot:
        """Differences between arms, by task and size."""
        return self._fitted(plot_run_matrix, with_properties(self._tsv("run_verdicts")), self._titles)

    def run_curves(self) -> p9.ggplot:
        """Differences between arms over training."""
        differences = with_properties(self._tsv("run_differences"))
        return self._fitted(plot_run_curves, differences, self._settings["runs"]["alpha"], self._titles)

    def scale(self, metric: str) -> p9.ggplot:
        """A metric over training compute."""
        points, trends = with_properties(self._tsv("scale_points")), self._tsv("scale_trends")
        parameters, share_y = self._regression["parameters"], self._settings["share_y"]
        return self._fitted(plot_scale, points, trends, metric, parameters, self._titles, share_y=share_y)

    def compute_trends(self) -> p9.ggplot:
        """Training compute over time."""
        return plot_compute(self._tsv("compute_models"), self._tsv("compute_trends"))

    def ratings(self) -> p9.ggplot:
        """RMSE of expected ratings over model size."""
        parameters = self._regression["parameters"]
        return plot_ratings(self._tsv("ratings"), self._tsv("ratings_law"), parameters, self._titles)

    def academia(self) -> p9.ggplot:
        """The share of academia over time."""
        return plot_academia(self._tsv("academia"))

    def timeline(self) -> p9.ggplot:
        """Large models by day of publication."""
        return plot_timeline(self._tsv("timeline"))

    def scaling_laws(self) -> p9.ggplot:
        """The laws of the loss, for the train set with the largest held-out runs."""
        predictions = self._law("predictions")
        of_loss = predictions[predictions["quantity"] == self._loss]
        most = of_loss.groupby("train_set")["C"].nlargest(2).groupby(level=0)
        return scaling.plot_laws(predictions, self._law("curves"), str(most.sum().idxmax()))

    def scaling_exponents(self) -> p9.ggplot:
        """Exponents at each ratio of tokens to parameters."""
        return scaling.plot_exponents(self._law("predictions"), self._law("exponents"), self._loss)

    def scaling_error(self) -> p9.ggplot:
        """Downstream error against loss."""
        return scaling.plot_error_of_loss(self._law("predictions"), self._law("curves"), self._loss)

    def scaling_relative_error(self) -> p9.ggplot:
        """Relative error of prediction."""
        return scaling.plot_relative_error(self._law("predictions"), self._loss)

    def scaling_tradeoff(self) -> p9.ggplot:
        """Error of prediction against compute spent."""
        return scaling.plot_tradeoff(self._law("tradeoff"))

    def scaling_search(self) -> p9.ggplot:
        """The configuration search."""
        return scaling.plot_search(self._tsv("configurations"))

    def _fitted(self, plot: Callable[..., p9.ggplot], *tables: Any, **options: Any) -> p9.ggplot:
        """A figure in the width that the study sets, or in that of a page, if it cannot have the former."""
        width_cm = {"page": PAGE_CM, "column": COLUMN_CM}[self._settings["width"]]
        return fitted(lambda width_cm: plot(*tables, **options, width_cm=width_cm), width_cm)

    @cached_property
    def _metrics(self) -> pd.DataFrame:
        return with_properties(read_frame(self._tables["metrics"], METRICS))

    @cached_property
    def _alarms(self) -> pd.DataFrame:
        table = self._tsv("alarms")
        return with_properties(table[table["group"] == ""])  # without the parts of alarms by group

    @property
    def _loss(self) -> str:
        return f"loss_{self._settings['scaling_laws']['loss']}"

    def _tsv(self, name: str) -> pd.DataFrame:
        return read_described(self._tables[name])

    def _law(self, name: str) -> pd.DataFrame:
        """A table of the scaling laws, with titles for its train sets."""
        return self._tsv(name).replace({"train_set": self._settings["scaling_laws"]["titles"]})

    @cached_property
    def _abilities(self) -> list[Ability]:
        chosen = drawn_metrics(self._metrics, self._regression["metric"], self._regression["metrics"])
        return abilities(chosen, self._titles)

    @property
    def _drawn(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """The rows of the study's metrics, with a panel for each ability, and the options of figures."""
        found = self._abilities
        options = {"parameters": self._regression["parameters"], "titles": ability_titles(found)}
        return ability_rows(self._metrics, found), options
