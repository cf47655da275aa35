"""Compile the paper of a study with Typst, without a network, so that equal inputs make equal bytes."""

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ebbtide.errors import ConfigError
from ebbtide.schema import is_file
from ebbtide.texts import one_line

TEMPLATE = Path(__file__).parents[3] / "paper/paper.typ"
STUDY = "study"  # the directory, beside the template, in which it finds the files of the study
MOST_FILES = 200  # of a template


def template_files(template: str | None, where: str) -> list[Path]:
    """Return the files of a paper, the template first: all in its directory, without hidden ones.

    Raises `ConfigError` for a template that does not exist, or has no directory of its own; `where` is the
    file and key that name it.
    """
    main = TEMPLATE if template is None else Path(template)
    if not is_file(main) or main.suffix != ".typ":
        raise ConfigError(
            f"{where}: found {str(main)!r}, which is no file with the suffix .typ. Copy workflow/paper/ to a "
            "directory of your own, and name the file paper.typ in it."
        )
    if Path.cwd().resolve().is_relative_to(main.parent.resolve()):
        raise ConfigError(
            f"{where}: {main} is in the working directory or above it; allowed: a directory of its own, as "
            "all files beside the template belong to the paper."
        )
    files = [
        path
        for path in sorted(main.parent.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(main.parent).parts)
    ]
    others = [path for path in files if path != main and path.relative_to(main.parent).parts[0] != STUDY]
    if len(others) >= MOST_FILES:
        raise ConfigError(
            f"{where}: {main.parent} has {len(others) + 1} files; allowed: {MOST_FILES}. Put the template "
            "into a directory of its own."
        )
    return [main, *others]


def compile_paper(files: Iterable[str | Path], study: Mapping[str, str | Path]) -> bytes:
    """Return the PDF.

    Only fonts that come with Typst and matplotlib are used, and no date of the machine.

    Parameters
    ----------
    files
        See `template_files`.
    study
        Name of a file in the directory `study` → the file.

    Raises
    ------
    ConfigError
        The template is not valid; the message is that of Typst.
    """
    import matplotlib as mpl
    import typst

    main, *others = map(Path, files)
    with tempfile.TemporaryDirectory() as made:
        root = Path(made).resolve()
        for path in (main, *others):
            _copy(path, root / path.relative_to(main.parent))
        for name, file in study.items():
            _copy(Path(file), root / STUDY / name)
        try:
            pdf = typst.compile(
                str(root / main.name),
                root=str(root),
                font_paths=[str(Path(mpl.get_data_path()) / "fonts/ttf")],
                ignore_system_fonts=True,
                format="pdf",
                timestamp=0,
            )
        except typst.TypstError as error:
            raise ConfigError(f"{main.parent}: {_reason(error, root)}.") from error
    return bytes(pdf)


def _reason(error: Exception, root: Path) -> str:
    """Return the file, line and column, and the message of Typst, on one line."""
    place = re.search(r"┌─ (\S+?):(\d+):(\d+)", getattr(error, "diagnostic", ""))
    where = f"{Path(place[1]).name}, line {place[2]}, column {place[3]}: " if place else ""
    hints = "; ".join(getattr(error, "hints", []))
    message = one_line(getattr(error, "message", "") or str(error)).replace(f"{root}/", "").rstrip(".")
    return f"{where}{message}{f' ({hints})' if hints else ''}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
