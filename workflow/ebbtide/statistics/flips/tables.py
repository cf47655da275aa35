"""The tables of flips: examples, pairs of checkpoints, and groups of examples."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.metrics.examples import GROUP
from ebbtide.statistics.alarms.alarms import SEVERITIES
from ebbtide.statistics.flips.answers import Answers
from ebbtide.statistics.flips.changes import (
    DOWN,
    GROUPS,
    by_group,
    changes,
    counts,
    in_words,
    largest,
    sentence,
    too_many_levels,
)
from ebbtide.statistics.flips.on_disk import EXAMPLES, PAIR
from ebbtide.statistics.flips.texts import groups_of

PLACES = ("model", "checkpoint", "step", "tokens")
WHERE = (*PAIR, "from_tokens", "to_tokens", "against", "severity")
SUMMARY = (
    *WHERE,
    *("from_value", "to_value", "n", "lost", "gained", "listed_lost", "listed_gained"),
    *("sentence", "groups", "note"),
)
NO_CHOICES = "imported samples: the log-likelihoods of choices are not kept"
_MISMATCH = 1e-6  # relative, of means in a TSV file

Source = Callable[[str, str, str, str], Answers]  # model, checkpoint, task, metric


class FlipTables(NamedTuple):
    """Rows: pair × example; pair; pair × group × level."""

    examples: pd.DataFrame
    pairs: pd.DataFrame
    groups: pd.DataFrame


def pairs_of_alarms(alarms: pd.DataFrame, places: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of checkpoints that have an alarm, once each, in the order of the alarms.

    Parameters
    ----------
    alarms
        Rows of alarms.tsv.
    places
        `model, checkpoint, step, tokens` of all checkpoints.

    Returns
    -------
    The columns `WHERE`, `from_value` and `to_value`. `against` lists what the alarms compared with, and
    `severity` is that of the worst. Training tokens are 0 for an untrained checkpoint, and missing if they
    are unknown.
    """
    raised = alarms[(alarms["severity"] != "") & (alarms["group"] == "")]
    other = raised["reference"].str.split("/", n=1, expand=True).reindex(columns=[0, 1])
    is_other = other[1].notna()
    table = raised.assign(
        from_model=raised["model"].where(~is_other, other[0]),
        to=raised["checkpoint"],
        rank=raised["severity"].map({name: i for i, name in enumerate(SEVERITIES)}),
        from_value=raised["reference_value"],
        to_value=raised["value"],
    )
    table["from"] = raised["reference"].where(~is_other, other[1])
    by_pair = table.groupby(list(PAIR), sort=False)
    found = by_pair[["from_value", "to_value"]].first().reset_index()
    found["against"] = by_pair["against"].agg(", ".join).to_numpy()
    found["severity"] = [SEVERITIES[rank] for rank in by_pair["rank"].max()]
    return with_tokens(found, places)[[*WHERE, "from_value", "to_value"]]


def with_tokens(pairs: pd.DataFrame, places: pd.DataFrame) -> pd.DataFrame:
    """Add the training tokens of both checkpoints: 0 for an untrained one, missing if they are unknown."""
    known = places.astype({"tokens": "Int64"}).drop_duplicates(["model", "checkpoint"])
    known = known.assign(tokens=known["tokens"].mask((known["tokens"] == 0) & (known["step"] > 0)))
    tokens = known.set_index(["model", "checkpoint"])["tokens"]
    for end, model in (("from", "from_model"), ("to", "model")):
        at = pd.MultiIndex.from_arrays([pairs[model], pairs[end]])
        pairs = pairs.assign(**{f"{end}_tokens": tokens.reindex(at).array})
    return pairs


def flip_tables(
    pairs: pd.DataFrame, source: Source, texts: Callable[[str], pd.DataFrame], most: int | None
) -> FlipTables:
    """Return what changed between the checkpoints of each pair.

    Parameters
    ----------
    pairs
        Columns `WHERE`; with `from_value` and `to_value`, these must be the means of the answers.
    source
        Function from model, checkpoint, task and metric to the answers.
    texts
        Function from a task to its texts (`texts.read_texts`).
    most
        Examples per pair and direction in `examples`; None is all. Pairs and groups count all of them.

    Returns
    -------
    See `FlipTables`. `pairs` has the columns `SUMMARY`, `groups` those of `PAIR` and `changes.by_group`.

    Raises
    ------
    CellError
        Answers are missing, or others than those whose means are given.
    """
    found, summaries, groups = [], [], []
    for pair in pairs.to_dict("records"):
        before = source(pair["from_model"], pair["from"], pair["task"], pair["metric"])
        after = source(pair["model"], pair["to"], pair["task"], pair["metric"])
        for answers, end in ((before, "from"), (after, "to")):
            _check_mean(answers, pair, end)
        changed, of_task = changes(before, after), texts(pair["task"])
        listed = largest(changed, most)
        of_pair = {name: pair[name] for name in WHERE}
        found.append(_with_texts(listed, before, after, of_task).assign(**of_pair))
        levels = groups_of(of_task)
        parts = by_group(changed, levels)
        groups.append(parts.assign(**{name: pair[name] for name in PAIR}))
        worse = int(listed["flip"].isin(DOWN).sum())
        counted = counts(changed)
        summaries.append(
            {
                **of_pair,
                **{"from_value": before.mean, "to_value": after.mean},
                **counted,
                **{"listed_lost": worse, "listed_gained": len(listed) - worse},
                "sentence": sentence(counted, pair["metric"]),
                "groups": in_words(parts),
                "note": "; ".join(_notes([before, after], levels)),
            }
        )
    kept = [rows for rows in found if len(rows)]
    examples = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=list(EXAMPLES))
    ordered = dict.fromkeys([*(name for name in EXAMPLES if name in examples), *examples])
    levels_of = [rows for rows in groups if len(rows)]
    return FlipTables(
        examples[list(ordered)],
        pd.DataFrame(summaries, columns=list(SUMMARY)),
        (pd.concat(levels_of, ignore_index=True) if levels_of else pd.DataFrame(columns=[*PAIR, *GROUPS]))[
            [*PAIR, *GROUPS]
        ],
    )


def _check_mean(answers: Answers, pair: Mapping[Any, Any], end: str) -> None:
    """Raise `CellError` if a cell is not the one whose mean was compared."""
    expected = pair.get(f"{end}_value")
    if expected is None or np.isclose(answers.mean, expected, rtol=_MISMATCH, atol=_MISMATCH):
        return
    model = pair["from_model"] if end == "from" else pair["model"]
    raise CellError(
        f"{model} {pair[end]}, {pair['task']}: {pair['metric']} of its cell is {answers.mean:.6g}, but "
        f"{expected:.6g} was compared, so the cell has changed since; run snakemake."
    )


def _with_texts(rows: pd.DataFrame, before: Answers, after: Answers, texts: pd.DataFrame) -> pd.DataFrame:
    """Add texts, choices and their probabilities to rows of `changes`."""
    of_example = texts.reindex(rows["example"])
    right = [before.right_of(at) for at in rows.index]
    stated = of_example["right"].tolist()
    direction = rows["flip"].isin(DOWN)
    columns: dict[str, Any] = {
        "rank": rows.groupby(direction).cumcount() + 1,
        "prompt": of_example["prompt"].fillna("").to_numpy(),
        "shots": of_example["shots"].array,
        "characters_before": of_example["characters_before"].astype("Int64").array,
        "choices": of_example["choices"].to_numpy(dtype=object),
        "right": _objects(own if own is not None else of for own, of in zip(right, stated, strict=True)),
        "probability_before": _objects(before.probabilities_of(at) for at in rows.index),
        "probability_after": _objects(after.probabilities_of(at) for at in rows.index),
        **{name: of_example[name].to_numpy() for name in map(str, texts) if name.startswith(GROUP)},
    }
    return rows.drop(columns="right_before").assign(**columns).reset_index(drop=True)


def _objects(values: Iterable[Any]) -> np.ndarray:
    """Return lists as an array of objects, which `numpy.array` would make two-dimensional."""
    items = list(values)
    objects = np.empty(len(items), dtype=object)
    objects[:] = items
    return objects


def _notes(both: Sequence[Answers], levels: pd.DataFrame) -> list[str]:
    found = [NO_CHOICES] if any(answers.is_imported for answers in both) else []
    return found + [f"{name} has too many levels to count by them" for name in too_many_levels(levels)]
