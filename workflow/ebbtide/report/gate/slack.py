"""The gate as a message of Slack, in Block Kit: the body of a POST to an incoming webhook."""

import json
from collections.abc import Iterator
from typing import Any

from ebbtide.report.gate import words
from ebbtide.report.gate.gate import Drop, Gate
from ebbtide.texts import one_line

MOST_BLOCKS, MOST_TEXT, MOST_HEADER = 50, 3000, 150  # of Slack
_MOST_DROPS = 10
_MOST_PROMPT = 160  # characters of an example, from its end
_MARKS = (":white_check_mark:", ":x:", ":warning:")  # by exit status
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "'"}  # backticks would end a block of code


def as_slack(gate: Gate) -> str:
    """Return the message as JSON: the verdict, the worst drops with examples, what was not compared."""
    header = {"type": "plain_text", "text": _cut(words.heading(gate), MOST_HEADER)}
    blocks = [{"type": "header", "text": header}, *map(_section, _sections(gate))]
    context = [f"{words.detectable(item)}." for item in gate.detectable] + list(gate.allowances)
    if context:
        text = escaped("\n".join(map(one_line, context)), MOST_TEXT)
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": text}]})
    summary = f"{words.heading(gate)}. {gate.reason}"
    message = {"text": escaped(one_line(summary), MOST_TEXT), "blocks": blocks[:MOST_BLOCKS]}
    return json.dumps(message, indent=1) + "\n"


def _sections(gate: Gate) -> Iterator[str]:
    verdict = "\n".join(map(one_line, (gate.reason, words.counts(gate), *gate.causes)))
    yield f"{_MARKS[gate.status]} {escaped(verdict, MOST_TEXT - 50)}"
    for drop in gate.drops[:_MOST_DROPS]:
        yield _drop(drop)
    if len(gate.drops) > _MOST_DROPS:
        yield f"… and {len(gate.drops) - _MOST_DROPS} more drops in gate.json, none more severe"
    if gate.not_compared:
        left = [one_line(f"Not compared: {words.not_compared(item)}") for item in gate.not_compared]
        yield escaped("\n".join(left), MOST_TEXT)


def _drop(drop: Drop) -> str:
    where = escaped(one_line(f"{drop.task}  {drop.model}  {drop.checkpoint}"), 400)
    text = f"*{drop.label}*  {where}\n{escaped(one_line(words.drop_text(drop)), 1000)}"
    examples = "\n".join(
        line
        for example in drop.examples
        for line in (
            f"{words.example_heading(example, drop.metric)}: {one_line(example.prompt)[-_MOST_PROMPT:]}",
            *(f"    {name}: {answer}" for name, answer in words.example_answers(example)),
        )
    )
    inside = escaped(words.printable(examples, "\n"), 1400)
    return f"{text}\n```{inside}```" if inside else text


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def escaped(text: str, most: int) -> str:
    """Return a text in which nothing is a link or a mention, of at most `most` characters when escaped."""
    found: list[str] = []
    size = 0
    for c in text:
        piece = _ESCAPED.get(c, c)
        size += len(piece)
        if size > most - 1:
            return "".join([*found, "…"])
        found.append(piece)
    return "".join(found)


def _cut(text: str, most: int) -> str:
    text = one_line(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
