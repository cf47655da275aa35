"""Abilities: what a study looks at, pairs of task and metric, and their names for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ebbtide.errors import ConfigError, nearest

# Spellings that a capital first letter would not give.
SPELLINGS = {
    word.lower(): word
    for word in (
        *("ARC", "BLiMP", "BoolQ", "HellaSwag", "LAMBADA", "LogiQA", "MC1", "MC2", "MMLU", "NeQA", "NLI"),
        *("OpenBookQA", "PIQA", "QA", "SciQ", "TruthfulQA", "WinoGrande", "WSC"),
    )
}


@dataclass(frozen=True)
class Ability:
    """One metric of one task: a regression, a row of a table, a panel of a figure."""

    task: str
    metric: str
    name: str  # for people, such as TruthfulQA-MC1


def abilities(
    tasks: Iterable[str],
    metric: str,
    metrics_of: Mapping[str, Sequence[str]] | None = None,
    titles: Mapping[str, str] | None = None,
) -> list[Ability]:
    """What a study looks at: those with a title in the order of the titles, then the others as they come.

    Parameters
    ----------
    tasks
        Tasks that the metrics hold; repeated ones count once.
    metric, metrics_of
        The metric of every task, and of single tasks instead.
    titles
        Names of tasks for people; without one, `title` makes it. A task with several metrics has the
        metric's name behind its own.

    Raises
    ------
    ConfigError
        `metrics_of` names a task that is not there.
    """
    tasks, metrics_of, titles = list(dict.fromkeys(tasks)), metrics_of or {}, titles or {}
    for task in metrics_of:
        if task not in tasks:
            raise ConfigError(
                f"regression.metrics: found {task!r}, which is no task of the metrics; "
                f"allowed: {', '.join(tasks)}{nearest(task, tasks) or '.'}"
            )
    titled = [task for task in titles if task in tasks]
    found = []
    for task in [*titled, *(task for task in tasks if task not in titles)]:
        own = metrics_of.get(task, [metric])
        name = titles.get(task, title(task))
        found += [Ability(task, m, f"{name}-{title(m)}" if len(own) > 1 else name) for m in own]
    return found


def title(name: str) -> str:
    """A task's or metric's name for people: `memo_trap` → `Memo trap`, `fact_qa` → `Fact QA`."""
    words = [SPELLINGS.get(word.lower(), word) for word in name.replace("_", " ").replace("-", " ").split()]
    text = " ".join(words)
    return text[:1].upper() + text[1:]
