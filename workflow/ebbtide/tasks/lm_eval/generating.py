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
from ebbtide.tasks.generation.filters import FILTERS, check_pattern
from ebbtide.tasks.generation.pipelines import NONE
from ebbtide.tasks.lm_eval.harness import module

METRIC = "exact_match"
LAST = "take_first"  # filter
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
    texts = {**_pipelines(task, decoding["samples"], where), **_options(task, where)}
    found = {"decoding": decoding, "texts": texts}
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
    target = task.doc_to_target(doc)
    if task.config.doc_to_choice is not None:
        choices = task.doc_to_choice(doc)
        if not hasattr(target, "__index__") or not 0 <= target < len(choices):
            raise TaskError(f"{where}: the target is {target!r:.80}; allowed: 0 to {len(choices) - 1}.")
        target = choices[target]
    elif not task.multiple_target:
        target = str(target)  # as lm-eval does
    elif isinstance(target, str) and len(target) != 1:
        raise TaskError(
            f"{where}: the target is {target!r:.80}, but that of the first document is a list; lm-eval would "
            "compare answers with its letters; allowed: a list for all documents."
        )
    accepted = list(target) if isinstance(target, list | tuple) else [target]
    if not accepted or not all(isinstance(text, str) for text in accepted):
        raise TaskError(f"{where}: the target is {target!r:.80}; allowed: a text, or a list of texts.")
    return json.dumps(accepted, ensure_ascii=False)


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


def _pipelines(task: Any, samples: int, where: str) -> dict[str, Any]:
    """Return `filters`, or `pipelines` if lm-eval's names of metrics have that of a pipeline."""
    place, repeats = f"{where}: filter_list", task.config.repeats
    found: dict[str, list[dict[str, Any]]] = {}
    for pipeline in task.config.filter_list or []:
        name = str(pipeline["name"])
        if name in found:
            raise TaskError(f"{place}: found the name {name!r} twice; allowed: once.")
        found[name] = _filters(pipeline["filter"], repeats, f"{place}: {name}")
        if samples < repeats:  # the repeats are equal, and the first stands for all
            found[name] = [each for each in found[name] if each["function"] != "take_first_k"]
    if not found:
        return {"filters": [{"function": LAST}]} if samples > 1 else {}
    return {"filters": found[NONE]} if list(found) == [NONE] else {"pipelines": found}


def _filters(given: Any, repeats: int, where: str) -> list[dict[str, Any]]:
    """Return the filters of a pipeline."""
    filters = [dict(each) for each in given or ()]
    names = [each["function"] for each in filters]
    for each in filters:
        if each["function"] not in FILTERS:
            raise TaskError(
                f"{where}: the filter {each['function']!r} does not run here; allowed: {', '.join(FILTERS)}."
            )
        if each["function"] == "take_first_k" and not 1 <= each.get("k", 0) <= repeats:
            raise TaskError(
                f"{where}: take_first_k: found k {each.get('k')}; allowed: 1 to repeats, {repeats}."
            )
    # Others see letters, not texts, after it, and without it the metric would get a list.
    if names[-1:] != [LAST] or LAST in names[:-1]:
        raise TaskError(f"{where}: allowed: the filter {LAST} once, as the last one.")
    return filters


def _options(task: Any, where: str) -> dict[str, Any]:
    """Return the options of the metric, as key of `texts`."""
    metrics, own = task._metric_fn_list, module("lm_eval.api.metrics", where)
    for name, function in metrics.items():
        if name != METRIC or function is not own.exact_match_fn:
            raise TaskError(
                f"{where}: metric_list: {name} does not run here; allowed: {METRIC}, without hf_evaluate or "
                "code of the task."
            )
    if not metrics or task._aggregation_list[METRIC] is not own.mean:
        raise TaskError(f"{where}: metric_list: allowed: {METRIC} with aggregation mean.")
    options = {
        key: value for key, value in task._metric_fn_kwargs[METRIC].items() if value not in (None, False)
    }
    return {METRIC: options} if options else {}
