"""Write the archive of a bundle, equal bytes for equal contents, and unpack it after a check of each file."""

import hashlib
import json
import shutil
import socket
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ebbtide import __version__
from ebbtide.errors import EbbtideError, SourceError, first_line
from ebbtide.files import atomic, file_sha256, storage_errors
from ebbtide.locks import node_lock
from ebbtide.notices import counted, listed
from ebbtide.report.bundle.contents import STUDY_FILE

CHECKSUMS = "checksums.sha256"
CRATE = "ro-crate-metadata.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member: the first that an archive can have
_BLOCK = 1 << 20
_README = """The bundle of the study {study}, made by Ebbtide {version}.

It has the cells, the frozen requests, the study and what these name, but no weights. From it, every table,
every figure, the report and the paper are made again, without a GPU and without a network:

    ebbtide unbundle bundle.zip --to DIR
    snakemake --snakefile EBBTIDE/Snakefile --directory DIR --configfile DIR/study.yaml --cores all all paper

environment/cpu.txt has tested versions of packages, for `pip install -c`. `sha256sum -c {checksums}` checks
the files.
"""


def write_bundle(
    to: str | Path,
    files: Mapping[str, str],
    study: str,
    config: Mapping[str, Any],
    date: str | None,
    *,
    scored: str | None = None,
) -> None:
    """Write a bundle: files in the order of their names, uncompressed, without dates.

    Parameters
    ----------
    files
        Name in the bundle → file, or directory whose files are added below the name.
    study
        Name of the study.
    config
        Its configuration, the file `study.yaml` in the bundle.
    date
        Date of publication for the metadata (RO-Crate), `paper.date`; None is not set.
    scored
        Day of the newest cell, which stands for it then. If both are None, the metadata has no date. The
        description in the metadata says which it is.
    """
    import yaml

    texts = {
        STUDY_FILE: yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True),
        "README.txt": _README.format(study=study, version=__version__, checksums=CHECKSUMS),
    }
    members = dict(_files(files))
    digests = {name: file_sha256(path) for name, path in members.items()}
    digests |= {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    sizes = {name: path.stat().st_size for name, path in members.items()}
    sizes |= {name: len(text.encode()) for name, text in texts.items()}
    texts[CRATE] = _crate(study, digests, sizes, date, scored)
    digests[CRATE] = hashlib.sha256(texts[CRATE].encode()).hexdigest()
    texts[CHECKSUMS] = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    with atomic(to) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted({*members, *texts}):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            if name in texts:
                archive.writestr(info, texts[name])
                continue
            info.file_size = sizes[name]
            with members[name].open("rb") as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target, _BLOCK)


def unpack(bundle: str | Path, to: str | Path) -> int:
    """Unpack a bundle into a directory that is empty or does not exist; return the number of files.

    Raises
    ------
    SourceError
        The file is no bundle, a file in it is damaged, missing, not listed, no regular file, or would be
        outside of the directory, or the directory has files. Nothing is left in the directory then.
    """
    target = Path(to).resolve()
    if target == Path.cwd():
        raise SourceError(f"--to: {to} is the working directory, which is replaced; name a new directory.")
    with node_lock(target.parent, target.name):  # the other of two at once waits, and finds the files
        return _unpack(bundle, target)


def _unpack(bundle: str | Path, target: Path) -> int:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SourceError(f"--to: {target} is not an empty directory; choose another.")
    part = target.with_name(f".{target.name}.{socket.gethostname()}.part")  # the lock is that of this machine
    _remove(part)
    try:
        with storage_errors(target, part), zipfile.ZipFile(bundle) as archive:
            expected = _checked_names(archive, bundle)
            for name in expected:
                _extract(archive, name, part / name, expected[name], bundle)
            (part / CHECKSUMS).write_bytes(archive.read(CHECKSUMS))
    except EbbtideError:
        _remove(part)
        raise
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: encrypted, or compressed by an unknown method; ValueError: nonsense in the directory
        _remove(part)
        reason = getattr(error, "strerror", None) or first_line(error)
        raise SourceError(
            f"{bundle} cannot be unpacked ({reason}); expected a file of `snakemake bundle`."
        ) from error
    try:
        part.replace(target)  # an empty directory is replaced, files of anyone else are not
    except OSError as error:
        _remove(part)
        raise SourceError(f"--to: {target} cannot be made ({error.strerror}); choose another.") from error
    return len(expected) + 1


def _remove(part: Path) -> None:
    """Remove what a killed run left. A link is removed itself: nothing is written through it."""
    if part.is_symlink() or part.is_file():
        part.unlink()
    elif part.exists():
        shutil.rmtree(part)


def _checked_names(archive: zipfile.ZipFile, bundle: str | Path) -> dict[str, str]:
    """Return the name and sha256 of every file but the list, which must be all files of the archive."""
    names = archive.namelist()
    if CHECKSUMS not in names or STUDY_FILE not in names:
        raise SourceError(f"{bundle} is not a bundle of a study: it has no {CHECKSUMS} and {STUDY_FILE}.")
    lines = archive.read(CHECKSUMS).decode("utf-8", "replace").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    outside = [
        n for n in names if PurePosixPath(n).is_absolute() or ".." in PurePosixPath(n).parts or "\\" in n
    ]
    if outside:
        raise SourceError(f"{bundle} is refused: {listed(outside)} would be outside of the directory.")
    parents = {parent.as_posix() for name in names for parent in PurePosixPath(name).parents}
    odd = [i.filename for i in archive.infolist() if not _is_plain(i) or i.filename in parents]
    if odd:
        raise SourceError(
            f"{bundle} is refused: {listed(map(repr, odd))} is a link, a directory, or no plain name of a "
            "file."
        )
    if len(names) != len(set(names)) or {*names} != {*expected, CHECKSUMS}:
        different = sorted({*names} ^ {*expected, CHECKSUMS})
        raise SourceError(
            f"{bundle} does not have the files that its {CHECKSUMS} lists ({counted(different, 'difference')}"
            f"{f': {listed(different)}' if different else ''}); copy it again."
        )
    return expected


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """Return whether a member is a regular file whose name has one spelling."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    name = PurePosixPath(info.filename)
    return kind in (0, stat.S_IFREG) and name.parts != () and name.as_posix() == info.filename


def _extract(archive: zipfile.ZipFile, name: str, target: Path, digest: str, bundle: str | Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, _BLOCK)
    if (found := file_sha256(target)) != digest:
        raise SourceError(f"{bundle}: {name} is damaged: sha256 {found}, expected {digest}; copy it again.")


def _files(files: Mapping[str, str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in files.items():
        if Path(path).is_dir():
            below = sorted(inner for inner in Path(path).rglob("*") if inner.is_file())
            found |= {f"{name}/{inner.relative_to(path).as_posix()}": inner for inner in below}
        else:
            found[name] = Path(path)
    # Marks of Snakemake in directories that it made.
    return {name: path for name, path in found.items() if path.name != ".snakemake_timestamp"}


def _crate(
    study: str,
    digests: Mapping[str, str],
    sizes: Mapping[str, int],
    date: str | None,
    scored: str | None,
) -> str:
    """Return the metadata of the bundle in the form of RO-Crate."""
    from rocrate.model.file import File
    from rocrate.rocrate import ROCrate

    crate = ROCrate()
    crate.name = f"Ebbtide study {study}"
    about = "Cells, frozen requests and configuration of a study of language-model checkpoints."
    if date is None:
        instead = "is the day of its newest cell" if scored else "is unknown, as no cell has a day"
        about += f" Its paper.date is not set: the date of publication {instead}."
    crate.description = about
    for name in sorted(digests):
        properties = {"contentSize": sizes[name], "sha256": digests[name]}
        crate.add(File(crate, dest_path=name, properties=properties))
    software = {"@type": "SoftwareApplication", "name": "Ebbtide", "softwareVersion": __version__}
    crate.add_jsonld({"@id": "#ebbtide", **software})
    content = crate.metadata.generate()
    root = next(entity for entity in content["@graph"] if entity["@id"] == "./")
    root.pop("datePublished", None)  # the library's is the time of this run
    if date or scored:
        root["datePublished"] = date or scored
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
