"""What figures, tables and the report call abilities, and which of their lines share a colour."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Spellings that capitalising the first letter does not produce.
SPELLINGS = {
    word.lower(): word
    for word in (
        *("ARC", "BLiMP", "BoolQ", "HellaSwag", "LAMBADA", "LogiQA", "MC1", "MC2", "MMLU", "NeQA", "NLI"),
        *("OpenBookQA", "PIQA", "QA", "SciQ", "TruthfulQA", "WinoGrande", "WSC"),
    )
}

FEWEST_ORDERED = 3  # sizes; the order of two says little


@dataclass(frozen=True)
class Ability:
    """One metric of one task: one regression, one row of a table, one panel of a figure."""

    task: str
    metric: str
    name: str  # display name, such as TruthfulQA-MC1


def abilities(
    metrics_of: Mapping[str, Sequence[str]], titles: Mapping[str, str] | None = None
) -> list[Ability]:
    """Return the abilities of a study: titled tasks in the order of `titles`, then the others in input order.

    Parameters
    ----------
    metrics_of
        Metrics of every task.
    titles
        Display names by task; the default is `title(task)`. If a task has several metrics, the name of the
        metric is appended.
    """
    titles = titles or {}
    titled = [task for task in titles if task in metrics_of]
    found = []
    for task in [*titled, *(task for task in metrics_of if task not in titles)]:
        own = metrics_of[task]
        name = titles.get(task, title(task))
        found += [Ability(task, m, f"{name}-{title(m)}" if len(own) > 1 else name) for m in own]
    return found


def title(name: str) -> str:
    """Return the display name of a task or metric: `memo_trap` → `Memo trap`, `arc.cloze` → `ARC cloze`."""
    text = in_words(name)
    return text[:1].upper() + text[1:]


def order_of_sizes(sizes: Sequence[float]) -> list[int] | None:
    """Return the place of each size in their order, for a colour per size.

    None if there are fewer than three different sizes, or an unknown one (missing or not above 0).
    """
    distinct = sorted(set(sizes))
    if len(distinct) < FEWEST_ORDERED or not all(size > 0 for size in distinct):
        return None
    return [distinct.index(size) for size in sizes]


def among_equals(colours: Sequence[int]) -> list[int]:
    """Return how many lines before each have its colour: what dashes and shapes must tell apart."""
    seen: Counter[int] = Counter()
    places = []
    for colour in colours:
        places.append(seen[colour])
        seen[colour] += 1
    return places


def in_words(name: str) -> str:
    """Return the name of a metric or task inside a sentence: `gold_rank` → `gold rank`, `mc1` → `MC1`."""
    words = [SPELLINGS.get(word.lower(), word) for word in re.split(r"[\s_-]+|\.(?=[a-z])", name) if word]
    return " ".join(words)
