"""Preparations: named functions of the package from a data file to the rows of a task, and their register."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebbtide.errors import ConfigError, TaskError, nearest
from ebbtide.schema import check
from ebbtide.tasks.rows import Rows, read_rows

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Preparation:
    """A preparation.

    Parameters
    ----------
    name, description
        Value of the key `function` of `source.prepare`; what its rows are, in one line.
    version
        Increment it when the same file and arguments give other rows: it is part of a task's identity.
    rows
        Function of the data file, the arguments (with their defaults) and the file and key that name them. It
        returns the rows, which are equal on every machine: random choices come from `corpus.draw.Draw`. It
        raises `TaskError`.
    reads_file
        Whether the rows are made from a file; if not, `rows` gets the path "".
    arguments, required
        JSON schema of each argument; those that a definition must have. A default does not enter the
        identity, so a new argument whose default changes nothing leaves the identities of tasks as they are.
    """

    name: str
    description: str
    version: int
    rows: Callable[[Path, Arguments, str], Rows]
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    reads_file: bool = True

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the key `prepare`."""
        return {
            "type": "object",
            "additionalProperties": False,
            "required": ["function", *self.required],
            "properties": {"function": {"const": self.name}, **self.arguments},
        }

    def identity(self, arguments: Arguments) -> dict[str, Any]:
        """What of a definition's `prepare` determines the rows: the function, its version, its arguments."""
        absent = object()
        changed = {
            name: value
            for name, value in arguments.items()
            if value != self.arguments.get(name, {}).get("default", absent)
        }
        return {**changed, "version": self.version}


PREPARATIONS: dict[str, Preparation] = {}


def register(preparation: Preparation) -> Preparation:
    """Add a preparation to `PREPARATIONS`. ValueError for a name that is there already."""
    if preparation.name in PREPARATIONS:
        raise ValueError(f"there is already a preparation {preparation.name!r}")
    PREPARATIONS[preparation.name] = preparation
    return preparation


def with_preparations(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of definitions with the names of all preparations; `with_arguments` checks the arguments."""
    described = "; ".join(f"{one.name}: {one.description}" for one in PREPARATIONS.values())
    prepared = schema["$defs"]["prepared"]
    prepare = prepared["properties"]["prepare"]
    function = prepare["properties"]["function"]
    named = {
        **function,
        "description": f"{function['description']}. {described}",
        "enum": list(PREPARATIONS),
    }
    keys = {
        **prepared["properties"],
        "prepare": {
            **prepare,
            "additionalProperties": True,
            "properties": {**prepare["properties"], "function": named},
        },
    }
    return {**schema, "$defs": {**schema["$defs"], "prepared": {**prepared, "properties": keys}}}


def with_arguments(definition: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a definition, checked but for the arguments of its preparation, with their defaults.

    Raises `ConfigError` for arguments that the function does not have, lacks or does not allow; `where` is
    the file.
    """
    source = definition["source"]
    if "prepare" not in source:
        return definition
    preparation = PREPARATIONS[source["prepare"]["function"]]
    if ("file" in source) != preparation.reads_file:
        found, needs = ("found", "no file") if "file" in source else ("missing", "a file")
        raise ConfigError(f"{where}: source.file: {found}; preparation {preparation.name!r} needs {needs}.")
    # Nested, so that a message names the whole key.
    nested = {"source": {"prepare": source["prepare"]}}
    schema = {"properties": {"source": {"properties": {"prepare": preparation.schema}}}}
    return {**definition, "source": {**source, **check(nested, schema, where)["source"]}}


def identity_of(source: Mapping[str, Any]) -> dict[str, Any]:
    """What of a source's `prepare`, if it has one, belongs to the identity of its task."""
    if "prepare" not in source:
        return {}
    arguments = source["prepare"]
    return {"prepare": PREPARATIONS[arguments["function"]].identity(arguments)}


def pinned_by(source: Mapping[str, Any], path: Path) -> str:
    """Return the key of the digest of a source's file: sha256, or md5.

    Raises `ConfigError` unless it has exactly one.
    """
    given = [key for key in ("sha256", "md5") if key in source]
    if len(given) != 1:
        raise ConfigError(
            f"{path}: source.sha256: found {' and '.join(given) or 'no digest'}; allowed: sha256, or md5 for "
            "a file whose publisher states only that; `ebbtide pin` writes the first."
        )
    return given[0]


def rows_of(path: Path, source: Mapping[str, Any], where: str) -> Rows:
    """Return the rows of a data file: those that its preparation makes, or those in its format.

    Raises `TaskError`; `where` is the file and key of the source.
    """
    if "prepare" not in source:
        return read_rows(path, source)
    arguments = source["prepare"]
    return PREPARATIONS[arguments["function"]].rows(path, arguments, f"{where}.prepare")


def check_columns(found: Iterable[str], expected: Iterable[str], path: Path) -> None:
    """Raise `TaskError` for the first of the expected columns that a data file does not have."""
    names = list(found)
    for name in expected:
        if name not in names:
            raise TaskError(
                f"{path}: no column {name!r} (found: {', '.join(names) or 'none'})"
                f"{nearest(name, names) or '.'}"
            )
