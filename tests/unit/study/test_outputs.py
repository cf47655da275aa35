"""The register of outputs: targets, figures and the page of the docs come from one registration."""

from ebbtide.study.outputs import Outputs


def register() -> Outputs:
    outputs = Outputs("results/mine")
    outputs.files("scoring", "results/scores/{model}.parquet", "cells", lambda: ["results/scores/a.parquet"])
    outputs.tables("alarms", {"alarms.tsv": "drops"}, condition="cells scored")
    outputs.tables("laws", {"fits.tsv": "fits"}, when=False, condition="section `laws:`")
    outputs.figures("alarms", {"alarms": "drops, drawn"}, shows=["alarms.tsv", "metrics.parquet"])
    outputs.figures("laws", {"laws": "laws, drawn"}, shows=["fits.tsv"], when=False)
    return outputs


def test_targets_are_what_this_study_has() -> None:
    outputs = register()
    assert outputs.targets() == [
        "results/scores/a.parquet",
        "results/mine/alarms.tsv",
        "results/mine/figures/alarms.pdf",
        "results/mine/figures/alarms.png",
    ]
    assert outputs.figures_by_stage() == {"alarms": ["alarms"]}
    assert outputs.figure_tables("alarms") == {
        "alarms": "results/mine/alarms.tsv",
        "metrics": "results/mine/metrics.parquet",
    }


def test_the_page_lists_everything_with_its_condition() -> None:
    page = register().page()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## scoring",
        "## alarms",
        "## laws",
    ]
    table = "| [`results/{study}/alarms.tsv`](reference/tables.md#alarmstsv) | drops | cells scored |"
    assert table in page
    assert "| [`results/{study}/fits.tsv`](reference/tables.md#fitstsv) | fits | section `laws:` |" in page
    assert "| `results/{study}/figures/alarms.{pdf,png}` | drops, drawn | all |" in page
    assert "results/mine" not in page


def test_figures_that_a_study_cannot_have_are_not_made_and_a_notice_gives_the_reason() -> None:
    outputs = Outputs("results/mine")
    outputs.figures("trends", {"trends": "slopes"}, shows=["trends.tsv"], lacking="no model has two")
    outputs.figures("alarms", {"alarms": "drops"}, shows=["alarms.tsv"], lacking="no model has two")
    outputs.figures("laws", {"laws": "laws"}, shows=["fits.tsv"], when=False, lacking="no model has two")
    outputs.figures("runs", {"runs": "arms"}, shows=["runs.tsv"], lacking="there is only one model")
    assert outputs.targets() == [] and outputs.figures_by_stage() == {}
    (notice,) = outputs.notices()
    assert notice.count == 3 and notice.detail == (
        "These figures are not drawn: trends, alarms (no model has two); runs (there is only one model)."
    )
    assert outputs.not_drawn()["runs"] == "there is only one model" and "laws" not in outputs.not_drawn()
    assert Outputs("results/mine").notices() == []
    assert "figures/trends" in outputs.page()
