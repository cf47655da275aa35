"""lm-eval's metrics of a cell, by lm-eval's own code, without model, data set or network."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.errors import CellError, TaskError
from ebbtide.logs import log
from ebbtide.tasks.lm_eval.description import BEFORE_FREEZING, describe, measures
from ebbtide.tasks.lm_eval.harness import (
    builtin_tasks,
    installed_version,
    manager,
    module,
    named,
    well_behaved,
)

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "lm_eval_"


def results_of(
    cell: "pd.DataFrame",
    requests: "pd.DataFrame",
    record: Mapping[str, Any],
    *,
    bootstrap_iters: int = 100_000,
) -> "pd.DataFrame":
    """Metrics of one cell as `lm_eval.simple_evaluate` would report them.

    The frozen documents and the cell's log-likelihoods (nats) and `greedy` go through the task's own
    `process_results`, filters and aggregations.

    Parameters
    ----------
    cell
        Rows of a cell (see `tables.CELL`); of a rolling task, one per document, without need of `greedy`.
    requests, record
        As `requests_of` made them.
    bootstrap_iters
        Draws for the standard errors that lm-eval takes by bootstrap (perplexity, f1, mcc, median); its own
        default costs about a minute for 5,000 documents. 0 takes no standard error at all, as in lm-eval.

    Returns
    -------
    One row per metric: `metric, value, stderr, n, chance`. A metric is named as lm-eval names it, behind
    `lm_eval_` (`lm_eval_acc`, `lm_eval_acc_norm`, `lm_eval_word_perplexity`); a filter other than lm-eval's
    default follows, `lm_eval_acc[filter=NAME]`. `stderr` is NaN where lm-eval says "N/A", `chance` always.

    Raises
    ------
    CellError
        Cell and requests do not hold the same examples and choices, or hold no documents.
    TaskError
        lm-eval is missing or another version than at freezing, the task is gone or has changed since, or its
        own code fails.
    """
    import pandas as pd

    name = str(record["task"])
    why = f"lm_eval: {name}"
    evaluator = module("lm_eval.evaluator", why)
    if installed_version() != record["lm_eval"]:
        raise TaskError(
            f"{why} was frozen by lm-eval {record['lm_eval']}, installed is {installed_version()}; "
            f"pip install lm_eval=={record['lm_eval']}, or freeze the task again."
        )
    answers = _answers(cell, requests)
    documents = _Documents(list(requests.loc[requests["doc"] != "", "doc"]))
    if len(documents) != (examples := requests["example"].nunique()):
        raise CellError(f"{why}: the requests hold {examples} examples, but {len(documents)} documents.")
    counts: Counter[str] = Counter()
    with well_behaved():
        try:
            task = _task(record, documents, why)
            _replay(task, requests, counts)
            found = evaluator.evaluate(
                lm=_replaying_model(answers, why),
                task_dict={"tasks": {name: task}},
                bootstrap_iters=bootstrap_iters,
                log_samples=False,
            )["results"][name]
        except (CellError, TaskError):
            raise
        except Exception as error:  # a task is a stranger's code
            raise TaskError(f"{why}: lm-eval cannot measure it ({named(error)}).") from error
    values = {tuple(key.split(",", 1)): value for key, value in found.items() if "," in key}
    filters = len({filtered for _, filtered in values})
    rows = []
    for (metric, filtered), value in values.items():
        if metric not in counts:  # a standard error
            continue
        if not isinstance(value, int | float) and not hasattr(value, "__float__"):
            log.warning("%s: metric %s is left out: %r is no number", why, metric, value)
            continue
        stderr = values[f"{metric}_stderr", filtered]
        rows.append(
            {
                "metric": PREFIX + metric + ("" if filtered == "none" else f"[filter={filtered}]"),
                "value": float(value),
                "stderr": math.nan if isinstance(stderr, str) else float(stderr),
                "n": counts[metric] // filters,
                "chance": math.nan,
            }
        )
    return pd.DataFrame(rows, columns=["metric", "value", "stderr", "n", "chance"])


class _Documents:
    """The frozen documents in the place of a split: as with `datasets`, each access gives a fresh one."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts
        first = json.loads(texts[0]) if texts else {}
        self.features = dict.fromkeys(first)

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, number: int) -> Any:
        return json.loads(self._texts[number])

    def __iter__(self) -> Iterator[Any]:
        return map(json.loads, self._texts)


def _task(record: Mapping[str, Any], documents: _Documents, why: str) -> Any:
    """The task as at freezing, with the frozen documents for a data set."""
    name, file = record["task"], str(record["file"])
    builtin = file.startswith("lm_eval/tasks/")
    path = builtin_tasks() / file.removeprefix("lm_eval/tasks/") if builtin else Path(file)
    if not path.exists():
        raise TaskError(f"{why}: {path}, from which it was frozen, does not exist.")
    overrides = {
        **dict.fromkeys(BEFORE_FREEZING),
        "custom_dataset": lambda **_: {"frozen": documents},
        "test_split": "frozen",
        "num_fewshot": 0,
    }
    index = _index(path.parent, why)
    # An unnamed group is how lm-eval lays keys over a task.
    task = index.load({"group": "frozen", "task": [{"task": name, **overrides}]})["tasks"][name]
    if measures(describe(task.config)) != measures(record["config"]):
        raise TaskError(f"{why}: {file}, or its code, has changed since it was frozen; freeze it again.")
    return task


@lru_cache(maxsize=8)
def _index(directory: Path, why: str) -> Any:
    return manager([directory], why, builtin=False)


def _answers(cell: "pd.DataFrame", requests: "pd.DataFrame") -> dict[tuple[int, int], tuple[float, bool]]:
    """Log-likelihood and greedy of each request, by the document's place and lm-eval's request number."""
    keys = ["example", "choice"]
    given = cell.assign(greedy=cell["greedy"] if "greedy" in cell.columns else False)
    joined = requests[keys].merge(
        given[[*keys, "loglikelihood", "greedy"]], on=keys, how="outer", indicator=True
    )
    if (joined["_merge"] != "both").any():
        row = joined[joined["_merge"] != "both"].iloc[0]
        side = "requests" if row["_merge"] == "left_only" else "cell"
        raise CellError(f"example {row['example']}, choice {row['choice']} is only in the {side}.")
    place = {example: number for number, example in enumerate(dict.fromkeys(requests["example"]))}
    numbers = [place[example] for example in joined["example"]]
    given_back = zip(joined["loglikelihood"].tolist(), joined["greedy"].tolist(), strict=True)
    return dict(zip(zip(numbers, joined["choice"].tolist(), strict=True), given_back, strict=True))


def _replay(task: Any, requests: "pd.DataFrame", counts: Counter[str]) -> None:
    """Give the task the frozen requests in place of ones it would build, and count the values it makes."""
    instance = module("lm_eval.api.instance", "a task of lm-eval").Instance
    rolling = task.OUTPUT_TYPE == "loglikelihood_rolling"
    documents = list(task.eval_docs)
    place = {example: number for number, example in enumerate(dict.fromkeys(requests["example"]))}
    built = [
        instance(
            request_type="loglikelihood_rolling" if rolling else "loglikelihood",
            doc=documents[place[row.example]],
            arguments=(row.continuation,) if rolling else (row.context, row.continuation),
            idx=row.choice,
            metadata=(task.config.task, place[row.example], task.config.repeats),
        )
        for row in requests.itertuples(index=False)
    ]
    process = task.process_results

    def counted(doc: Any, results: Any) -> Any:
        metrics = process(doc, results)
        counts.update(metrics.keys())
        return metrics

    task.process_results = counted
    task.build_all_requests = lambda **_: setattr(task, "_instances", built)


def _replaying_model(answers: Mapping[tuple[int, int], tuple[float, bool]], why: str) -> Any:
    """A model in lm-eval's sense that knows the answers."""

    class Replay(module("lm_eval.api.model", why).LM):  # type: ignore[misc]
        def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
            return [answers[request.doc_id, request.idx] for request in requests]

        def loglikelihood_rolling(self, requests: Any) -> list[float]:
            return [value for value, _ in self.loglikelihood(requests)]

        def generate_until(self, requests: Any) -> list[str]:
            raise NotImplementedError

    return Replay()
