"""Rows of `imported` for files of other tools, as YAML with comments on what was inferred from where."""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ebbtide.errors import ConfigError, EbbtideError
from ebbtide.exchange.documents import read_lines
from ebbtide.exchange.lm_eval_json import Results, read_results
from ebbtide.exchange.runs import Resolved
from ebbtide.exchange.sample_lines import GeneratedError, line_of
from ebbtide.exchange.samples import is_samples, task_of
from ebbtide.exchange.specification import PARAMETERS, Specification, check_row
from ebbtide.exchange.tables import read_table, table_rows
from ebbtide.notices import counted, listed

TABLES = (".tsv", ".csv", ".parquet")
_COLUMNS = {
    "model": ("model", "model_name", "modelname", "name"),
    "step": ("step", "training_step", "steps"),
    "revision": ("revision", "model_revision", "modelrevision", "checkpoint", "ckpt"),
    "tokens": ("tokens", "training_tokens"),
    "task": ("task", "dataset", "benchmark"),
    "metric": ("metric", "metric_name"),
    "value": ("value", "score", "accuracy", "acc", "result"),
    "stderr": ("stderr", "accuracy_se", "acc_stderr", "se"),
    "n": ("n", "examples", "n_examples"),
    "chance": ("chance", "chance_level"),
}  # key of `columns` → usual names, in lower case


@dataclass
class _Row:
    """A row of `imported`, and comments on it."""

    content: dict[str, Any]
    comments: list[str] = field(default_factory=list)


def plan(paths: Sequence[str | Path]) -> str:
    """Return the YAML of the rows of `imported` that read files, or directories with such files.

    Raises `ConfigError` for a path that does not exist, or if no file is recognised.
    """
    files = [file for path in paths for file in _files(Path(path))]
    samples = [file for file in files if is_samples(file)]
    results = [file for file in files if file.suffix == ".json"]
    tables = [file for file in files if file.suffix in TABLES]
    comments = [f"not recognised: {file}" for file in files if file not in {*samples, *results, *tables}]
    rows = [*_of_samples(samples, results), *map(_of_table, tables)]
    rows = [row for row in rows if row.content or row.comments]
    if not any(row.content for row in rows):
        reasons = [*comments, *(c for row in rows for c in row.comments)]
        raise ConfigError(
            f"import-plan: found nothing to import in {listed(paths)} ({listed(reasons) or 'no file'}); "
            "allowed: samples_TASK_DATE.jsonl or results_DATE.json of lm-eval, tables (.tsv, .csv, .parquet)."
        )
    return _yaml(rows, comments)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        patterns = ("samples_*.jsonl", "results*.json", *(f"*{suffix}" for suffix in TABLES))
        return sorted({file for pattern in patterns for file in path.rglob(pattern)})
    if not path.is_file():
        raise ConfigError(f"import-plan: {path} does not exist.")
    return [path]


def _of_samples(samples: Sequence[Path], results: Sequence[Path]) -> list[_Row]:
    """Rows of samples, and of the results that no samples contain."""
    beside: dict[Path, set[str]] = {}
    readable, generated, comments = [], [], []
    for path in samples:
        task, suffix = task_of(path)
        try:
            line_of(*next(read_lines(path), (f"{path}: line 1", {})))
        except GeneratedError:
            generated.append(path)
            continue
        except EbbtideError as error:
            comments.append(f"left out: {error.args[0]}")
            continue
        readable.append(path)
        beside.setdefault(path.with_name(f"results_{suffix}.json"), set()).add(task)
    if generated:
        comments.append(
            f"left out: {counted(generated, 'file')} of samples of generated text ({generated[0]})"
        )
    read: dict[Path, Results] = {}
    for path in dict.fromkeys([*beside, *results]):
        try:
            read[path] = read_results(path)
        except EbbtideError as error:
            comments.append(f"left out: {error.args[0]}")
    rows = []
    row: dict[str, Any]
    if readable:
        of_tasks = [f"samples_{task}_*.jsonl" for task in sorted({task_of(path)[0] for path in readable})]
        row = {"format": "lm_eval_samples", "files": _patterns(readable, ["samples_*.jsonl"], of_tasks)}
        rows.append(_with_models(row, [read[path] for path in beside if path in read]))
    # What only results have: other runs, and tasks without samples (generated text).
    others = [path for path in read if path not in beside]
    left = {task for path, tasks in beside.items() if path in read for task in _without(read[path], tasks)}
    if others or left:
        files = others or [path for path in beside if path in read]
        row = {"format": "lm_eval_results", "files": _patterns(files, ["results*.json"])}
        if not others:
            row["tasks"] = {task: task for task in sorted(left)}
        rows.append(_with_models(row, [read[path] for path in files]))
        rows[-1].comments.append("means only: no alarms, trends or forgetting; evaluate with --log_samples")
    return [_Row({}, comments), *rows]


def _without(results: Results, sampled: set[str]) -> set[str]:
    """Return the tasks of results without those that have samples, which are named as in the files."""
    return {m.task for m in results.measured} - {results.names.get(task, task) for task in sampled}


def _with_models(row: dict[str, Any], results: Iterable[Results]) -> _Row:
    given = Specification("imported[]", check_row(row, "import-plan"), ())
    return _modelled(row, [_resolved(one, given) for one in results])


def _resolved(results: Results, given: Specification) -> Resolved | str:
    """The checkpoint of a results file, or why it is not known."""
    try:
        return results.checkpoint(given)
    except EbbtideError as error:
        return str(error.args[0])


def _modelled(row: dict[str, Any], found: Sequence[Resolved | str]) -> _Row:
    """Add the models of checkpoints to a row, and comments on what was inferred, or could not be."""
    comments = [f"could not infer: {one}" for one in dict.fromkeys(f for f in found if isinstance(f, str))]
    models: dict[tuple[str, str], list[Resolved]] = {}
    for one in found:
        if isinstance(one, Resolved):
            models.setdefault((one.row.model, one.origin if "/" in one.origin else ""), []).append(one)
    names = [name for name, _ in models]
    entries = []
    for (name, origin), resolved in models.items():
        entry: dict[str, Any] = {"name": name}
        if names.count(name) > 1:
            entry = {"name": "-".join(origin.split("/")[-2:]), "match": re.escape(origin)}
            comments.append(f"{entry['name']}: several models are called {name}, so match tells them apart")
        entry |= _facts(resolved)
        entries.append(entry)
        comments += _said(entry["name"], resolved)
    # A row without models infers them; with some that are not known, it would refuse those.
    if entries and not any(isinstance(one, str) for one in found):
        row["models"] = entries
    return _Row(row, comments)


def _facts(resolved: Sequence[Resolved]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    per_step = {one.row.tokens / one.row.step for one in resolved if one.row.step}
    if len(per_step) == 1 and (tokens := per_step.pop()) > 0 and tokens.is_integer():
        facts["tokens_per_step"] = int(tokens)
    sizes = {key: resolved[0].row.parameters[key] for key in PARAMETERS}
    if sizes["active"] == sizes["non_embedding"]:
        del sizes["active"]
    if any(sizes.values()):
        facts["parameters"] = {key: size for key, size in sizes.items() if size}
    return facts


def _said(name: str, resolved: Sequence[Resolved]) -> list[str]:
    steps = sorted({one.row.step for one in resolved})
    shown = ", ".join(map(str, steps)) if len(steps) <= 4 else f"{steps[0]}, {steps[1]} … {steps[-1]}"
    where = {key: dict.fromkeys(r.source(key) for r in resolved if key in r.inferred) for key in _WORDS}
    said = [f"{word} from {listed(where[key])}" for key, word in _WORDS.items() if where[key]]
    lines = [f"{name}: {counted(steps, 'step')} ({shown})" + (f"; {'; '.join(said)}" if said else "")]
    row = resolved[-1].row
    if not row.tokens and row.step:
        lines.append(f"{name}: training tokens are unknown; set tokens_per_step for regressions over tokens")
    if not row.parameters["non_embedding"]:
        lines.append(f"{name}: parameters.non_embedding is unknown; set it for regressions over size")
    return lines


_WORDS = {"model": "name", "step": "steps", "tokens": "tokens per step", "parameters": "sizes"}


def _of_table(path: Path) -> _Row:
    try:
        table = read_table(path)
    except EbbtideError as error:
        return _Row({}, [f"left out: {error.args[0]}"])
    names = {str(name).lower(): str(name) for name in table.columns}
    columns = {
        key: names[usual[0]] for key, known in _COLUMNS.items() if (usual := [u for u in known if u in names])
    }
    if "step" in columns:
        columns.pop("revision", None)
    missing = [key for key in ("model", "task", "value") if key not in columns]
    if not {"step", "revision"} & columns.keys():
        missing.append("step or revision")
    if missing:
        found = ", ".join(map(str, table.columns))
        return _Row(
            {}, [f"left out: {path}: could not infer the columns of {', '.join(missing)} (found: {found})"]
        )
    row: dict[str, Any] = {"format": "table", "files": [str(path)], "columns": columns}
    comments = [f"columns from their names: {', '.join(columns.values())}"]
    if "metric" not in columns:
        row["metric"] = "accuracy"
        comments.append("metric: no column names it; accuracy is assumed")
    given = replace(Specification("imported[]", check_row(row, "import-plan"), ()), files=(path,))
    try:
        resolved = table_rows(table, given, str(path))[1]
    except EbbtideError as error:
        return _Row(row, [*comments, f"could not infer: {error.args[0]}"])
    modelled = _modelled(row, resolved)
    return _Row(modelled.content, [*comments, *modelled.comments])


def _patterns(files: Sequence[Path], *names: Sequence[str]) -> list[str]:
    """Patterns that match exactly these files, with the first list of names that can; else the files."""
    if len(files) > 1:
        directory = os.path.commonpath([file.parent for file in files]) or "."
        for patterns in ([f"{directory}/{depth}{n}" for n in of] for of in names for depth in ("", "**/")):
            matched = {Path(f) for p in patterns for f in glob.glob(p, recursive=True)}  # noqa: PTH207
            if matched == set(files) and len(patterns) < len(files):
                return patterns
    return [str(file) for file in files]


def _yaml(rows: Sequence[_Row], comments: Sequence[str]) -> str:
    lines = [*_comments(comments, ""), "imported:"]
    for row in rows:
        lines += _comments(row.comments, "  ")
        if row.content:
            text = yaml.safe_dump([dict(row.content)], sort_keys=False, allow_unicode=True, width=100)
            lines += [f"  {line}" for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def _comments(comments: Iterable[str], indent: str) -> list[str]:
    return [f"{indent}# {' '.join(comment.split())}" for comment in comments]
