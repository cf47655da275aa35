"""Values in the formats that papers read: TOML for Typst, macros for LaTeX. Both have the same keys."""

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ebbtide.errors import CellError, first_line
from ebbtide.texts import for_tex, read_text

Value = Any  # str, bool, int, float, or lists and mappings of them; None is left out
DIGITS = 6  # of floats
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = "# Made from the tables of the study; changes are overwritten.\n"
_END = "\n# The end: a file without this line is not whole.\n"
_TEX_HEADER = r"""% \ebbtide{KEY} prints a value, such as \ebbtide{grid.cells}; an unknown key is an error.
\makeatletter
\newcommand{\ebbtide}[1]{\ifcsname ebbtide@#1\endcsname\csname ebbtide@#1\endcsname\else
  \PackageError{ebbtide}{values.tex has no key `#1'}{The keys are those of values.toml.}\fi}
"""


def as_toml(values: Mapping[str, Any]) -> str:
    """Return values as TOML, mappings as tables and lists of mappings as arrays of tables."""
    return "".join((_HEADER, *_table(values, ()), _END))


def check_toml(path: str | Path) -> None:
    """Raise `CellError` unless a file is one of `as_toml`, as a whole: Typst would blame the template."""
    text = read_text(path, CellError)
    try:
        if not text.endswith(_END):
            raise ValueError("its end is missing")
        tomllib.loads(text)
    except ValueError as error:
        raise CellError(
            f"{path} is damaged ({first_line(error)}); delete it and run snakemake paper."
        ) from None


def as_macros(values: Mapping[str, Any]) -> str:
    """Return single values as LaTeX macros, for `\\ebbtide{KEY}`; a key is the path in the TOML.

    Characters that TeX does not allow in a key become `-`; of keys that are then equal, the second ends in
    `-2`. Lists are left out: their rows are those of tables.
    """
    seen: dict[str, int] = {}
    lines = []
    for key, value in _leaves(values):
        seen[key] = seen.get(key, 0) + 1
        name = key if seen[key] == 1 else f"{key}-{seen[key]}"
        lines.append(rf"\expandafter\def\csname ebbtide@{name}\endcsname{{{_tex(value)}}}")
    return _TEX_HEADER + "\n".join(lines) + "\n\\makeatother\n"


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table; a table ends where another one begins, so its own values come first."""
    known = {str(key): value for key, value in values.items() if value is not None}
    inner = {k: v for k, v in known.items() if isinstance(v, Mapping)}
    rows = {k: v for k, v in known.items() if _is_rows(v)}
    for key, value in known.items():
        if key not in inner and key not in rows:
            yield f"{_key(key)} = {_inline(value)}\n"
    for key, value in inner.items():
        yield f"\n[{'.'.join(map(_key, (*path, key)))}]\n"
        yield from _table(value, (*path, key))
    for key, value in rows.items():
        for row in value:
            yield f"\n[[{'.'.join(map(_key, (*path, key)))}]]\n"
            yield from _table(row, (*path, key))


def _is_rows(value: Value) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL, and lone surrogates are in neither."""
    valid = text.encode("utf-8", "replace").decode()
    return json.dumps(valid, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value: Value) -> str:
    if isinstance(value, Mapping):
        known = ((str(k), v) for k, v in value.items() if v is not None)
        return "{" + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in known) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inline(v) for v in value if v is not None) + "]"
    if isinstance(value, str):
        return _string(value)
    return str(value).lower() if isinstance(value, bool) else _number(value)


def _number(value: Any) -> str:
    """Return an integer, or a float with `DIGITS` digits; also of numpy's types."""
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, bool | int):
        return str(number).lower()
    if not math.isfinite(number):
        return "nan" if math.isnan(number) else ("inf" if number > 0 else "-inf")
    text = f"{number:.{DIGITS}g}"
    return text if any(c in text for c in ".e") else f"{text}.0"


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Value]]:
    for name, value in values.items():
        key = f"{path}.{_tex_key(str(name))}" if path else _tex_key(str(name))
        if isinstance(value, Mapping):
            yield from _leaves(value, key)
        elif value is not None and not isinstance(value, list | tuple):
            yield key, value


def _tex_key(key: str) -> str:
    """A key without the characters that have a meaning for TeX in a name, or that no TeX file may contain."""
    return re.sub(r"[\\{}%#~^&$\s\x00-\x1f\x7f-\x9f\ud800-\udfff]", "-", key)


def _tex(value: Value) -> str:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str):
        return for_tex(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = _number(value)
    if text in ("nan", "inf", "-inf"):
        return {"nan": "--", "inf": r"\ensuremath{\infty}", "-inf": r"\ensuremath{-\infty}"}[text]
    mantissa, _, exponent = text.partition("e")
    power = rf"\times 10^{{{int(exponent)}}}" if exponent else ""
    return rf"\ensuremath{{{mantissa.removesuffix('.0')}{power}}}"
