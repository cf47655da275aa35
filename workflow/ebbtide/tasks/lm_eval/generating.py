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
from ebbtide.tasks.generation.filters import FILTERS, check_filters, check_pattern
from ebbtide.tasks.lm_eval.harness import module

METRIC = "exact_match"
MAX_TOKENS = 256  # of lm-eval's models, for a task that sets none
# lm-eval takes the first that is set.
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SETTINGS = (*_LENGTHS, "until", "do_sample", "temperature", "top_p", "top_k")


def keys_of(task: Any, where: str) -> dict[str, Any]:
    """Return `fields`, `decoding` and `texts` of a task of type `generate_until`, built by lm-eval.

    Raises `TaskError` for a task with repeats, several pipelines of filters, or another metric than
    `exact_match`, and for filters, options or settings of decoding that we lack.
    """
    config = task.config
    if config.repeats != 1:
        raise TaskError(f"{where}: repeats: found {config.repeats}; allowed: 1 for tasks that generate text.")
    settings = [instance.args[1] for instance in task.instances]
    if not settings:
        raise TaskError(f"{where} has no documents.")
    if other := [number for number, found in enumerate(settings) if found != settings[0]]:
        raise TaskError(
            f"{where}: document {other[0]} has other generation_kwargs than document 0; allowed: the "
            "same for all documents."
        )
    found = {"decoding": _decoding(settings[0], where), "texts": _texts(task, where)}
    schema = load_schema("task")
    both = {"properties": {key: schema["properties"][key] for key in found}, "$defs": schema["$defs"]}
    try:
        checked = check(found, {"type": "object", **both}, where)
        given = {key: value for key, value in checked["decoding"].items() if key != "keep_text"}
        Decoding(**{**given, "stop": tuple(given["stop"])})
        check_filters(checked["texts"].get("filters", ()), 1, f"{where}: texts.filters")
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
    accepted = list(target) if isinstance(target, list | tuple) else [target]
    if not accepted or not all(isinstance(text, str) for text in accepted):
        raise TaskError(f"{where}: the target is {target!r:.80}; allowed: a text, or a list of texts.")
    return json.dumps(accepted, ensure_ascii=False)


def _decoding(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
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
        decoding["temperature"] = temperature
    return decoding


def _texts(task: Any, where: str) -> dict[str, Any]:
    pipelines = task.config.filter_list or []
    if len(pipelines) > 1:
        names = ", ".join(str(pipeline["name"]) for pipeline in pipelines)
        raise TaskError(
            f"{where}: filter_list: found {len(pipelines)} pipelines ({names}), but a text is measured "
            "once; copy the task with one of them."
        )
    filters = [dict(each) for pipeline in pipelines for each in pipeline["filter"]]
    for each in filters:
        if each["function"] not in FILTERS:
            raise TaskError(
                f"{where}: filter_list: the filter {each['function']!r} does not run here; allowed: "
                f"{', '.join(FILTERS)}."
            )
    # Others see letters, not texts, after it, and without it the metric would get a list.
    if filters and [each["function"] == "take_first" for each in filters] != [False] * (len(filters) - 1) + [
        True
    ]:
        raise TaskError(f"{where}: filter_list: allowed: the filter take_first once, as the last one.")
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
    return {**({"filters": filters} if filters else {}), **({METRIC: options} if options else {})}
