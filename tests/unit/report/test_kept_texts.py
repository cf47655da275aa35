"""Kept texts: which are chosen, and how the page shows them: escaped, and blurred until somebody asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from browser import opened
from ebbtide.errors import CellError
from ebbtide.metrics.table import read_metrics
from ebbtide.report.kept_texts import (
    HIGHEST,
    KEPT_TEXTS,
    MOST,
    RANDOM,
    Written,
    kept_texts,
    last_places,
    read_kept_texts,
    write_kept_texts,
)
from ebbtide.report.outcomes import outcomes
from ebbtide.report.page.page import Page, report_page
from ebbtide.report.page.texts import MOST_CHARACTERS, NOT_KEPT, texts_of, visible

HOSTILE = {
    "markup": "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}",
    "order": "not \u202elive\u202c \u2066what\u2069 it\u200f seems",
    "controls": "bell\x07 null\x00 escape\x1b[31m return\r tab\t",
    "long": "word " * 40_000,
    "empty": "",
}


def written(texts: list[str], scores: list[float] | None = None, model: str = "m") -> Written:
    rows = pd.DataFrame({"example": [f"e{i // 2}" for i in range(len(texts))], "text": texts})
    rows["sample"] = [i % 2 for i in range(len(texts))]
    if scores is not None:
        rows["score_c"] = scores
    prompts = {f"e{i}": f"prompt {i}" for i in range(len(texts))}
    return Written("t", model, "step9", "c" if scores is not None else "", rows, prompts)


def test_the_highest_scores_and_random_texts_are_chosen_and_equal_texts_once() -> None:
    texts = [*"abcdefghij", "b"]
    scores = [0.1, 0.9, np.nan, 0.3, 0.8, 0.2, 0.7, 0.0, 0.1, 0.5, 0.95]
    table = kept_texts([written(texts, scores)])
    highest = table[table["choice"] == HIGHEST]
    assert highest["text"].tolist() == ["b", "e", "g", "j"]
    assert highest["score"].tolist() == [0.95, 0.8, 0.7, 0.5]
    assert highest[["example", "sample", "prompt"]].iloc[1].tolist() == ["e2", 0, "prompt 2"]
    drawn = table[table["choice"] == RANDOM]["text"].tolist()
    assert len(set(drawn)) == MOST
    assert drawn == kept_texts([written(texts, scores)]).query("choice == 'random'")["text"].tolist()
    other = kept_texts([written(texts, scores, model="n")]).query("choice == 'random'")["text"].tolist()
    assert other != drawn
    assert (table["samples"] == 11).all()


def test_without_a_classifier_texts_are_random_only(tmp_path: Path) -> None:
    table = kept_texts([written(["a", "b"])])
    assert set(table["choice"]) == {RANDOM} and len(table) == 2
    write_kept_texts(table, tmp_path / "kept.parquet")
    pd.testing.assert_frame_equal(
        read_kept_texts(tmp_path / "kept.parquet"), table, check_dtype=False, check_column_type=False
    )
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "kept.parquet").read_bytes()[:-20])
    with pytest.raises(CellError, match="delete the file and run snakemake"):
        read_kept_texts(tmp_path / "cut.parquet")
    write_kept_texts(kept_texts([]), tmp_path / "none.parquet")
    assert list(read_kept_texts(tmp_path / "none.parquet")) == list(KEPT_TEXTS.columns)


def test_the_last_checkpoint_is_that_with_most_tokens_or_the_last_of_unknown_ones() -> None:
    def place(model: str, tokens: int) -> dict[str, Any]:
        return {"task": "t", "model": model, "tokens": tokens}

    assert last_places([place("a", 5), place("a", 9), place("b", 0), place("b", 0)]) == [False, True] * 2


@contextmanager
def page_with(tmp_path: Path, texts: list[str], **changes: Any) -> Iterator[tuple[Any, list[str]]]:
    one = written(texts, list(np.linspace(0.9, 0.1, len(texts))))
    options = {"generated": {"t": True, "u": False}, "kept": kept_texts([one])} | changes
    file, none = tmp_path / "index.html", read_metrics([])
    tables = {"outcomes": outcomes(none, None, None, followed=["accuracy"])}
    made = report_page(Page("mine", none, tables, ["accuracy"], {}, **options))
    file.write_text(made, encoding="utf-8")
    with opened(file, ready="main") as (page, complaints):
        page.eval_on_selector_all("#texts details", "all => all.forEach((of) => { of.open = true; })")
        yield page, complaints


def blurs(page: Any) -> list[bool]:
    """Whether each text is blurred, as it is drawn."""
    style = "all => all.map((of) => getComputedStyle(of).filter.includes('blur'))"
    found: list[bool] = page.eval_on_selector_all("#texts article pre", style)
    return found


def test_a_text_is_blurred_until_its_button_is_pressed_by_mouse_or_keyboard(tmp_path: Path) -> None:
    with page_with(tmp_path, ["first", "second"]) as (page, complaints):
        assert all(blurs(page)) and len(blurs(page)) == 2 * 4  # prompt and text, by choice
        buttons = page.locator("#texts button.show")
        assert buttons.count() == 4
        assert buttons.evaluate_all("all => all.map((of) => of.ariaPressed)") == ["false"] * 4
        hidden = "all => all.map((of) => of.ariaHidden)"
        assert page.locator("#texts article > div").evaluate_all(hidden) == ["true"] * 4
        buttons.first.focus()
        page.keyboard.press("Space")
        assert blurs(page) == [False, False] + [True] * 6
        assert buttons.first.get_attribute("aria-pressed") == "true"
        assert page.locator("#texts article > div").evaluate_all(hidden) == ["false"] + ["true"] * 3
        page.keyboard.press("Enter")
        assert all(blurs(page))
        page.locator("#texts article pre").nth(2).click()  # the text itself
        assert blurs(page) == [True] * 2 + [False] * 2 + [True] * 4
        page.emulate_media(media="print")
        assert all(blurs(page))
        assert not buttons.first.is_visible()
        assert "first" in page.inner_text("#texts article >> nth=0")
        assert "highest 1: example e0, sample 0, c 0.9" in page.inner_text("#texts article >> nth=0")
        assert not complaints


def test_hostile_texts_are_shown_and_do_nothing(tmp_path: Path) -> None:
    with page_with(tmp_path, list(HOSTILE.values())) as (page, complaints):
        texts = page.locator("#texts article pre:last-child").all_inner_texts()
        assert HOSTILE["markup"] in texts
        assert r"not \u202elive\u202c \u2066what\u2069 it\u200f seems" in texts
        assert r"bell\x07 null\x00 escape\x1b[31m return\r tab\t" in texts
        (long,) = {text for text in texts if text.startswith("word")}
        assert long.endswith(f"… ({200_000 - MOST_CHARACTERS:,} more characters)")
        assert len(long) < MOST_CHARACTERS + 40
        assert page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
        assert not complaints


def test_an_empty_text_and_one_that_begins_with_a_line_break_are_shown_as_they_are(tmp_path: Path) -> None:
    with page_with(tmp_path, ["", "\nsecond line"]) as (page, complaints):
        assert page.locator("#texts article", has_text="The text is empty.").count() == 2  # by choice
        shown = page.locator("#texts article pre:last-child").evaluate_all(
            "all => all.map((of) => of.textContent)"
        )
        assert "\nsecond line" in shown
        assert not complaints


def test_tasks_that_keep_no_texts_say_so(tmp_path: Path) -> None:
    with page_with(tmp_path, ["a"]) as (page, _):
        assert NOT_KEPT in page.inner_text("#texts")
        assert page.locator("#texts h3").all_inner_texts() == ["T", "U"]
    with page_with(tmp_path, ["a"], generated={"u": False}, kept=None) as (page, _):
        assert NOT_KEPT in page.inner_text("#texts") and not page.locator("#texts article").count()
    with page_with(tmp_path, ["a"], generated={}, kept=None) as (page, _):
        assert not page.locator("#texts").count()


def test_texts_beyond_the_budget_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = kept_texts([written(["a", "b"], [0.1, 0.2], model) for model in "mno"])
    monkeypatch.setattr("ebbtide.report.page.texts.MOST_BYTES", 50)
    [task] = texts_of({"t": True}, kept, {})
    assert len(task["models"]) == 1 and task["models"][0]["name"] == "m, step9: some of 2 samples"
    assert "The texts of 2 more models are in kept_texts.parquet only." in task["sentence"]


def test_characters_that_are_not_seen_are_escaped_and_others_stay() -> None:
    assert visible("Grüße, 世界!\n") == "Grüße, 世界!\n"
    assert visible("\u200b\u00ad\u2028") == r"\u200b\xad\u2028"
