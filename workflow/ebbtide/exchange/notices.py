"""Notices of imports: what was inferred, dropped or recognised, and what the files cannot give."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ebbtide.exchange.imported_cell import ImportedCell
from ebbtide.exchange.lm_eval_json import Results
from ebbtide.exchange.merge import Found
from ebbtide.exchange.samples import Sampled, task_of
from ebbtide.exchange.specification import Specification
from ebbtide.notices import Notice, counted, listed
from ebbtide.tables import METRICS

_PROPERTIES = ("model", "step", "tokens", "parameters")
_KEYS = {
    "model": "models",
    "step": "steps",
    "tokens": "models[].tokens_per_step",
    "parameters": "models[].parameters",
}
_AGREE = 1e-6  # difference of accuracies
_ONE_PERCENT = 0.01
_FORMATS = {"table": "tables of published numbers", "lm_eval_results": "results of lm-eval"}


def notices_of(found: Sequence[Found]) -> list[Notice]:
    """Return what readers of imported results should know; `merge.joined` has what depends on scored ones."""
    return [
        *without_examples(found),
        *_equal_answers(found),
        *_inferred(found),
    ]


def without_examples(found: Iterable[Found]) -> list[Notice]:
    """Return the notices of results that are means only, one per row of `imported`."""
    sampled = {(r.row.model, t) for f in found if f.has_examples for r in f.resolved for t in f.rows["task"]}
    rows: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        if not one.has_examples:
            rows.setdefault((one.where, one.format), []).append(one)
    notices = []
    for (where, format_), files in rows.items():
        table = pd.concat([f.rows for f in files])
        cells = set(zip(table["model"], table["task"], strict=True)) - sampled
        if cells:
            tasks = sorted({task for _, task in cells})
            notices.append(
                Notice(
                    "note",
                    "not_compared",
                    f"{where}: {_FORMATS[format_]} are means, so there are no alarms, trends, forgetting, "
                    f"early warning and example model for {counted(tasks, 'task')} ({listed(tasks)}) of "
                    f"{counted({model for model, _ in cells}, 'model')}.",
                    "Evaluate with --log_samples and import the samples (format: lm_eval_samples).",
                    count=len(cells),
                )
            )
    return notices


def generated(where: str, files: Sequence[Path]) -> Notice:
    """Return the notice of samples of generated text that were skipped."""
    return Notice(
        "note",
        "dropped",
        f"{where}: {counted(files, 'file')} of samples skipped, because generated text has no "
        f"log-likelihoods; first: {files[0]}.",
        "Import the results of these tasks with format: lm_eval_results, or narrow files.",
        count=len(files),
    )


def samples_among_results(where: str, files: Sequence[Path]) -> Notice:
    """Return the notice of samples in a row of results."""
    return Notice(
        "note",
        "dropped",
        f"{where}: format lm_eval_results reads no samples; {counted(files, 'file')} skipped, first: "
        f"{files[0]}.",
        "Set format: lm_eval_samples, which also gives alarms, trends and forgetting.",
        count=len(files),
    )


def of_samples(sampled: Sampled, expected: int, path: Path, cell: tuple[str, str, str]) -> list[Notice]:
    """Return the notices of one file of samples; `expected` examples are in the results beside it."""
    about = dict(zip(("model", "checkpoint", "task"), cell, strict=True))
    notices = []
    if expected and sampled.examples < expected:
        notices.append(
            Notice(
                "warning",
                "dropped",
                f"{path} has {sampled.examples} examples, but the results beside it are of {expected}; "
                "the metrics are those of the samples.",
                "Copy the file again: it may be cut off.",
                count=expected - sampled.examples,
                **about,
            )
        )
    if sampled.left_filters:
        notices.append(
            Notice(
                "note",
                "dropped",
                f"{path}: only the first filter is read; left out: {listed(sampled.left_filters)}.",
                "Import the results with format: lm_eval_results for the metrics of other filters.",
                count=len(sampled.left_filters),
                **about,
            )
        )
    return notices


def other_accuracy(cell: ImportedCell, rows: pd.DataFrame, results: Results) -> list[Notice]:
    """Return the notice that the results beside samples have another accuracy than follows from them."""
    path = cell.footer["imported"]["file"]
    task = task_of(path)[0]
    logged = [m.value for m in results.measured if m.task == task and m.metric == "accuracy"]
    own = rows[rows["metric"] == "accuracy"]
    same_number = results.examples(task) in (0, int(own["n"].max()) if len(own) else 0)
    if not logged or own.empty or not same_number or abs(logged[0] - own["value"].iloc[0]) <= _AGREE:
        return []
    return [
        Notice(
            "warning",
            "suspicious",
            f"{path}: the accuracy of the samples is {own['value'].iloc[0]:.6g}, but {results.source} beside "
            f"them has {logged[0]:.6g}; that of the samples is used.",
            "Copy both files of one evaluation again, or set gold to the field of doc that has the right "
            "choices.",
            model=cell.checkpoint.model,
            checkpoint=cell.checkpoint.name,
            task=cell.task,
        )
    ]


def without_effect(read: Iterable[tuple[Specification, Sequence[Found]]]) -> list[Notice]:
    """Return the notices of names in the rows of `imported` that no result has, one per entry.

    Rows of one anchor share entries, such as the chance of a task that only one of them imports. So an entry
    has an effect if any row with the same entry has its name.
    """
    places: dict[tuple[str, str, str], list[str]] = {}
    known: dict[tuple[str, str, str], set[str]] = {}
    for given, found in read:
        rows = _rows(found)
        tasks, named = set(map(str, rows["task"])), set(map(str, rows["metric"]))
        metrics = {name.partition("[")[0] for name in named}
        checked = given.checked
        for key, entries, of in (
            ("percent", [(name, "") for name in checked["percent"]], metrics),
            ("metrics", [(name, file) for file, name in checked["metrics"].items()], metrics | named),
            ("chance", checked["chance"].items(), tasks),
            ("n", checked["n"].items(), tasks),
        ):
            for name, value in entries:
                entry = (key, str(name), str(value))
                places.setdefault(entry, []).append(given.where)
                known.setdefault(entry, set()).update(of)
    return [
        Notice(
            "warning",
            "unused",
            f"{where[0]}.{key}: found {name!r}, which no imported result has, so it has no effect; "
            f"imported: {listed(sorted(known[key, name, value]))}.",
            "Correct the name, or remove it.",
            count=len(where),
        )
        for (key, name, value), where in places.items()
        if name not in known[key, name, value]
    ]


def _rows(found: Sequence[Found]) -> pd.DataFrame:
    return pd.concat([one.rows for one in found]) if found else pd.DataFrame(columns=list(METRICS.columns))


def of_row(given: Specification, found: Sequence[Found]) -> list[Notice]:
    """Return the notices of one row of `imported`: percentages that are shares."""
    rows, notices = _rows(found), []
    base = rows["metric"].astype(str).str.partition("[")[0]
    for metric in given.checked["percent"]:
        of_metric = rows[base == metric]
        small = of_metric[(of_metric["value"] > 0) & (of_metric["value"] <= _ONE_PERCENT)]
        if len(small):
            first = small.iloc[0]
            notices.append(
                Notice(
                    "warning",
                    "suspicious",
                    f"{given.where}.percent: {len(small)} of {len(of_metric)} values of {metric} are at most "
                    f"1 % (the first: {first['model']}, {first['checkpoint']}, task {first['task']}: "
                    f"{first['value'] * 100:.4g} in the file).",
                    f"If they are shares instead of percentages, remove {metric} from percent; if the files "
                    "have both, correct them or make two rows of imported.",
                    count=len(small),
                )
            )
    return notices


def of_results(where: str, files: Sequence[Results], left: set[str], groups: str | None) -> list[Notice]:
    """Return the notices of the results of a row; `left` are the groups or parts that were left out."""
    notices = []
    if left:
        kept = "their group is imported" if groups != "parts" else "their parts are imported"
        notices.append(
            Notice(
                "note",
                "dropped",
                f"{where}: {counted(left, 'task')} left out, because {kept}: {listed(sorted(left))}.",
                f"Set {where}.groups to {'aggregates' if groups == 'parts' else 'parts'} or both, or list "
                f"tasks under {where}.tasks.",
                count=len(left),
            )
        )
    skipped = [f"{results.source}: {key}" for results in files for key in results.skipped]
    if skipped:
        notices.append(
            Notice(
                "note",
                "dropped",
                f"{where}: {counted(skipped, 'value')} skipped, because they are not numbers; first: "
                f"{skipped[0]}.",
                count=len(skipped),
            )
        )
    return notices


def _equal_answers(found: Iterable[Found]) -> list[Notice]:
    """Return the notices of checkpoints with bit-equal answers to the same examples."""
    cells: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        if one.has_examples:
            first = one.rows.iloc[0]
            key = (str(first["model"]), str(first["task"]), one.loglikelihoods)
            cells.setdefault(key, []).append(str(first["checkpoint"]))
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (model, task, _), checkpoints in cells.items():
        if len(checkpoints) > 1:
            groups.setdefault((model, tuple(checkpoints)), []).append(task)
    return [
        Notice(
            "warning",
            "suspicious",
            f"Imported samples are bit-equal at {listed(checkpoints)} in "
            f"{counted(tasks, 'task')} ({listed(tasks)}).",
            "Check that the evaluations loaded different weights.",
            model=model,
            count=len(checkpoints),
        )
        for (model, checkpoints), tasks in groups.items()
    ]


def _inferred(found: Iterable[Found]) -> list[Notice]:
    """Return what was inferred from file, name and catalogue, one notice per row of `imported`."""
    rows: dict[str, list[Found]] = {}
    for one in found:
        rows.setdefault(one.where, []).append(one)
    notices = []
    for where, files in rows.items():
        resolved = {r.row.model + r.row.name: r for f in files for r in f.resolved if r.inferred}.values()
        sources = {
            name: Counter(r.source(name) for r in resolved if name in r.inferred) for name in _PROPERTIES
        }
        known = [name for name in _PROPERTIES if sources[name]]
        if known:
            said = "; ".join(f"{name} from {listed(sources[name])}" for name in known)
            keys = ", ".join(_KEYS[name] for name in known)
            notices.append(
                Notice(
                    "note",
                    "defaulted",
                    f"{where}: inferred for {counted(resolved, 'checkpoint')}: {said}.",
                    f"To state them, set {keys} in this row.",
                    count=len(resolved),
                )
            )
    return notices
