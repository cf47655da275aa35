"""Layouts of runs on disk: the directories of a pattern, by training step.

Trainers name them `checkpoint-500`, `iter_0000500` or `global_step00500`. A pattern has `{step}`, which
stands for a number with or without leading zeros, or `{step:07d}`, which stands for one with at least seven
digits. `*` and `?` stand for any text within one part of the path.
"""

import glob
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ebbtide.errors import ConfigError

_STEP = re.compile(r"\{step(?::0(?P<width>[1-9]\d?)d)?\}")
_PART = re.compile(r"\{step[^}]*\}|[*?]")  # what is not literal text; malformed steps included


def has_step(pattern: str) -> bool:
    """Whether a pattern contains the step."""
    return _STEP.search(pattern) is not None


def check_pattern(pattern: str, where: str) -> None:
    """Raise `ConfigError` for a `{step…}` that is neither `{step}` nor `{step:0Nd}`."""
    for found in _PART.findall(pattern):
        if found.startswith("{") and not _STEP.fullmatch(found):
            raise ConfigError(f"{where}: found {found} in {pattern!r}; allowed: {{step}}, or {{step:07d}}.")


def formatted(pattern: str, step: int) -> Path:
    """The path of a step as the pattern writes it; wildcards are kept."""
    text = _STEP.sub(lambda match: f"{step:0{match['width'] or 1}d}", pattern)
    return Path(text).expanduser()


def paths_by_step(pattern: str, where: str, *, files: bool = False) -> dict[int, Path]:
    """The directories that match a pattern, or with `files` also files, by step in ascending order.

    Steps are compared by value: `step0010` is step 10. For a pattern without a step, the only key is 0.

    Raises `ConfigError` if two of them have one step.
    """
    found: dict[int, Path] = {}
    for step, path in sorted(_matching(pattern, files=files)):
        if step in found:
            which = f"of step {step}" if has_step(pattern) else f"match {pattern!r}"
            what = "paths" if files else "directories"
            raise ConfigError(
                f"{where}: found two {what} {which}, {found[step]} and {path}; rename or remove one of "
                "them, or write a path that matches one only."
            )
        found[step] = path
    return found


def step_of(pattern: str, path: str) -> int | None:
    """The step of a path that matches a pattern; 0 if the pattern has no step, None if it does not match."""
    match = _expression(str(Path(pattern).expanduser())).fullmatch(path)
    steps = {int(step) for step in match.groups()} if match else set()
    if match is None or len(steps) > 1:  # a pattern may contain the step twice
        return None
    return steps.pop() if steps else 0


def _matching(pattern: str, *, files: bool) -> Iterator[tuple[int, Path]]:
    wildcards = "".join(_wildcards(str(Path(pattern).expanduser())))
    for path in glob.iglob(wildcards, include_hidden=True):  # noqa: PTH207 (Path.glob follows **)
        step = step_of(pattern, path)
        if step is not None and (files or Path(path).is_dir()):
            yield step, Path(path)


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield the literal text before each special part, and the part; the last part is empty."""
    end = 0
    for match in _PART.finditer(text):
        yield text[end : match.start()], match[0]
        end = match.end()
    yield text[end:], ""


def _wildcards(text: str) -> Iterator[str]:
    for literal, part in _pieces(text):
        yield glob.escape(literal)
        yield "*" if part.startswith("{") else part


@cache
def _expression(text: str) -> re.Pattern[str]:
    special = {"": "", "*": r"[^/]*", "?": r"[^/]"}
    pieces = []
    for literal, part in _pieces(text):
        step = _STEP.fullmatch(part)
        pieces += [
            re.escape(literal),
            special[part] if step is None else rf"([0-9]{{{step['width'] or 1},}})",
        ]
    return re.compile("".join(pieces))
