"""Training steps and names of models, read from revisions, repositories and paths.

A step is a number after a word such as `step` or `checkpoint` (`step2000`, `global_step1000`, `iter_0001000`,
`stage1-step1000-tokens5B`), with k for thousands, or a number alone (`1000`). The word must begin a word of
its own: `annealstep50` contains no step.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_WORDS = r"(?:global[-_]?)?(?:steps?|iters?|iterations?|checkpoint|chkpt|ckpt)"
# Not followed by more of the number (`10_000`, `1.5k`) or by another unit (`5B`): these are not guessed.
_NUMBER = r"(?P<number>\d{1,15})(?P<thousands>[kK]?)(?![A-Za-z0-9]|[.,_]\d)"
_NAMED = re.compile(rf"(?<![A-Za-z]){_WORDS}[-_=]?{_NUMBER}", re.IGNORECASE)
_ALONE = re.compile(_NUMBER)
_STEP_PART = re.compile(
    rf"[-_.]?(?:(?:stage|epoch)\d+[-_])?(?<![A-Za-z]){_WORDS}[-_=]?{_NUMBER}(?:[-_]tokens\d+[A-Za-z]*)?",
    re.IGNORECASE,
)
_LAST_ALONE = 10_000_000  # longer numbers alone are dates
_LAYOUT = {"hf", "huggingface", "main", "final", "latest", "last", "checkpoints", "ckpts", "weights", "model"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


class Candidate(NamedTuple):
    """A step, and the text that contains it."""

    step: int
    text: str


def steps_in_revision(revision: str) -> list[Candidate]:
    """Steps that a revision may mean: those after a word, else the revision itself."""
    return _named(revision) or _alone(revision)


def steps_in_path(path: str) -> list[Candidate]:
    """Steps that a path or repository may mean: those of its last component with a word, and a last number.

    Earlier components are of earlier runs: `/runs/step500/annealed/step2000` is step 2000. Of
    `/runs/step500/3` both are returned.
    """
    parts = components(path)
    named: list[Candidate] = next(filter(None, map(_named, reversed(parts))), [])
    last = next((part for part in reversed(parts) if part.lower() not in _LAYOUT), "")
    return named + [c for c in _alone(last) if c.step not in {n.step for n in named}]


def components(path: str) -> list[str]:
    """Components of a path or repository."""
    return [part for part in re.split(r"[/\\]+", path) if part not in ("", ".", "..", "~")]


class Named(NamedTuple):
    """The name of a model, and the part of its path that the name stands for."""

    name: str
    origin: str


def name_in(path: str) -> Named | None:
    """The last component of a path or repository that is more than a step; None if there is none."""
    parts = components(path)
    for end, name in _names(parts):
        allowed = _NOT_IN_NAMES.sub("-", name).strip("-_.")
        if allowed:
            return Named(allowed, "/".join([*parts[:end], name]))
    return None


def _names(parts: list[str]) -> Iterator[tuple[int, str]]:
    for end in reversed(range(len(parts))):
        part = parts[end]
        if part.lower() in _LAYOUT or _ALONE.fullmatch(part):
            continue
        yield end, _STEP_PART.sub("", part).strip("-_. ")


def _named(text: str) -> list[Candidate]:
    return [Candidate(step, text) for step in dict.fromkeys(map(_step, _NAMED.finditer(text)))]


def _alone(text: str) -> list[Candidate]:
    found = _ALONE.fullmatch(text)
    return [Candidate(_step(found), text)] if found and _step(found) < _LAST_ALONE else []


def _step(found: "re.Match[str]") -> int:
    return int(found["number"]) * (1000 if found["thousands"] else 1)
