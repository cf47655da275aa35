"""The report page, opened in a real browser without a network."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from browser import opened
from ebbtide.errors import CellError, FigureError
from ebbtide.figures.theme import write
from ebbtide.metrics.table import read_metrics
from ebbtide.report.outcomes import outcomes
from ebbtide.report.page.answer import answer
from ebbtide.report.page.curves import MOST_POINTS, curve_data
from ebbtide.report.page.examples import MOST_EXAMPLES, flip_data
from ebbtide.report.page.lines import COLOURS, VIRIDIS, line_styles
from ebbtide.report.page.page import MOST_ROWS, TEMPLATES, Page, report_page
from ebbtide.report.page.sections import sections_of
from ebbtide.statistics.alarms.alarms import COLUMNS as ALARM_COLUMNS

TOKENS = [100, 200, 400, 800]
HOSTILE = "<script>alert('run')</script><img src=x onerror=alert(1)>\"'&</script>{{7*7}}\u2028"


def metrics(
    tasks: tuple[str, ...] = ("facts", "traps"), models: tuple[str, ...] = ("small", "large")
) -> pd.DataFrame:
    rows = []
    for m, model in enumerate(models):
        for t, task in enumerate(tasks):
            for i, tokens in enumerate(TOKENS):
                value = 0.5 + (0.1 if t == 0 else -0.1) * i + 0.013 * m
                rows.append(
                    {
                        **{"model": model, "checkpoint": f"step{tokens}", "step": tokens, "tokens": tokens},
                        **{"task": task, "metric": "accuracy", "value": value, "stderr": 0.02, "n": 100},
                        **{"chance": 0.5, "source": "scored", "parameters_non_embedding": 10 ** (m + 3)},
                        **{"parameters_total": 10 ** (m + 3), "parameters_nominal": 0},
                    }
                )
    return pd.DataFrame(rows)


def alarms() -> pd.DataFrame:
    row: dict[str, Any] = dict.fromkeys(ALARM_COLUMNS, np.nan) | {"group": "", "note": "", "allowed": ""}
    row |= {"model": "large", "task": "traps", "metric": "accuracy", "against": "best", "n": 100}
    first = {"checkpoint": "step200", "step": 200, "tokens": 200, "reference": "step100", "value": 0.413}
    last = {"checkpoint": "step800", "step": 800, "tokens": 800, "reference": "step100", "value": 0.213}
    return pd.DataFrame(
        [
            row
            | first
            | {"reference_value": 0.513, "change": -0.1, "p_adjusted": 0.2, "severity": "", "effect": -0.2}
            | {"minimum_detectable_drop": 0.14},
            row
            | last
            | {"reference_value": 0.513, "change": -0.3, "p_adjusted": 1e-6, "severity": "severe"}
            | {"effect": -0.7},
        ]
    )


def flips(prompt: str = "What is it?") -> tuple[pd.DataFrame, pd.DataFrame]:
    pair = {"model": "large", "task": "traps", "metric": "accuracy", "from_model": "large", "from": "step100"}
    pair |= {"to": "step800"}
    examples = [
        pair
        | {
            "example": f"e{i}",
            "flip": "lost",
            "rank": i + 1,
            "prompt": prompt,
            "shots": 0,
            "choices": [" yes", " no"],
        }
        | {"probability_before": [0.75, 0.25], "probability_after": [0.125, 0.875], "right": [0]}
        | {"chosen_before": 0, "chosen_after": 1, "value_before": 1.0, "value_after": 0.0}
        | {"margin_lost": 3.0 - i / 10, "also_flipped": 1, "other_models": 1, "group_country": "France"}
        for i in range(15)
    ]
    counts = pair | {"lost": 15, "gained": 0, "sentence": "15 of 100 examples went from right to wrong."}
    return pd.DataFrame(examples), pd.DataFrame(
        [counts | {"groups": "Of these, 15 of 15 in country=France.", "note": ""}]
    )


def content(prompt: str = "What is it?", **changes: Any) -> Page:
    rows, of_alarms = changes.pop("metrics", metrics()), alarms()
    examples, pairs = flips(prompt)
    notices = pd.DataFrame(
        [{"severity": "note", "kind": "dropped", "detail": "One row.", "remedy": "", "model": ""}]
    )
    tables = {
        "outcomes": outcomes(rows, None, of_alarms, followed=["accuracy"]),
        "alarms": of_alarms,
        "flips": pairs,
        "notices": notices.assign(checkpoint="", task="", count=1),
    }
    return Page("mine", rows, tables | changes.pop("tables", {}), ["accuracy"], {}, flips=examples, **changes)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(report_page(content()), encoding="utf-8")
    return file


def test_the_page_answers_and_its_controls_work(file: Path) -> None:
    with opened(file) as (page, complaints):
        said = page.inner_text("#answer")
        assert "1 of 2 tasks got worse over training: traps (all 2 models)." in said
        assert "1 drop in 2 comparisons" in said
        assert "0.513 → 0.213" in said
        assert "A drop of accuracy below 0.14 could not have been seen" in said
        assert (
            "One row." in page.inner_text("#answer details", timeout=1000)
            or page.locator("details.notices").count()
        )
        # the matrix has the changes of the table, and a cell leads to its curve
        cells = page.locator("#matrix tbody td.c button").all_inner_texts()
        assert cells == ["−0.300", "−0.300", "+0.300", "+0.300"]  # what got worse is first
        page.locator("#matrix tbody tr").first.locator("button").first.click()
        assert page.input_value("#task") == "traps"
        page.select_option("#matrix-of", "large")
        assert page.locator("#matrix td.worse2 button").all_inner_texts() == ["−0.300"]
        # the values of the chosen curve are those of metrics.parquet
        page.eval_on_selector("#curves > details", "of => { of.open = true; }")
        page.wait_for_function("document.querySelectorAll('#values tbody tr').length === 8")
        shown = [float(text) for text in page.locator("#values tbody td:nth-child(4)").all_inner_texts()]
        wanted = metrics().query("task == 'traps'")["value"].tolist()
        assert shown == pytest.approx(wanted, abs=1e-4)
        page.locator("#models input").first.uncheck()
        page.wait_for_function("document.querySelectorAll('#values tbody tr').length === 4")
        page.select_option("#axis", "compute")
        page.wait_for_function(
            "document.querySelector('#values tbody td:nth-child(3)').textContent === '6000000'"
        )
        assert not complaints


def test_an_alarm_shows_the_examples_that_flipped(file: Path) -> None:
    with opened(file) as (page, complaints):
        page.select_option("#matrix-of", "large")
        page.locator("#matrix td.worse2 button").click()  # the alarm at step800
        assert (
            "15 of 100 examples went from right to wrong. Of these, 15 of 15 in country=France."
            in page.inner_text("#pair-words")
        )
        found = page.locator("#flips article")
        assert found.count() == MOST_EXAMPLES
        assert "3 further examples changed less: ebbtide flips STUDY" in page.inner_text("#flips")
        first = found.first.inner_text()
        assert "Example e0 · lost · margin lost 3 · also in 1 of 1 other models · country: France" in first
        assert re.search(r"yes\s+\(right, chosen before\)\s+0\.75\s+0\.125", first)
        page.locator("#matrix td.c button").first.click()  # step200 has no alarm: the command is shown
        assert "--from step100 --to step200 --task traps" in page.inner_text("#pair-words")
        assert page.locator("#flips article").count() == 0
        assert not complaints


def test_a_point_of_the_chart_shows_its_examples(file: Path) -> None:
    with opened(file) as (page, complaints):
        page.select_option("#task", "traps")
        page.wait_for_function("document.getElementById('curve-title').textContent.startsWith('Traps')")
        point = page.locator("#chart path[aria-label*='model: large; checkpoint: step800']").first
        point.click()
        page.wait_for_selector("#flips article")
        assert page.locator("#flips article").count() == MOST_EXAMPLES
        assert not complaints


def ringed(page: Any) -> list[str]:
    """The points of the chart that have a ring."""
    ring = "#chart path[aria-roledescription=point][stroke-width='3']"
    return page.eval_on_selector_all(ring, "all => all.map((of) => of.ariaLabel)")


def test_the_keyboard_reaches_what_a_click_on_a_point_shows(file: Path) -> None:
    """With real keys: from the list of tasks on, by Tab, to the list of points, and along it by arrows."""
    with opened(file) as (page, complaints):
        page.focus("#task")
        page.keyboard.press("End")
        page.wait_for_function("document.getElementById('curve-title').textContent.startsWith('Traps')")
        page.wait_for_function("document.getElementById('point').options.length === 9")
        passed = []
        while (at := page.evaluate("document.activeElement.id")) != "point" and len(passed) < 20:
            passed.append(at)
            page.keyboard.press("Tab")
        assert at == "point" and "metric" in passed, passed
        assert page.eval_on_selector("#point", "of => getComputedStyle(of).outlineStyle") == "solid"
        page.keyboard.press("End")  # large at step800, which has an alarm
        page.wait_for_selector("#flips article")
        assert page.locator("#flips article").count() == MOST_EXAMPLES
        assert "15 of 100 examples went" in page.inner_text("#pair-words")
        point = page.locator("#chart path[aria-label*='model: large; checkpoint: step800']").first
        assert ringed(page) == [point.get_attribute("aria-label")]
        page.keyboard.press("ArrowUp")  # step400, which has none
        assert page.locator("#flips article").count() == 0
        assert "--from step200 --to step400 --task traps" in page.inner_text("#pair-words")
        page.keyboard.press("Home")
        assert page.inner_text("#pair-words").startswith("Choose an alarm")
        assert not ringed(page)
        # a click and the list agree
        point.click()
        assert page.locator("#point option:checked").inner_text() == "large, step800: 0.213, alarm"
        assert len(ringed(page)) == 1
        page.locator("#models input").first.uncheck()  # the point stays chosen when others are not drawn
        page.wait_for_function("document.getElementById('point').options.length === 5")
        assert page.locator("#point option:checked").inner_text() == "large, step800: 0.213, alarm"
        assert len(ringed(page)) == 1
        assert not complaints


def test_texts_of_tasks_do_not_run(tmp_path: Path) -> None:
    rows = metrics(tasks=("facts", HOSTILE), models=("small", HOSTILE))
    notices = pd.DataFrame([{"severity": "warning", "kind": "dropped", "detail": HOSTILE, "remedy": HOSTILE}])
    made = content(
        HOSTILE, metrics=rows, tables={"notices": notices.assign(model=HOSTILE, checkpoint="", task="")}
    )
    file = tmp_path / "index.html"
    file.write_text(report_page(made), encoding="utf-8")
    with opened(file) as (page, complaints):
        assert HOSTILE.replace("\u2028", " ")[:20] in page.inner_text("#answer")
        page.select_option("#pair", index=1)
        assert "<script>alert('run')</script>" in page.inner_text("#flips article >> nth=0")
        page.select_option("#task", HOSTILE)
        page.wait_for_timeout(300)
        assert not complaints
        assert page.evaluate("document.querySelectorAll('img[src=x]').length") == 0


def test_prompts_of_offensive_tasks_that_flipped_are_blurred_too(tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    for blurred in ([], ["traps"]):
        file.write_text(report_page(content(blurred=blurred)), encoding="utf-8")
        with opened(file) as (page, complaints):
            page.select_option("#pair", "0")
            article = page.locator("#flips article").first
            filters = [
                article.locator(of).evaluate("of => getComputedStyle(of).filter") for of in ("pre", "table")
            ]
            assert all("blur" in of for of in filters) == bool(blurred)
            assert article.locator("button.show").count() == len(blurred)
            if blurred:
                article.locator("button.show").click()
                assert article.locator("pre").evaluate("of => getComputedStyle(of).filter") == "none"
            assert not complaints


def test_a_study_without_models_has_its_section_and_no_empty_controls(tmp_path: Path) -> None:
    row = {
        "sector": "(all)",
        "n": 12,
        "first_date": "2012-01-01",
        "last_date": "2021-01-01",
        "slope": 0.6,
    }
    row |= {
        "doubling_months": 6.0,
        "doubling_months_low": 5.0,
        "doubling_months_high": 7.0,
        "confidence_level": 0.9,
    }
    row |= {"factor_per_decade": 1e6, "factor_per_decade_low": 1e5, "factor_per_decade_high": 1e7, "note": ""}
    share = {"date": "2012-01-01", "rule": "first listed", "share": 0.25, "iterations": 0}
    none = read_metrics([])
    tables = {
        "outcomes": outcomes(none, None, None, followed=["accuracy"]),
        "compute_trends": pd.DataFrame([row]),
        "academia": pd.DataFrame([share]),
    }
    file = tmp_path / "index.html"
    file.write_text(report_page(Page("mine", none, tables, ["accuracy"], {})), encoding="utf-8")
    with opened(file, ready="main") as (page, complaints):
        sentence = (
            "All models (12 models, 2012-01-01 to 2021-01-01): training compute doubles every 6.0 months"
        )
        assert page.locator("#answer li").inner_text().startswith(sentence)
        assert page.locator("#compute_trends .result").count() == 2
        assert not page.locator("#curves, #changes, #examples, #t-outcomes, select").count()
        assert page.locator("#files p").inner_text() == "In results/mine: Empty tables: outcomes.tsv."
        page.eval_on_selector_all("details", "all => all.forEach((of) => { of.open = true; })")
        page.fill("input.filter[data-table=t-academia]", "nowhere")
        assert not page.locator("#t-academia tbody tr:visible").count()
        assert not complaints


def test_tables_sort_and_filter(file: Path) -> None:
    with opened(file) as (page, complaints):
        page.eval_on_selector_all("details", "all => all.forEach((of) => { of.open = true; })")
        page.locator("#t-alarms th button", has_text="p_adjusted").click()
        column = page.locator("#t-alarms th button").all_inner_texts().index("p_adjusted")
        cells = page.locator(f"#t-alarms tbody td:nth-child({column + 1})")
        assert cells.all_inner_texts() == ["1e-06", "0.2"]
        page.fill("input.filter[data-table=t-alarms]", "severe")
        assert page.locator("#t-alarms tbody tr:visible").count() == 1
        assert not complaints


def test_a_large_grid_leaves_out_what_is_not_followed_and_says_so() -> None:
    rows = metrics(tasks=tuple(f"t{i}" for i in range(12)))
    many = pd.concat([rows.assign(metric=name) for name in ("accuracy", *(f"m{i}" for i in range(500)))])
    assert len(many) > MOST_POINTS
    data, sentence = curve_data(many, ["accuracy"])
    assert {curve["metric"] for curve in data["curves"]} == {"accuracy"}
    assert sentence == ["500 further metrics are in metrics.parquet only."]


def test_texts_beyond_the_budget_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebbtide.report.page.examples.MOST_BYTES", 0)
    found, sentence = flip_data(*flips())
    assert found[0]["lost"] == 15
    assert not found[0]["examples"]
    assert sentence.startswith("The texts of 1 pair")


def test_a_study_without_examples_has_an_answer() -> None:
    found = outcomes(metrics(), None, None, followed=["accuracy"])
    assert answer(found, None)[0].startswith("1 of 2 tasks")


def test_a_comparison_of_runs_is_the_first_answer() -> None:
    found = outcomes(metrics(), None, None, followed=["accuracy"])
    said = ["b leads on 1 of 2 tasks at 70M; …", "b leads on 2 of 2 tasks over all sizes; …"]
    first, more, *_ = answer(found, None, pd.DataFrame({"sentence": said}))
    assert first == said[1]
    assert more == "Section Runs compared has 1 more sentence, about single sizes."


def test_a_curve_that_peaked_is_not_one_that_got_worse() -> None:
    found = outcomes(metrics(), None, None, followed=["accuracy"])
    peaked = found.assign(outcome="peaked, then got worse")
    assert answer(peaked, None) == [
        "No task got worse over training in any model.",
        "2 of 2 tasks peaked, then got worse: traps (all 2 models), facts (all 2 models).",
    ]


def test_the_cost_is_that_of_the_study_and_of_a_new_checkpoint() -> None:
    row = {"model": "", "forwarded_tokens": 1200, "unique_tokens": 1000, "gpu_hours": 0.5, "core_hours": 2.0}
    row |= {"total_seconds": 7200.0, "price": 1.25, "currency": "EUR", "device": "H100"}
    new = {
        "new_checkpoint_total_seconds": 90.0,
        "new_checkpoint_gpu_hours": 0.01,
        "new_checkpoint_price": 0.5,
    }
    provenance = pd.DataFrame({"mfu": [0.25, np.nan, 0.35]})
    cost = pd.DataFrame([row | new, row | {"model": "small", "price": np.nan}])
    tables = {"provenance": provenance, "cost": cost}
    (section,) = [of for of in sections_of(tables) if of.name == "provenance"]
    assert section.result(tables) == [
        "1,200 tokens forwarded, 1.20 per unique token, 2 h of jobs, 0.5 GPU-hours, 2 core-hours, 1.25 EUR.",
        "Median model FLOP utilisation (MFU): 30 %.",
        "One more checkpoint of every model would cost 90 s of jobs, 36 GPU-seconds, 0.5 EUR on H100.",
    ]
    unknown = tables | {"cost": pd.DataFrame([row])}
    assert section.result(unknown)[-1] == "What one more checkpoint of every model would cost is unknown."


def test_a_figure_that_could_not_be_drawn_is_a_sentence(tmp_path: Path) -> None:
    def draw() -> None:
        raise FigureError("alarms.tsv: nothing to draw.")

    write(draw, [tmp_path / "alarms.png", tmp_path / "alarms.pdf"])
    made = content()
    page = report_page(replace(made, figures={"alarms": str(tmp_path / "alarms.png")}))
    assert "No figure alarms: alarms.tsv: nothing to draw." in page
    assert "data:image/png" not in page
    lacking = {"alarms": "no model has two trained checkpoints", "heat": "nothing"}
    page = report_page(replace(made, figures={}, lacking=lacking))
    section = page.partition('<section id="alarms"')[2].partition("</section>")[0]
    assert '<p class="note">No figure alarms: no model has two trained checkpoints.</p>' in section


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_figure_that_is_not_whole_is_named(part: int, tmp_path: Path) -> None:
    file = tmp_path / "alarms.png"
    Image.new("RGB", (50, 50), "red").save(file)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) * part // 3], whole[:60].replace(b"IHDR", b"IHDX") + whole[60:]):
        file.write_bytes(damaged)
        with pytest.raises(CellError, match=r"The figure .*alarms\.png is damaged .*; delete it and run"):
            report_page(replace(content(), figures={"alarms": str(file)}))


def test_what_the_page_leaves_out_is_said() -> None:
    grouped = pd.concat([metrics(), metrics().assign(metric="accuracy[country=France]")])
    _, left = curve_data(grouped, ["accuracy"])
    assert left == ["Metrics of single groups have no curves here; they are in metrics.parquet."]
    examples, pairs = flips()
    long = ["x" * 500, " no"]
    found, _ = flip_data(examples.assign(choices=[long] * len(examples)), pairs)
    assert found[0]["examples"][0]["choices"][0].endswith("x…")
    notices = pd.DataFrame({"severity": "note", "kind": "dropped", "detail": [str(i) for i in range(203)]})
    notices = notices.assign(remedy="", model="", checkpoint="", task="", count=1)
    assert "3 more notices in notices.tsv." in report_page(content(tables={"notices": notices}))


def test_training_compute_has_one_count_of_parameters() -> None:
    one = metrics()
    data, _ = curve_data(one, ["accuracy"])
    assert data["size"] == "non-embedding parameters"
    unknown = one.assign(
        parameters_non_embedding=one["parameters_non_embedding"].where(one["model"] == "small", 0)
    )
    data, _ = curve_data(unknown, ["accuracy"])
    assert data["size"] == "parameters"
    assert {name: model["parameters"] for name, model in data["models"].items()} == {
        "small": 1000,
        "large": 10000,
    }


def seeds() -> pd.DataFrame:
    row = {"recipe": "12K", "task": "traps", "metric": "accuracy", "models": "small, large", "runs": 2}
    values = {"value": 0.5, "low": -0.25, "high": 0.75}
    return pd.DataFrame([row | values | {"tokens": tokens} for tokens in TOKENS])


def test_models_of_one_size_do_not_look_alike() -> None:
    one_size = {f"m{i}": 1000 for i in range(10)}
    styles = line_styles(one_size, None, {})
    for mode in ("light", "dark"):
        looks = zip(styles[mode], map(tuple, styles["dash"]), strict=True)
        assert len(set(looks)) == len(one_size)
    assert len(set(styles["light"])) == len(COLOURS["light"])


def test_sizes_are_ordered_and_seeds_and_averages_have_the_colour_of_their_recipe() -> None:
    sizes = {"a": 10, "b": 100, "c": 1000}
    ordered = line_styles(sizes | {"c-averaged": 1000}, None, {"c-averaged": "c"})
    assert ordered["light"][0] == VIRIDIS[0]
    assert ordered["dark"][2] == VIRIDIS[-1]
    assert ordered["light"][3] == ordered["light"][2]
    assert ordered["dash"][3] != ordered["dash"][2]
    two_mixtures = line_styles(sizes | {"a2": 10, "b2": 100, "c2": 1000}, None, {})
    assert two_mixtures["light"][:3] == two_mixtures["light"][3:] == ordered["light"][:3]
    assert all(a != b for a, b in zip(two_mixtures["dash"][:3], two_mixtures["dash"][3:], strict=True))
    of_seeds = line_styles({"small": 10, "large": 10, "other": 10}, seeds(), {})
    assert of_seeds["names"] == ["small", "large", "other", "12K"]
    small, large, other, mean = of_seeds["light"]
    assert small == large == mean != other
    assert len({tuple(dash) for dash in of_seeds["dash"][:2]}) == 2


def contrast(one: str, other: str) -> float:
    """The contrast of two colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_lines_have_contrast_in_both_modes() -> None:
    ordered = line_styles({f"m{i}": 10 + i for i in range(9)}, None, {})
    for mode, paper in {"light": "#ffffff", "dark": "#14191e"}.items():
        for colour in (*COLOURS[mode], *ordered[mode]):
            assert contrast(colour, paper) >= 3, (mode, colour)


def test_texts_edges_and_the_focus_have_contrast_in_both_modes() -> None:
    """Of the style sheet: 4.5 for text, 3 for edges of controls and the outline of the focus."""
    style = (TEMPLATES / "page.css").read_text()
    modes = [dict(re.findall(r"--(\w+): (#\w{6})", found)) for found in re.findall(r":root {([^}]*)}", style)]
    for colours, on_worse in zip(modes, ("#000000", "#ffffff"), strict=True):
        for text in ("ink", "grey", "link"):
            assert contrast(colours[text], colours["paper"]) >= 4.5, text
        for cell in ("soft", "worse1", "better"):
            assert contrast(colours["ink"], colours[cell]) >= 4.5, cell
        assert contrast(on_worse, colours["worse2"]) >= 4.5
        assert contrast(colours["ink"], colours["worse2"]) >= 3  # the focus in the matrix
        assert min(contrast(colours["better2"], colours[paper]) for paper in ("paper", "soft")) >= 3
        assert contrast(colours["grey"], colours["paper"]) >= 3  # edges


def test_paper_is_white_in_dark_mode_too(file: Path) -> None:
    ink = "getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()"
    with opened(file) as (page, _):
        page.emulate_media(color_scheme="dark")
        assert page.evaluate(ink) == "#e8edf2"
        page.emulate_media(color_scheme="dark", media="print")
        assert page.evaluate(ink) == "#1b2733"
        assert not page.is_visible("#point")


def test_means_over_seeds_are_lines_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text(report_page(content(tables={"seed_curves": seeds()})), encoding="utf-8")
    with opened(file) as (page, complaints):
        page.select_option("#task", "traps")
        page.eval_on_selector("#curves > details", "of => { of.open = true; }")
        page.wait_for_function("document.querySelectorAll('#values tbody tr').length === 12")
        rows = page.locator("#values tbody tr", has_text="mean over 2 seeds")
        assert rows.first.locator("td").all_inner_texts()[:6] == [
            *("12K", "mean over 2 seeds", "100", "0.5", "0", "0.75"),  # a share is not below 0
        ]
        assert "thick: means over seeds" in page.inner_text("#curve-words")
        page.uncheck("#means")
        page.wait_for_function("document.querySelectorAll('#values tbody tr').length === 8")
        assert "thick" not in page.inner_text("#curve-words")
        assert not complaints


def test_the_axis_of_tokens_is_not_crowded(file: Path) -> None:
    with opened(file) as (page, complaints):
        assert page.evaluate("ticks([16384, 1048576])") == [2e4, 5e4, 1e5, 2e5, 5e5, 1e6]
        assert page.evaluate("ticks([90, 110])") == [100]
        assert page.evaluate("ticks([1e6, 1e12])") == [10.0**power for power in range(6, 13)]
        assert page.evaluate("ticks([700])") == [700]
        assert not complaints


def test_no_alarm_chosen_shows_no_examples(file: Path) -> None:
    with opened(file) as (page, complaints):
        page.select_option("#pair", "0")
        assert page.locator("#flips article").count() == MOST_EXAMPLES
        page.select_option("#pair", "")
        assert page.locator("#flips article").count() == 0
        assert page.inner_text("#pair-words").startswith("Choose an alarm")
        assert not complaints


def test_blank_cells_are_last_and_words_with_digits_are_words(file: Path) -> None:
    with opened(file) as (page, _):
        order = page.evaluate("['300M', '1.2B', '20', '3'].sort(compare)")
        assert order == ["1.2B", "3", "20", "300M"]
        page.eval_on_selector_all("details", "all => all.forEach((of) => { of.open = true; })")
        column = page.locator("#t-alarms th button").all_inner_texts().index("minimum_detectable_drop")
        for _ in range(2):  # up, down
            page.locator("#t-alarms th button").nth(column).click()
            assert page.locator(f"#t-alarms tbody td:nth-child({column + 1})").last.inner_text() == ""


def test_a_study_without_alarms_shows_no_examples(tmp_path: Path) -> None:
    made = content()
    tables = {name: rows for name, rows in made.tables.items() if name not in ("alarms", "flips")}
    file = tmp_path / "index.html"
    file.write_text(report_page(replace(made, tables=tables, flips=None)), encoding="utf-8")
    with opened(file) as (page, complaints):
        assert not page.is_visible("#examples")
        assert "alarm" not in page.inner_text("#curves").replace("The values as a table", "")
        assert page.locator("#matrix-of option").count() == 1
        page.locator("#chart path[aria-label*='checkpoint: step800']").first.click()
        assert not complaints


def test_a_model_with_one_checkpoint_shows_its_value(tmp_path: Path) -> None:
    rows = metrics().query("step == 800")
    made = content(metrics=rows)
    tables = {"outcomes": outcomes(rows, None, None, followed=["accuracy"])}
    file = tmp_path / "index.html"
    file.write_text(report_page(replace(made, tables=tables, flips=None)), encoding="utf-8")
    with opened(file) as (page, complaints):
        cells = page.locator("#matrix tbody td.c button").all_inner_texts()
        assert sorted(cells) == sorted(str(round(value, 4)) for value in rows["value"])
        assert page.locator("#matrix td.better, #matrix td.worse2").count() == 0
        assert page.locator("#matrix-of option").all_inner_texts() == ["the values, by model"]
        assert page.input_value("#axis") == "compute"  # tokens alone do not tell models apart
        assert "bars: 95 % over examples" in page.inner_text("#curve-words")
        assert page.locator("#chart .mark-rule.role-mark line").count() == 4  # 2 bars, and chance
        assert not complaints


def test_files_that_are_not_on_the_page_are_named(tmp_path: Path) -> None:
    def draw() -> None:
        raise FigureError("nothing")

    write(draw, [tmp_path / "heat.png"])
    extra = {"forgetting_curves": pd.DataFrame({"model": ["m"]}), "result_audit": pd.DataFrame({"model": []})}
    page = report_page(replace(content(tables=extra), figures={"heat": str(tmp_path / "heat.png")}))
    said = "Tables: forgetting_curves.tsv. Empty tables: result_audit.tsv. Figures: figures/heat.pdf."
    assert said in page


def test_methods_link_to_the_documentation_where_it_is(tmp_path: Path) -> None:
    """A copy of the page that was sent elsewhere has the name of the file, and no dead link."""
    place = "results/my study/report/index.html"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/statistics.md").touch()
    made = report_page(replace(content(), docs="../../../docs", place=place))
    for file, links in ((tmp_path / place, 1), (tmp_path / "mail/index.html", 0)):
        file.parent.mkdir(parents=True)
        file.write_text(made)
        with opened(file) as (page, complaints):
            method = page.locator(".where", has_text="statistics.md").first
            assert method.inner_text() == "More in Ebbtide's documentation: docs/statistics.md."
            found = method.locator("a")
            assert found.count() == links
            for link in found.all():
                assert link.evaluate("of => of.href") == (tmp_path / "docs/statistics.md").as_uri()
            assert not complaints


def test_the_head_of_the_alarms_has_the_alarms() -> None:
    made = content()
    quiet = pd.concat([made.tables["alarms"].iloc[:1]] * MOST_ROWS)
    tables = dict(made.tables) | {"alarms": pd.concat([quiet, made.tables["alarms"]])}
    assert ">severe</td>" in report_page(replace(made, tables=tables))


def test_texts_of_a_pair_are_sentences_and_its_probabilities_are_not_rounded_to_certainty(
    tmp_path: Path,
) -> None:
    examples, pairs = flips()
    extreme = examples.assign(probability_after=[[0.00002, 0.99998]] * len(examples))
    pairs = pairs.assign(sentence="15 of 100 went from right to wrong", groups="15 of 15 in *France*")
    made = content(tables={"flips": pairs})
    file = tmp_path / "index.html"
    file.write_text(report_page(replace(made, flips=extreme)), encoding="utf-8")
    with opened(file) as (page, complaints):
        page.select_option("#pair", "0")
        assert page.inner_text("#pair-words") == "15 of 100 went from right to wrong. 15 of 15 in *France*."
        first = page.locator("#flips article").first.locator("td.n").all_inner_texts()
        assert first == ["0.75", "< 0.0001", "0.25", "> 0.9999"]
        page.select_option("#matrix-of", "large")  # only compared with the best
        disabled = page.eval_on_selector_all(
            "#matrix-against option:disabled", "all => all.map(o => o.value)"
        )
        assert disabled == ["predecessor", "baseline"]
        page.select_option("#axis", "compute")
        page.wait_for_selector("#chart text:has-text('2e6')")
        assert not complaints


def test_what_cannot_be_judged_has_its_reason_and_no_answer(tmp_path: Path) -> None:
    rows = metrics().assign(stderr=np.nan, n=pd.NA, chance=np.nan, source="imported")
    found = outcomes(rows, None, None, followed=["accuracy"])
    assert answer(found, None) == [
        "4 curves of 4 undecided. "
        "The reason: no standard errors (stderr or n) are known, so no change can be judged."
    ]
    file = tmp_path / "index.html"
    file.write_text(report_page(replace(content(metrics=rows), tables={"outcomes": found}, flips=None)))
    with opened(file) as (page, complaints):
        assert page.inner_text("#curve-words") == ""
        assert page.locator("#chart .mark-line.role-mark path").count() == 2
        assert not complaints
