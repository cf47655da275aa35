"""Write the archive of a bundle: equal bytes for equal contents."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide import __version__
from ebbtide.files import atomic, file_sha256
from ebbtide.report.bundle.contents import STUDY_FILE

CHECKSUMS = "checksums.sha256"
CRATE = "ro-crate-metadata.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member: the first that an archive can have
_BLOCK = 1 << 20
_README = """The bundle of the study {study}, made by Ebbtide {version}.

It has the cells, the frozen requests, the study and what these name, but no weights. From it, every table,
every figure, the report and the paper are made again, without a GPU and without a network:

    snakemake --snakefile EBBTIDE/Snakefile --cores all all paper --config bundle=bundle.zip

EBBTIDE is a checkout of Ebbtide. The results are in bundles/, in a directory named by the contents of the
bundle. environment/cpu.txt has tested versions of packages, for `pip install -c`. `sha256sum -c {checksums}`
checks the files.
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
