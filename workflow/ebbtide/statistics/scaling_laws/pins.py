"""Many pinned files of one source: a list of hashes, as `sha256sum` writes it."""

import re
from collections.abc import Sequence
from pathlib import Path

from ebbtide.errors import ConfigError
from ebbtide.files import atomic_directory
from ebbtide.sources import CHECKOUT, Source, fetch

_LINE = re.compile(r"(?P<sha256>[0-9a-fA-F]{64}) [ *](?P<path>\S.*)")


def find_pins(path: str) -> Path:
    """The list, relative to the working directory or the checkout. Raises `ConfigError` if neither has it."""
    for base in (Path.cwd(), CHECKOUT):
        if (base / path).is_file():
            return base / path
    raise ConfigError(
        f"scaling_laws.testbed.pins: there is no file {path!r}, neither here nor in {CHECKOUT}; make it with "
        "sha256sum in the directory that source names."
    )


def read_pins(path: str | Path, source: str) -> list[tuple[str, Source]]:
    """(path below the directory, pinned source) of every line.

    Raises `ConfigError` for a line that is not "sha256  path", a path that leaves the directory, or one
    that is there twice.
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
            raise ConfigError(f"{where}: {name!r} must lie below the source.")
        if name in pins:
            raise ConfigError(f"{where}: {name!r} is there twice.")
        pins[name] = Source.parse(f"{source.rstrip('/')}/{name}", found["sha256"], where)
    if not pins:
        raise ConfigError(f"{path}: no files are pinned.")
    return list(pins.items())


def fetch_pinned(pins: Sequence[tuple[str, Source]], to: Path, mirrors: Sequence[Path]) -> None:
    """Write all files below `to`, which appears only when every hash is right. Raises `SourceError`."""
    with atomic_directory(to) as directory:
        for name, source in pins:
            fetch(source, directory / name, mirrors)
