"""Values of a row, by the name of a field or by a Jinja template.

A text that contains ``{{`` or ``{%`` is a template. Templates run in a sandbox: they can read only the row
and cannot change anything. A field that the row does not have is an error.

Texts are kept character by character, including white space around a template. Only texts and finite numbers
become text: a missing value (null, NaN), a list or a flag in a text is an error of its row.
"""

import ast
import io
import math
import re
import tokenize
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ebbtide.errors import ConfigError

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

Row = Mapping[str, Any]
Reader = Callable[[Row], Any]
TextReader = Callable[[Row], str]

_LONGEST = 80  # characters of a value in a message
_LARGEST = 10_000_000  # items or bits of a product or power in a template, which would otherwise take hours
# A template that is one expression. As in Jinja, {{- and -}} remove the white space around it.
_EXPRESSION = re.compile(
    r"(?P<before>\s*)\{\{(?P<left>[-+]?)(?P<inside>(?:(?!\{\{|\}\}|\{%|%\}).)*?)"
    r"(?P<right>-?)\}\}(?P<after>\s*)",
    re.DOTALL,
)
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


class BadRow(Exception):  # noqa: N818  (becomes an error unless the definition drops such rows)
    """A row from which no requests can be made; the message is the reason."""


def is_template(text: str) -> bool:
    """Whether `text` is a template, not a plain text or the name of a field."""
    return "{{" in text or "{%" in text


def check_template(text: str, where: str) -> None:
    """Raise `ConfigError` for a template with a syntax error, or a character that Jinja would change."""
    from jinja2 import TemplateSyntaxError

    if is_template(text):
        if "\r" in text:
            raise ConfigError(
                f"{where}: {excerpt(text)} has a carriage return, which Jinja replaces by a line feed; "
                "write {{ '\\r' }} in its place, in single quotes or a block of YAML."
            )
        try:
            _compiled(text)
        except TemplateSyntaxError as error:
            raise ConfigError(
                f"{where}: {excerpt(text)} is not a valid Jinja template: {_message(error)}."
            ) from None


def fields_read(specs: Iterable[str]) -> set[str]:
    """Return the fields that names of fields and valid templates read."""
    from jinja2 import meta

    read: set[str] = set()
    for spec in specs:
        template = _environment().parse(spec) if is_template(spec) else None
        read |= {spec} if template is None else meta.find_undeclared_variables(template)
    return read


def value_of(spec: str) -> Reader:
    """Return a function that reads a field or evaluates a template.

    A template that is a single expression (``{{ mc1_targets.choices }}``) gives its value, whatever white
    space is around it; others give text.
    """
    if is_template(spec):
        return _compiled(spec)
    return lambda row: _field(row, spec)


def text_of(spec: str) -> TextReader:
    """Return a function that reads a field or renders a template, with the white space around it, as text."""
    value, (before, after) = value_of(spec), surrounding(spec)
    return lambda row: before + as_text(value(row), spec) + after


def literal_of(spec: str) -> TextReader:
    """Return a function that gives the text itself, or renders a template."""
    return text_of(spec) if is_template(spec) else lambda row: encodable(spec, spec)


def surrounding(spec: str) -> tuple[str, str]:
    """Return the white space before and after a template that is one expression; else two empty texts."""
    match = _EXPRESSION.fullmatch(spec)
    if match is None:
        return "", ""
    return "" if match["left"] == "-" else match["before"], "" if match["right"] else match["after"]


def was_changed(spec: str, *, text: bool) -> bool:
    """Whether an earlier version rendered this template otherwise: it dropped the white space around a lone
    expression in a text, and read ``{{-`` as a minus.
    """
    match = _EXPRESSION.fullmatch(spec)
    return match is not None and (match["left"] == "-" or (text and any(surrounding(spec))))


def as_text(value: Any, what: str) -> str:
    """Return a text, or a finite number as text. Raises `BadRow` for other types and missing values."""
    if isinstance(value, str):
        return encodable(str(value), what)  # a plain text also for Jinja's Markup
    if isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value):
        try:
            return str(value)
        except ValueError:  # Python's limit of digits
            pass
    raise BadRow(f"{what} must be a text, found {excerpt(value)}")


def as_number(value: Any, what: str) -> float:
    """Return a finite number, possibly parsed from text. Raises `BadRow` for anything else."""
    text = as_text(value, what)
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise BadRow(f"{what} must be a number, found {excerpt(value)}")
    return number


def is_finite(number: float) -> bool:
    """Whether a number is neither NaN nor infinite; integers of any size are finite."""
    return isinstance(number, int) or math.isfinite(number)


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
    """Parse a text as a Python literal. Raises `ValueError` if it is not one.

    Texts without a comma between them, as numpy prints a list, are not: Python would join them.
    """
    try:
        literal = ast.literal_eval(text.strip())
        tokens = [token.type for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline)]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
        raise ValueError(f"{text!r} is not a literal") from None
    texts = [kind for kind in tokens if kind not in (tokenize.NL, tokenize.COMMENT)]
    if (tokenize.STRING, tokenize.STRING) in pairwise(texts):
        raise ValueError(f"{text!r} has texts without a comma between them")
    return literal


def excerpt(value: Any) -> str:
    """Return the `repr` of a value, shortened for a message."""
    try:
        text = repr(value)
    except ValueError:  # Python's limit of digits
        text = f"a value of type {type(value).__name__} with too many digits"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _field(row: Row, name: str) -> Any:
    if name not in row:
        names = ", ".join(str(key) if str(key).isprintable() else repr(key) for key in row)
        raise BadRow(f"no field {name!r} (found: {names})")
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
            return _unmarked(value)

        return evaluate
    template = environment.from_string(text)
    return lambda row: _guarded(lambda: template.render(**_names(row)), text)


class _Missing:
    """A missing value of a row in a template: false and none, as None is, but an error where it is text."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        raise _NotText(self.value)

    __repr__ = __str__

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _Missing)

    def __hash__(self) -> int:
        return hash(None)


_Missing.__name__ = "missing value"  # in messages of Python, which name the types of operands


class _NotText(Exception):  # noqa: N818  (becomes a `BadRow` that names the template)
    """A value that a template would print, but that is not text."""


def _names(row: Row) -> dict[str, Any]:
    return {k: _marked(v) for k, v in row.items() if isinstance(k, str)}


def _marked(value: Any) -> Any:
    """Replace missing values by `_Missing`, at any depth."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return _Missing(value)
    if isinstance(value, dict):
        return {key: _marked(inner) for key, inner in value.items()}
    return [_marked(inner) for inner in value] if isinstance(value, list) else value


def _unmarked(value: Any) -> Any:
    """Undo `_marked`."""
    if isinstance(value, _Missing):
        return value.value
    if isinstance(value, dict):
        return {key: _unmarked(inner) for key, inner in value.items()}
    return type(value)(map(_unmarked, value)) if type(value) in (list, tuple) else value


def _guarded(render: Callable[[], Any], text: str) -> Any:
    """Call `render`, and turn any error into `BadRow`, because templates are the user's code."""
    try:
        return render()
    except _NotText as error:
        raise BadRow(f"{excerpt(text)} must be a text, found {excerpt(error.args[0])}") from None
    except Exception as error:
        raise BadRow(f"the template {excerpt(text)} fails: {_message(error)}") from None


def _printed(value: Any) -> Any:
    """Return a value that a template prints; raises `_NotText` for one that is not text or a number."""
    from jinja2 import Undefined

    if isinstance(value, str | _Missing | Undefined):
        return value  # the last two raise their own errors
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
        raise _NotText(_unmarked(value))
    return value


def _message(error: Exception) -> str:
    """Return the message of an error on one line, without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _size(operator: str, left: Any, right: Any) -> int:
    """Return the items of a repeated text or list, or the bits of a power of integers; else 0."""
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        return left.bit_length() * abs(right)
    for one, times in ((left, right), (right, left)):
        if operator == "*" and isinstance(one, str | list | tuple) and isinstance(times, int):
            return len(one) * times
    return 0


@lru_cache(maxsize=1)
def _environment() -> "SandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Bounded(ImmutableSandboxedEnvironment):
        """Refuses products and powers that would take hours."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if _size(operator, left, right) > _LARGEST:
                raise OverflowError(f"the result of {operator} is too large")
            return super().call_binop(context, operator, left, right)

    environment = Bounded(undefined=StrictUndefined, keep_trailing_newline=True, finalize=_printed)
    environment.tests["none"] = lambda value: value is None or isinstance(value, _Missing)
    return environment
