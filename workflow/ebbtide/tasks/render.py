"""Values of a row, by the name of a field or by a Jinja template.

A text that contains ``{{`` or ``{%`` is a template. Templates run in a sandbox: they can read only the row
and cannot change anything. A field that the row does not have is an error.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ebbtide.errors import ConfigError

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

Row = Mapping[str, Any]
Reader = Callable[[Row], Any]
TextReader = Callable[[Row], str]

_LONGEST = 80  # characters of a value in a message
_EXPRESSION = re.compile(r"\s*\{\{(?P<inside>(?:(?!\{\{|\}\}|\{%|%\}).)*)\}\}\s*", re.DOTALL)


class BadRow(Exception):  # noqa: N818  (becomes an error unless the definition drops such rows)
    """A row from which no requests can be made; the message is the reason."""


def is_template(text: str) -> bool:
    """Whether `text` is a template, not a plain text or the name of a field."""
    return "{{" in text or "{%" in text


def check_template(text: str, where: str) -> None:
    """Raise `ConfigError` for a template with a syntax error."""
    from jinja2 import TemplateSyntaxError

    if is_template(text):
        try:
            _compiled(text)
        except TemplateSyntaxError as error:
            raise ConfigError(
                f"{where}: {excerpt(text)} is not a valid Jinja template: {_message(error)}."
            ) from None


def value_of(spec: str) -> Reader:
    """Return a function that reads a field or evaluates a template.

    A template that is a single expression (``{{ mc1_targets.choices }}``) gives its value; others give text.
    """
    if is_template(spec):
        return _compiled(spec)
    return lambda row: _field(row, spec)


def text_of(spec: str) -> TextReader:
    """Return a function that reads a field or renders a template, as text."""
    value = value_of(spec)
    return lambda row: as_text(value(row), spec)


def literal_of(spec: str) -> TextReader:
    """Return a function that gives the text itself, or renders a template."""
    return text_of(spec) if is_template(spec) else lambda row: spec


def as_text(value: Any, what: str) -> str:
    """Return a text, or a number as text. Raises `BadRow` for other types."""
    if isinstance(value, str):
        return encodable(value, what)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise BadRow(f"{what} must be a text, found {excerpt(value)}")


def as_number(value: Any, what: str) -> float:
    """Return a finite number, possibly parsed from text. Raises `BadRow` for anything else."""
    try:
        number = float(as_text(value, what))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadRow(f"{what} must be a number, found {excerpt(value)}")
    return number


def not_empty(text: str, what: str) -> str:
    """Return the text. Raises `BadRow` if it is empty."""
    if not text:
        raise BadRow(f"{what} is empty")
    return text


def encodable(text: str, what: str) -> str:
    """Return the text. Raises `BadRow` for an unpaired surrogate, which JSON can contain but UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"{text[error.start]!r} at character {error.start + 1}"
        raise BadRow(f"{what} has half of a surrogate pair ({found}), which UTF-8 cannot encode") from None
    return text


def python_literal(text: str) -> Any:
    """Parse a text as a Python literal. Raises `ValueError` if it is not one."""
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"{text!r} is not a literal") from None


def excerpt(value: Any) -> str:
    """Return the `repr` of a value, shortened for a message."""
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _field(row: Row, name: str) -> Any:
    if name not in row:
        raise BadRow(f"no field {name!r} (found: {', '.join(map(str, row))})")
    return row[name]


@lru_cache(maxsize=256)
def _compiled(text: str) -> Reader:
    """Compile a template to a function of the row. Raises jinja2's `TemplateSyntaxError`."""
    from jinja2 import Undefined

    environment = _environment()
    if match := _EXPRESSION.fullmatch(text):
        expression = environment.compile_expression(match["inside"], undefined_to_none=False)

        def evaluate(row: Row) -> Any:
            value = _guarded(lambda: expression(**_names(row)), text)
            if isinstance(value, Undefined):
                return _guarded(lambda: str(value), text)  # raises an error that names the variable
            return value

        return evaluate
    template = environment.from_string(text)
    return lambda row: _guarded(lambda: template.render(**_names(row)), text)


def _names(row: Row) -> dict[str, Any]:
    return {k: v for k, v in row.items() if isinstance(k, str)}


def _guarded(render: Callable[[], Any], text: str) -> Any:
    """Call `render`, and turn any error into `BadRow`, because templates are the user's code."""
    try:
        return render()
    except Exception as error:
        raise BadRow(f"the template {excerpt(text)} fails: {_message(error)}") from None


def _message(error: Exception) -> str:
    """Return the message of an error on one line, without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


@lru_cache(maxsize=1)
def _environment() -> "SandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
