"""The keys of a definition that only a task that generates has: `decoding`, `texts`, `chat_template`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.errors import ConfigError
from ebbtide.scoring.generation.decoding import Decoding
from ebbtide.tasks.generation.classifiers import classifiers_of
from ebbtide.tasks.generation.filters import check_filters, check_pattern
from ebbtide.tasks.kinds import Kind

KEYS = ("decoding", "texts", "chat_template")


def decoding_of(definition: Mapping[str, Any]) -> Decoding:
    """Return how the texts of a checked definition are decoded."""
    given = {key: value for key, value in definition["decoding"].items() if key != "keep_text"}
    return Decoding(**{**given, "stop": tuple(given["stop"])})


def check_generation(definition: Mapping[str, Any], kind: Kind, path: Path) -> None:
    """Raise `ConfigError` for these keys of another kind, or values that the schema cannot refuse."""
    if kind.needs != "samples":
        if given := [key for key in KEYS if key in definition]:
            raise ConfigError(
                f"{path}: {given[0]}: found for kind {kind.name!r}, which generates no texts; allowed: with "
                "kind 'generation'."
            )
        return
    if "max_tokens" not in definition.get("decoding", {}):
        missing = "decoding.max_tokens" if "decoding" in definition else "decoding"
        raise ConfigError(
            f"{path}: {missing}: missing; kind {kind.name!r} needs decoding, with max_tokens at least."
        )
    try:
        decoding = decoding_of(definition)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.args[0]}") from None
    if "k" in definition.get("few_shot", {}) and "target" not in definition["fields"]:
        raise ConfigError(
            f"{path}: few_shot.k: the answers of few-shot examples are fields.target, which is missing."
        )
    for key, section in (("fit", definition), ("few_shot.fit", definition.get("few_shot", {}))):
        if "fit" in section:
            raise ConfigError(f"{path}: {key}: kind {kind.name!r} cannot leave out parts; remove the key.")
    _check_texts(definition, decoding.samples, path)


def with_lm_eval_keys(definition: dict[str, Any], raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the definition of a task of lm-eval, of which `kind: generation` may be known.

    Then it may have `decoding.keep_text`; lm-eval decides the rest. `definition` has the defaults of the
    schema, `raw` has not. Raises `ConfigError` for another kind, and other keys of `decoding`.
    """
    if definition.get("kind", "generation") != "generation":
        raise ConfigError(
            f"{path}: kind: found {definition['kind']!r}; allowed: generation, for a task of lm-eval that "
            "generates text; for others, remove the key, because lm-eval decides it."
        )
    given = raw.get("decoding", {})
    if others := [key for key in given if key != "keep_text"]:
        raise ConfigError(
            f"{path}: decoding.{others[0]}: lm-eval's generation_kwargs decide it; allowed: keep_text. To "
            "change it, copy the task to a directory and set source.include_path."
        )
    if given and "kind" not in definition:
        raise ConfigError(f"{path}: decoding.keep_text: only with kind: generation; add it.")
    kept = {"decoding": {"keep_text": True}} if given.get("keep_text") else {}
    return {**{key: value for key, value in definition.items() if key != "decoding"}, **kept}


def _check_texts(definition: Mapping[str, Any], samples: int, path: Path) -> None:
    texts, has_target = definition.get("texts", {}), "target" in definition["fields"]
    for key in ("filters", "pipelines", "exact_match"):
        if key in texts and not has_target:
            raise ConfigError(
                f"{path}: texts.{key}: answers are compared with fields.target, which is missing; set it, or "
                "remove the key."
            )
    check_pipelines(texts, samples, f"{path}: texts")
    for number, pattern in enumerate(texts.get("exact_match", {}).get("regexes_to_ignore", ())):
        check_pattern(pattern, f"{path}: texts.exact_match.regexes_to_ignore[{number}]")
    names = [classifier.name for classifier in classifiers_of(texts, f"{path}: texts.classifiers")]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ConfigError(f"{path}: texts.classifiers: found {twice[0]} twice; allowed: once.")


def check_pipelines(texts: Mapping[str, Any], samples: int, where: str) -> None:
    """Raise `ConfigError` for filters that do not exist or have wrong arguments, and for equal names."""
    if "pipelines" not in texts:
        check_filters(texts.get("filters", ()), samples, f"{where}.filters")
        return
    if "filters" in texts:
        raise ConfigError(f"{where}: found filters and pipelines; allowed: one of them.")
    names = [one["name"] for one in texts["pipelines"]]
    for number, one in enumerate(texts["pipelines"]):
        if one["name"] in names[:number]:
            raise ConfigError(
                f"{where}.pipelines[{number}].name: found {one['name']!r} twice; allowed: once."
            )
        check_filters(one["filters"], samples, f"{where}.pipelines[{number}].filters")


def generation_identity(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries of a task's identity: settings of decoding, versions and digests of classifiers.

    A number is the same however it is written: 1 is 1.0. A task of lm-eval is decoded as lm-eval does.
    """
    if "lm_eval" in definition["source"]:
        return {}
    given = definition["decoding"]
    numbers = {name: float(given[name]) for name in ("temperature", "top_p")}
    found = classifiers_of(definition.get("texts", {}))
    known = {one.name: [one.version, one.digest] for one in found}
    return {"decoding": {**given, **numbers}, **({"classifiers": known} if known else {})}
