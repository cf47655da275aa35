"""The study of *Emergent inabilities?*: pinned results, one file for both uses, the table to the digit."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ebbtide.cli import main
from ebbtide.errors import ConfigError
from ebbtide.exchange.imports import import_metrics
from ebbtide.files import file_sha256
from ebbtide.study.checks import check_checkpoints
from ebbtide.study.load import read_study
from workspace import ROOT, Workspace

STUDY = ROOT / "studies/emergent_inabilities.yaml"
V1 = ROOT / "studies/emergent_inabilities_v1.yaml"
COMMIT = "0" * 40
SOURCE = f"github:lab/numbers@{COMMIT}:results/table.tsv"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A study of imported numbers from a pinned source, which a mirror beside it holds."""
    monkeypatch.chdir(tmp_path)
    table = tmp_path / f"mirror/github/lab/numbers/{COMMIT}/results/table.tsv"
    table.parent.mkdir(parents=True)
    rows = [f"m{m}\t{s}\tqa\t0.{m}{s}\n" for m in (1, 2, 3) for s in (1, 2, 3)]
    table.write_text("model\tstep\ttask\tvalue\n" + "".join(rows))
    row = {
        "format": "table",
        "source": SOURCE,
        "sha256": file_sha256(table),
        "columns": {"model": "model", "step": "step", "task": "task", "value": "value"},
        "metric": "accuracy",
        "models": [
            {"name": f"m{m}", "tokens_per_step": 10, "parameters": {"non_embedding": 10**m}}
            for m in (1, 2, 3)
        ],
    }
    workspace = Workspace(tmp_path)
    workspace.write_yaml(
        "config.yaml", {"study": "old", "imported": [row], "mirrors": [str(tmp_path / "mirror")]}
    )
    return workspace


def test_a_pinned_source_is_fetched_by_the_verb_to_its_place(workspace: Workspace) -> None:
    study = read_study("config.yaml")
    [(sha256, source)] = study.sources().items()
    assert source.fetched == f"resources/sources/{sha256}/table.tsv"
    with pytest.raises(
        ConfigError, match=r"imported\.source: github:lab/numbers.* has not been downloaded.*ebbtide fetch"
    ):
        import_metrics(study.imported[0])
    assert not Path(source.fetched).exists()  # nothing is fetched to read a study


def test_the_verb_fetches_and_refuses_another_file(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = read_study("config.yaml")
    [(sha256, source)] = study.sources().items()
    monkeypatch.setenv("EBBTIDE_MIRRORS", study.config["mirrors"][0])
    assert not main(["fetch", "--source", SOURCE, sha256, "--to", source.fetched])
    assert len(import_metrics(study.imported[0])) == 9
    assert main(["fetch", "--source", SOURCE, "1" * 64, "--to", "other.tsv"])
    assert f"expected {'1' * 64}" in capsys.readouterr().err
    assert not Path("other.tsv").exists()


def row(edit: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda config: edit(config["imported"][0])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (row(lambda r: r.pop("sha256")), r"imported\[0\]\.sha256: missing"),
        (
            row(lambda r: r.pop("source")),
            r"imported\[0\]: found neither files nor source, allowed: either files, or source",
        ),
        (
            row(lambda r: r.update(files=["x.tsv"])),
            r"imported\[0\]: found both files and source, allowed: either files, or source",
        ),
        (row(lambda r: r.update(sha256="abc")), r"sha256: found 'abc'"),
        (
            row(lambda r: r.update(source="github:lab/numbers@main:t.tsv")),
            "'main' in .* is not a full commit",
        ),
        (
            row(lambda r: (r.update(format="lm_eval_samples"), r.pop("columns"), r.pop("metric"))),
            "source: found with format lm_eval_samples",
        ),
        (lambda c: c.update(results="scored"), "models: found none; allowed: at least one"),
        (lambda c: c.update(results="imported", imported=[]), "imported: found none with results: imported"),
        (lambda c: c.update(results="neither"), "results: found 'neither'; allowed: both, scored, imported"),
        (lambda c: c.update(regression={"form": "centred"}), "allowed: standardised, raw"),
        (lambda c: c.update(regression={"adjust": "fdr"}), "allowed: bh, by, holm, none"),
        (lambda c: c.update(regression={"published": "no.tsv"}), "published: there is no such file"),
        (
            lambda c: c.update(trajectories={"metrics": ["acuracy"]}),
            "found 'acuracy'.* did you mean 'accuracy'",
        ),
        (
            lambda c: c.update(alarms={"effects": {"moderate": 0.5, "severe": 0.3}}),
            "moderate 0.5 above severe 0.3",
        ),
        (lambda c: c.update(alarms={"effects": {"severe": 0.05}}), "moderate 0.1 above severe 0.05"),
        (
            lambda c: c.update(alarms={"against": ["baseline"]}),
            "there is nothing to compare with; set alarms.baseline",
        ),
    ],
)
def test_mistakes_are_sentences(
    workspace: Workspace, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    with workspace.edited("config.yaml") as config:
        edit(config)
    with pytest.raises(ConfigError, match=message):
        read_study("config.yaml")


def test_one_file_serves_both_uses() -> None:
    imported = read_study(STUDY)
    assert not imported.hub
    assert not imported.tasks
    assert not imported.unlocked  # no lock is asked for
    scored = read_study(STUDY, results="scored")
    assert len(scored.hub) == 8
    assert not scored.imported
    assert not scored.sources()
    with pytest.raises(ConfigError, match=r"lock\.json does not exist; run `snakemake lock --cores 1` with"):
        check_checkpoints(scored)
    both = read_study(STUDY, results="both")
    assert (len(both.hub), len(both.imported)) == (8, 3)


@pytest.mark.parametrize(("file", "sizes", "tasks"), [(STUDY, 8, 11), (V1, 7, 4)])
def test_the_grid_is_that_of_the_paper(file: Path, sizes: int, tasks: int) -> None:
    study = read_study(file, results="scored")
    assert len(study.hub) == sizes
    assert len(study.config["tasks"]) == tasks
    assert [m.nominal for m in study.hub] == [7e7, 1.6e8, 4.1e8, 1e9, 1.4e9, 2.8e9, 6.9e9, 1.2e10][:sizes]
    assert {str(m.schedule) for m in study.hub} == {"log2"}


@pytest.mark.slow
def test_the_study_prints_the_table_of_the_paper(shared: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.env["EBBTIDE_MIRRORS"] = str(shared / "mirror")
    workspace.command = (
        lambda: [  # type: ignore[method-assign]
            *Workspace(tmp_path).command()[:-1],
            str(STUDY),
        ]
    )
    results = tmp_path / "results/emergent_inabilities"
    names = ("table.txt", "table.tex", "verdicts.tsv")
    workspace.run(*(f"results/emergent_inabilities/{name}" for name in names))
    [statistics] = shared.glob("mirror/github/jmichaelov/emergent-inabilities/*/statistical_analysis/*.tsv")
    printed = pd.read_csv(statistics, sep="\t").set_index("task_name")
    lines = (results / "table.txt").read_text().splitlines()[2:14]
    found = {line[:27].strip(): line[27:].replace("*", " ") for line in lines}
    assert list(found) == list(printed.index)
    for task, effects in printed.iterrows():
        # The authors' file drops the zeros at the end of t; ours keeps two decimals.
        padded = re.sub(r"=(-?[\d.]+), ", lambda m: f"={float(m[1]):.2f}, ", " ".join(effects))
        assert " ".join(found[str(task)].split()) == padded
    tex = (results / "table.tex").read_text()
    assert "Hindsight Neglect & {\\boldmath$t(60)=-4.22$, $p<0.001$}" in tex
    judged = pd.read_csv(results / "verdicts.tsv", sep="\t")
    assert judged["decreased"].sum() == 8
    assert set(judged["model"]) == {"pythia-12b"}
    consistent = judged[judged["consistent"]]
    assert sorted(zip(consistent["task"], consistent["metric"], strict=True)) == [
        ("isp_hindsight_neglect", "accuracy"),
        ("isp_memo_trap", "accuracy"),
        ("isp_pattern_matching_suppression", "accuracy"),
        ("truthful_qa_prefix", "mc1"),
        ("truthful_qa_prefix", "mc2"),
    ]
