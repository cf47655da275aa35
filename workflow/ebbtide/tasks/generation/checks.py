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
    if "decoding" not in definition:
        raise ConfigError(
            f"{path}: decoding: missing; kind {kind.name!r} needs it, with max_tokens at least."
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


def _check_texts(definition: Mapping[str, Any], samples: int, path: Path) -> None:
    texts, has_target = definition.get("texts", {}), "target" in definition["fields"]
    for key in ("filters", "exact_match"):
        if key in texts and not has_target:
            raise ConfigError(
                f"{path}: texts.{key}: answers are compared with fields.target, which is missing; set it, or "
                "remove the key."
            )
    check_filters(texts.get("filters", ()), samples, f"{path}: texts.filters")
    for number, pattern in enumerate(texts.get("exact_match", {}).get("regexes_to_ignore", ())):
        check_pattern(pattern, f"{path}: texts.exact_match.regexes_to_ignore[{number}]")
    names = [classifier.name for classifier in classifiers_of(texts, f"{path}: texts.classifiers")]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ConfigError(f"{path}: texts.classifiers: found {twice[0]} twice; allowed: once.")


def generation_identity(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries of a task's identity: settings of decoding, versions and digests of classifiers.

    A number is the same however it is written: 1 is 1.0.
    """
    given = definition["decoding"]
    numbers = {name: float(given[name]) for name in ("temperature", "top_p")}
    found = classifiers_of(definition.get("texts", {}))
    known = {one.name: [one.version, one.digest] for one in found}
    return {"decoding": {**given, **numbers}, **({"classifiers": known} if known else {})}
