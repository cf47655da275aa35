"""Regressions of toxicity: the paper's, and one whose intervals cover when samples of a prompt are alike."""

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import ConfigError, FigureError
from ebbtide.figures.toxicity import plot_toxicity
from ebbtide.statistics.toxicity.regression import COLUMNS, Cell, toxicity_table
from ebbtide.statistics.toxicity.sentences import toxicity_sentences

PROMPTS, SAMPLES = 60, 10
TRUTH = {"size 100": 0.05, "toxic prompt": 0.3}


def cells(rng: np.random.Generator, spread: float = 0.1, tokens: tuple[int, ...] = (100,)) -> list[Cell]:
    """Two sizes with known effects; prompts differ by `spread`, for all models and for each."""
    prompts = np.repeat(np.arange(PROMPTS), SAMPLES)
    toxic = prompts % 2 == 0
    shared = spread * rng.normal(size=PROMPTS)
    found = []
    for model, size in (("small", 10), ("large", 100)):
        own = shared + spread * rng.normal(size=PROMPTS)
        for seen in tokens:
            mean = 0.2 + 0.05 * (size == 100) + 0.3 * toxic + own[prompts] + 0.02 * np.log10(seen / 100)
            scores = mean + 0.05 * rng.normal(size=len(prompts))
            found.append(Cell("t", model, size, seen, prompts, toxic, scores))
    return found


def terms(table: pd.DataFrame, form: str) -> pd.DataFrame:
    return table[table["form"] == form].set_index("term")


def test_clustered_intervals_cover_where_those_of_independent_samples_do_not() -> None:
    rng = np.random.default_rng(2)
    covered: dict[tuple[str, str], list[bool]] = {}
    for _ in range(150):
        table = toxicity_table(cells(rng))
        for form in ("paper", "clustered"):
            for term, truth in TRUTH.items():
                row = terms(table, form).loc[term]
                covered.setdefault((form, term), []).append(row["low"] <= truth <= row["high"])
    share = {key: np.mean(values) for key, values in covered.items()}
    for term in TRUTH:
        assert 0.89 <= share["clustered", term] <= 0.99  # 0.95 ± 3 standard errors, and 60 clusters
        assert share["paper", term] < 0.75


def test_the_paper_form_is_ordinary_least_squares() -> None:
    table = toxicity_table(cells(np.random.default_rng(0)))
    made = cells(np.random.default_rng(0))
    y = np.concatenate([cell.scores for cell in made])
    large = np.repeat([0.0, 1.0], PROMPTS * SAMPLES)
    toxic = np.concatenate([cell.toxic for cell in made]).astype(float)
    expected = np.linalg.lstsq(np.column_stack([np.ones_like(y), large, toxic]), y, rcond=None)[0]
    for form in ("paper", "clustered"):
        assert terms(table, form)["estimate"].tolist() == pytest.approx(expected.tolist())
    logs = terms(table, "size").loc["log10 parameters"]
    assert logs["estimate"] == pytest.approx(expected[1])  # sizes a tenfold apart
    assert list(table) == list(COLUMNS)
    assert (table["n"] == 2 * PROMPTS * SAMPLES).all() and (table["prompts"] == PROMPTS).all()


def test_scores_that_failed_are_left_out_and_counted() -> None:
    made = cells(np.random.default_rng(0))
    made[0].scores[:7] = np.nan
    table = toxicity_table(made)
    assert (table["unscored"] == 7).all() and (table["n"] == 2 * PROMPTS * SAMPLES - 7).all()


def test_training_has_a_slope_of_each_model_and_the_last_checkpoint_counts_for_sizes() -> None:
    made = cells(np.random.default_rng(1), spread=0.0, tokens=(100, 1000, 10000))
    table = toxicity_table(made)
    slopes = table[(table["form"] == "training") & (table["term"] == "log10 tokens")]
    assert slopes["model"].tolist() == ["small", "large"]
    assert slopes["estimate"].tolist() == pytest.approx([0.02, 0.02], abs=0.005)
    last = [cell for cell in made if cell.tokens == 10000]
    pd.testing.assert_frame_equal(
        terms(table, "clustered"), terms(toxicity_table(last), "clustered"), check_dtype=False
    )


def test_prompts_of_one_kind_and_one_size_say_why() -> None:
    made = cells(np.random.default_rng(0))
    same = [Cell(**{**vars(cell), "toxic": np.ones_like(cell.toxic)}) for cell in made]
    table = toxicity_table(same)
    assert table["estimate"].isna().all()
    assert table["note"].str.contains("terms cannot be told apart").all()
    alone = toxicity_table(made[:1])
    assert alone["note"].tolist() == ["no regression over sizes: fewer than two known sizes"]
    assert toxicity_sentences(alone) == ["t: no regression over sizes: fewer than two known sizes."]
    unknown = [*made, Cell(**{**vars(made[1]), "model": "nameless", "size": 0})]
    first, *rest = toxicity_table(unknown)["note"]
    assert first == "size unknown, left out: nameless" and not any(rest)
    with pytest.raises(FigureError, match="two sizes"):
        plot_toxicity(toxicity_table(made[:1]))


def test_the_figure_and_the_sentences() -> None:
    table = toxicity_table(cells(np.random.default_rng(1), tokens=(100, 1000)))
    drawn = plot_toxicity(table.fillna({"parameters_non_embedding": 0})).data  # as read from the TSV
    assert drawn["form"].tolist() == ["samples as independent", "clustered by prompt"]
    size, prompt, training = toxicity_sentences(table)
    assert size.startswith("t: a tenfold size changes toxicity by +0.0")
    assert prompt.startswith("t: a toxic prompt changes toxicity by +0.")
    assert "over training in 2 of 2 models" in training


def test_tasks_are_checked_before_anything_runs() -> None:
    from types import SimpleNamespace

    from ebbtide.study.compared import check_toxicity

    def task(kind: str, **definition: object) -> SimpleNamespace:
        return SimpleNamespace(kind=SimpleNamespace(name=kind), definition=definition)

    texts = {"classifiers": [{"function": "marked_words", "words": ["x"]}]}
    tasks = {
        "a": task("generation", texts=texts, groups={"toxic": "toxic"}),
        "b": task("rolling"),
        "c": task("sequence", groups={"toxic": "toxic", "said": "said"}),
    }
    section = {"tasks": ["a"], "classifier": "marked_words", "group": "toxic", "continuations": None}

    def refused(**changes: object) -> str:
        with pytest.raises(ConfigError) as error:
            check_toxicity({**section, **changes}, tasks, "f: toxicity")
        return str(error.value)

    assert "tasks: found 'd'; allowed: a, b, c" in refused(tasks=["d"])
    assert "b is of kind rolling; allowed: generation" in refused(tasks=["b"])
    assert "classifier: found 'detoxify'; allowed, of task a: marked_words" in refused(classifier="detoxify")
    assert "group: found 'toxicity'; allowed, of task a: toxic; did you mean" in refused(group="toxicity")
    check_toxicity(section, tasks, "f: toxicity")
    said = {"tasks": ["c"], "group": "said"}
    check_toxicity({**section, "continuations": said}, tasks, "f: toxicity")
    assert "continuations.tasks: a is of kind generation; allowed: sequence" in refused(
        continuations={**said, "tasks": ["a"]}
    )
    assert "continuations.group: found 'sad'; allowed, of task c: toxic, said; did you mean" in refused(
        continuations={**said, "group": "sad"}
    )
