"""Random damage to files and documents, and the check that it ends in a sentence."""

import copy
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ebbtide.errors import EbbtideError

DEADLINE = 10  # seconds per call
LONGEST = 4000  # characters of a sentence


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


# Values that no key expects: wrong types, extremes, odd texts, and references out of the directory.
JUNK = st.one_of(
    st.sampled_from(
        [
            *(None, True, False, 0, -1, 1, 2**31, 10**30, -(10**30), 0.5, -0.0, 1e308, float("nan")),
            *(float("inf"), "", " ", "0", "nan", "null", "9" * 5000, "\u202e\u200b", "é\u0301", "②", "\x00"),
            *(
                "../outside",
                "/proc/self/mem",
                "~",
                "a/../../b",
                "{{",
                "{% for x in y %}",
                "{{ q.__class__ }}",
                "{{ 'a' * 10**9 }}",
                "{{ range(10**9) }}",
            ),
            *(
                "\n\t",
                "😀" * 50,
                "step{step}",
                "{step:07d}",
                "{0}",
                "%s",
                "a" * 300,
                "a" * 300 + ".yaml",
                "http://",
                "github:a/b@c:d",
            ),
            *([], {}, [[]], [None], {"": None}, {"a": {"b": {"c": []}}}, [1, "a", None], {1: 2}, {None: 1}),
        ]
    ),
    st.text(max_size=12),
    st.integers(),
    st.floats(),
    st.integers(min_value=5, max_value=60).map(_nested),
).map(copy.deepcopy)  # a value may be changed further


@st.composite
def mutated(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """A copy of a document of dictionaries and lists with one or several changes."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        places = list(_places(document))
        if not places:
            return draw(JUNK)
        holder, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "replace", "remove", "add", "swap"]))
        if change == "remove":
            del holder[key]
        elif change == "add" and isinstance(holder, dict):
            holder[draw(st.one_of(st.text(max_size=8), st.sampled_from(["a", "A", "study", 1, None])))] = (
                draw(JUNK)
            )
        elif change == "swap":
            other_holder, other = draw(st.sampled_from(places))
            holder[key] = copy.deepcopy(_value(other_holder, other))
        else:
            holder[key] = draw(JUNK)
    return document


def _value(holder: Any, key: Any) -> Any:
    try:
        return holder[key]
    except (KeyError, IndexError):
        return None


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A copy of a file's bytes: some flipped, cut, repeated, or others put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        kind = draw(st.sampled_from(["flip", "flip", "cut", "insert", "repeat", "head"]))
        if kind == "flip" and changed:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del changed[at : at + draw(st.integers(1, 1 + len(changed)))]
        elif kind == "insert":
            changed[at:at] = draw(st.binary(max_size=12))
        elif kind == "repeat":
            changed[at:at] = changed[at : at + draw(st.integers(0, 64))]
        else:
            changed[: min(8, len(changed))] = draw(st.binary(min_size=8, max_size=8))
    return bytes(changed)


def fuzz(examples: int) -> Callable[[Any], Any]:
    """Settings of a fuzz test: the same examples every time, and no timing by hypothesis itself.

    With FUZZ=N in the environment, N times as many examples are drawn, other ones every time.
    """
    times = int(os.environ.get("FUZZ", "0"))
    return settings(
        max_examples=examples * max(times, 1),
        derandomize=not times,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Hang(BaseException):
    """A call takes longer than `DEADLINE`. No `Exception`, so that no `except` of the product takes it."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `Hang` in the block after so many seconds."""

    def ring(*_: object) -> None:
        raise Hang(f"no answer after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def sentence(function: Callable[..., Any], *arguments: Any) -> str | None:
    """Call a function; returns the message of its `EbbtideError`, None without one. Others are failures."""
    try:
        with deadline(DEADLINE):
            function(*arguments)
    except EbbtideError as error:
        text = str(error)
        assert text.strip() and len(text) < LONGEST, text
        assert "Traceback" not in text and "object at 0x" not in text, text
        return text
    return None


def listing(*places: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of every file below these places, without caches."""
    caches = {
        ".snakemake",
        "__pycache__",
        ".pytest_cache",
        ".hypothesis",
        ".mypy_cache",
        ".ruff_cache",
        ".git",
        ".venv",
    }
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for place in places
        for path in place.rglob("*")
        if path.is_file() and not caches.intersection(path.parts)
    }
