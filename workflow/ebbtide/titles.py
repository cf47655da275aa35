"""Abilities: pairs of task and metric that a study reports, and their display names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ebbtide.errors import ConfigError, nearest

# Spellings that capitalising the first letter does not produce.
SPELLINGS = {
    word.lower(): word
    for word in (
        *("ARC", "BLiMP", "BoolQ", "HellaSwag", "LAMBADA", "LogiQA", "MC1", "MC2", "MMLU", "NeQA", "NLI"),
        *("OpenBookQA", "PIQA", "QA", "SciQ", "TruthfulQA", "WinoGrande", "WSC"),
    )
}


@dataclass(frozen=True)
class Ability:
    """One metric of one task: one regression, one row of a table, one panel of a figure."""

    task: str
    metric: str
    name: str  # display name, such as TruthfulQA-MC1


def abilities(
    tasks: Iterable[str],
    metric: str,
    metrics_of: Mapping[str, Sequence[str]] | None = None,
    titles: Mapping[str, str] | None = None,
) -> list[Ability]:
    """Return the abilities of a study: titled tasks in the order of `titles`, then the others in input order.

    Parameters
    ----------
    tasks
        Tasks in the table of metrics; duplicates are ignored.
    metric, metrics_of
        The default metric, and metrics of individual tasks that override it.
    titles
        Display names by task; the default is `title(task)`. If a task has several metrics, the name of the
        metric is appended.

    Raises
    ------
    ConfigError
        `metrics_of` names a task that is not in `tasks`.
    """
    tasks, metrics_of, titles = list(dict.fromkeys(tasks)), metrics_of or {}, titles or {}
    for task in metrics_of:
        if task not in tasks:
            raise ConfigError(
                f"regression.metrics: found {task!r}, which is not a task of the metrics; "
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
    """Return the display name of a task or metric: `memo_trap` → `Memo trap`, `fact_qa` → `Fact QA`."""
    words = [SPELLINGS.get(word.lower(), word) for word in name.replace("_", " ").replace("-", " ").split()]
    text = " ".join(words)
    return text[:1].upper() + text[1:]
