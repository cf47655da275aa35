"""Pinned files of one source, listed with their hashes in the format of `sha256sum`."""

import re
from collections.abc import Sequence
from pathlib import Path

from ebbtide.errors import ConfigError
from ebbtide.files import atomic_directory
from ebbtide.sources import CHECKOUT, Source, fetch

_LINE = re.compile(r"(?P<sha256>[0-9a-fA-F]{64}) [ *](?P<path>\S.*)")


def find_pins(path: str) -> Path:
    """Find the list in the working directory or the checkout. Raises `ConfigError` if neither has it."""
    for base in (Path.cwd(), CHECKOUT):
        if (base / path).is_file():
            return base / path
    raise ConfigError(
        f"scaling_laws.testbed.pins: found no file {path!r} in the working directory or in {CHECKOUT}; "
        "create it with sha256sum in the directory given by source."
    )


def read_pins(path: str | Path, source: str) -> list[tuple[str, Source]]:
    """Return (path below the directory, pinned source) of every line.

    Raises `ConfigError` for a line that is not "sha256  path", a path outside the directory, or a duplicate.
    """
    pins: dict[str, Source] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        where, found = f"{path}: line {number}", _LINE.fullmatch(line)
        if found is None:
            raise ConfigError(f"{where}: found {line[:60]!r}; allowed: sha256, two spaces, path.")
        name = found["path"]
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ConfigError(f"{where}: found {name!r}; allowed: a path below the source.")
        if name in pins:
            raise ConfigError(f"{where}: {name!r} is listed twice; list each file once.")
        pins[name] = Source.parse(f"{source.rstrip('/')}/{name}", found["sha256"], where)
    if not pins:
        raise ConfigError(f"{path}: found no files; list them as sha256, two spaces, path.")
    return list(pins.items())


def fetch_pinned(pins: Sequence[tuple[str, Source]], to: Path, mirrors: Sequence[Path]) -> None:
    """Write all files below `to`, which appears only if all hashes match. Raises `SourceError` otherwise."""
    with atomic_directory(to) as directory:
        for name, source in pins:
            fetch(source, directory / name, mirrors)
