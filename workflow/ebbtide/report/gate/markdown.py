"""The gate as Markdown, for a comment on a pull request or the summary of a job.

Texts of tasks, models and people are in code spans or preformatted blocks, where no markup, no mention and
no HTML works.
"""

import html
import re
from collections.abc import Iterable, Sequence

from ebbtide.notices import listed
from ebbtide.report.gate import words
from ebbtide.report.gate.gate import Drop, Gate, NotCompared
from ebbtide.texts import one_line

MOST_CHARACTERS = 60_000  # comments of GitHub have at most 65,536
_MOST_NAME, _MOST_CAUSE = 120, 1000
_MARKS = ("✅", "❌", "⚠️")  # by exit status
_ENDS_CODE = re.compile(r"[`|\\]")  # or a cell of a table
_MARKUP = re.compile(r"[^\w\s.,:;()%+=-]|_|(?<=www)\.", re.IGNORECASE)


def as_markdown(gate: Gate) -> str:
    """Return the report: the verdict, drops, what was not compared, what could be detected, examples.

    It has at most `MOST_CHARACTERS`; what does not fit is counted.
    """
    blocks = [
        f"## {_MARKS[gate.status]} {words.HEADINGS[gate.status]}: {code(gate.study)}",
        f"**{plain(gate.reason)}**",
        f"{words.counts(gate)}.".replace("..", "."),
    ]
    causes = [f"Failed: {code(cause, _MOST_CAUSE)}" for cause in gate.causes]
    blocks += _fitting(causes, len(causes), "\n\n", MOST_CHARACTERS // 8) if causes else []
    blocks += _table(gate.drops)
    left = [f"* {_not_compared(item)}" for item in gate.not_compared]
    if left:
        blocks += ["### Not compared", *_fitting(left, len(left), "\n", MOST_CHARACTERS // 8)]
    notes = [f"{words.detectable(item)}." for item in gate.detectable] + list(gate.allowances)
    if notes:
        known = [f"* {plain(text)}" for text in notes]
        blocks += ["### What to know", *_fitting(known, len(known), "\n", MOST_CHARACTERS // 8)]
    text = "\n\n".join(blocks)
    having = [drop for drop in gate.drops if drop.examples]
    if having:
        room = MOST_CHARACTERS - len(text) - 200
        details = _fitting(map(_details, having), len(having), "\n\n", room)
        opening = "<details>\n<summary>Examples that got worse</summary>"
        text = "\n\n".join((text, opening, *details, "</details>"))
    return f"{text}\n"


def _table(drops: Sequence[Drop]) -> list[str]:
    if not drops:
        return []
    head = f"| severity | task | model | checkpoint | metric | fall | p_adj | note |\n|{'---|' * 8}"
    rows, *more = _fitting(map(_row, drops[: words.MOST_LINES]), len(drops), "\n", MOST_CHARACTERS // 2)
    return [f"{head}\n{rows}", *more]


def _row(drop: Drop) -> str:
    falls = (f"{of.change:+.3g} from {code(of.reference)} ({', '.join(of.against)})" for of in drop.falls)
    p = (words.p_text(fall).removeprefix("p_adj ").removeprefix("= ") for fall in drop.falls)
    notes = (words.allowance(drop), words.parts(drop), *(fall.seeds for fall in drop.falls))
    cells = (
        f"**{drop.label}**" if drop.fails else drop.label,
        *(code(name) for name in (drop.task, drop.model, drop.checkpoint)),
        f"{code(drop.metric)} {drop.value:.3g}",
        "; ".join(falls),
        "; ".join(p).replace("<", "&lt;"),
        "; ".join(code(note) for note in notes if note),
    )
    return f"| {' | '.join(cells)} |"


def _not_compared(item: NotCompared) -> str:
    where = f"{listed(item.checkpoints)}, {listed(item.tasks)}"
    return f"{code(item.model)} {code(where)}: {plain(f'{item.reason}. {item.remedy}')}"


def _details(drop: Drop) -> str:
    title = f"{drop.label}  {drop.task}  {drop.model}  {drop.checkpoint}: {words.value(drop)}"
    lines = [code(title), ""]
    for example in drop.examples:
        text = [words.example_heading(example, drop.metric), words.prompt(example)]
        text += [f"{name}: {answer}" for name, answer in words.example_answers(example)]
        inside = words.printable("\n".join(text), "\n\t")
        lines.append(f"<pre>{html.escape(inside, quote=False)}</pre>")
    return "\n".join(lines)


def _fitting(blocks: Iterable[str], total: int, separator: str, most: int) -> list[str]:
    """Return the first blocks, joined, that have at most `most` characters; then how many are left out."""
    kept, size = [], 0
    for block in blocks:
        size += len(block) + len(separator)
        if size > most:
            break
        kept.append(block)
    left = total - len(kept)
    return [separator.join(kept), *([f"… and {left:,} more in `gate.json`"] if left else [])]


def code(text: str, most: int = _MOST_NAME) -> str:
    """Return a text on one line as code: in a span, or as HTML if a span or a table would end in it."""
    text = one_line(text)
    text = text if len(text) <= most else f"{text[:most]}…"
    if not text:
        return "` `"
    if not _ENDS_CODE.search(text):
        return f"`{text}`"
    # References to characters are never markup.
    return f"<code>{''.join(c if c.isalnum() or c == ' ' else f'&#{ord(c)};' for c in text)}</code>"


def plain(text: str) -> str:
    """Return a sentence, which may contain names, as text in which nothing is markup, link or mention."""
    text = _MARKUP.sub(lambda found: f"&#{ord(found[0])};", one_line(text))
    return text.replace("&#64;", "&#64;\u200b").replace("&#35;", "&#35;\u200b")
