"""Pipelines of filters: a text is sampled once and compared with the targets after each of them.

`texts.pipelines` lists several, as `filter_list` of lm-evaluation-harness does; `texts.filters` is one that
is named `none`. Metrics of another have its name, `exact_match[filter=strict-match]`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Filters: TypeAlias = Sequence[Mapping[str, Any]]

NONE = "none"
EXACT = "exact"  # column of a cell: whether the answer after the filters equals a target
_OF_FILTER = re.compile(r"\[filter=([^\]]*)\]")


def of_filter(name: str, pipeline: str) -> str:
    """Return the name of a metric, or column, of a pipeline: `exact_match[filter=strict-match]`."""
    return name if pipeline == NONE else f"{name}[filter={pipeline}]"


def without_filter(name: str) -> str:
    """Return the name of a metric without its pipeline; a group (`accuracy[part=1]`) is kept."""
    return _OF_FILTER.sub("", name, count=1)


def with_pipeline(name: str) -> tuple[str, str]:
    """Return the name of a metric without its pipeline, and the pipeline; those of groups keep it."""
    match = _OF_FILTER.search(name)
    return (without_filter(name), match[1]) if match and match.end() == len(name) else (name, NONE)


def pipelines_of(texts: Mapping[str, Any]) -> dict[str, Filters]:
    """Return name → filters of the pipelines of the key `texts` of a definition."""
    named = {str(one["name"]): one["filters"] for one in texts.get("pipelines", ())}
    return named or {NONE: texts.get("filters", ())}


def exact_columns(pipelines: Iterable[str]) -> dict[str, str]:
    """Return the name of each pipeline → its column in cells. A single one has `exact`, whatever its name."""
    names = list(pipelines)
    return {name: EXACT if len(names) == 1 else of_filter(EXACT, name) for name in names}


def pipelines_in(columns: Iterable[str]) -> list[str]:
    """Return the names of the pipelines of which there are columns (`of_filter`), in their order."""
    found = [_OF_FILTER.search(name) for name in columns if is_exact(name)]
    return [match[1] if match else NONE for match in found]


def is_exact(column: str) -> bool:
    """Whether a column of a cell says if answers equal a target."""
    return without_filter(column) == EXACT
