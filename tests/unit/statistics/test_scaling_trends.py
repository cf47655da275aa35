"""Metrics over training compute: known curves get their class, chance gets none more often than stated."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from ebbtide.checkpoints.model_series import NO_SERIES, check_patterns, series_by_model, series_of
from ebbtide.errors import ConfigError, FigureError, TaskError
from ebbtide.figures import plot_scale, save
from ebbtide.metrics.direction import with_properties
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.scaling_trends.notices import notices
from ebbtide.statistics.scaling_trends.points import scale_points
from ebbtide.statistics.scaling_trends.trends import answers_of, scale_trends
from ebbtide.study.checks import check_checkpoints
from ebbtide.study.load import read_study
from ebbtide.tasks.definition import Task, load_task, tasks_of
from ebbtide.tasks.freezing import freeze
from ebbtide.tasks.shots import Variant, shots_of
from workspace import ROOT, Workspace

MODELS = 6
TOKENS = 1_000_000
CURVES = {
    "standard": np.linspace(0.3, 0.7, MODELS),
    "inverse": np.linspace(0.7, 0.3, MODELS),
    "U-shaped": np.array([0.7, 0.5, 0.3, 0.3, 0.5, 0.7]),
    "inverted-U": np.array([0.3, 0.5, 0.7, 0.7, 0.5, 0.3]),
    "undecided": np.array([0.3, 0.6, 0.3, 0.6, 0.3, 0.6]),
}
PLAIN = {"series_of": lambda model: "s", "shots": {}}


def drawn(means: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """0/1 values (K, n): examples keep a difficulty, half of what decides."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    fresh = rng.random((len(means), n)) < means[:, None]
    return np.where(rng.random((len(means), n)) < 0.5, hard < means[:, None], fresh).astype(float)


def measured(
    tasks: Mapping[str, np.ndarray], metric: str = "accuracy", source: str = "scored", **columns: object
) -> tuple[pd.DataFrame, list[Trajectory]]:
    """Metrics and trajectories of models m0, m1, … of 10, 100, … parameters, one checkpoint each."""
    rows, found = [], []
    for task, values in tasks.items():
        for number, own in enumerate(values):
            model, size = f"m{number}", 10 ** (number + 1)
            sizes = dict.fromkeys(("total", "non_embedding", "active", "nominal"), size)
            place = {"checkpoint": "step9", "step": 9, "tokens": TOKENS}
            examples = np.array([f"e{i:05}" for i in range(len(own))])
            found.append(
                Trajectory(
                    model,
                    task,
                    pd.DataFrame([place]),
                    sizes,
                    examples,
                    np.arange(len(own)),
                    {metric: own[None]},
                )
            )
            rows.append(
                {
                    "model": model,
                    **place,
                    **{f"parameters_{k}": v for k, v in sizes.items()},
                    "task": task,
                    "metric": metric,
                    "value": own.mean(),
                    "stderr": own.std(ddof=1) / np.sqrt(len(own)),
                    "n": len(own),
                    "chance": 0.5,
                    "source": source,
                    **columns,
                }
            )
    return pd.DataFrame(rows), found


def classes(metrics: pd.DataFrame, found: list[Trajectory], metric: str = "accuracy", **keys) -> pd.DataFrame:
    points = scale_points(metrics, [metric], **{**PLAIN, **keys})
    return scale_trends(points, answers_of(found, points))


@pytest.mark.parametrize("source", ["scored", "imported samples", "imported"])
def test_curves_get_their_class(source):
    """Imported samples have examples, like cells; other imported results are means."""
    values = {name: drawn(means, 800) for name, means in CURVES.items()}
    metrics, examples = measured(values, source=source.split()[0])
    table = classes(metrics, [] if source == "imported" else examples).set_index("task")
    assert table["class"].to_dict() == {name: name for name in CURVES}
    assert (table["flops_from"] == 6 * 10 * TOKENS).all() and (table["flops_to"] == 6e6 * TOKENS).all()
    inverse = table.loc["inverse"]
    assert (inverse["fall_from"], inverse["fall_to"], inverse["models"], inverse["n"]) == ("m0", "m5", 6, 800)
    assert inverse["fall"] == pytest.approx(0.4, abs=0.06) and inverse["p_fall"] < 1e-6
    assert 6e3 * TOKENS <= table.loc["U-shaped", "turn"] <= 6e4 * TOKENS
    assert table["note"].str.contains("independent of each other").all() == (source == "imported")


def test_flat_needs_examples_and_pairs():
    """The same answers of all models: nothing can change by more than a few examples."""
    same = np.repeat(drawn(np.array([0.5]), 500), MODELS, axis=0)
    many, few = measured({"t": same}), measured({"t": same[:, :20]})
    assert classes(*many)["class"].tolist() == ["flat"]
    assert classes(*few)["class"].tolist() == ["undecided"]
    unpaired, _ = measured({"t": same}, source="imported")
    [row] = classes(unpaired, []).to_dict("records")
    assert row["class"] == "undecided" and "are not excluded" in row["note"]


LOSS_CLASSES = {"standard": "inverse", "inverse": "standard"}  # a U stays a U


@pytest.mark.parametrize("source", ["scored", "imported"])
def test_columns_describe_a_loss_as_it_is(source: str):
    values = {name: means[:, None] + drawn(np.full(MODELS, 0.5), 800) for name, means in CURVES.items()}
    table = classes(*measured(values, "classification_loss", source), metric="classification_loss")
    assert table.set_index("task")["class"].to_dict() == {
        name: LOSS_CLASSES.get(name, name) for name in CURVES
    }
    assert table.set_index("task")["ability"].to_dict() == {
        "standard": "worsens",
        "inverse": "improves",
        "U-shaped": "improves, then worsens",
        "inverted-U": "worsens, then improves",
        "undecided": "undecided",
    }
    rising = table.set_index("task").loc["standard"]
    assert (rising["rise_from"], rising["rise_to"]) == ("m0", "m5") and rising["p_fall"] == 1
    assert rising["rise"] == pytest.approx(0.4, abs=0.1)


def test_a_metric_without_a_better_direction_rises_and_falls():
    values = {"t": CURVES["inverse"][:, None] + drawn(np.full(MODELS, 0.5), 500)}
    [row] = classes(*measured(values, "bias"), metric="bias").to_dict("records")
    assert (row["class"], row["fall_from"], row["fall_to"]) == ("falling", "m0", "m5")


def test_chance_makes_a_class_in_five_percent_of_studies():
    studies, tasks, alone, together = 50, 8, 0, 0
    for study in range(studies):
        values = {f"t{i}": drawn(np.full(4, 0.5), 120, seed=1000 * study + i) for i in range(tasks)}
        table = classes(*measured(values))
        least = table[["p_rise", "p_fall"]].to_numpy().min()
        together += not set(table["class"]) <= {"flat", "undecided"}
        alone += least / tasks <= 0.05
    assert binomtest(together, studies, 0.05, alternative="greater").pvalue > 0.01
    assert alone > 0.15 * studies  # what the table says if each curve is tested alone


def test_models_of_equal_compute_are_one_place():
    metrics, found = measured({"t": drawn(CURVES["inverse"], 600)})
    for column in [c for c in metrics if c.startswith("parameters_")]:
        metrics.loc[metrics["model"] == "m5", column] = 10**5  # as m4
    [row] = classes(metrics, found).to_dict("records")
    assert (row["class"], row["models"], row["fall_to"]) == ("inverse", 6, "m4, m5")
    assert "models of equal compute are averaged" in row["note"]
    values = metrics.set_index("model")["value"]
    assert row["fall"] == pytest.approx(values["m0"] - (values["m4"] + values["m5"]) / 2)


def test_a_series_of_its_own_and_one_model():
    metrics, found = measured({"t": drawn(CURVES["inverse"], 600)})
    table = classes(metrics, found, series_of=lambda m: "alone" if m == "m0" else "rest").set_index("series")
    assert table.loc["alone", "class"] == "undecided"
    assert table.loc["alone", "note"] == (
        "1 model of known compute: nothing to compare; scaling_trends.series puts models into one series"
    )
    assert table.loc["rest", ["class", "models", "fall_from"]].tolist() == ["inverse", 5, "m1"]


def test_what_has_no_compute_is_left_out_in_words():
    metrics, found = measured({"t": drawn(CURVES["standard"], 600)})
    metrics.loc[metrics["model"] == "m1", "tokens"] = 0
    metrics.loc[metrics["model"] == "m2", "parameters_non_embedding"] = 0
    [row] = classes(metrics, found).to_dict("records")
    assert (row["class"], row["models"]) == ("standard", 4)
    assert "left out: m1 (training tokens are unknown; set tokens_per_step of the model)" in row["note"]
    assert (
        "left out: m2 (non_embedding parameters are unknown; set parameters of the model, or "
        "regression.parameters)"
    ) in row["note"]
    [row] = classes(metrics.assign(tokens=0), found).to_dict("records")
    assert row["class"] == "undecided" and row["note"] == (
        "left out: m0, m1, m2, m3, m4, m5 (training tokens are unknown; set tokens_per_step of the model)"
    )
    [row] = classes(metrics.assign(tokens=0, step=0), found).to_dict("records")
    assert "(its only checkpoint is untrained, or its step is unknown)" in row["note"]
    missing = metrics.assign(value=metrics["value"].where(metrics["model"] != "m3"))
    [row] = classes(missing, found).to_dict("records")
    assert "left out: m3 (the value is missing)" in row["note"] and row["models"] == 3
    points = scale_points(metrics.assign(tokens=0), ["accuracy"], **PLAIN)
    with pytest.raises(FigureError, match="compute of all 6 points is unknown; set tokens_per_step and"):
        plot_scale(with_properties(points), scale_trends(points, {}), "accuracy")
    with pytest.raises(FigureError, match=r"no model of the series has it \(metrics found: accuracy\)"):
        plot_scale(with_properties(points), scale_trends(points, {}), "loss")


def test_an_unknown_standard_error_is_said():
    metrics, _ = measured({"t": drawn(CURVES["standard"], 600)}, source="imported", stderr=np.nan)
    [row] = classes(metrics, []).to_dict("records")
    assert row["class"] == "undecided" and row["note"] == (
        "the standard error of m0, m1, m2, m3, m4, m5 is unknown, and m0 has no results per example: nothing "
        "is tested; import results with standard errors, or samples"
    )


def test_means_are_taken_for_the_true_reason():
    metrics, found = measured({"t": drawn(CURVES["standard"], 600)})
    fewer = replace(found[2], examples=found[2].examples[1:], clusters=found[2].clusters[1:])
    fewer = replace(fewer, values={"accuracy": found[2].values["accuracy"][:, 1:]})
    [row] = classes(metrics, [*found[:2], fewer, *found[3:]]).to_dict("records")
    assert row["note"] == (
        "means are assumed to be independent of each other, because m0 and m2 have different examples"
    )
    [row] = classes(metrics, found[:3]).to_dict("records")
    assert row["note"].endswith("because m3 has no results per example")
    exact = metrics.assign(stderr=metrics["stderr"].where(metrics["model"] != "m1", 0.0))
    [row] = classes(exact, []).to_dict("records")
    assert row["note"].endswith("; the standard error of m1 is 0 and used as given")
    same = metrics.assign(parameters_non_embedding=1000)
    [row] = classes(same, found).to_dict("records")
    assert row["note"].endswith("6 models of equal compute: nothing to compare")


def test_tasks_and_models_without_the_metric_are_rows():
    metrics, _ = measured({"t": drawn(CURVES["standard"], 600)})
    losses, _ = measured({"rolling": drawn(CURVES["standard"], 600)}, metric="loss")
    lacking = metrics[metrics["model"] != "m1"]
    other = metrics[metrics["model"] == "m1"].assign(metric="margin")
    both = pd.concat([lacking, other, losses, losses.assign(metric="bits_per_byte")])
    points = scale_points(both, ["accuracy"], **PLAIN)
    table = scale_trends(points, {}).set_index(["task", "metric"])
    assert "left out: m1 (it has no accuracy, only margin)" in table.loc[("t", "accuracy"), "note"]
    assert table.loc[("rolling", ""), "note"] == (
        "left out: m0, m1, m2, m3, m4, m5 (no metric accuracy (scaling_trends.metrics); the task has "
        "bits_per_byte, loss)"
    )
    assert table.loc[("rolling", ""), "class"] == "undecided" and len(table) == 2
    plot_scale(with_properties(points), table.reset_index(), "accuracy").draw()
    said = notices(points)
    assert [(n.severity, n.kind, n.count) for n in said] == [
        ("note", "not_compared", 6),
        ("note", "not_compared", 1),
    ]
    assert said[0].detail == (
        "Scaling trends leave out m0, m1, m2 and 3 more on rolling: no metric accuracy "
        "(scaling_trends.metrics); the task has bits_per_byte, loss."
    )


def test_a_metric_from_elsewhere():
    metrics, _ = measured({"t": drawn(CURVES["standard"], 600)}, "score", "imported")
    [row] = classes(metrics, [], metric="score").to_dict("records")
    assert row["class"] == "standard" and "by its name, higher is assumed to be better" in row["note"]
    metrics, _ = measured({"t": drawn(CURVES["standard"], 600)}, "word_perplexity", "imported")
    [row] = classes(metrics, [], metric="word_perplexity").to_dict("records")
    assert row["class"] == "inverse" and "by its name, lower is assumed to be better" in row["note"]


def test_the_last_checkpoint_counts_or_the_last_of_so_many_tokens():
    metrics, _ = measured({"t": drawn(CURVES["standard"], 50)})
    early = metrics.assign(checkpoint="step3", step=3, tokens=TOKENS // 3, value=0.0)
    untrained = metrics.assign(checkpoint="step0", step=0, tokens=0, value=1.0)
    both = pd.concat([metrics, early, untrained], ignore_index=True)
    assert set(scale_points(both, ["accuracy"], **PLAIN)["checkpoint"]) == {"step9"}
    limited = scale_points(both, ["accuracy"], tokens=TOKENS - 1, **PLAIN)
    assert set(limited["checkpoint"]) == {"step3"}
    np.testing.assert_allclose(limited["flops"], [6 * 10.0 ** (i + 1) * (TOKENS // 3) for i in range(MODELS)])
    none = scale_points(metrics, ["accuracy"], tokens=10, **PLAIN)
    assert none["flops"].isna().all() and set(none["note"]) == {
        "no checkpoint of at most 10 training tokens (scaling_trends.tokens)"
    }


def test_series_are_those_of_rows_or_as_named(monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = [
        {"series": "ladder", "sizes": ["ladder-d8"], "steps": "last", "stages": ["pretraining"],
         "format": "safetensors", "remote_code": False},
        {"name": "mine", "path": "nowhere"},
    ]  # fmt: skip
    known = series_by_model(rows)
    assert known == {"ladder-d8": "ladder"}
    assert series_of("ladder-d8", {}, known) == "ladder"
    assert series_of("mine", {}, known) == NO_SERIES
    assert series_of("mine", {"ours": ["other", "mi*"]}, known) == "ours"
    assert series_of("ladder-d8", {"small": ["*-d8"], "all": ["*"]}, known) == "small"
    with pytest.raises(ConfigError, match=r"scaling_trends\.series\.ours: found 'mini-\*', .*mine"):
        check_patterns({"ours": ["mini-*"]}, ["mine", "other"])


def named(*names: str) -> dict[str, Task]:
    return {name: load_task(name, "test") for name in names}


def test_shots_are_paired_by_what_is_asked(tmp_path: Path):
    found = shots_of(named("isp_neqa_few_shot", "isp_neqa", "isp_memo_trap_few_shot", "memo_trap"))
    assert found == {
        "isp_neqa_few_shot": Variant("isp_neqa", "5"),
        "isp_neqa": Variant("isp_neqa", "0"),
        "isp_memo_trap_few_shot": Variant("isp_memo_trap_few_shot", "5"),  # alone in this study
        "memo_trap": Variant("memo_trap", "0"),
    }
    definition = dict(load_task("isp_neqa", "test").definition)
    [other] = tasks_of({**definition, "few_shot": {"k": 3}}, Path("another_name.yaml"))
    [inverted] = tasks_of({**definition, "groups": {}, "few_shot": {"k": 3}}, Path("isp_neqa_grouped.yaml"))
    found = shots_of({**named("isp_neqa"), other.name: other, inverted.name: inverted})
    assert found["another_name"] == Variant("isp_neqa", "3")
    assert found["isp_neqa_grouped"].base == "isp_neqa_grouped"
    imported = shots_of({}, ["truthful_qa_prefix", "isp_neqa", "isp_neqa_few_shot", "unheard_of"])
    assert imported["isp_neqa_few_shot"] == Variant("isp_neqa", "5")
    assert imported["truthful_qa_prefix"].shots == "prefix" and "unheard_of" not in imported


def test_generated_tasks_have_shots():
    plain, shown = (freeze(load_task(name, "test")) for name in ("arithmetic", "arithmetic_few_shot"))
    assert load_task("arithmetic", "test").identity != load_task("arithmetic_few_shot", "test").identity
    assert shown["context"].str.count(r" \. ").eq(2).all()
    pd.testing.assert_frame_equal(plain.drop(columns="context"), shown.drop(columns="context"))
    right = plain[plain["gold"]]
    answers = set(right["context"] + right["continuation"])
    for context, shots in zip(plain["context"], shown["context"], strict=True):
        *before, last = shots.split(" . ")
        assert last == context and set(before) <= answers
        assert not any(shot.startswith(context) for shot in before)
    definition = dict(load_task("arithmetic", "test").definition)
    with pytest.raises(ConfigError, match=r"a generated task .* can only have k"):
        tasks_of({**definition, "few_shot": {"prefix": "two plus two is four"}}, Path("a.yaml"))
    with pytest.raises(TaskError, match=r"few_shot\.k is 500, but there are only 93 .* in source\.examples"):
        freeze(tasks_of({**definition, "few_shot": {"k": 500}}, Path("a.yaml"))[0])
    with pytest.raises(ConfigError, match="groups: a generated task"):
        tasks_of({**definition, "groups": {"a": "b"}}, Path("a.yaml"))


def test_the_figure_draws_every_curve(tmp_path: Path):
    shots = {"t_few_shot": ("t", "5"), "t": ("t", "0")}
    metrics, found = measured(
        {"t": drawn(CURVES["inverse"], 400), "t_few_shot": drawn(CURVES["U-shaped"], 400)}
    )
    points = scale_points(metrics, ["accuracy"], lambda m: "a" if m < "m3" else "b", shots)
    trends = scale_trends(points, answers_of(found, points))
    assert trends[["series", "task", "shots"]].to_numpy().tolist() == [
        ["a", "t", "0"], ["a", "t", "5"], ["b", "t", "0"], ["b", "t", "5"],
    ]  # fmt: skip
    plot = plot_scale(with_properties(points), trends, "accuracy", titles={"t": "Trap"})
    assert plot.data["curve"].nunique() == 4
    assert plot.data["prompt"].cat.categories.tolist() == [
        "zero-shot",
        "5 shots",
    ]
    assert plot.data["class"].notna().all()
    assert plot.data["panel"].unique().tolist() == ["Trap"]
    save(plot, tmp_path / "scale.png")
    losses = points.assign(metric="classification_loss", value=points["value"] + 0.1)
    loss = plot_scale(
        with_properties(losses), trends.assign(metric="classification_loss"), "classification_loss"
    )
    assert loss.labels.y == "Classification loss (nats, lower is better), log scale"


@pytest.mark.parametrize("sizes", [[1.0], [1.0, 1.01], [1.0, 1.5], [0.9, 6.0], [1.0, 1e9]])
def test_an_axis_of_any_length_is_drawn(tmp_path: Path, sizes: list[float]):
    metrics, found = measured({"t": drawn(np.full(len(sizes), 0.5), 50)})
    metrics["parameters_non_embedding"] = [1000 * size for size in sizes]
    points = scale_points(metrics, ["accuracy"], **PLAIN)
    trends = scale_trends(points, answers_of(found, points))
    save(plot_scale(with_properties(points), trends, "accuracy"), tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 10_000


def test_the_shipped_studies_are_whole(monkeypatch):
    monkeypatch.chdir(ROOT)
    prize = read_study("studies/inverse_scaling_prize.yaml")
    with pytest.raises(ConfigError, match=r"prize\.lock\.json does not exist; run `snakemake lock"):
        check_checkpoints(prize)
    names = prize.config["tasks"]
    shown = shots_of(named(*names))
    assert len({s.base for s in shown.values()}) == 11
    assert sorted(s.shots for s in shown.values()) == ["0"] * 11 + ["5"] * 9
    assert set(shots_of({}, prize.config["titles"])) == {s.base for s in shown.values()}
    known = series_by_model(prize.config["models"])
    assert set(known.values()) == {"pythia", "bloom", "smollm2", "olmo2"} and len(known) == 21
    smoke = read_study("studies/inverse_scaling_smoke.yaml")
    assert {len(model.checkpoints) for model in smoke.models.values()} == {1}
    assert {s.base for s in shots_of(smoke.tasks).values()} == {t for t in smoke.tasks if "few" not in t}


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
def test_the_rule_on_a_small_study(study: Workspace):
    assert not (study.path / "results/small/scale_trends.tsv").exists()  # without the section, none of it
    with study.edited("config.yaml") as config:
        config["scaling_trends"] = {"metrics": ["accuracy", "classification_loss", "sequence_loss"]}
    assert study.planned() == {
        **{"scaling_trends": 1, "plot_scaling_trends": 1},
        **{"summary": 1, "report_page": 1},
    }
    study.run(cores=1)
    results = study.path / "results/small"
    table = pd.read_csv(results / "scale_trends.tsv", sep="\t")
    assert set(table["series"]) == {"series"} and set(table["metric"]) == {"accuracy", "classification_loss"}
    assert (table["models"] == 2).all() and (table["n"] == 200).all()
    points = pd.read_csv(results / "scale_points.tsv", sep="\t")
    assert set(points["checkpoint"]) == {"step256"}
    np.testing.assert_allclose(points["flops"], 6 * points["parameters"] * 256 * 16 * 64)
    for metric in ("accuracy", "classification_loss", "sequence_loss"):  # the last is a sentence
        assert (results / f"figures/scale_{metric}.png").read_bytes().startswith(b"\x89PNG")

    with study.edited("config.yaml") as config:
        config["scaling_trends"]["series"] = {"mine": ["tiny-*"]}
    told = study.snakemake("--cores", "1", check=False)
    assert told.returncode != 0
    assert "scaling_trends.series.mine: found 'tiny-*', which matches no model" in told.stdout
