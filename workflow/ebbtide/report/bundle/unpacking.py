"""Unpack the bundle of a study, after a check of every file, into a directory named by its contents."""

import hashlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ebbtide import __version__
from ebbtide.errors import ConfigError, SourceError
from ebbtide.files import atomic, file_sha256, read_json
from ebbtide.jobs.leads import MissingCells
from ebbtide.notices import Notice, counted, listed
from ebbtide.report.bundle.archive import CHECKSUMS, CRATE
from ebbtide.report.bundle.contents import STUDY_FILE
from ebbtide.schema import is_file
from ebbtide.study.study import Study

KEY = "--config bundle"
BUNDLES = "bundles"  # below the working directory; a bundle has a directory in it
_DIGITS = 16  # of the name of that directory
_BLOCK = 1 << 20


def directory_of(bundle: str, files: Sequence[str | Path], *, is_job: bool) -> Path:
    """Return the directory of a bundle, `bundles/DIGEST`, after unpacking the files that are missing in it.

    The digest is that of the list of checksums. Files are renamed to their places when they are whole, so
    that a killed run resumes, and runs at once do no harm. A job only looks the directory up.

    Parameters
    ----------
    bundle
        Path of the archive.
    files
        Study files of the run, which must be none: a bundle has its own.

    Raises
    ------
    ConfigError
        The file does not exist, or there are study files.
    SourceError
        The file is no bundle, a file in it is damaged, missing, not listed, no regular file, or would be
        outside of the directory. Nothing is written then. Or a file in the directory is not that of the
        bundle.
    StorageError
        The directory cannot be written.
    """
    if files:
        raise ConfigError(
            f"{KEY}: found the study file {listed(files)}, too; a bundle has a study of its own. Use one of "
            "them: `bundle` is a key of the command line, and goes without --configfile."
        )
    if not is_file(Path(bundle)):
        raise ConfigError(
            f"{KEY}: {bundle} does not exist in {Path.cwd()}, or is no file; name a bundle.zip that "
            "`snakemake bundle` has written."
        )
    with _opened(bundle) as archive:
        expected = _checked_names(archive, bundle)
        directory = Path(BUNDLES, expected[CHECKSUMS][:_DIGITS])
        if not is_job:
            _complete(archive, expected, directory, bundle)
    return directory


@contextmanager
def _opened(bundle: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive; what cannot be read, then or later, is a `SourceError`."""
    try:
        with zipfile.ZipFile(bundle) as archive:
            yield archive
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: encrypted, or compressed by an unknown method; ValueError: nonsense in the directory
        raise SourceError(
            f"{KEY}: {bundle} cannot be unpacked ({error or type(error).__name__}); expected a file of "
            "`snakemake bundle`. Copy it again."
        ) from error


def _complete(archive: zipfile.ZipFile, expected: dict[str, str], directory: Path, bundle: str) -> None:
    """Check the files that are there, then those of the archive that are missing, and write these."""
    missing = []
    for name, digest in expected.items():
        place = directory / name
        if not place.exists():
            missing.append(name)
        elif not place.is_file() or file_sha256(place) != digest:
            raise SourceError(
                f"{KEY}: {place} is not as in {bundle}. Delete it, to have that of the bundle again. To "
                f"change the study, copy {directory} to a working directory of your own."
            )
    for name in missing:
        with archive.open(name) as source:
            found = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
        if found != expected[name]:
            raise SourceError(
                f"{KEY}: {bundle}: {name} is damaged: sha256 {found}, expected {expected[name]}; copy "
                "it again."
            )
    for name in missing:
        with (
            archive.open(name) as source,
            atomic(directory / name) as temporary,
            temporary.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, _BLOCK)


def _checked_names(archive: zipfile.ZipFile, bundle: str) -> dict[str, str]:
    """Return the name and sha256 of every file, also of the list of checksums, which must have all others."""
    names = archive.namelist()
    if CHECKSUMS not in names or STUDY_FILE not in names:
        raise SourceError(
            f"{KEY}: {bundle} is not a bundle of a study: it has no {CHECKSUMS} and {STUDY_FILE}. Name a "
            "bundle.zip that `snakemake bundle` has written."
        )
    content = archive.read(CHECKSUMS)
    lines = content.decode("utf-8", "replace").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    outside = [
        n for n in names if PurePosixPath(n).is_absolute() or ".." in PurePosixPath(n).parts or "\\" in n
    ]
    if outside:
        raise SourceError(f"{KEY}: {bundle} is refused: {listed(outside)} would be outside of the directory.")
    above = {parent.as_posix() for name in names for parent in PurePosixPath(name).parents}
    odd = [i.filename for i in archive.infolist() if i.filename in above or not _is_plain(i)]
    if odd:
        raise SourceError(
            f"{KEY}: {bundle} is refused: {listed(map(repr, odd))} is a link, a directory, or no plain name "
            "of a file."
        )
    if len(names) != len(set(names)) or {*names} != {*expected, CHECKSUMS}:
        different = sorted({*names} ^ {*expected, CHECKSUMS})
        raise SourceError(
            f"{KEY}: {bundle} does not have the files that its {CHECKSUMS} lists "
            f"({counted(different, 'difference')}{f': {listed(different)}' if different else ''}); copy it "
            "again."
        )
    return {**expected, CHECKSUMS: hashlib.sha256(content).hexdigest()}


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """Return whether a member is a regular file whose name has one spelling."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    name = PurePosixPath(info.filename)
    return kind in (0, stat.S_IFREG) and name.parts != () and name.as_posix() == info.filename


def check_cells(study: Study, missing: MissingCells, maker: str) -> None:
    """Raise `ConfigError` unless the bundle has every cell of its study: from a bundle, nothing is scored.

    A cell of another identity is not the one that is asked for. `maker` is the version that made the bundle.
    """
    wanted = list(study.checkpoints()) if study.tasks else []
    absent = [f"{c.model}/{c.name}/{task}" for c in wanted for task in missing.of(c)]
    if absent:
        cells = counted(len(wanted) * len(study.tasks), "cell")
        raise ConfigError(
            f"{KEY}: {len(absent)} of {cells} would have to be scored, the first {absent[0]}; from a bundle, "
            "nothing is scored. Leave out other keys of --config, and use the version of Ebbtide that made "
            f"the bundle, {maker} (this is {__version__})."
        )


def maker_of(directory: str | Path) -> str:
    """Return the version of Ebbtide that made the bundle in a directory, by its metadata; `?` is unknown."""
    for entity in read_json(Path(directory, CRATE), SourceError).get("@graph", []):
        if isinstance(entity, dict) and entity.get("@id") == "#ebbtide":
            return str(entity.get("softwareVersion", "?"))
    return "?"


def maker_notices(maker: str) -> list[Notice]:
    """Return a notice if another version made the bundle: its tables and texts may differ from those here."""
    if maker == __version__:
        return []
    return [
        Notice(
            "note",
            "reused",
            f"The bundle was made by Ebbtide {maker}, and is read by {__version__}: tables, figures and "
            "texts may differ from those of its authors.",
            f"For the same bytes, use Ebbtide {maker}.",
        )
    ]
