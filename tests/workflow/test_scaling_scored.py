"""Scaling laws on runs scored here: the table of runs, the words at the end, the checks of the config."""

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import ConfigError, ScalingError
from ebbtide.figures.scaling import (
    plot_error_of_loss,
    plot_exponents,
    plot_laws,
    plot_relative_error,
    plot_tradeoff,
)
from ebbtide.statistics.scaling_laws.overtraining import Settings, fit_train_sets, fits_table, predictions
from ebbtide.statistics.scaling_laws.scored import own_runs
from ebbtide.statistics.scaling_laws.sensitivity import sensitivity
from ebbtide.statistics.scaling_laws.summary import Source, summarise
from ebbtide.statistics.scaling_laws.trends import curves, exponents, tradeoff
from ebbtide.study.load import read_study
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
        (lambda m: m.iloc[1:], "d8-m10 has no metric 'loss' of task 'held_out_loss'"),
        (lambda m: m[m["metric"] != "accuracy"], "no metric 'accuracy' of task 'fact_qa'"),
        (lambda m: m.assign(tokens=0), "training tokens of d8-m10 are unknown"),
    ],
)
def test_metrics_that_are_no_runs_are_explained(spoil, message):
    with pytest.raises(ScalingError, match=message):
        own_runs(spoil(metrics()), **CHOSEN)


def test_the_words_say_predicted_actual_and_what_the_floor_is_worth():
    text = summarise(*tables(1e-4), "loss_held_out_loss", Source(1.0202, 1.0209))
    lines = text.splitlines()
    assert len(lines) == 7 and lines[0].startswith("toy: L = E + ") and " on 12 runs " in lines[0]
    assert lines[1].startswith("d64-m20 (M = 20, ") and ": loss predicted" in lines[1]
    assert lines[2].startswith("d64-m20") and ": mean error predicted" in lines[2]
    assert lines[3].startswith("d32-m160 (M = 160, ") and "off by 0." in lines[3]
    assert lines[5].startswith("E = 1.02") and " identified: " in lines[5]
    assert "entropy of the source is 1.0202 (1.0209 on the text scored), which is" in lines[5]
    assert lines[6].endswith("no run is below it.")


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
    assert "nothing to trade off" in plot_tradeoff(table).data["text"].iloc[0].replace("\n", " ")


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
    assert lines.empty and list(lines) == ["train_set", "M", "C", "loss", "quantity", "value"]
    assert set(traded["quantity"]) == {chain, "err_avg"} and traded["note"].str.contains(why).any()
    assert tried["predicted"].isna().all() and (tried["note"] != "").all()
    assert why in summarise(predicted, fits, chain, None)
    for figure in (
        plot_laws(predicted, lines, "toy"),
        plot_error_of_loss(predicted, lines, chain),
        plot_relative_error(predicted, chain),
    ):
        assert why in " ".join(figure.data["text"].iloc[0].split())
    assert "nothing to trade off" in " ".join(plot_tradeoff(traded).data["text"].iloc[0].split())


def test_without_three_sizes_at_one_ratio_there_are_no_exponents():
    runs, _ = own_runs(metrics(models=(*FIT[:8], "d64-m20")), **CHOSEN)
    table = exponents(fit_train_sets(runs, Settings("held_out_loss", [{"models": FIT[:8]}])))
    figure = plot_exponents(pd.DataFrame(), table, "loss_held_out_loss")
    assert "no M has 3 runs" in figure.data["text"].iloc[0]


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
