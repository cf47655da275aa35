"""Metrics of a cell computed by lm-eval's own code, without model, data set or network."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.errors import CellError, TaskError
from ebbtide.logs import log
from ebbtide.tasks.generation.pipelines import of_filter
from ebbtide.tasks.lm_eval.description import BEFORE_FREEZING, describe, measures
from ebbtide.tasks.lm_eval.harness import (
    builtin_tasks,
    entries,
    installed_version,
    loaded,
    manager,
    module,
    named,
    scorers_of,
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
    """Return the metrics of one cell as `lm_eval.simple_evaluate` would report them.

    The frozen documents, and the log-likelihoods (nats) and `greedy` of the cell, are passed to the task's
    own `process_results`, filters and aggregations.

    Parameters
    ----------
    cell
        Rows of a cell (see `tables.CELL`). A rolling task has one per document, and needs no `greedy`.
    requests, record
        The results of `requests_of`.
    bootstrap_iters
        Draws for the standard errors that lm-eval bootstraps (perplexity, f1, mcc, median). Its default takes
        about a minute for 5,000 documents. With 0 there are no standard errors at all, as in lm-eval.

    Returns
    -------
    One row per metric: `metric, value, stderr, n, chance`. Metrics have lm-eval's names with the prefix
    `lm_eval_` (`lm_eval_acc`, `lm_eval_acc_norm`, `lm_eval_word_perplexity`). A filter other than lm-eval's
    default is appended: `lm_eval_acc[filter=NAME]`. `stderr` is NaN if lm-eval has none, `chance` always.

    Raises
    ------
    CellError
        Cell and requests have different examples or choices, or there are no documents.
    TaskError
        lm-eval is not installed or not in the version used for freezing, the task is missing or has changed
        since then, or its own code fails.
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
        raise CellError(f"{why}: the requests have {examples} examples, but {len(documents)} documents.")
    counts: Counter[str] = Counter()
    with well_behaved():
        try:
            task = _task(record, documents, why)
            if scorers_of(task) is None:
                _replay(task, requests, counts)
            found = evaluator.evaluate(
                lm=_replaying_model(answers, why, pairs=scorers_of(task) is not None),
                task_dict={"tasks": {name: task}},
                bootstrap_iters=bootstrap_iters,
                log_samples=False,
            )["results"][name]
            for scorer in scorers_of(task) or ():
                for of_document in scorer.reduced_docs.values():
                    counts.update(of_document.keys())
        except (CellError, TaskError):
            raise
        except Exception as error:  # tasks may run any code
            raise TaskError(f"{why}: lm-eval cannot measure it ({named(error)}).") from error
    values = {tuple(key.split(",", 1)): value for key, value in found.items() if "," in key}
    filters = len({filtered for _, filtered in values})
    rows = []
    for (metric, filtered), value in values.items():
        if metric not in counts:  # a standard error
            continue
        if not isinstance(value, int | float) and not hasattr(value, "__float__"):
            log.warning("%s: metric %s is left out: %r is not a number", why, metric, value)
            continue
        stderr = values[f"{metric}_stderr", filtered]
        rows.append(
            {
                "metric": PREFIX + of_filter(metric, filtered),
                "value": float(value),
                "stderr": math.nan if isinstance(stderr, str) else float(stderr),
                "n": counts[metric] // filters,
                "chance": math.nan,
            }
        )
    return pd.DataFrame(rows, columns=["metric", "value", "stderr", "n", "chance"])


class _Documents:
    """The frozen documents as a split. As with `datasets`, each access returns a new object."""

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
    """Load the task as it was frozen, with the frozen documents as its data set."""
    name, file = str(record["task"]), str(record["file"])
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
    # lm-eval overrides keys of a task by means of an inline group.
    if name not in entries(index):
        name, _, overrides["_formats_selection"] = name.rpartition("@")
    task = loaded(index, {"group": "frozen", "task": [{"task": name, **overrides}]})
    if measures(describe(task.config)) != measures(record["config"]):
        raise TaskError(f"{why}: {file}, or its code, has changed since it was frozen; freeze it again.")
    return task


@lru_cache(maxsize=8)
def _index(directory: Path, why: str) -> Any:
    return manager([directory], why, builtin=False)


def _answers(cell: "pd.DataFrame", requests: "pd.DataFrame") -> dict[tuple[int, int], tuple[float, bool]]:
    """Return log-likelihood and `greedy` of each request, by index of the document and of the request."""
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
    """Make the task use the frozen requests, and count the values of each metric.

    Since version 0.5, its metrics read requests that it builds from the frozen documents, without shots.
    """
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


def _replaying_model(answers: Mapping[tuple[int, int], tuple[float, bool]], why: str, *, pairs: bool) -> Any:
    """Return a model for lm-eval that returns the recorded answers; `pairs` for documents, as since 0.5."""

    class Replay(module("lm_eval.api.model", why).LM):  # type: ignore[misc]
        def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
            return [answers[request.doc_id, request.idx] for request in requests]

        def loglikelihood_rolling(self, requests: Any) -> list[Any]:
            found = self.loglikelihood(requests)
            return found if pairs else [value for value, _ in found]

        def generate_until(self, requests: Any) -> list[str]:
            raise NotImplementedError

    return Replay()
