"""What a kind of task is, and the register of all kinds.

A kind says which fields a definition has, how an example becomes requests, what `gold` is, and which answers
of a model it needs. The schema of definitions, the scoring job and the metrics read it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ebbtide.errors import ConfigError, TaskError
from ebbtide.tasks.render import Row

DEFAULT = "choice"
COMMON_FIELDS = frozenset({"prompt", "choices", "gold"})  # the schema fills these in for every kind

Gold = bool | float


@dataclass(frozen=True)
class Request:
    """One request. `of` is the choice that it refers to; `extra` has columns that only some kinds have."""

    of: int
    context: str
    continuation: str
    gold: Gold
    role: str = "choice"
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """The requests of one example.

    `prompt` and `answer` are its text as a few-shot example; in another format, `asked` replaces the prompt.
    """

    requests: tuple[Request, ...]
    prompt: str = ""
    answer: str | None = None
    asked: str | None = None


Maker = Callable[[Row], Example]


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Parameters
    ----------
    name, description
        Value of the key `kind` of a definition; its meaning in one line.
    maker
        Function of the fields and the delimiter of a definition. It returns a function from a row to its
        requests, which raises `BadRow`.
    common
        The fields of `COMMON_FIELDS` that the kind uses.
    fields
        Its other fields, each with its JSON schema; two kinds may share one.
    required
        The fields that a definition must have.
    check
        Function of the fields and the file's name; raises `ConfigError` for inconsistent fields.
    gold
        `choices`: marks or weighs the right choices, and each example has a right and a wrong one.
        `target`: marks the choice whose value is the target, if there is one. `all`: every request is true.
    needs
        What a model must compute: `loglikelihoods` of continuations, `losses` of whole documents, or
        `samples` of texts.
    rows
        Requests of the role `choice` per example; None where it varies. Of samples, the rows are those.
    roles
        Further roles, each with one request per choice (see `freezing.freeze`).
    field_roles
        Further roles that an example has if the definition has a field: the field → its role.
    columns
        Columns of numbers that the requests have, finite in each row.
    example_columns
        The columns that are equal in all rows of an example.
    unconditional, few_shot, formats, invertible
        Whether a definition may have these keys (the last is `invert`).
    """

    name: str
    description: str
    maker: Callable[[Mapping[str, Any], str], Maker]
    common: frozenset[str] = COMMON_FIELDS
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    check: Callable[[Mapping[str, Any], str], None] | None = None
    gold: Literal["choices", "target", "all"] = "choices"
    needs: Literal["loglikelihoods", "losses", "samples"] = "loglikelihoods"
    rows: int | None = None
    roles: tuple[str, ...] = ()
    field_roles: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    example_columns: tuple[str, ...] = ()
    unconditional: bool = False
    few_shot: bool = True
    formats: bool = False
    invertible: bool = True

    def has_roles(self, definition: Mapping[str, Any]) -> bool:
        """Whether a task of this kind has requests of further roles."""
        given = definition.get("fields", {})
        return bool(self.roles) or "unconditional" in definition or any(f in given for f in self.field_roles)

    def check_fields(self, fields: Mapping[str, Any], where: str) -> None:
        """Raise `ConfigError` for fields that the kind does not have, lacks, or that do not fit together."""
        allowed = self.common | self.fields.keys()
        if foreign := sorted(fields.keys() - allowed - COMMON_FIELDS):
            raise ConfigError(
                f"{where}: fields.{foreign[0]}: found for kind {self.name!r}, which has the fields "
                f"{', '.join(sorted(allowed))}."
            )
        if missing := sorted(self.required - fields.keys()):
            raise ConfigError(f"{where}: fields.{missing[0]}: missing; kind {self.name!r} needs it.")
        if self.check is not None:
            self.check(fields, where)


KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> Kind:
    """Add a kind to `KINDS`. ValueError for a name, or another schema of a field, that is there already."""
    if kind.name in KINDS:
        raise ValueError(f"there is already a kind {kind.name!r}")
    for other in KINDS.values():
        for name in kind.fields.keys() & other.fields.keys():
            if kind.fields[name] != other.fields[name]:
                raise ValueError(f"kind {other.name!r} has the field {name!r} with another schema")
    KINDS[kind.name] = kind
    return kind


def kind_of(definition: Mapping[str, Any]) -> Kind:
    """The kind of a definition. Raises `TaskError` for one that does not exist."""
    name = definition.get("kind", DEFAULT)
    if name not in KINDS:
        raise TaskError(f"kind: found {name!r}, allowed: {', '.join(KINDS)}.")
    return KINDS[name]


def with_kinds(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of definitions with the names of all kinds and with their fields."""
    properties = dict(schema["properties"])
    described = "; ".join(f"{kind.name}: {kind.description}" for kind in KINDS.values())
    properties["kind"] = {
        **properties["kind"],
        "description": f"{properties['kind']['description']}. {described}",
        "enum": list(KINDS),
    }
    own = {name: dict(field) for kind in KINDS.values() for name, field in kind.fields.items()}
    common = properties["fields"]["properties"]
    properties["fields"] = {**properties["fields"], "properties": {**common, **own}}
    return {**schema, "properties": properties}
