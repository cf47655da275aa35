"""A first study file for checkpoints that were found, from `studies/template.yaml`."""

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ebbtide.checkpoints.discovery import FoundRow
from ebbtide.texts import one_line

TEMPLATE = Path(__file__).parents[3] / "studies/template.yaml"
COMMENTS = {
    "steps": "all, last, log2, {every: N} or a list (docs/checkpoints.md)",
    "tokens_per_step": "batch size × sequence length",
    "revision": "{step} stands for the step, {any} for any other text",
    "sizes": "all, or a list",
    "tokenizer": "the only tokenizer.json that was found",
}
WIDTH = 110
_PLAIN = re.compile(r"[\w./~][\w./~{}*?=-]*", re.ASCII)
UNKNOWN_TOKENS = "unknown: set batch size × sequence length, or there are no slopes over tokens"


def study_text(name: str, file: str, rows: Sequence[FoundRow]) -> str:
    """Return the text of a study with these rows of `models:`; all else is that of the template."""
    template = TEMPLATE.read_text(encoding="utf-8")
    models = "models:\n" + "\n".join(line for row in rows for line in _row(row)) + "\n"
    start, end = re.search(r"^models:\n(?:[ #].*\n)+", template, re.MULTILINE).span()  # type: ignore[union-attr]
    text = template[:start] + models + template[end:]
    text = re.sub(r"^# Rows of the grid\..*\n(?:#.*\n)+", "# Rows of the grid.\n", text, flags=re.MULTILINE)
    text = re.sub(r"^study: .*$", lambda _: f"study: {_scalar(name)}", text, flags=re.MULTILINE)
    text = re.sub(
        r"^# A study of your own\..*$", "# Change what does not fit, and run", text, flags=re.MULTILINE
    )
    # The schema is found beside the template only.
    text = re.sub(r"^# yaml-language-server:.*\n#\n", "", text)
    return text.replace("studies/mine.yaml", file)


def _row(row: FoundRow) -> Iterator[str]:
    renamed = [row.renamed] if row.renamed else []
    for comment in (row.found, *renamed, *(f"Not here: {reason}" for reason in row.left_out)):
        yield from textwrap.wrap(
            one_line(comment),
            WIDTH,
            initial_indent="  # ",
            subsequent_indent="  #   ",
            break_long_words=False,
        )
    mark = "-"
    for key, value in row.values.items():
        line = f"  {mark} {key}: {_scalar(value)}"
        comment = UNKNOWN_TOKENS if key == "tokens_per_step" and not value else COMMENTS.get(key, "")
        yield f"{line}  # {comment}" if comment else line
        mark = " "


def _scalar(value: Any) -> str:
    """A value as YAML on one line; texts are quoted where they must be."""
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, str) and not (_PLAIN.fullmatch(value) and yaml.safe_load(value) == value):
        return json.dumps(value)
    return str(value)
