"""The paper: values equal tables, hostile texts stay texts, equal inputs make equal bytes."""

import io
import itertools
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pdfplumber
import pytest

from ebbtide.errors import CellError, ConfigError
from ebbtide.notices import Notice, notices_table
from ebbtide.report.outcomes import outcomes
from ebbtide.report.paper import sheets
from ebbtide.report.paper.build import MOST_FILES, TEMPLATE, compile_paper, template_files
from ebbtide.report.paper.values import Content, _limits, paper_values
from ebbtide.report.paper.writing import as_macros, as_toml, check_toml
from ebbtide.schema import check, load_schema
from ebbtide.statistics.regression import regress, verdicts

HOSTILE = '#panic("run") $x$ *bold* \\end{document} "quoted" <b> @nobody [a] // \x07\x7f ü'


def metrics(models: int = 3, name: str = "m") -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {
            **{"model": f"{name}{m}", "checkpoint": f"step{s}", "step": s, "tokens": s * 1_000_000},
            **{"task": task, "metric": "accuracy", "stderr": 0.02, "n": 12_345, "chance": 0.5},
            **{"value": 0.5 + sign * 0.03 * m * i + 0.002 * rng.random(), "source": "scored"},
            **{
                f"parameters_{name}": 10 ** (5 + m)
                for name in ("non_embedding", "total", "active", "nominal")
            },
        }
        for m in range(1, models + 1)
        for i, s in enumerate((1, 2, 4, 8))
        for task, sign in (("up", 1), ("down", -1))
    ]
    return pd.DataFrame(rows)


def content(table: pd.DataFrame | None = None, **config: Any) -> Content:
    settings = check({"study": "toy", **config}, load_schema("config"), lambda key: "config.yaml")
    table = metrics() if table is None else table
    regressions = regress(table, parameters="non_embedding")
    notices = [Notice("note", "tied", "3 of 9 answers are tied.", model="m1")]
    tables = {
        "outcomes": outcomes(table, None, None, followed=["accuracy"]),
        "regressions": regressions,
        "verdicts": verdicts(table, regressions),
        "notices": notices_table(notices),
    }
    return Content("toy", settings, table, tables, {}, "0.1")


def files(tmp_path: Path, values: dict[str, Any]) -> dict[str, str | Path]:
    (tmp_path / "values.toml").write_text(as_toml(values))
    return {"values.toml": tmp_path / "values.toml"}


def test_values_are_those_of_the_tables() -> None:
    given = content()
    values = paper_values(given)
    assert values["grid"]["cells"] == values["grid"]["scored"] == 24
    assert (values["grid"]["smallest"], values["grid"]["largest"]) == ("1M", "100M")
    row = given.tables["verdicts"].set_index("task").loc["down"]
    found = values["values"]["verdicts"]["down"]["accuracy"]
    assert found["change"] == row["change"] < 0
    assert found["verdict"] == row["verdict"]
    regression = values["sections"]["regression"]
    assert regression["tests"] == given.tables["regressions"]["t"].notna().sum() == 6
    assert [r["task"] for r in regression["rows"]] == ["Up", "Down"]
    [kind] = values["limits"]["kinds"]
    assert (kind["kind"], kind["notices"], kind["about"]) == ("tied", 1, "m1")
    assert "alarms" not in values["sections"]  # the study has none


def test_what_the_study_does_not_use_is_no_limit_of_its_numbers() -> None:
    given = content()
    unused = Notice("warning", "unused", "imported[0].chance: found 'typo', which has no effect.")
    more = notices_table([unused, Notice("note", "tied", "3 of 9 answers are tied.")])
    limits = paper_values(replace(given, tables={**given.tables, "notices": more}))["limits"]
    assert [kind["kind"] for kind in limits["kinds"]] == ["tied"]
    assert (limits["warnings"], limits["notes"]) == (0, 1)


def test_toml_is_read_back(tmp_path: Path) -> None:
    values = {
        "text": HOSTILE,
        "none": None,
        "number": np.float64(0.1234567),
        "whole": 3.0,
        "count": np.int64(7),
        "flag": np.bool_(True),
        "nested": {"a key.with dots": {"x": 1}, "list": [["a", "b"], []], "empty": []},
        "rows": [{"a": 1, "deep": {"b": [True]}}, {"a": 2}],
        "unknown": float("nan"),
    }
    found = tomllib.loads(as_toml(values))
    assert np.isnan(found.pop("unknown"))
    assert found == {
        **{k: v for k, v in values.items() if k not in ("none", "unknown")},
        "number": 0.123457,
        "count": 7,
        "flag": True,
    }
    assert isinstance(found["whole"], float)


def test_values_that_are_not_whole_are_named_and_not_the_template(tmp_path: Path) -> None:
    file = tmp_path / "values.toml"
    file.write_text(as_toml({"text": HOSTILE, "of": {"a": 1}}), encoding="utf-8")
    check_toml(file)
    whole = file.read_bytes()
    for damaged in (
        b"",
        b"\xff",
        *(whole[:cut] for cut in range(len(whole))),
        whole.replace(b"a = 1", b"a = "),
    ):
        file.write_bytes(damaged)
        with pytest.raises(CellError, match=r"values\.toml is (damaged|not UTF-8)"):
            check_toml(file)


def test_macros_have_the_keys_of_the_toml() -> None:
    macros = as_macros({"grid": {"cells": 704}, "a b": {"x_1": -1.5e-20, "text": "50 % & more"}, "rows": [1]})
    assert r"\csname ebbtide@grid.cells\endcsname{\ensuremath{704}}" in macros
    assert r"\csname ebbtide@a-b.x_1\endcsname{\ensuremath{-1.5\times 10^{-20}}}" in macros
    assert r"\csname ebbtide@a-b.text\endcsname{50 \% \& more}" in macros
    assert "rows" not in macros
    assert macros.count("{") == macros.count("}")


def test_the_paper_is_the_same_file_twice_whatever_the_texts(tmp_path: Path) -> None:
    paper = {"title": HOSTILE, "question": HOSTILE, "authors": [HOSTILE, "B"]}
    values = paper_values(content(paper=paper, titles={"up": HOSTILE}))
    study = files(tmp_path, values)
    one, two = (compile_paper(template_files(None, "paper.template"), study) for _ in range(2))
    assert one.startswith(b"%PDF")
    assert one == two


def test_another_number_is_another_paper(tmp_path: Path) -> None:
    values = paper_values(content())
    one = compile_paper(template_files(None, ""), files(tmp_path, values))
    values["grid"]["cells"] += 1
    assert compile_paper(template_files(None, ""), files(tmp_path, values)) != one


def test_made_up_numbers_are_said(tmp_path: Path) -> None:
    values = paper_values(content())
    real = compile_paper(template_files(None, ""), files(tmp_path, values))
    values["grid"]["fake"] = values["grid"]["scored"]
    fake = compile_paper(template_files(None, ""), files(tmp_path, values))
    assert len(fake) != len(real)


def test_a_copied_template_is_used_with_the_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TEMPLATE.parent, "mine")
    Path("mine/.hidden").touch()
    found = template_files("mine/paper.typ", "paper.template")
    assert found[0] == Path("mine/paper.typ")
    assert {path.name for path in found} == {"paper.typ", "ebbtide.typ", "references.bib"}
    study = files(tmp_path, paper_values(content()))
    assert compile_paper(found, study) == compile_paper(template_files(None, ""), study)
    Path("mine/paper.typ").write_text('#let v = toml("study/values.toml")\n#v.no_such_key\n')
    with pytest.raises(ConfigError, match=r"mine: paper.typ, line 2, column \d+: .*no_such_key") as error:
        compile_paper(found, study)
    assert "\n" not in str(error.value)


def test_templates_without_a_directory_of_their_own_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"found 'no\.typ', which is no file with the suffix"):
        template_files("no.typ", "config.yaml: paper.template")
    Path("here.typ").touch()
    with pytest.raises(ConfigError, match="allowed: a directory of its own"):
        template_files("here.typ", "config.yaml: paper.template")
    Path("mine").mkdir()
    for number in range(MOST_FILES + 1):
        Path(f"mine/{number}.typ").touch()
    with pytest.raises(ConfigError, match=f"has {MOST_FILES + 1} files; allowed: {MOST_FILES}"):
        template_files("mine/0.typ", "config.yaml: paper.template")


@pytest.mark.parametrize("character", ["\x00", "\x7f", "\x85", "\ud83d"])
def test_keys_of_macros_have_no_characters_that_a_tex_file_may_not_contain(character: str) -> None:
    macros = as_macros({"tasks": {f"a{character}b": 1}})
    assert r"\csname ebbtide@tasks.a-b\endcsname" in macros
    macros.encode()


def test_no_macro_replaces_another_whose_key_differs_in_odd_characters() -> None:
    macros = as_macros({"tasks": {"a b": 1, "a#b": 2}})
    assert r"ebbtide@tasks.a-b\endcsname{\ensuremath{1}}" in macros
    assert r"ebbtide@tasks.a-b-2\endcsname{\ensuremath{2}}" in macros


def test_no_semicolon_of_a_sentence_ends_code() -> None:
    """After code, Typst takes a semicolon for its end and prints none."""
    for file in TEMPLATE.parent.glob("*.typ"):
        assert not re.findall(r"(?:#[\w.-]+|\));|\];", file.read_text(encoding="utf-8")), file


def test_numbers_are_printed_as_in_print() -> None:
    assert [sheets.number(x, 2) for x in (9.6e-05, -1.2e12, -0.25, 0, None)] == [
        "9.6 × 10⁻⁵",
        "−1.2 × 10¹²",
        "−0.25",
        "0",
        "–",
    ]


def test_examples_of_limits_have_no_key_of_the_configuration() -> None:
    given = content()
    stated = notices_table([Notice("note", "defaulted", "imported[0]: inferred for 64 checkpoints: step.")])
    [kind] = paper_values(replace(given, tables={**given.tables, "notices": stated}))["limits"]["kinds"]
    assert kind["example"] == "Inferred for 64 checkpoints: step."


def test_a_figure_that_is_not_drawn_is_a_sentence_in_its_section(tmp_path: Path) -> None:
    row = {"model": "m1", "task": "up", "lead": np.nan, "low": np.nan, "note": "accuracy does not fall"}
    given = replace(content(), figures={"early_warning": "falling accuracy"})
    given = replace(given, tables={**given.tables, "early_warning": pd.DataFrame([row])})
    why = {"early_warning": "No figure early_warning: nothing falls.", "heat": "No figure heat: nothing."}
    for not_drawn in ({}, why):
        values = paper_values(replace(given, not_drawn=not_drawn))
        section = values["sections"]["early_warning"]
        assert [figure["name"] for figure in section["figures"]] == ["early_warning"][: not not_drawn]
        assert section["not_drawn"] == [why["early_warning"]][: len(not_drawn)]
    # The template prints the sentence; the file of the figure is not asked for.
    assert compile_paper(template_files(None, ""), files(tmp_path, values)).startswith(b"%PDF")


@pytest.mark.parametrize("bos", ["tokenizer", "always", "never"])
@pytest.mark.parametrize("encoding", ["harness", "joint", "separate"])
def test_the_method_has_words_for_every_setting_of_scoring(encoding: str, bos: str, tmp_path: Path) -> None:
    values = paper_values(content(scoring={"encoding": encoding, "bos": bos}))
    compile_paper(template_files(None, ""), files(tmp_path, values))


@pytest.mark.parametrize("backend", ["same", "vllm"])
def test_the_method_says_what_generated_the_texts(backend: str, tmp_path: Path) -> None:
    values = paper_values(content(scoring={"generation_backend": backend}))
    found = pages(compile_paper(template_files(None, ""), files(tmp_path, values)))
    words = " ".join(text for page in found for *_, text in page)
    assert ("Texts were generated with vLLM" in words) == (backend == "vllm")


CM = 72 / 2.54


def pages(pdf: bytes) -> list[list[tuple[float, float, float, float, str]]]:
    """Return the words of every page with their boxes in points, from the upper left."""
    with pdfplumber.open(io.BytesIO(pdf)) as paper:
        return [
            [
                (word["x0"], word["top"], word["x1"], word["bottom"], word["text"])
                for word in page.extract_words(x_tolerance_ratio=0.15)
            ]
            for page in paper.pages
        ]


@pytest.mark.parametrize(
    ("models", "name", "figure_cm"),
    [
        (3, "m", 10),
        (9, "base-d16-data_mix_two/seed", 24),
        (8, "OrganisationOfManyModels/a_long.name_without_a_hyphen_", 24),
    ],
)
def test_no_page_is_empty_and_no_text_is_outside_of_the_margins(
    models: int, name: str, figure_cm: float, tmp_path: Path
) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    given = content(metrics(models, name), titles={"up": "A task whose title is rather long, as some are"})
    study = files(tmp_path, paper_values(replace(given, figures={"paper": "x"})))
    figure = Figure(figsize=(figure_cm / 2.54, 20 / 2.54))
    figure.text(0, 0, "left")
    figure.text(1, 1, "right", ha="right", va="top")
    with mpl.rc_context({"pdf.fonttype": 42}):
        figure.savefig(tmp_path / "paper.figure.pdf", format="pdf")
    study["figures/paper.pdf"] = tmp_path / "paper.figure.pdf"
    found = pages(compile_paper(template_files(None, ""), study))
    assert len(found) >= 3
    texts = [text for words in found for *_, text in words]
    assert "left" in texts and "right" in texts and "Bibliography" in texts
    for number, words in enumerate(found, 1):
        below = (29.7 - 2.2) * CM
        body = [word for word in words if word[1] < below]
        assert [word[4] for word in words if word[1] >= below] == [str(number)]
        assert len(body) > 10, f"page {number} has only {body}"
        for left, top, right, bottom, text in body:  # a hyphen at the end of a line hangs out by 2 points
            assert 2 * CM - 1 <= left < right <= (21 - 2) * CM + 3, f"page {number}: {text}"
            assert 2.2 * CM - 6 <= top < bottom <= below + 6, f"page {number}: {text}"
        long = [word for word in body if len(word[4]) > 2]
        for one, other in itertools.combinations(long, 2):
            wide = min(one[2], other[2]) - max(one[0], other[0])
            high = min(one[3], other[3]) - max(one[1], other[1])
            assert wide < 1 or high < 3, f"page {number}: {one[4]} is printed over {other[4]}"


def test_examples_of_limits_have_words_for_code_names_but_not_for_files() -> None:
    detail = "gold_rank runs against trends.equivalence_margin 0.05 on task_b, see gold_rank.tsv and task_bc."
    row = {"severity": "note", "kind": "suspicious", "detail": detail, "count": 1}
    row |= {"remedy": "", "model": "", "checkpoint": "", "task": "task_b"}
    words = {"task_b": "B", "gold_rank": "gold rank", "trends.equivalence_margin": "equivalence margin"}
    [kind] = _limits(pd.DataFrame([row]), words)["kinds"]
    assert kind["example"] == (
        "Gold rank runs against equivalence margin 0.05 on B, see gold_rank.tsv and task_bc."
    )
    assert kind["about"] == "B"
    gone = pd.DataFrame([{**row, "kind": "reused"}])
    assert _limits(gone, words)["kinds"] == []
