"""The stage runs as a user has it: a better mixture and a second run of the same one, imported as means."""

from pathlib import Path

import pytest

from described import undescribed
from ebbtide.tables import read_tsv
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]
MODELS = {
    **{"base-0": 0.60, "base-1": 0.61, "facts-0": 0.80, "facts-1": 0.81},
    **{"control-0": 0.603, "control-1": 0.608},  # the mixture of base again
}
TARGETS = [f"results/mixtures/{name}" for name in ("summary.txt", "figures/run_matrix.png")]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    lines = [
        f"{model}\t{step}\t{task}\t{value + step / 1e5}\t0.02"
        for model, value in MODELS.items()
        for step in (100, 200, 300, 400)
        for task in ("qa", "sums")
    ]
    (tmp_path / "t.tsv").write_text("\n".join(["model\tstep\ttask\taccuracy\tse", *lines]) + "\n")
    sizes = {"nominal": 70_000_000, "total": 70_426_624, "non_embedding": 18_915_328}
    row = {
        "format": "table",
        "files": ["t.tsv"],
        "columns": {"model": "model", "step": "step", "task": "task", "value": "accuracy", "stderr": "se"},
        "metric": "accuracy",
        "n": {"qa": 600, "sums": 600},
        "chance": {"qa": 0.5, "sums": 0.5},
        "models": [{"name": m, "tokens_per_step": 10, "parameters": sizes} for m in MODELS],
    }
    bits = [line.replace("accuracy", "bits") for line in (tmp_path / "t.tsv").read_text().splitlines()]
    (tmp_path / "bits.tsv").write_text("\n".join(bits) + "\n")  # rise with accuracy, and should fall
    planted = {**row, "files": ["bits.tsv"], "metric": "bits_per_byte", "chance": {}}
    planted["columns"] = {**row["columns"], "value": "bits"}
    arms = {arm: [f"{arm}-*"] for arm in ("base", "facts", "control")}
    section = {"arms": arms, "suites": {"both": ["qa", "sums"]}}
    workspace = Workspace(tmp_path)
    workspace.write_yaml("config.yaml", {"study": "mixtures", "imported": [row, planted], "runs": section})
    return workspace


def test_the_sentence_of_a_comparison_is_in_the_summary(study: Workspace) -> None:
    study.snakemake("--cores", "1", *TARGETS)
    results = study.path / "results/mixtures"
    verdicts = read_tsv(results / "run_verdicts.tsv")
    assert set(verdicts["size"]) == {"70M"}
    of_arm = dict(iter(verdicts.groupby("arm")))
    assert of_arm["facts"]["difference"].round(6).tolist() == [0.2, 0.2, 0.4]
    assert of_arm["control"]["difference"].abs().max() < 0.002
    assert set(of_arm["facts"]["verdict"]) == {"wins"} and set(of_arm["control"]["verdict"]) == {"undecided"}
    sentences = read_tsv(results / "run_sentences.tsv").set_index("arm")["sentence"]
    assert sentences["facts"].startswith("facts leads on 2 of 2 tasks at 70M; suite +40.0 (")
    assert sentences["control"].startswith(
        "control leads on 0 of 2 tasks (undecided on 2) at 70M; suite +0.1 (-"
    )
    assert sentences.str.endswith("cannot be told from another seed.").all()
    summary = (results / "summary.txt").read_text()
    said = "\n".join(sentences)
    assert f"Runs compared with base, over their last checkpoints\n{said}\n" in summary
    assert "note     defaulted: Arms are compared with base, the first." in summary
    assert (results / "figures/run_matrix.png").read_bytes().startswith(b"\x89PNG")
    assert set(read_tsv(results / "seeds.tsv")["runs"]) == {2}
    assert not undescribed(results)
    judged = read_tsv(results / "verdicts.tsv")  # of replicates, not of a largest model
    assert set(judged["model"]) == {"base 70M"} and set(judged["runs"]) == {2}
    assert judged["seed_change_sd"].abs().max() < 1e-9 and judged["change"].round(6).tolist() == [
        0.003,
        0.003,
    ]
    proxies = read_tsv(results / "proxies.tsv")
    assert (
        list(zip(proxies["proxy"], proxies["verdict"], strict=True))
        == [("bits_per_byte", "runs against")] * 2
    )
    assert "suspicious: bits_per_byte runs against accuracy on qa, sums (proxies.tsv)." in summary

    with study.edited("config.yaml") as config:
        config["runs"]["last"] = 2
    dry = study.snakemake("-n", *TARGETS).stdout
    assert "rule runs:" in dry and "rule plot_runs:" in dry and "rule import_results:" not in dry

    with study.edited("config.yaml") as config:
        config["runs"]["arms"] = {"base": ["base-*"]}  # nothing to compare, but seeds
    (results / "run_verdicts.tsv").unlink()
    study.snakemake("--cores", "1", "results/mixtures/summary.txt")
    assert set(read_tsv(results / "seeds.tsv")["arm"]) == {"base"}
    assert not (results / "run_verdicts.tsv").exists()
    summary = (results / "summary.txt").read_text()
    assert "base is the only arm: no runs are compared." in summary and "Runs compared" not in summary

    with study.edited("config.yaml") as config:
        config["runs"]["arms"]["facts"] = ["fact-*"]
    told = study.snakemake("--cores", "1", *TARGETS, check=False)
    assert told.returncode != 0 and "runs.arms.facts: found 'fact-*', which matches no model" in told.stdout
