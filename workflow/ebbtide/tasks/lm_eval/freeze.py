"""Freeze a task of lm-eval into requests, with lm-eval's own task code."""

import json
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.errors import TaskError, nearest
from ebbtide.files import digest
from ebbtide.logs import log
from ebbtide.tasks.kinds import KINDS
from ebbtide.tasks.lm_eval.description import describe
from ebbtide.tasks.lm_eval.folder import check_folder
from ebbtide.tasks.lm_eval.generating import keys_of, targets_of
from ebbtide.tasks.lm_eval.harness import (
    builtin_file,
    builtin_tasks,
    entries,
    installed_version,
    loaded,
    manager,
    named,
    scorers_of,
    well_behaved,
)
from ebbtide.tasks.render import BadRow, encodable

if TYPE_CHECKING:
    import pandas as pd

# Output types of lm-eval, and the kind of task of each.
KIND_OF_OUTPUT_TYPE = {
    "multiple_choice": "choice",
    "loglikelihood": "sequence",
    "loglikelihood_rolling": "rolling",
    "generate_until": "generation",
}


def requests_of(
    name: str,
    *,
    include_path: str | Path | Sequence[str | Path] | None = None,
    num_fewshot: int | None = None,
    seed: int = 1234,
    limit: int | None = None,
) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """Return the requests of a task of lm-eval, and a record of how they were made.

    Documents, prompts, few-shot examples and choices are those of `lm_eval.simple_evaluate` with the same
    arguments. lm-eval fetches the data set, which may need a network.

    Parameters
    ----------
    name
        Name of a single task, as in `lm_eval --tasks`; since version 0.5 also in a format, `arc_easy@mcqa`.
    include_path
        Directories with further YAML tasks, which take precedence over lm-eval's.
    num_fewshot, seed
        Number of few-shot examples, None for the task's own, and the seed of their draw.
    limit
        Only the first so many documents.

    Returns
    -------
    One row per request: `example` (lm-eval's doc id), `choice` (its index there), `context`, `continuation`,
    `gold`, and `doc`: the document as JSON on the first row of each example, empty on the others. Tasks with
    `acc_mutual_info` have `role` (choice, unconditional) and `of`, the choice that a row refers to. Tasks
    that generate text have no continuations, but `targets`, the accepted texts as a list in JSON.

    The record has `lm_eval` (version), `task`, `version`, `file`, `kind` (choice, sequence, rolling,
    generation), `output_type`, `config`, `own_process_results` (gold may then mean little), `num_fewshot`,
    `seed`, `limit`, `dataset`, `documents` and `documents_sha256`; of kind generation also `keys`: `fields`,
    `decoding` and `texts` of a definition.

    Raises
    ------
    TaskError
        lm-eval is not installed; the task is unknown, a group, written as a Python class, or generates text
        that we cannot measure as lm-eval does; lm-eval cannot build it, or skips a document; a document has
        no gold or is not JSON; a continuation is empty.
    """
    paths = [include_path] if isinstance(include_path, str | Path) else list(include_path or [])
    why = f"lm_eval: {name}"
    index, entry = _find(name, paths, why)
    file = _name_of(entry.yaml_path)
    where = f"{why} ({file})"
    _check_entry(entry, where)
    if num_fewshot and entry.cfg.get("num_fewshot") == 0:
        raise TaskError(
            f"{where}: num_fewshot: found {num_fewshot}, but the task fixes 0 and lm-eval keeps it."
        )
    with well_behaved():
        try:
            task = loaded(index, name)
            kind = KIND_OF_OUTPUT_TYPE[task.OUTPUT_TYPE]  # which a format may have changed
            own = task.config.num_fewshot or 0
            task.set_config("num_fewshot", own if num_fewshot is None else num_fewshot)
            task.set_fewshot_seed(seed)
            task.build_all_requests(limit=limit)
            documents = dict(task.doc_iterator(limit=limit))
        except Exception as error:  # tasks may run any code
            raise TaskError(f"{where}: lm-eval cannot build it ({named(error)}).") from error
        if left := sorted(documents.keys() - {instance.doc_id for instance in task.instances}):
            raise TaskError(
                f"{where}: lm-eval skips {len(left)} of {len(documents)} documents, the first is {left[0]}, "
                "because it finds no choices or no target in it; remove it with process_docs."
            )
        texts = {number: _json(doc, f"{where}: document {number}") for number, doc in documents.items()}
        keys = keys_of(task, where) if kind == "generation" else None
        rows = _rows(task, kind, documents, texts, where)
    if _shows_answers(task.config):
        log.warning(
            "%s: lm-eval may draw a question as its own few-shot example; "
            "a copy of the task with `fewshot_split: %s` excludes it",
            where,
            task.config.test_split,
        )
    record = {
        "lm_eval": installed_version(),
        "task": name,
        "version": task.VERSION,
        "file": file,
        "kind": kind,
        "output_type": task.OUTPUT_TYPE,
        "config": describe(task.config),
        "own_process_results": task.config.process_results is not None,
        "num_fewshot": task.config.num_fewshot,
        "seed": seed,
        "limit": limit,
        "dataset": _dataset(task),
        "documents": len(documents),
        "documents_sha256": digest(list(texts.values())),
        **({"keys": keys} if keys else {}),
    }
    return rows, record


def _find(name: str, paths: list[str | Path], why: str) -> tuple[Any, Any]:
    """Return lm-eval's index and its entry for a task. The user's directories are searched first."""
    for path in paths:
        if not Path(path).is_dir():
            raise TaskError(f"{why}: include_path: {path} is not a directory.")
        check_folder(path)
    index = manager(paths, why, builtin=False)
    if name not in entries(index) and "@" in name and hasattr(index, "_task_index"):
        name = name.rpartition("@")[0]  # of a format, which the loaded task has
    if name not in index.all_subtasks and (file := builtin_file(name)):
        index = manager([file.parent], why, builtin=False)
    if name not in entries(index):
        index = manager(paths, why, builtin=True)
    if name not in entries(index):
        places = "".join(f", {path}" for path in paths)
        raise TaskError(
            f"{why}: no such task in lm-eval {installed_version()}{places}"
            f"{nearest(name, index.all_subtasks) or '; lm-eval skips YAML files with errors.'}"
        )
    entry = entries(index)[name]
    if name not in index.all_subtasks:
        members = sorted(entry.tags) if name in index.all_tags else _members(entry.cfg.get("task"))
        raise TaskError(
            f"{why} is a group, which cannot be frozen; name its tasks one by one: {', '.join(members[:5])}"
            f"{f' and {len(members) - 5} more' if len(members) > 5 else ''}."
        )
    return index, entry


def _members(tasks: Any) -> list[str]:
    listed = tasks if isinstance(tasks, list) else [tasks]
    return [
        str(each.get("task") or each.get("group")) if isinstance(each, dict) else str(each) for each in listed
    ]


def _check_entry(entry: Any, where: str) -> None:
    """Raise `TaskError` for a task that cannot be frozen, before its data set is fetched."""
    if "class" in entry.cfg:
        raise TaskError(
            f"{where} is a Python class, and its metrics need its data set; allowed: tasks in YAML."
        )
    output_type = str(entry.cfg.get("output_type", "generate_until"))  # lm-eval's default
    if output_type not in KIND_OF_OUTPUT_TYPE:
        allowed = ", ".join(KIND_OF_OUTPUT_TYPE)
        raise TaskError(f"{where}: output_type: found {output_type!r}, allowed: {allowed}.")
    if output_type == "generate_until" and entry.cfg.get("process_results"):
        raise TaskError(f"{where}: process_results: its own code measures texts; allowed: metric_list alone.")


def _name_of(path: Path) -> str:
    """Return `lm_eval/tasks/…` for a file of lm-eval, because its directory depends on the machine."""
    if path.is_relative_to(builtin_tasks()):
        return f"lm_eval/tasks/{path.relative_to(builtin_tasks()).as_posix()}"
    return path.as_posix()


def _rows(
    task: Any, kind: str, documents: dict[int, Any], texts: dict[int, str], where: str
) -> "pd.DataFrame":
    import pandas as pd

    columns: dict[str, list[Any]] = {
        key: []
        for key in ("example", "choice", "context", "continuation", "gold", "role", "of", "doc", "targets")
    }
    for number, group in groupby(task.instances, key=lambda instance: instance.doc_id):
        here = f"{where}: document {number}"
        instances = sorted(group, key=lambda instance: instance.idx)
        gold = {0}
        choices = 1
        if kind == "choice":
            choices = _choices_of(task, documents[number])
            gold = _gold(task, documents[number], choices, here)
        targets = targets_of(task, documents[number], here) if kind == "generation" else ""
        for instance in instances:
            arguments = instance.args
            if kind == "generation":  # settings of decoding in place of a continuation
                arguments = (arguments[0], "", *arguments[2:])
            if not all(isinstance(text, str) for text in arguments) or len(arguments) > 2:
                raise TaskError(f"{here} is not text only, and cannot be scored.")
            context, continuation = ("", *arguments)[-2:]
            if not continuation and KINDS[kind].needs not in ("losses", "samples"):
                raise TaskError(f"{here}, choice {instance.idx} is empty.")
            for what, text in (("context", context), ("continuation", continuation)):
                _encodable(text, f"{here}, choice {instance.idx}: the {what}")
            is_choice = instance.idx < choices
            columns["example"].append(str(number))
            columns["choice"].append(instance.idx)
            columns["context"].append(context)
            columns["continuation"].append(continuation)
            columns["gold"].append(is_choice and instance.idx in gold)
            columns["role"].append("choice" if is_choice else "unconditional")
            columns["of"].append(instance.idx % choices)
            columns["doc"].append("" if instance.idx else texts[number])
            columns["targets"].append(_encodable(targets, f"{here}: the target"))
    rows = pd.DataFrame(columns)
    unused = [] if (rows["role"] != "choice").any() else ["role", "of"]
    return rows.drop(columns=unused if kind == "generation" else [*unused, "targets"])


def _choices_of(task: Any, doc: Any) -> int:
    """Return the number of choices; since version 0.5, contexts of one choice are in `doc_to_text`."""
    inputs = scorers_of(task) is not None and task._multiple_inputs
    return len(task.doc_to_text(doc) if inputs else task.doc_to_choice(doc))


def _gold(task: Any, doc: Any, choices: int, where: str) -> set[int]:
    """Return the indices of the right choices, as lm-eval reads them; none if only the task's code can."""
    by_text = scorers_of(task) is None and task.multiple_input
    target = task.doc_to_text(doc) if by_text else task.doc_to_target(doc)
    if isinstance(target, str):
        texts = task.doc_to_choice(doc)
        target = texts.index(target) if target in texts else target
    indices = target if isinstance(target, list) else [target]
    if indices and all(hasattr(i, "__index__") and 0 <= i < choices for i in indices):
        return {int(i) for i in indices}
    if task.config.process_results is not None:
        return set()
    raise TaskError(
        f"{where}: the right choice is {target!r}, allowed: 0 to {choices - 1} or one of the choices."
    )


def _shows_answers(config: Any) -> bool:
    """Whether a question may be its own few-shot example: lm-eval excludes it only if it knows the split."""
    elsewhere = (config.training_split, config.validation_split, config.fewshot_config.split)
    own = config.fewshot_config.samples
    return bool(config.num_fewshot and config.test_split and not any(elsewhere) and own is None)


def _json(doc: Any, where: str) -> str:
    try:
        text = json.dumps(doc, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise TaskError(f"{where} cannot be saved as JSON ({error}).") from None
    return _encodable(text, where)


def _encodable(text: str, what: str) -> str:
    try:
        return encodable(text, what)
    except BadRow as error:
        raise TaskError(f"{error}.") from None


def _dataset(task: Any) -> dict[str, Any]:
    """Describe the data used: path, commit on the hub if there is one, and the fingerprint of `datasets`."""
    config = task.config
    split = config.test_split if task.has_test_docs() else config.validation_split
    data = task.dataset[split]
    info = getattr(data, "info", None)
    urls = " ".join(map(str, getattr(info, "download_checksums", None) or ()))
    commit = re.search(r"@([0-9a-f]{40})/", urls)
    return {
        "path": config.dataset_path,
        "name": config.dataset_name,
        "split": split,
        "revision": commit[1] if commit else (config.dataset_kwargs or {}).get("revision"),
        "fingerprint": getattr(data, "_fingerprint", None),
    }
