"""Options that several verbs share, and how their values are read."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.errors import ConfigError

if TYPE_CHECKING:  # argparse has no public name for what `add_subparsers` returns
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add_study(verb: argparse.ArgumentParser) -> None:
    """Add `--study`."""
    verb.add_argument(
        *("--study",),
        required=True,
        nargs="+",
        metavar="FILE",
        help="configuration files of the study, as for snakemake --configfile",
    )


def whole_number(least: int) -> Callable[[str], int]:
    """A type of option: whole numbers from `least` on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"found {text!r}, allowed: a whole number of at least {least}")
        return int(text)

    return read


def read_json(text: str, option: str) -> dict[str, Any]:
    """The JSON object given as an option. Raises `ConfigError` naming the option."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{option}: found {text!r}, which is not JSON ({error}).") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{option}: found {text!r}, allowed: a JSON object.")
    return value


def same_file(first: str | Path, second: str | Path) -> bool:
    """Whether two paths name the same file, also one that does not exist yet."""
    return Path(first).resolve() == Path(second).resolve()
