"""Formats: one definition asked in several ways, each as a task of its own.

    cloze                     choice
    Question: What melts?     Question: What melts?
    Answer: ice                A. stone
                               B. ice
                              Answer: B

`cloze` is the definition without formats: the choices continue the prompt. `choice` lists them after the
question (`fields.question`), and their letters continue the prompt. Its layout is that of OLMES's
multiple-choice formulation (Gu et al. 2024): a label is the same text, with its space, where it is listed and
where it is the answer, and therefore the same token.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ebbtide.errors import ConfigError
from ebbtide.tasks.kinds import KINDS, Example, Kind
from ebbtide.tasks.kinds.kind import Maker
from ebbtide.tasks.render import BadRow, Row, excerpt, text_of

CLOZE, CHOICE = "cloze", "choice"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def in_formats(name: str, definition: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the definition of each task that a checked definition makes.

    With `formats`, a task is named `{name}.{format}`. In `cloze`, the definition is that without formats, and
    so is its identity. In `choice`, it has the key `format`.
    """
    if "formats" not in definition:
        yield name, dict(definition)
        return
    bare = {key: value for key, value in definition.items() if key != "formats"}
    for form in definition["formats"]:
        own = {**bare, "title": f"{bare['title']} ({form})"}
        if form == CHOICE:
            own["format"] = CHOICE
        else:
            own["fields"] = {key: text for key, text in bare["fields"].items() if key != "question"}
        yield f"{name}.{form}", own


def check_formats(definition: Mapping[str, Any], kind: Kind, path: Path) -> None:
    """Raise `ConfigError` for formats that the definition cannot have, or a question without them."""
    formats, fields = definition.get("formats", []), definition["fields"]
    if "question" in fields and CHOICE not in formats:
        raise ConfigError(
            f"{path}: fields.question: only the format {CHOICE} has a question; set "
            f"formats: [{CLOZE}, {CHOICE}], or remove the key."
        )
    if not formats:
        return
    for maker in ("toy", "lm_eval"):
        if maker in definition["source"]:
            raise ConfigError(
                f"{path}: formats: a generated task (source.{maker}) cannot have it; remove the key."
            )
    if not kind.formats:
        allowed = " or ".join(repr(one.name) for one in KINDS.values() if one.formats)
        raise ConfigError(f"{path}: formats: found for kind {kind.name!r}; allowed: with kind {allowed}.")
    if CHOICE in formats and "question" not in fields:
        raise ConfigError(
            f"{path}: fields.question: missing; the format {CHOICE} lists the options after it. It is "
            "usually the prompt without its last line, such as 'Answer:'."
        )
    if CHOICE in formats and isinstance(fields["choices"], list) and len(fields["choices"]) > len(LETTERS):
        raise ConfigError(f"{path}: fields.choices: {_too_many(len(fields['choices']))}.")
    if len(formats) > 1 and definition.get("few_shot", {}).keys() & {"prefix", "prefix_file"}:
        raise ConfigError(
            f"{path}: few_shot: a fixed text is written in one format, found {' and '.join(formats)}; use k, "
            "or one format."
        )


def in_format(make: Maker, definition: Mapping[str, Any]) -> Maker:
    """Return a function from a row to its requests in the format of a definition, given that for `cloze`."""
    if definition.get("format", CLOZE) == CLOZE:
        return make
    question, delimiter = text_of(definition["fields"]["question"]), definition.get("delimiter", "")

    labels = [f" {letter}" for letter in LETTERS]

    def listed(row: Row) -> Example:
        example = make(row)
        continuations = [request.continuation for request in example.requests]
        texts = _options([text.removeprefix(delimiter).strip() for text in continuations])
        options = "\n".join(f"{label}. {text}" for label, text in zip(labels, texts, strict=False))
        context = f"{question(row)}\n{options}\nAnswer:"
        requests = [
            replace(request, context=context, continuation=label)
            for request, label in zip(example.requests, labels, strict=False)
        ]
        # The prompt remains that of `cloze`, so that both formats draw the same few-shot examples.
        answer = labels[continuations.index(str(example.answer))]
        return replace(example, requests=tuple(requests), asked=context, answer=answer)

    return listed


def _options(texts: list[str]) -> list[str]:
    """Return the options. Raises `BadRow` if they cannot be listed."""
    if len(texts) > len(LETTERS):
        raise BadRow(_too_many(len(texts)))
    if "" in texts:
        raise BadRow(f"choice {texts.index('')} is only white space, which cannot be listed")
    if len(set(texts)) < len(texts):
        raise BadRow(f"a choice occurs twice, but for the white space around it: {excerpt(texts)}")
    return texts


def _too_many(choices: int) -> str:
    return f"found {choices} choices; the format {CHOICE} has {len(LETTERS)} letters"
