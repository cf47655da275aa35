"""Texts that models wrote, for the page: some of each model, or a sentence that says that none is kept."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ebbtide.notices import counted
from ebbtide.report.page.numbers import shown
from ebbtide.titles import title

MOST_CHARACTERS = 700  # of a text, from its beginning
MOST_PROMPT = 300  # from its end
MOST_BYTES = 1_000_000  # of texts on the page
NOT_KEPT = "Texts are measured and not kept, so none is shown here (decoding.keep_text of the task)."


def texts_of(
    generated: Mapping[str, bool], kept: pd.DataFrame | None, titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return tasks that generate texts, each with a sentence and its models, which have texts.

    Parameters
    ----------
    generated
        Task → whether it keeps its texts.
    kept
        Rows of kept_texts.parquet; None if no task keeps its texts.
    """
    found, size = [], 0
    for task, keeps in generated.items():
        models, left = [], 0
        rows = kept[kept["task"] == task] if keeps and kept is not None else pd.DataFrame()
        for (model, checkpoint), of in rows.groupby(["model", "checkpoint"], sort=False) if len(rows) else ():
            texts = [_text(row) for row in of.to_dict("records")]
            size += sum(len(text["prompt"].encode()) + len(text["text"].encode()) for text in texts)
            if size > MOST_BYTES:
                left += 1
                continue
            count = counted(int(of["samples"].iloc[0]), "sample")
            models.append({"name": f"{model}, {checkpoint}: some of {count}", "texts": texts})
        sentence = "Texts are blurred: models may write offensive texts." if keeps else NOT_KEPT
        if left:
            sentence += f" The texts of {counted(left, 'more model')} are in kept_texts.parquet only."
        found.append({"title": titles.get(task, title(task)), "sentence": sentence, "models": models})
    return found


def _text(row: Mapping[Any, Any]) -> dict[str, str]:
    text, prompt = str(row["text"]), str(row["prompt"])
    score = "" if pd.isna(row["score"]) else f", {row['classifier']} {shown(row['score'])}"
    more = len(text) - MOST_CHARACTERS
    return {
        "head": f"{row['choice']} {row['rank']}: example {row['example']}, sample {row['sample']}{score}",
        "prompt": ("…" if len(prompt) > MOST_PROMPT else "") + visible(prompt[-MOST_PROMPT:]),
        "text": visible(text[:MOST_CHARACTERS])
        + (f"… ({counted(more, 'more character')})" if more > 0 else ""),
        "empty": "" if text else "The text is empty.",
    }


def visible(text: str) -> str:
    """Return a text with escapes for characters that are not seen, or change the order of others.

    Line breaks stay. Controls of bidirectional texts could make a text look like another.
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text
    )
