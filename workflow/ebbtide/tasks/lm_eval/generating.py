"""What a task of lm-eval that generates text measures, as keys of a definition of kind `generation`.

Its texts are measured when they are generated, by our filters and our exact match, which give lm-eval's
results. A task that needs anything else of lm-eval is refused.
"""

import json
from collections.abc import Mapping
from typing import Any

from ebbtide.errors import ConfigError, TaskError
from ebbtide.schema import check, load_schema
from ebbtide.scoring.generation.decoding import Decoding
from ebbtide.tasks.generation.checks import check_pipelines
from ebbtide.tasks.generation.filters import check_pattern
from ebbtide.tasks.generation.pipelines import NONE
from ebbtide.tasks.lm_eval.harness import scorers_of
from ebbtide.tasks.lm_eval.pipelines import METRIC, pipelines_of_task

MAX_TOKENS = 256  # of lm-eval's models, for a task that sets none
# lm-eval takes the first that is set.
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SETTINGS = (*_LENGTHS, "until", "do_sample", "temperature", "top_p", "top_k")


def keys_of(task: Any, where: str) -> dict[str, Any]:
    """Return `fields`, `decoding` and `texts` of a task of type `generate_until`, built by lm-eval.

    `repeats` are samples. Those of greedy decoding are equal, so that one is enough.

    Raises `TaskError` for a task with another metric than `exact_match`, and for filters, options or settings
    of decoding that we lack.
    """
    settings = [instance.args[1] for instance in task.instances]
    if not settings:
        raise TaskError(f"{where} has no documents.")
    if other := [number for number, found in enumerate(settings) if found != settings[0]]:
        raise TaskError(
            f"{where}: document {other[0]} has other generation_kwargs than document 0; allowed: the "
            "same for all documents."
        )
    decoding = _decoding(settings[0], task.config.repeats, where)
    found = {"decoding": decoding, "texts": _texts(task, decoding["samples"], where)}
    schema = load_schema("task")
    both = {"properties": {key: schema["properties"][key] for key in found}, "$defs": schema["$defs"]}
    try:
        checked = check(found, {"type": "object", **both}, where)
        given = {key: value for key, value in checked["decoding"].items() if key != "keep_text"}
        Decoding(**{**given, "stop": tuple(given["stop"])})
        check_pipelines(checked["texts"], decoding["samples"], f"{where}: texts")
        for pattern in checked["texts"].get(METRIC, {}).get("regexes_to_ignore", ()):
            check_pattern(pattern, f"{where}: metric_list: regexes_to_ignore")
    except ConfigError as error:
        text = error.args[0]
        raise TaskError(text if text.startswith(where) else f"{where}: {text}") from None
    return {"fields": {"prompt": "prompt", "target": "target"}, **checked}


def targets_of(task: Any, doc: Any, where: str) -> str:
    """Return the texts that lm-eval accepts for a document, as a list in JSON."""
    target = (_target if scorers_of(task) is None else _target_of_scorers)(task, doc, where)
    accepted = list(target) if isinstance(target, list | tuple) else [target]
    if not accepted or not all(isinstance(text, str) for text in accepted):
        raise TaskError(f"{where}: the target is {target!r:.80}; allowed: a text, or a list of texts.")
    return json.dumps(accepted, ensure_ascii=False)


def _target(task: Any, doc: Any, where: str) -> Any:
    """The target as version 0.4 reads it."""
    target = task.doc_to_target(doc)
    if task.config.doc_to_choice is not None:
        choices = task.doc_to_choice(doc)
        if not hasattr(target, "__index__") or not 0 <= target < len(choices):
            raise TaskError(f"{where}: the target is {target!r:.80}; allowed: 0 to {len(choices) - 1}.")
        return choices[target]
    if not task.multiple_target:
        return str(target)  # as lm-eval does
    if isinstance(target, str) and len(target) != 1:
        raise TaskError(
            f"{where}: the target is {target!r:.80}, but that of the first document is a list; lm-eval would "
            "compare answers with its letters; allowed: a list for all documents."
        )
    return target


def _target_of_scorers(task: Any, doc: Any, where: str) -> Any:
    """The target as version 0.5 reads it, to which a text of digits is a number."""
    target = task.doc_to_target(doc)
    several = isinstance(target, list)
    if several and not task._multiple_targets:
        raise TaskError(f"{where}: the target is a list; set multiple_targets: true in the task.")
    values = target if several else [target]
    if any(isinstance(value, int) for value in values):
        if not pipelines_of_task(task, where)[0].options.get("regexes_to_ignore"):
            raise TaskError(
                f"{where}: the target is the number {target!r:.80}, which lm-eval 0.5 compares with texts "
                "only if regexes_to_ignore is set."
            )
        return [str(value) for value in values]
    return target


def _decoding(settings: Mapping[str, Any], repeats: int, where: str) -> dict[str, Any]:
    place = f"{where}: generation_kwargs"
    if unknown := [key for key in settings if key not in _SETTINGS]:
        raise TaskError(f"{place}.{unknown[0]}: cannot be applied; allowed: {', '.join(_SETTINGS)}.")
    lengths = [settings[key] for key in _LENGTHS if settings.get(key) is not None]
    until = settings.get("until") or []
    stop = [until] if isinstance(until, str) else until
    decoding = {"max_tokens": lengths[0] if lengths else MAX_TOKENS, "stop": list(dict.fromkeys(stop))}
    temperature = float(settings.get("temperature") or 0)
    samples = settings.get("do_sample")
    if samples and not temperature:
        raise TaskError(
            f"{place}.temperature: found 0 with do_sample; allowed: above 0, or do_sample: false."
        )
    if samples or (samples is None and temperature):
        decoding |= {key: settings[key] for key in ("top_p", "top_k") if settings.get(key) is not None}
        return {**decoding, "temperature": temperature, "samples": repeats}
    return {**decoding, "samples": 1}


def _texts(task: Any, samples: int, where: str) -> dict[str, Any]:
    """Return the key `texts`, with `pipelines` if lm-eval's names of metrics have that of a pipeline."""
    found = pipelines_of_task(task, where)
    # Of greedy decoding, the repeats are equal, and the first stands for all.
    left = ("take_first_k",) if samples < task.config.repeats else ()
    filters = [[each for each in one.filters if each["function"] not in left] for one in found]
    texts: dict[str, Any] = {METRIC: found[0].options} if found[0].options else {}
    if [one.name for one in found] == [NONE]:
        return {"filters": filters[0], **texts} if filters[0] else texts
    every = {"function": "take_first_k", "k": samples}
    named = zip(found, filters, strict=True)
    return {"pipelines": [{"name": one.name, "filters": of or [every]} for one, of in named], **texts}
