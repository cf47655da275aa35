"""Notices about one cell, from its rows, footer and requests; and about checkpoints along training."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.arrow import Columns
from ebbtide.cells.samples import SCORE, is_sampled, samples_of
from ebbtide.metrics.examples import Examples
from ebbtide.metrics.ties import Ties, ties_of
from ebbtide.notices import Notice, listed
from ebbtide.scoring.generation.decoding import LENGTH
from ebbtide.scoring.scorer import FAKE
from ebbtide.tasks.generation.pipelines import is_exact

if TYPE_CHECKING:
    import pandas as pd

SHIFT = 0.005  # of an accuracy, by ties: smaller ones are a note
FEWEST = 10  # examples: in fewer, equal answers mean little
HALF = ("bfloat16", "float16")


def cell_notices(
    rows: Columns,
    footer: Mapping[str, Any],
    x: Examples | None,
    definition: Mapping[str, Any] | None,
    where: Mapping[str, Any],
) -> list[Notice]:
    """Return what readers of a cell's metrics should know.

    Parameters
    ----------
    rows, footer
        The cell (`cells.cell.read_cell`). Cells of earlier versions lack some entries, of which nothing is
        said.
    x, definition
        The examples of the cell, and `kind` and the keys that change the metrics, as for `metrics.measured`.
        None for a task that only lm-eval's code can measure: its ties are unknown.
    where
        `model, checkpoint, task`.
    """
    of_rows = _of_samples(rows, footer) if is_sampled(footer) else _of_rows(rows, footer)
    found = [Notice(**of, **where) for of in (*_of_footer(footer), *of_rows)]
    return found if x is None else found + answer_notices(x, footer, definition or {}, where)


def answer_notices(
    x: Examples, footer: Mapping[str, Any], definition: Mapping[str, Any], where: Mapping[str, Any]
) -> list[Notice]:
    """Return the notices of tied and constant answers, which only need log-likelihoods.

    The parameters are those of `cell_notices`.
    """
    if x.kind.name not in ("choice", "binary"):
        return []
    return [Notice(**of, **where) for of in (*_ties(x, definition, footer), *_constant_answer(x))]


def checkpoint_notices(metrics: "pd.DataFrame") -> list[Notice]:
    """Return what readers should know of untrained checkpoints, and of unknown training tokens.

    `metrics` are the rows of `tables.METRICS`, scored and imported.
    """
    names = ["model", "checkpoint", "step", "tokens", "source"]
    places = metrics[names].drop_duplicates(["model", "checkpoint"]).reset_index(drop=True)
    untrained, found = [], []
    for model, rows in places.groupby("model", sort=False):
        trained = rows[(rows["step"] > 0) | (rows["tokens"] > 0)]
        if len(trained):
            untrained += [f"{name} of {model}" for name in rows["checkpoint"].drop(trained.index)]
        unknown = trained[trained["tokens"] <= 0]
        if len(unknown):
            found.append(_unknown_tokens(str(model), unknown, len(trained)))
    if untrained:
        which = f"Untrained checkpoints ({listed(untrained)})"
        detail = f"{which} are not in trends; alarms compare with them only if they are the baseline."
        found.append(Notice("note", "dropped", detail, count=len(untrained)))
    return found


def _unknown_tokens(model: str, unknown: "pd.DataFrame", trained: int) -> Notice:
    """The notice of a model whose training tokens are unknown at some trained checkpoints, or at all."""
    imported = (unknown["source"] == "imported").all()
    remedy = (
        "Set models[].tokens_per_step in the row of imported."
        if imported
        else "Set tokens_per_step in the row of the model or in its series (batch size × sequence length)."
    )
    if len(unknown) < trained:
        detail = (
            f"The training tokens of {listed(unknown['checkpoint'])} are unknown, so slopes, trends, "
            "regressions and axes of training tokens leave them out."
        )
        return Notice("warning", "dropped", detail, remedy, model, count=len(unknown))
    detail = "Its training tokens are unknown, so it has no slopes, and is in no regression over tokens."
    return Notice("note", "not_compared", detail, remedy, model, count=len(unknown))


def _of_footer(footer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    identity = footer.get("identity", {})
    if footer.get("source") == FAKE:
        yield {
            "severity": "warning",
            "kind": "suspicious",
            "detail": "The log-likelihoods are made up and do not measure a model (scoring.backend: fake).",
            "remedy": "Set scoring.backend to auto.",
        }
    if reason := footer.get("verified", {}).get("reason"):
        yield {
            "severity": "warning",
            "kind": "not_audited",
            "detail": f"The cell could not be rescored in float64: {reason}.",
            "remedy": "Rescore it where that is possible (`ebbtide score --rescore-examples`), or "
            "set scoring.rescore_examples to 0.",
        }
    if str(identity.get("weights", "")).startswith("sampled:") and not footer.get("weights_sha256"):
        yield {
            "severity": "note",
            "kind": "not_audited",
            "detail": "The weights are identified by a sample of their bytes only, without a full digest.",
            "remedy": "Score again with --config recompute=true.",
        }
    if "window_key" in footer and footer["window_key"] is None and identity.get("max_length") is None:
        yield {
            "severity": "note",
            "kind": "defaulted",
            "detail": f"config.json sets no context window, so {footer['model_window']:,} tokens were used.",
            "remedy": "Set scoring.max_length.",
        }


def _of_rows(rows: Columns, footer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    identity = footer.get("identity", {})
    yield from _truncated(rows, footer, "context")
    yield from _parts(footer, window=identity.get("max_length") or footer.get("model_window"))
    if "border_token" in rows and (spans := rows["border_token"].astype(bool)).any():
        joint = identity.get("encoding") == "joint"
        scored = "the end of the context is scored, too"
        effect = scored if joint else "the beginning of the continuation is not scored"
        yield {
            "severity": "warning",
            "kind": "text",
            "detail": f"In {_count(spans, 'request')} a token spans the border of context and continuation, "
            f"so {effect} ({_first(rows, spans)}).",
            "remedy": "Let contexts end and continuations begin between words, usually with a space.",
            "count": int(spans.sum()),
        }
    empty = rows["tokens"] == 0
    if empty.any():
        yield {
            "severity": "note",
            "kind": "text",
            "detail": f"{_count(empty, 'document')} had no tokens and did not count ({_first(rows, empty)}).",
            "count": int(empty.sum()),
        }


def _parts(footer: Mapping[str, Any], window: int | None) -> Iterator[dict[str, Any]]:
    """What was left out of prompts that have parts (`scoring.fitting`)."""
    parts = footer.get("parts")
    if not parts or not parts["left_out"]:
        return
    least, most = parts["kept_least"], parts["kept_most"]
    if parts["shared"]:
        used = f"The first {most} of {parts['of']} few-shot examples were used in every prompt, because more"
    else:
        kept = f"{least} to {most}, {parts['kept_median']} in the median" if least < most else f"{most}"
        used = (
            f"{parts['left_out']} of {parts['examples']} prompts lost the last of their parts (kept: {kept}; "
            f"the longest has {parts['of']}), because all of them"
        )
    yield {
        "severity": "note",
        "kind": "truncated",
        "detail": f"{used} would exceed the window of {window or 0:,} tokens.",
        "count": parts["left_out"],
    }


def _truncated(rows: Columns, footer: Mapping[str, Any], what: str) -> Iterator[dict[str, Any]]:
    truncated = rows["truncated"].astype(bool)
    if truncated.any():
        window = footer.get("identity", {}).get("max_length") or footer.get("model_window")
        of = f" of {window:,} tokens" if window else ""
        yield {
            "severity": "warning",
            "kind": "truncated",
            "detail": f"{_count(truncated, what)} exceeded the window{of} and lost the beginning "
            f"({_first(rows, truncated)}).",
            "remedy": "Use fewer shots or shorter prompts, or set scoring.truncation to refuse.",
            "count": int(truncated.sum()),
        }


def _of_samples(rows: Columns, footer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    prompts = {name: values[:: samples_of(footer)] for name, values in rows.items()}
    yield from _truncated(prompts, footer, "prompt")
    for name, of in footer.get("classifiers", {}).items():
        failed = np.isnan(rows[f"{SCORE}{name}"])
        if failed.any():
            yield {
                "severity": "warning",
                "kind": "dropped",
                "detail": f"{_count(failed, 'text')} could not be scored by {name} and do not count in its "
                f"metrics (version {of['version']}; {_first(rows, failed, 'sample')}).",
                "count": int(failed.sum()),
            }
    cut = rows["ended"] == LENGTH
    if any(map(is_exact, rows)) and cut.any():
        yield {
            "severity": "note",
            "kind": "text",
            "detail": f"{_count(cut, 'sample')} reached decoding.max_tokens "
            f"({footer['decoding']['max_tokens']}), after which an answer may still have come "
            f"({_first(rows, cut, 'sample')}).",
            "count": int(cut.sum()),
        }


def _ties(x: Examples, definition: Mapping[str, Any], footer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    ties = ties_of(x, definition)
    if not ties:
        return
    most = max(ties.values(), key=lambda t: int(t.tied.sum()))
    shift = max(abs(t.value - t.at_random) for t in ties.values())
    half = footer.get("dtype") in HALF
    yield {
        "severity": "warning" if shift > SHIFT else "note",
        "kind": "tied",
        "detail": f"The best choices are exactly equal in {_count(most.tied, 'example')} (the first is "
        f"'{x.names[int(np.argmax(most.tied))]}'), and the first of them is taken as the answer: "
        f"{'; '.join(_tie(name, of) for name, of in ties.items())}.",
        "remedy": "Score in float32 (scoring.dtype)."
        if half
        else "Compare choice_probability and margin, which do not depend on the order of the choices.",
        "count": int(most.tied.sum()),
    }


def _tie(metric: str, of: Ties) -> str:
    return (
        f"{metric} is {of.value:.3f}, with ties as wrong answers {of.as_misses:.3f}, with random answers "
        f"{of.at_random:.3f}"
    )


def _constant_answer(x: Examples) -> Iterator[dict[str, Any]]:
    answers = x.rows["choice"][x.answer]
    if len(x) < FEWEST or (answers != answers[0]).any() or x.tied(x.lp).all():
        return
    share = float(x.gold[x.answer].mean())
    yield {
        "severity": "warning" if share in (0.0, 1.0) else "note",
        "kind": "tied",
        "detail": f"The answer is choice {answers[0]} in all {len(x)} examples, so accuracy is the share of "
        f"examples in which that choice is right ({share:.3f}).",
        "remedy": "Compare with majority_baseline, and shuffle the choices if the same is always right.",
        "count": len(x),
    }


def _count(which: np.ndarray, what: str) -> str:
    return f"{int(which.sum())} of {len(which)} {what}s"


def _first(rows: Columns, which: np.ndarray, what: str = "choice") -> str:
    row = int(np.argmax(which))
    return f"the first is example '{rows['example'][row]}', {what} {rows['choice'][row]}"
