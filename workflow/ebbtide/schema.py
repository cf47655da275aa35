"""Strict YAML, checked against JSON Schema, with one sentence per mistake.

Unknown keys (`additionalProperties: false` everywhere) and repeated keys are errors. Missing keys get the
schema's defaults.
"""

import copy
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import jsonschema
import yaml

from ebbtide.errors import ConfigError, first_line, nearest
from ebbtide.files import read_bounded

SCHEMAS = Path(__file__).parent.parent / "schemas"
_SENTENCE_LENGTH = 80
_MOST_KEYS = 8  # of a section, in a sentence
_MERGE = "tag:yaml.org,2002:merge"
_MOST_BYTES = 4 << 20  # of a YAML file
_DEEPEST, _MOST_VALUES = 50, 1_000_000  # nested values of a YAML file, with aliases expanded
_LONG_NUMBER = re.compile(r"[-+0-9_.:eE]{101,}")  # converting digits takes quadratic time


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is several times as fast


class _StrictLoader(_Loader):  # type: ignore[misc]
    """SafeLoader that rejects repeated keys, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _MERGE:
                continue  # SafeLoader itself rejects lists as keys and resolves `<<`
            key = self.construct_object(key_node, deep=deep)  # type: ignore[no-untyped-call]
            if key in seen:
                raise ConfigError(f"key {key!r} is written twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return cast("dict[Any, Any]", super().construct_mapping(node, deep=deep))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file as a dictionary. Raises `ConfigError` naming file and line."""
    text = read_yaml_text(path)
    try:
        document = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_on_one_line(str(error))}.") from error
    except ValueError as error:  # of a date or a number that YAML recognises but Python does not have
        raise ConfigError(f"{path} is not valid YAML: {first_line(error)}.") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.args[0]}.") from None
    if document is None:
        raise ConfigError(f"{path} is empty; expected keys and values.")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: found {_excerpt(document)}, expected keys and values.")
    return document


def read_yaml_text(path: str | Path) -> str:
    """Read a YAML file whose values can be built: not too large, deep, or multiplied by aliases.

    Raises `ConfigError` naming file and line.
    """
    try:
        text = read_bounded(path, _MOST_BYTES).decode("utf-8")
        _check_structure(text)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_on_one_line(str(error))}.") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.args[0]}.") from None
    return text


def _check_structure(text: str) -> None:
    """Raise `ConfigError` for YAML that would overflow the stack or the memory of a loader.

    Aliases count as often as they are written, also in merge keys (<<). The parser takes time linear in the
    text; loaders do not.
    """
    inside: list[
        tuple[str | None, list[int]]
    ] = []  # anchor, and values and depth so far, of open collections
    known: dict[str, list[int]] = {}  # by anchor
    for event in yaml.parse(text, Loader=_Loader):  # type: ignore[no-untyped-call]
        anchor, size = getattr(event, "anchor", None), [1, 0]
        if isinstance(event, yaml.CollectionStartEvent):
            inside.append((anchor, size))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = inside.pop()
        elif isinstance(event, yaml.AliasEvent):
            if anchor in (opened for opened, _ in inside):
                raise ConfigError(f"alias *{anchor} contains itself{_line_of(event)}")
            anchor, size = None, known.get(anchor or "", size)
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        elif (not event.style or event.tag) and _LONG_NUMBER.fullmatch(event.value):
            raise ConfigError(f"a number has {len(event.value)} characters, allowed: 100{_line_of(event)}")
        if anchor is not None:
            known[anchor] = size
        if inside and inside[-1][1] is not size:
            outer = inside[-1][1]
            outer[0], outer[1] = outer[0] + size[0], max(outer[1], size[1] + 1)
        if len(inside) + size[1] > _DEEPEST:
            raise ConfigError(f"values are nested more than {_DEEPEST} deep{_line_of(event)}")
        if size[0] > _MOST_VALUES:
            raise ConfigError(f"aliases (*name) expand to more than {_MOST_VALUES:,} values{_line_of(event)}")


def _line_of(event: yaml.Event) -> str:
    return f" (line {event.start_mark.line + 1})" if event.start_mark else ""


def load_schema(name: str) -> dict[str, Any]:
    """Read a schema of `workflow/schemas`, by its name without suffix."""
    return read_yaml(SCHEMAS / f"{name}.schema.yaml")


def check(
    document: Mapping[str, Any], schema: Mapping[str, Any], where: str | Callable[[str], str]
) -> dict[str, Any]:
    """Return the document with defaults filled in. Raises `ConfigError` for the first mistake.

    `where` is the file for the message, or a function from the top-level key at fault to its file.
    """
    filled = copy.deepcopy(dict(document))
    _fill_defaults(filled, schema, schema)
    validator = _Validator(schema)
    # Unknown keys first: a misspelt key is also a missing one, and the typo explains both.
    errors = sorted(
        validator.iter_errors(filled), key=lambda e: (e.validator != "additionalProperties", len(e.path))
    )
    if errors:
        sentence = _sentence(errors[0], partial(_is_needed, document, schema))
        file = where if isinstance(where, str) else where(re.split(r"[.\[:]", sentence)[0])
        raise ConfigError(f"{file}: {sentence}")
    return filled


# Stricter than JSON Schema: 1000.0 is not an integer (it would appear in file names), .nan and .inf not
# numbers.
_Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: (
                isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            ),
        }
    ),
)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_name(name: str, where: str) -> str:
    """Return `name` if it may be part of a path; else raise `ConfigError`."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: found name {name!r}; allowed: letters, digits, '_', '.', '-'.")
    return name


def catalogue_file(catalogue: Path, name: str, where: str) -> Path:
    """A YAML file by its path, or by its name in a catalogue, where a leading _ hides a file.

    Raises `ConfigError`; `where` is the file and key at fault.
    """
    if name.endswith((".yaml", ".yml")):
        if not is_file(Path(name)):
            raise ConfigError(f"{where}: {name} does not exist, or is not a file.")
        return Path(name)
    known = sorted(path.stem for path in catalogue.glob("[!_]*.yaml"))
    if name not in known:
        raise ConfigError(f"{where}: found {name!r}{_allowed(name, known)}, or the path of a YAML file.")
    return relative(catalogue / f"{name}.yaml")


def is_file(path: Path) -> bool:
    """Whether a path that a user wrote is a file; no file has a name that is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def relative(path: str | Path) -> Path:
    """Return the path relative to the working directory if it is below it, else as it is."""
    path = Path(path)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def key_path(path: "list[str | int]") -> str:
    """Format the path of a key for messages, such as `models[0].steps`."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return text.removeprefix(".") or "(top level)"


def _fill_defaults(document: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> None:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "if" in schema and isinstance(document, dict):
        chosen = "then" if all(k in document for k in schema["if"]["required"]) else "else"
        _fill_defaults(document, schema[chosen], root)
    if isinstance(document, dict):
        for name, property_ in schema.get("properties", {}).items():
            if name not in document and "default" in property_:
                document[name] = copy.deepcopy(property_["default"])
            if name in document:
                _fill_defaults(document[name], property_, root)
        others = schema.get("additionalProperties")
        if isinstance(others, dict):
            for name in document.keys() - schema.get("properties", {}).keys():
                _fill_defaults(document[name], others, root)
    elif isinstance(document, list) and isinstance(schema.get("items"), dict):
        for item in document:
            _fill_defaults(item, schema["items"], root)


def _is_needed(document: Mapping[str, Any], schema: Mapping[str, Any], path: list[str | int]) -> bool:
    """Whether the document would lack a key, or an entry, if the one at `path` were deleted."""
    without = copy.deepcopy(dict(document))
    *outer, last = path
    inside: Any = without
    for part in outer:
        inside = inside[part]
    del inside[last]
    _fill_defaults(without, schema, schema)
    lacking = ("required", "minItems", "minProperties")
    return any(
        error.validator in lacking and list(error.absolute_path) == outer
        for error in _leaves(_Validator(schema).iter_errors(without))
    )


def _leaves(errors: Iterable[jsonschema.ValidationError]) -> Iterator[jsonschema.ValidationError]:
    """Yield errors, and those in each of several allowed forms."""
    for error in errors:
        yield error
        yield from _leaves(error.context or ())


def _sentence(error: jsonschema.ValidationError, is_needed: Callable[[list[str | int]], bool]) -> str:
    """The mistake in words; `is_needed` says whether the key at a path must be there."""
    path = list(error.absolute_path)
    if error.instance is None and path:
        or_delete = "" if is_needed(path) else " or delete the line"
        allowed = _forms(cast("dict[str, Any]", error.schema))
        return f"{key_path(path)}: empty; allowed: {allowed}{_hint(error)}. Fill it{or_delete}."
    # Of several allowed forms, report the mistake in the one that the value resembles.
    meant = [e for e in error.context or () if e.validator != "const" and (e.path or e.validator != "type")]
    if error.validator == "anyOf" and meant:
        return _sentence(meant[0], is_needed)
    return _mistake(error)


def _hint(error: jsonschema.ValidationError) -> str:
    about = cast("dict[str, Any]", error.schema).get("description", "")
    return f" ({_on_one_line(about).rstrip('.')})" if about else ""


def _mistake(error: jsonschema.ValidationError) -> str:
    key = key_path(list(error.absolute_path))
    value, instance = cast("Any", error.validator_value), cast("Any", error.instance)
    rule, schema = str(error.validator), cast("dict[str, Any]", error.schema)
    hint = _hint(error)
    if rule == "additionalProperties":
        allowed = list(schema.get("properties", {}))
        unknown = sorted(str(k) for k in instance if k not in allowed)[0]
        full = f"{key}.{unknown}" if error.absolute_path else unknown
        return f"{full}: unknown key{_allowed(unknown, allowed)}."
    if rule == "required":
        missing = sorted(k for k in value if k not in instance)[0]
        full = f"{key}.{missing}" if error.absolute_path else missing
        about = schema.get("properties", {}).get(missing, {}).get("description", "")
        return f"{full}: missing" + (f"; expected: {_on_one_line(about).rstrip('.')}." if about else ".")
    found = f"{key}: found {_excerpt(instance)}"
    if rule == "enum":
        allowed = [str(v) for v in value]
        return f"{found}; allowed: {', '.join(allowed)}{nearest(str(instance), allowed) or '.'}"
    if rule == "type":
        return f"{found}; allowed: {value if isinstance(value, str) else ' or '.join(value)}{hint}."
    texts = {
        "pattern": f"allowed: text that matches {value}",
        "minimum": f"allowed: at least {value}",
        "maximum": f"allowed: at most {value}",
        "exclusiveMinimum": f"allowed: more than {value}",
        "exclusiveMaximum": f"allowed: less than {value}",
        "minItems": f"allowed: at least {value} entries",
        "maxItems": f"allowed: at most {value} entries",
        "minProperties": f"allowed: at least {value} entries",
        "uniqueItems": "allowed: each entry once",
        "minLength": f"allowed: at least {value} characters",
    }
    if rule in ("anyOf", "oneOf") and error.context:
        texts[rule] = "allowed: " + " or ".join(
            str(s.get("const", s.get("description", s.get("type", "another form")))) for s in value
        )
    return f"{found}; {texts.get(rule, error.message)}{hint}."


def _forms(schema: Mapping[str, Any]) -> str:
    """What a key may have, in words: its words, types, forms, or the keys of a section."""
    if forms := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(
            str(
                f.get("const")
                or f.get("description")
                or (_forms(f) if {"type", "enum"} & f.keys() else "another form")
            )
            for f in forms
        )
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kinds = schema.get("type", "a value")
    text = kinds if isinstance(kinds, str) else " or ".join(kinds)
    keys = list(schema.get("properties", {}))
    more = ", …" if len(keys) > _MOST_KEYS else ""
    return f"{text} with keys {', '.join(keys[:_MOST_KEYS])}{more}" if keys else str(text)


def _allowed(word: str, allowed: list[str]) -> str:
    """The end of a sentence about an unknown word: the nearest allowed ones first, because lists are long."""
    near = nearest(word, allowed)
    return f"{near} Allowed: {', '.join(allowed)}" if near else f"; allowed: {', '.join(allowed)}"


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SENTENCE_LENGTH else text[: _SENTENCE_LENGTH - 1] + "…"


def _on_one_line(text: str) -> str:
    return " ".join(text.replace('in "<unicode string>", ', "at ").split())
