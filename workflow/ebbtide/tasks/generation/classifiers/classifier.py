"""The register of classifiers, which score generated texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ebbtide.errors import ConfigError, nearest
from ebbtide.schema import check

Spec = (
    str | Mapping[str, Any]
)  # an item of texts.classifiers: a name, or {function: name, argument: value, …}


@dataclass(frozen=True)
class Classifier:
    """A classifier of texts, with its arguments.

    Attributes
    ----------
    name
        Of lower-case letters, digits and underscores; the column of its scores is `score_{name}`.
    version
        Version of the package or model.
    digest
        Of what determines the scores, such as the sha256 of the weights; part of a task's identity.
    scores
        Function from different texts to as many numbers from 0 to 1; NaN for a text that cannot be scored.
    check
        Raises `ConfigError` if the classifier cannot score. Called in a scoring job before it generates.
    """

    name: str
    version: str
    digest: str
    scores: Callable[[Sequence[str]], np.ndarray]
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Entry:
    """A classifier in the register.

    Attributes
    ----------
    name
        Name in `texts.classifiers`.
    make
        Function from the arguments to the classifier. It raises `ConfigError`, in words that follow a key,
        for a package that is not installed.
    arguments, required
        JSON schema of each argument; those that a definition must have.
    higher_is_better
        None if neither is.
    """

    name: str
    make: Callable[[Mapping[str, Any]], Classifier]
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    higher_is_better: bool | None = None


CLASSIFIERS: dict[str, Entry] = {}


def register(entry: Entry) -> Entry:
    """Add a classifier to `CLASSIFIERS`. ValueError for a name that is there already."""
    if entry.name in CLASSIFIERS:
        raise ValueError(f"there is already a classifier {entry.name!r}")
    CLASSIFIERS[entry.name] = entry
    return entry


def fixed(classifier: Classifier) -> Entry:
    """Return the entry of a classifier without arguments."""
    return Entry(classifier.name, lambda _: classifier)


def name_of(spec: Spec) -> str:
    """Return the name of an item of `texts.classifiers`."""
    return spec if isinstance(spec, str) else str(spec["function"])


def classifier_of(spec: Spec, where: str) -> Classifier:
    """Return the classifier of an item of `texts.classifiers`; `where` is its file and key.

    Raises `ConfigError` for an unknown name, wrong arguments, or a package that is not installed.
    """
    name = name_of(spec)
    if name not in CLASSIFIERS:
        known = ", ".join(CLASSIFIERS)
        raise ConfigError(
            f"{where}: found {name!r}; allowed: {known}{nearest(name, list(CLASSIFIERS)) or '.'}"
        )
    entry = CLASSIFIERS[name]
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["function", *entry.required],
        "properties": {"function": {"const": name}, **entry.arguments},
    }
    arguments = check({"function": name} if isinstance(spec, str) else dict(spec), schema, where)
    try:
        return entry.make({key: value for key, value in arguments.items() if key != "function"})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.args[0]}") from None


def classifiers_of(texts: Mapping[str, Any], where: str = "texts.classifiers") -> list[Classifier]:
    """Return the classifiers of the key `texts` of a definition, in order. Raises `ConfigError`."""
    specs = texts.get("classifiers", ())
    return [classifier_of(spec, f"{where}[{number}]") for number, spec in enumerate(specs)]
