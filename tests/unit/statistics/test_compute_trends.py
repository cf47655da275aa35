"""Compute trends: the published numbers, coverage of the doubling time, and tables that are not right."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from ebbtide.errors import ConfigError, FigureError, SourceError
from ebbtide.figures.compute_trends import plot_academia, plot_compute, plot_timeline
from ebbtide.figures.theme import drawn
from ebbtide.schema import read_yaml
from ebbtide.sources import Source
from ebbtide.statistics.compute_trends.academia import collapsed, shares
from ebbtide.statistics.compute_trends.growth import MONTHS, growth
from ebbtide.statistics.compute_trends.models import READ, read_models, used
from ebbtide.statistics.compute_trends.notices import notices
from ebbtide.statistics.compute_trends.sentences import growth_sentences, share_sentences
from ebbtide.statistics.compute_trends.timeline import timeline
from ebbtide.study.load import read_study
from simulate_compute_trends import DOUBLING, covers, made_up
from workspace import ROOT

STUDY = ROOT / "studies/predictability_compute.yaml"
SETTINGS = {
    "since": "2010-01-01",
    "before": "2022-02-15",
    "timeline": {"parameters": [1e11, 5.4e11], "exclude": {}, "published": {}},
}
# Share of academia on 1 January, by rule and robustness iterations.
SHARES = {
    ("first listed", 3): (0.850, 0.604, 0.386, 0.234, 0.135),
    ("first listed", 0): (0.807, 0.585, 0.407, 0.277, 0.180),
}
# Figure 6 and the day of each model in the table.
FIGURE_6 = {
    "GPT-3": "2020-05-28",
    "Jurassic-1-Jumbo": "2021-08-11",
    "FLAN": "2021-09-03",
    "HyperClova": "2021-09-10",
    "Megatron-Turing NLG": "2021-10-11",
    "Yuan 1.0": "2021-10-12",
    "Gopher": "2021-12-08",
    "Ernie 3.0 Titan": "2021-12-23",
    "LaMDA": "2022-02-10",
}


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return dict(read_study(STUDY, uses_results=False).config["compute_trends"])


@pytest.fixture(scope="module")
def models(shared: Path, settings: dict[str, Any]) -> pd.DataFrame:
    source = Source.parse(settings["source"], settings["sha256"], "source")
    found = shared / "mirror" / source.mirror_path
    if not found.is_file():
        pytest.skip("no copy of the table of models in ../shared/mirror")
    return read_models(found, settings)


def row(model: str, day: str, flops: object = 1e20, **other: object) -> dict[str, object]:
    """A row of a table of models, by the names of the package."""
    filled = {"organization": "O", "categories": "Academia", "parameter_count": "", "confidence": "Confident"}
    return {"model": model, "date": day, "flops": flops, **filled, **other}


def table(path: Path, *rows: dict[str, object]) -> Path:
    """Write rows as a table with the columns of the source."""
    frame = pd.DataFrame(rows).rename(columns={here: there for there, here in READ.items()})
    frame[list(READ)].to_csv(path, index=False)
    return path


def test_the_cut_of_the_paper_has_255_models(models: pd.DataFrame) -> None:
    assert len(models) == 895
    assert models["flops"].notna().sum() == 451
    sectors = used(models)["sector"].value_counts().to_dict()
    assert sectors == {"Industry": 150, "Academia": 99, "Research collective": 6}
    assert models["reason"].value_counts().to_dict() == {
        "": 255,
        "no training compute": 245,
        "not before 2022-02-15": 235,
        "before 2010-01-01": 160,
    }


def test_the_share_of_academia_is_the_known_one(models: pd.DataFrame) -> None:
    found = shares(models, 2 / 3, [3, 0]).set_index(["rule", "iterations", "date"])["share"]
    days = [f"{year}-01-01" for year in (2012, 2015, 2018, 2021, 2022)]
    for (rule, iterations), expected in SHARES.items():
        assert [found[rule, iterations, day] for day in days] == pytest.approx(expected, abs=5e-4)
    late = [day for day in found.index.get_level_values("date").unique() if day >= "2018-01-01"]
    assert [found["no industry", 3, day] for day in late] == pytest.approx([0.0] * len(late), abs=5e-4)
    assert found["no industry", 0, "2018-01-01"] == pytest.approx(0.297, abs=5e-4)


def test_doubling_times_and_their_sentences(models: pd.DataFrame) -> None:
    found = growth(models).set_index("sector")
    assert found["doubling_months"].to_dict() == pytest.approx(
        {"(all)": 5.957, "Industry": 6.169, "Academia": 7.461, "Research collective": 2.709}, abs=5e-4
    )
    assert found.loc["(all)", "factor_per_decade_low"] < 300_000 < found.loc["(all)", "factor_per_decade"]
    assert np.isnan(found.loc["Research collective", "doubling_months_high"])
    everything, *_, last = growth_sentences(growth(models))
    assert everything == (
        "All models (255 models, 2010-03-01 to 2022-02-10): training compute doubles every 6.0 months (5.4 "
        "to 6.7; 95 %), 1,200,000-fold in ten years (250,000 to 5,300,000)."
    )
    assert last.endswith(
        "(0.7 to ∞; 95 %); the interval of the slope contains 0: no upper end of the doubling time."
    )


def test_the_timeline_is_that_of_the_paper(models: pd.DataFrame, settings: dict[str, Any]) -> None:
    found = timeline(models, settings)
    shown = found[found["shown"]]
    assert dict(zip(shown["name"], shown["date"], strict=True)) == FIGURE_6
    left_out = found[~found["shown"]].set_index("name")["reason"]
    assert left_out["PanGu"] == "not in the table"
    assert {"MEB", "InstructGPT 175B", "DLRM-2020"} < set(left_out.index)


def test_notices_count_what_is_left_out(models: pd.DataFrame, settings: dict[str, Any]) -> None:
    academia = shares(models, 2 / 3, [3, 0])
    tables = {"compute_models": models, "compute_trends": growth(models), "academia": academia}
    said = list(notices({**tables, "timeline": timeline(models, settings)}))
    assert {(n.kind, n.count) for n in said if n.kind == "dropped"} == {
        ("dropped", 245),
        ("dropped", 235),
        ("dropped", 160),
        ("dropped", 4),
    }
    outside, moved = [n for n in said if n.severity == "warning"]
    assert "rule 'no industry': with 3 robustness iterations, the share on 2017-03-01 is 0.01" in moved.detail
    assert "without them 0.33" in moved.detail
    assert outside.kind == "out_of_range"
    assert outside.count == (~academia["share"].between(-5e-4, 1 + 5e-4)).sum()
    assert "by at most 0.196 (rule 'no industry', 3 robustness iterations, 2010-03-01)" in outside.detail
    (unsure,) = [n for n in said if "confident" in n.detail]
    assert unsure.count == 255 - 69


@pytest.mark.parametrize("n", [12, 100])
def test_the_interval_of_the_doubling_time_covers_it(n: int) -> None:
    rng = np.random.default_rng(n)
    covered = np.mean([covers(made_up(rng, n, MONTHS / DOUBLING)) for _ in range(400)])
    assert covered == pytest.approx(0.95, abs=0.033)  # three standard errors


def test_without_growth_a_doubling_time_has_an_end_as_often_as_stated() -> None:
    rng = np.random.default_rng(1)
    ends = [growth(made_up(rng, 30, 0.0)).iloc[0]["doubling_months_high"] for _ in range(400)]
    assert np.mean(pd.notna(ends)) == pytest.approx(0.025, abs=0.024)


def test_a_line_needs_three_models_and_growth(tmp_path: Path) -> None:
    two = read_models(table(tmp_path / "a.csv", row("a", "2012-01-01"), row("b", "2013-01-01")), SETTINGS)
    assert growth(two)["note"].tolist() == ["a line needs 3 models of different days"] * 2
    assert growth_sentences(growth(two))[1].endswith(
        "no doubling time, because a line needs 3 models of different days."
    )
    falling = [row(str(i), f"201{i}-01-01", 10.0 ** (20 - i) * (1 + i % 2)) for i in range(1, 6)]
    note = growth(read_models(table(tmp_path / "b.csv", *falling), SETTINGS))["note"][0]
    assert note == "compute does not grow, so it has no doubling time"
    assert shares(two, 2 / 3, [0]).empty


def test_robust_iterations_that_move_a_share_are_found() -> None:
    rows = [("r", 0, "a", 0.3), ("r", 3, "a", 0.0), ("r", 0, "b", 0.5), ("r", 3, "b", 0.49)]
    curves = pd.DataFrame(rows, columns=["rule", "iterations", "date", "share"])
    (found,) = collapsed(curves)
    assert (found["date"], found["plain"]) == ("a", 0.3)
    assert not list(collapsed(curves[curves["date"] == "b"]))


def test_empty_values_are_counted_and_not_wrong(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv",
        row("dated", "2015-01-01"),
        row("undated", ""),
        row("no compute", "2015-01-01", ""),
        row("no sector", "2015-01-01", categories=""),
        row("dated", "2016-01-01", categories=" Industry , Academia"),
    )
    models = read_models(path, SETTINGS)
    reasons = models.set_index("model")["reason"].to_dict()
    assert reasons == {
        "dated": "",
        "undated": "no publication date",
        "no compute": "no training compute",
        "no sector": "no organization category",
    }
    assert used(models)["sector"].tolist() == ["Academia", "Industry"]
    tables = {"compute_models": models, "compute_trends": growth(models)}
    tables |= {"academia": shares(models, 2 / 3, [3, 0]), "timeline": timeline(models, SETTINGS)}
    details = [n.detail for n in notices(tables)]
    assert (
        "1 of 5 models of the table are in no line, doubling time or share: no training compute (no compute)."
        in (details)
    )
    assert "1 row of the table have the name of another: dated." in details
    assert any("academia.tsv is empty" in detail for detail in details)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("a", "2015")], r"row 1 \('a'\), Publication date: found '2015'; allowed: a day as 2022-02-15"),
        ([row("a", "2015-02-30")], "found '2015-02-30'"),
        ([row("a", "2015-W05-1")], "found '2015-W05-1'"),
        ([row("", "2015-01-01")], "row 1 .*, Model: found ''; allowed: a name"),
        ([row("a", "2015-01-01", "1e20 FLOP")], r"Training compute \(FLOP\): found '1e20 FLOP'"),
        ([row("a", "2015-01-01", 0)], "found '0'; allowed: a positive number, or nothing"),
        ([row("a", "2015-01-01", "inf"), row("b", "x")], "row 2 .* 1 more values are wrong"),
        ([row("a", "2015-01-01", parameter_count="-3")], "Parameters: found '-3'"),
    ],
)
def test_a_wrong_value_is_named_with_its_row(
    rows: list[dict[str, object]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=said):
        read_models(table(tmp_path / "t.csv", *rows), SETTINGS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"Model,Publication Date\na,b\n", "no column 'Publication date'; did you mean 'Publication Date'"),
        (",".join(READ).encode() + b"\n", "a header without rows"),
        (b"", "not a table in CSV"),
        (b"\xff\xfe\x00", "not a table in CSV"),
    ],
)
def test_a_file_that_is_no_such_table(text: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    with pytest.raises(SourceError, match=said):
        read_models(path, SETTINGS)


def test_the_timeline_names_models_that_the_table_lacks(tmp_path: Path) -> None:
    large = row("Gopher (280B)", "2021-12-08", parameter_count=2.8e11)
    models = read_models(
        table(tmp_path / "t.csv", large, row("small", "2021-01-01", parameter_count=1)), SETTINGS
    )

    def of(**chosen: object) -> pd.DataFrame:
        return timeline(models, {**SETTINGS, "timeline": {**SETTINGS["timeline"], **chosen}})  # type: ignore[dict-item]

    with pytest.raises(ConfigError, match=r"exclude: found 'Gopher'.*did you mean 'Gopher \(280B\)'"):
        of(exclude={"Gopher": "why"})
    with pytest.raises(ConfigError, match="published: found 'x'"):
        of(published={"y": "x"})
    assert of()["name"].tolist() == ["Gopher (280B)"]
    both = of(published={"S": "small"}).set_index("name")
    assert both["reason"].to_dict() == {"S": "outside of the range of sizes or days", "Gopher (280B)": ""}
    tables = {"compute_models": models, "compute_trends": growth(models)}
    tables |= {"academia": shares(models, 1, [0]), "timeline": both.reset_index()}
    assert any("shows Gopher (280B), not in compute_trends.timeline" in n.detail for n in notices(tables))


def test_figures_show_every_model_and_say_why_there_is_none(tmp_path: Path) -> None:
    rows = [
        row(f"m{i}", f"20{10 + i}-01-01", 10.0 ** (15 + i % 3 + i), parameter_count=2e11, categories=sector)
        for i, sector in enumerate(["Academia", "Industry"] * 6)
    ]
    models = read_models(table(tmp_path / "t.csv", *rows, row("late", "2023-01-01")), SETTINGS)
    trends, academia, large = growth(models), shares(models, 1, [3, 0]), timeline(models, SETTINGS)
    plots = plot_compute(models, trends), plot_academia(academia), plot_timeline(large)
    assert [len(plot.data) for plot in plots] == [12, len(academia), 12]
    for plot in plots:
        with drawn(plot):
            pass
    assert len(share_sentences(academia)) == 2
    empty = models.assign(reason="no training compute")
    with pytest.raises(FigureError, match="no model is in a trend"):
        plot_compute(empty, growth(empty))
    with pytest.raises(FigureError, match="needs more models"):
        plot_academia(academia[:0])
    with pytest.raises(FigureError, match="no model is shown"):
        plot_timeline(large.assign(shown=False))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"before": "2009-01-01"}, "since and before: found 2010-01-01 and 2009-01-01"),
        ({"since": "2010-02-30"}, "since: found '2010-02-30', but there is no such day"),
        ({"sha256": "12"}, "sha256"),
        ({"source": "models.csv"}, "models.csv has sha256 .*restore it"),
        ({"timeline": {"parameters": [5, 5]}}, "timeline.parameters: found 5 and 5"),
        ({"sinse": 1}, "did you mean 'since'"),
    ],
)
def test_a_wrong_section_is_refused(
    change: dict[str, object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.csv").write_text("another file")
    section = {**read_yaml(STUDY)["compute_trends"], **change}
    Path("s.yaml").write_text(yaml.safe_dump({"study": "x", "compute_trends": section}))
    with pytest.raises(ConfigError, match=said):
        read_study("s.yaml")


def test_days_may_be_written_without_quotes() -> None:
    study = read_study(STUDY, uses_results=False)
    assert study.config["compute_trends"]["since"] == "2010-01-01"
    assert not study.models
    assert list(study.sources()) == [study.config["compute_trends"]["sha256"]]
    assert study.has_page()
    assert not study.has_metrics()
    assert not study.imported_sources()
