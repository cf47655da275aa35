"""Metrics per task, both forms, corrections, a paper's printed values, and its table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from ebbtide.errors import ConfigError
from ebbtide.metrics.chosen import chosen_metrics
from ebbtide.statistics.regression import (
    TERMS,
    as_tex,
    as_text,
    caption,
    paper_table,
    read_published,
    regress,
    verdicts,
    with_published,
)
from ebbtide.study.load import read_study
from ebbtide.titles import abilities
from metrics_tables import noisy, table
from workspace import ROOT

V1_SIZES = np.array([70e6, 160e6, 410e6, 1e9, 1.4e9, 2.8e9, 6.9e9])
V1_STEPS = np.array([2, 4, 8, 16, 32, 64, 128, 143]) * 1000
TRUTH = {"parameters": -0.4, "tokens": 0.3, "interaction": 0.05}  # of the raw form


def first_version(task: str, noise: float = 0.01) -> pd.DataFrame:
    """Seven sizes at eight checkpoints, with a known truth in the raw form."""
    n, d = (v.ravel() for v in np.meshgrid(V1_SIZES, V1_STEPS * 2097152))
    x, z = np.log10(n), np.log10(d)
    rng = np.random.default_rng(len(task))
    value = 2 + TRUTH["parameters"] * x + TRUTH["tokens"] * z + TRUTH["interaction"] * x * z
    return table(task, value + rng.normal(0, noise, len(x)), n, d)


def test_the_raw_form_has_t52_and_finds_the_truth() -> None:
    metrics = pd.concat([first_version("t" * k) for k in range(1, 41)])
    found = regress(metrics, parameters="total", form="raw", adjust="none")
    assert set(found["df"]) == {52}
    assert found["p_adjusted"].equals(found["p"])
    assert found["p"].to_numpy() == pytest.approx(2 * student.sf(found["t"].abs(), 52))
    assert found["note"].str.contains("main effects are effects at N = 1, D = 1").all()
    truth = found["term"].map(TRUTH)
    covered = ((found["estimate"] - truth).abs() < student.ppf(0.975, 52) * found["stderr"]).groupby(
        found["term"]
    )
    assert (covered.mean() > 0.85).all()
    errors = ((found["estimate"] - truth) / found["stderr"]).groupby(found["term"]).mean()
    assert (errors.abs() < 4 / np.sqrt(40)).all()


@pytest.mark.parametrize("adjust", ["bh", "by", "holm", "none"])
def test_corrections_by_their_definitions(adjust: str) -> None:
    rng = np.random.default_rng(4)
    found = regress(pd.concat([noisy(rng, 0.04 * i, f"t{i}") for i in range(4)]), adjust=adjust)
    p = np.sort(found["p"])
    rank = np.arange(1, len(p) + 1)
    up = np.minimum.accumulate((p * len(p) / rank)[::-1])[::-1]
    wanted = {
        "none": p,
        "bh": up,
        "by": np.minimum(up * (1 / rank).sum(), 1),
        "holm": np.minimum(np.maximum.accumulate(p * (len(p) + 1 - rank)), 1),
    }
    assert np.sort(found["p_adjusted"]) == pytest.approx(wanted[adjust])


def test_metrics_of_single_tasks() -> None:
    rng = np.random.default_rng(5)
    qa = [noisy(rng, 0.1, "qa").assign(metric=metric) for metric in ("mc1", "mc2")]
    other = noisy(rng, task="other")
    found = regress(pd.concat([*qa, other]), metrics_of={"qa": ["mc2", "mc1"]})
    assert list(zip(found["task"], found["metric"], strict=True))[::3] == [
        ("qa", "mc2"),
        ("qa", "mc1"),
        ("other", "accuracy"),
    ]
    alone = regress(qa[0], metric="mc1").iloc[2]
    assert found.set_index(["metric", "term"])["t"]["mc1", "interaction"] == pytest.approx(alone["t"])
    judged = verdicts(pd.concat([*qa, other]), found)
    assert judged["metric"].tolist() == ["mc2", "mc1", "accuracy"]
    assert judged["last"].iloc[1] == qa[0]["value"].iloc[-1]
    with pytest.raises(ConfigError, match=r"metrics: found 'pa', which is not a task .*did you mean 'qa'"):
        regress(other.assign(task="qa"), metrics_of={"pa": ["mc1"]})


def test_names_follow_the_titles() -> None:
    found = abilities({"b_qa": ["accuracy"], "a": ["mc1", "mc2"]}, {"a": "The-A", "gone": "G"})
    assert [a.name for a in found] == ["The-A-MC1", "The-A-MC2", "B QA"]


# --- printed values --------------------------------------------------------------------------


@pytest.fixture
def regressions() -> pd.DataFrame:
    return regress(pd.concat([first_version("one"), first_version("other")]), parameters="total")


def printed(path: Path, text: str) -> pd.DataFrame:
    path.write_text("# a paper\n" + text.replace(" ", "\t"))
    return read_published(path)


def test_printed_values_are_joined_by_name(regressions: pd.DataFrame, tmp_path: Path) -> None:
    published = printed(tmp_path / "p.tsv", "task term t\nother tokens 1.5\none interaction -2\n")
    found = with_published(regressions, published, "p.tsv")
    assert found.drop(columns="t_published").equals(regressions)
    kept = found.dropna(subset="t_published").set_index(["task", "term"])["t_published"].to_dict()
    assert kept == {("other", "tokens"): 1.5, ("one", "interaction"): -2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "task term t\nothr tokens 1\n",
            r"p\.tsv: task: found 'othr'; allowed: one, other; did you mean 'other'",
        ),
        ("task term t\none Tokens 1\n", "term: found 'Tokens'; allowed: parameters, tokens, interaction"),
        ("task term t\none tokens 1\none tokens 2\n", "two rows for one, tokens"),
        ("task metric term t\none mc1 tokens 1\n", "metric: found 'mc1'; allowed: accuracy"),
        ("task term t\none tokens x\n", "task one, tokens: t is x; allowed: a number"),
        ("task effect t\none tokens 1\n", "column 'term' is missing"),
    ],
)
def test_a_mistake_in_printed_values_is_a_sentence(
    text: str, message: str, regressions: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        with_published(regressions, printed(tmp_path / "p.tsv", text), "p.tsv")


def test_several_metrics_need_a_column(tmp_path: Path) -> None:
    both = pd.concat([first_version("qa").assign(metric=m) for m in ("mc1", "mc2")])
    found = regress(both, metrics_of={"qa": ["mc1", "mc2"]}, parameters="total")
    with pytest.raises(ConfigError, match="task qa has several metrics in this study; add a column metric"):
        with_published(found, printed(tmp_path / "p.tsv", "task term t\nqa tokens 1\n"), "p.tsv")
    published = printed(tmp_path / "p.tsv", "task metric term t\nqa mc2 tokens 1\n")
    joined = with_published(found, published, "p.tsv").dropna(subset="t_published")
    assert joined[["metric", "term"]].to_numpy().tolist() == [["mc2", "tokens"]]


def test_the_printed_values_of_the_first_version(shared: Path) -> None:
    ours = read_published(ROOT / "studies/emergent_inabilities_v1.published.tsv")
    study = read_study(ROOT / "studies/emergent_inabilities_v1.yaml")
    names = {name: task for task, name in study.config["titles"].items()}
    theirs = pd.read_csv(shared / "reference/emergent_inabilities_v1_tests.tsv", sep="\t")
    wanted = {(names[r.task], r.effect.lower()): r.t_published for r in theirs.itertuples()}
    assert ours.set_index(["task", "term"])["t"].to_dict() == wanted
    assert len(wanted) == 12
    metrics = pd.concat([first_version(task) for task in names.values()])
    settings = study.config["regression"]
    assert (settings["form"], settings["adjust"], settings["parameters"]) == ("raw", "none", "nominal")
    found = with_published(regress(metrics, parameters="total", form="raw"), ours, "v1")
    assert found["t_published"].notna().all()


# --- the table -------------------------------------------------------------------------------


def cell(t: float, p: float) -> str:
    rows = [{"task": "a", "metric": "m", "term": term, "t": t, "df": 60, "p_adjusted": p} for term in TERMS]
    frame = pd.DataFrame(rows).assign(note="")
    return str(paper_table(frame, abilities({"a": ["m"]}))["tokens"].iloc[0])


@pytest.mark.parametrize(
    ("t", "p", "text"),
    [
        (-4.2249, 0.00099, "t(60)=-4.22, p<0.001"),
        (1.0, 0.001, "t(60)=1.00, p=0.001"),
        (2.5, 0.0101, "t(60)=2.50, p=0.01"),
        (0.1, 0.9996, "t(60)=0.10, p=1"),
        (0.1, 0.8236, "t(60)=0.10, p=0.824"),
    ],
)
def test_numbers_as_the_paper_prints_them(t: float, p: float, text: str) -> None:
    assert cell(t, p) == text


def test_the_table_marks_what_is_significant_and_says_what_has_no_regression() -> None:
    n = first_version("strong_one")
    flat = n.assign(task="flat", value=0.25)
    found = regress(pd.concat([flat, n]), parameters="total", form="raw", adjust="holm")
    rows = paper_table(found, abilities(chosen_metrics(found), {"strong_one": "A & B_1\n"}), 1e-6)
    assert rows["task"].tolist() == ["A & B_1\n", "Flat"]
    sentences = caption(found, {"parameters": "total", "adjust": "holm"}, 1e-6)
    text, tex = as_text(rows, sentences), as_tex(rows, sentences, "x")
    line = next(line for line in text.splitlines() if line.startswith("A & B_1"))
    significant = found[found["task"] == "strong_one"]["p_adjusted"] < 1e-6
    assert line.count("*") == significant.sum() == tex.count(r"\boldmath") > 0
    assert "no regression: the metric is 0.25 in every cell" in text
    assert "effects at N = 1, D = 1" in text
    assert "over 56 cells" in text
    assert "Holm over all 3 tests; below 1e-06" in text
    assert r"A \& B\_1 & " in tex
    assert r"\multicolumn{3}{l}{no regression: the metric is 0.25 in every cell}" in tex
    assert tex.count("{") == tex.count("}")
    assert all(tex.count(rule) == 1 for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
