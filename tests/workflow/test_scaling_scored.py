"""Scaling laws on runs scored here: the table of runs, the words at the end, the checks of the config."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from described import undescribed
from ebbtide.errors import ConfigError, FigureError, ScalingError
from ebbtide.figures.scaling import (
    plot_error_of_loss,
    plot_exponents,
    plot_laws,
    plot_relative_error,
    plot_tradeoff,
)
from ebbtide.statistics.scaling_laws.notices import notices
from ebbtide.statistics.scaling_laws.overtraining import (
    Settings,
    TrainSet,
    fit_train_sets,
    fits_table,
    predictions,
)
from ebbtide.statistics.scaling_laws.predictions import out_of_range
from ebbtide.statistics.scaling_laws.scored import own_runs
from ebbtide.statistics.scaling_laws.sensitivity import sensitivity
from ebbtide.statistics.scaling_laws.subset import chance_of_errors
from ebbtide.statistics.scaling_laws.summary import Source, summarise
from ebbtide.statistics.scaling_laws.trends import CURVES, curves, exponents, tradeoff
from ebbtide.study.load import read_study
from ebbtide.tables import write_tsv
from workspace import Workspace, write_small_study

SIZES = {"d8": 5224, "d16": 15264, "d32": 42816, "d64": 184768}
E, A, B, ETA = 1.02, 40.0, 900.0, 0.2
FIT = [f"{size}-m{M}" for size in ("d8", "d16", "d32") for M in (10, 20, 40, 80)]


def metrics(noise: float = 0.0, models: tuple[str, ...] = (*FIT, "d64-m20", "d32-m160")) -> pd.DataFrame:
    """Losses that follow Eq. 4, errors that follow Eq. 5."""
    rows, draw = [], np.random.default_rng(0)
    for model in models:
        N, M = SIZES[model.split("-m")[0]], int(model.split("-m")[1])
        tokens = round(M * N / 1024) * 1024
        C = 6 * N * tokens
        loss = E + (A * M**ETA + B * M**-ETA) * C**-ETA + noise * draw.standard_normal()
        error = 0.5 - 1.2 * np.exp(-1.1 * loss)
        place = {"model": model, "checkpoint": f"step{tokens // 1024}", "tokens": tokens}
        place |= {"parameters_total": N, "chance": np.nan}
        rows.append({**place, "task": "held_out_loss", "metric": "loss", "value": loss})
        for task, shift in (("fact_qa", 0.02), ("arithmetic", -0.02)):
            value = {"metric": "accuracy", "value": 1 - error - shift, "chance": 0.5}
            rows.append({**place, "task": task, **value})
            rows.append({**place, "task": task, "metric": "margin", "value": 9.0})
    return pd.DataFrame(rows)


CHOSEN = {"train_set": "toy", "loss": "held_out_loss", "errors": ["fact_qa", "arithmetic"]}


@cache
def tables(noise: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs, _ = own_runs(metrics(noise), **CHOSEN)
    train_sets = fit_train_sets(runs, Settings("held_out_loss", [{"models": FIT}]))
    return predictions(train_sets), fits_table(train_sets)


def test_runs_are_losses_errors_and_their_mean():
    runs, tasks = own_runs(metrics(), **CHOSEN)
    assert len(runs) == 14 * 4
    one = runs[runs["model"] == "d8-m10"].set_index("quantity")
    assert (one["M"] == 10).all() and (one["parameters"] == 5224).all() and (one["tokens"] == 51 * 1024).all()
    assert one["C"].iloc[0] == 6 * 5224 * 51 * 1024
    assert one.loc["err_avg", "value"] == pytest.approx(
        (one.loc["err_fact_qa", "value"] + one.loc["err_arithmetic", "value"]) / 2
    )
    assert set(runs["M"]) == {10, 20, 40, 80, 160}
    assert tasks.set_index("task")["chance"].to_dict() == {"fact_qa": 0.5, "arithmetic": 0.5}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda m: pd.concat([m, m.head(1).assign(checkpoint="step9")]),
            "'d8-m10' has 2 checkpoints; only the end of its cosine schedule counts as a run",
        ),
        (
            lambda m: m.iloc[1:],
            "d8-m10 has no metric 'loss' of task 'held_out_loss': this model has no results of the task",
        ),
        (
            lambda m: m[m["metric"] != "accuracy"],
            "no metric 'accuracy' of task 'fact_qa': the task has the metrics margin",
        ),
        (
            lambda m: m.assign(value=m["value"].where(m["metric"] != "accuracy")),
            "d16-m10 has no metric 'accuracy' of task 'fact_qa': its value is missing",
        ),
        (
            lambda m: m.assign(tokens=0),
            "training tokens of d8-m10 are unknown or 0; a run needs them. Set `tokens_per_step` of the",
        ),
        (
            lambda m: m.assign(parameters_total=0),
            "parameters of d8-m10 are unknown or 0; a run needs them. Set `parameters.total` of the model",
        ),
    ],
)
def test_metrics_that_are_no_runs_are_explained(spoil, message):
    with pytest.raises(ScalingError, match=message):
        own_runs(spoil(metrics()), **CHOSEN)


def test_the_words_say_predicted_actual_and_what_the_floor_is_worth():
    text = summarise(*tables(1e-4), "loss_held_out_loss", Source(1.0202, 1.0209))
    lines = text.splitlines()
    assert len(lines) == 10 and lines[0].startswith("toy: L = E + ") and " on 12 runs " in lines[0]
    assert lines[1].startswith("d64-m20 (M = 20, ") and ": loss predicted" in lines[1]
    assert lines[2].startswith("d64-m20") and ": mean error predicted" in lines[2]
    assert ": mean error by the sigmoid predicted" in lines[3]
    assert lines[4].startswith("d32-m160 (M = 160, ") and "off by 0." in lines[4]
    assert lines[7].startswith("Mean error of a run left out of the fit")
    assert lines[8].startswith("E = 1.02") and " identified: " in lines[8]
    assert "entropy of the source is 1.0202 (1.0209 on the text scored), which is" in lines[8]
    assert lines[9].endswith("no run is below it.")


def test_a_floor_that_the_runs_cannot_tell_is_called_so():
    text = summarise(*tables(0.15), "loss_held_out_loss", Source(1.0202, 1.0209))
    assert "E = " in text and (" not identified: " in text or " weakly identified: " in text)


def test_a_loss_below_the_entropy_is_called_impossible():
    text = summarise(*tables(1e-4), "loss_held_out_loss", Source(5.0, 5.0))
    assert "a run is below the entropy, which is impossible" in text
    assert "entropy" not in summarise(*tables(1e-4), "loss_held_out_loss", None)


def test_without_a_run_beyond_the_fit_there_is_nothing_to_trade_off():
    runs, _ = own_runs(metrics(models=tuple(FIT)), **CHOSEN)
    train_sets = fit_train_sets(runs, Settings("held_out_loss", [{"models": FIT}]))
    table = tradeoff(train_sets, ["err_avg"])
    assert table.empty and "relative_error" in table
    with pytest.raises(FigureError, match=r"tradeoff\.tsv: .*nothing to trade off"):
        plot_tradeoff(table)


def test_errors_of_0_have_no_relative_error_to_draw():
    runs, _ = own_runs(metrics(), **CHOSEN)
    runs.loc[runs["quantity"].str.startswith("err_") & (runs["model"] == "d64-m20"), "value"] = 0.0
    table = tradeoff(fit_train_sets(runs, Settings("held_out_loss", [{"models": FIT}])), ["err_avg"])
    drawn = plot_tradeoff(table).data
    assert not np.isfinite(table["relative_error"]).all() and np.isfinite(drawn["percent"]).all()


def test_runs_at_one_ratio_are_a_reason_in_every_table_and_figure():
    """M alone at 20 leaves Eq. 4 without a fit: words, and no missing key."""
    models = ("d8-m20", "d16-m20", "d32-m20", "d64-m20")
    runs, _ = own_runs(metrics(models=models), **CHOSEN)
    train_sets = fit_train_sets(runs, Settings("held_out_loss", [{"models": list(models[:3])}]))
    predicted, fits = predictions(train_sets), fits_table(train_sets)
    traded, lines = tradeoff(train_sets, ["err_avg"]), curves(train_sets, ["err_avg"])
    tried = sensitivity(train_sets, ["err_avg"])
    chain, why = "loss_held_out_loss", "3 points for 4 parameters"
    assert predicted["predicted"].isna().all() and predicted["note"].str.contains(why).all()
    assert lines.empty and list(lines) == list(CURVES)
    assert set(traded["quantity"]) == {chain, "err_avg"} and traded["note"].str.contains(why).any()
    assert tried["predicted"].isna().all() and (tried["note"] != "").all()
    assert why in summarise(predicted, fits, chain, None)
    for draw, reason in (
        (
            lambda: plot_laws(predicted, lines, "toy"),
            f"predictions.tsv: no law of the loss was fitted: .*{why}",
        ),
        (lambda: plot_error_of_loss(predicted, lines, chain), why),
        (lambda: plot_relative_error(predicted, chain), why),
        (lambda: plot_tradeoff(traded), "nothing to trade off"),
    ):
        with pytest.raises(FigureError, match=reason):
            draw()


def test_without_three_sizes_at_one_ratio_there_are_no_exponents():
    runs, _ = own_runs(metrics(models=(*FIT[:8], "d64-m20")), **CHOSEN)
    table = exponents(fit_train_sets(runs, Settings("held_out_loss", [{"models": FIT[:8]}])))
    with pytest.raises(FigureError, match=r"exponents\.tsv: no exponents were fitted: .*no M has 3 runs"):
        plot_exponents(pd.DataFrame(), table, "loss_held_out_loss")


SCALING = {
    "scored": {"errors": ["fact_qa"]},
    "loss": "memo_trap",
    "fit": [{"models": ["small-d8", "small-d16"]}],
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scored": None}, "scaling_laws: found neither; allowed: one of testbed, scored"),
        ({"testbed": {"source": "a", "pins": "b"}}, "found testbed and scored"),
        ({"loss": "held_out"}, "scaling_laws.loss: found 'held_out'; allowed: memo_trap"),
        (
            {"scored": {"errors": ["fact_q"]}},
            "scaling_laws.scored.errors: found 'fact_q'.*did you mean 'fact_qa'",
        ),
        (
            {"fit": [{"models": ["small-d9"]}]},
            r"scaling_laws.fit\[0\].models: found 'small-d9'; allowed: small-d8",
        ),
    ],
)
def test_a_config_that_names_no_runs_is_refused(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    workspace: Workspace = write_small_study(tmp_path)
    with workspace.edited("config.yaml") as config:
        config["scaling_laws"] = {k: v for k, v in {**SCALING, **changes}.items() if v is not None}
    with pytest.raises(ConfigError, match=message):
        read_study("config.yaml")


def solved(noise: float = 0.008) -> pd.DataFrame:
    """Metrics of tasks that the held-out runs solve: the error is a sigmoid in the loss, from 0.5 to 0.01."""
    table, draw = metrics(0.01), np.random.default_rng(0)
    losses = table[table["metric"] == "loss"].set_index("model")["value"]
    of_tasks = table["metric"] == "accuracy"
    error = 0.01 + 0.49 / (1 + np.exp(-2 * (table.loc[of_tasks, "model"].map(losses) - 4.2)))
    error -= noise * draw.standard_normal(len(error))
    table.loc[of_tasks, "value"] = 1 - error.clip(0, 1)
    return table


@pytest.fixture(scope="module")
def solved_sets() -> list[TrainSet]:
    runs, tasks = own_runs(solved(), **CHOSEN)
    chance = chance_of_errors(tasks)
    assert chance == {"err_arithmetic": 0.5, "err_fact_qa": 0.5, "err_avg": 0.5}
    return fit_train_sets(runs, Settings("held_out_loss", [{"models": FIT}]), chance)


def test_a_solved_task_is_said_and_the_bounded_law_predicts_it(solved_sets: list[TrainSet]):
    table = predictions(solved_sets).set_index(["quantity", "model", "law"])
    for model, predicted in (("d64-m20", "-0.084"), ("d32-m160", "-0.142")):
        plain = table.loc["err_avg", model, "error"]
        assert (
            plain["note"] == f"the law predicts {predicted}, outside 0 to 1: the task is solved at this loss"
        )
        sigmoid = table.loc["err_avg", model, "error_sigmoid"]
        assert sigmoid["note"] == "" and 0 <= sigmoid["low"] <= sigmoid["actual"] <= sigmoid["high"] <= 1
        assert abs(sigmoid["predicted"] - sigmoid["actual"]) < 0.02
    assert set(table.loc["loss_held_out_loss"].index.get_level_values("law")) == {"overtrained_fitted"}
    fits = fits_table(solved_sets)
    of_average = fits[fits["quantity"] == "err_avg"].set_index("parameter")
    of_sigmoid, of_error = (of_average[of_average["law"] == law] for law in ("error_sigmoid", "error"))
    assert of_sigmoid["formula"].unique() == ["Err = floor + (0.5 - floor) / (1 + exp(-k (L - L0)))"]
    for name, truth in (("floor", 0.01), ("k", 2.0), ("L0", 4.2)):
        assert of_sigmoid.loc[name, "low"] <= truth <= of_sigmoid.loc[name, "high"], name
    assert 4 * of_sigmoid["left_out_rmse"].iloc[0] < of_error["left_out_rmse"].iloc[0]
    assert 4 * of_sigmoid["sigma"].iloc[0] < of_error["sigma"].iloc[0]


def test_every_table_says_which_predictions_are_impossible(solved_sets: list[TrainSet], tmp_path: Path):
    lines = curves(solved_sets, ["err_avg"])
    below = lines["value"] < 0
    assert below.any() and (lines.loc[below, "law"] == "error").all()
    assert (
        lines.loc[below, "note"]
        .str.fullmatch(r"the law predicts -0\.\d{3}, outside 0 to 1: the law has no lower bound")
        .all()
        and (lines.loc[~below, "note"] == "").all()
    )
    traded = tradeoff(solved_sets, ["err_avg"])
    far = traded[traded["predicted"] < -1]
    assert far["note"].str.contains("outside 0 to 1: the law has no lower bound, and the error is 0.0").all()
    tried = sensitivity(solved_sets, ["err_avg"])
    [sigmoid] = tried[(tried["group"] == "law") & (tried["model"] == "d64-m20")].iloc[-1:].to_dict("records")
    assert (sigmoid["quantity"], sigmoid["note"]) == ("err_avg", "") and sigmoid["predicted"] > 0
    assert tried.loc[tried["predicted"] < 0, "note"].str.contains("outside 0 to 1").all()
    written = {"predictions": predictions(solved_sets), "fits": fits_table(solved_sets)}
    written |= {
        "curves": lines,
        "tradeoff": traded,
        "sensitivity": tried,
        "exponents": exponents(solved_sets),
    }
    for name, table in written.items():
        write_tsv(table, tmp_path / f"{name}.tsv")
    assert not undescribed(tmp_path)


def test_the_words_compare_both_laws_of_the_error(solved_sets: list[TrainSet]):
    chain = "loss_held_out_loss"
    table, fits = predictions(solved_sets), fits_table(solved_sets)
    text = summarise(table, fits, chain, None)
    assert (
        "mean error predicted -0.084 (-0.229 to 0.062), actual 0.029: off by 11.3 percentage "
        "points, inside the interval. The law predicts -0.084, outside 0 to 1: "
        "the task is solved at this loss.\n"
    ) in text
    assert "mean error by the sigmoid predicted 0.033 (0.012 to 0.054), actual 0.029" in text
    assert (
        "Mean error of a run left out of the fit, at its measured loss (root mean square): "
        "off by 7.5 percentage points by Err = epsilon - k exp(-gamma L); by 0.8 by the sigmoid Err = "
    ) in text
    low = summarise(table, fits, chain, Source(2.72, 2.72))
    assert "No model can reach this prediction: the entropy of the text is 2.7200." in low
    assert "No model can reach" not in text


def test_notices_of_scaling_laws(solved_sets: list[TrainSet]):
    [one] = notices(predictions(solved_sets))
    assert (one.severity, one.kind, one.count) == ("warning", "out_of_range", 8)
    assert one.detail == (
        "toy: 8 of 42 predictions by the law error are impossible; the first is err_arithmetic of d32-m80 "
        "at M = 80: the law predicts -0.009, outside 0 to 1: the task is solved at this loss."
    )
    assert "error_sigmoid in predictions.tsv" in one.remedy
    models = ("d8-m20", "d16-m20", "d32-m20", "d64-m20")
    runs, _ = own_runs(metrics(models=models), **CHOSEN)
    few = fit_train_sets(runs, Settings("held_out_loss", [{"models": list(models[:3])}]))
    found = notices(predictions(few))
    assert {one.kind for one in found} == {"not_compared"} and "3 points for 4 parameters" in found[0].detail
    assert notices(tables(1e-4)[0]) == []


def test_figures_draw_both_laws_of_the_error(solved_sets: list[TrainSet]):
    table, lines = predictions(solved_sets), curves(solved_sets, ["err_avg"])
    for figure in (
        plot_error_of_loss(table, lines, "loss_held_out_loss"),
        plot_laws(table, lines, "toy"),
    ):
        drawn = figure.layers[0]._data
        assert set(drawn["form"]) == {"Gadre et al. 2024", "sigmoid in the loss"}
        assert not figure.data.duplicated(["model", "M", "quantity"]).any()
        figure.draw()


UNPHYSICAL = "its parameters are outside their physical range"
NO_BOUND = "outside 0 to 1: the law has no lower bound, and the error is"


@pytest.mark.parametrize(
    ("quantity", "predicted", "actual", "sentence"),
    [
        ("err_a", 0.0, 0.0, ""),
        ("err_a", 1.0, 0.5, ""),
        ("err_a", float("nan"), 0.5, ""),
        ("err_a", -0.109, 0.0, "the law predicts -0.109, outside 0 to 1: the task is solved at this loss"),
        ("err_a", -0.1, 0.3, f"the law predicts -0.100, {NO_BOUND} 0.300"),
        ("err_a", -9.0, 0.01, f"the law predicts -9.000, {NO_BOUND} 0.010"),
        ("err_a", 1.2, 0.9, f"the law predicts 1.200, outside 0 to 1: {UNPHYSICAL}"),
        ("loss_a", -0.2, 2.0, f"the law predicts -0.200, a loss below 0: {UNPHYSICAL}"),
        ("loss_a", 3.0, 2.0, ""),
    ],
)
def test_impossible_predictions_have_their_reason(quantity, predicted, actual, sentence):
    assert out_of_range(quantity, predicted, actual) == [sentence]
