"""The claim of a study on `results/{study}/`: the files whose results these are.

Two studies of one name would overwrite each other's tables. A run therefore records its study files
(`jobs.hooks`), and a study of other files is refused while those in the record still exist and still have the
name. Values from the command line are not part of a claim.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.errors import ConfigError
from ebbtide.files import read_json
from ebbtide.schema import read_yaml, relative

CLAIM = ".study.json"
_GRID = {
    "study",
    "models",
    "tasks",
    "imported",
    "scaling_laws",
    "compute_trends",
}  # keys of the files that have a claim


def claim_path(study: str) -> Path:
    """Path of the record of a study."""
    return Path("results", study, CLAIM)


def claim_of(raw: Mapping[str, Mapping[str, Any]], cells: int) -> dict[str, Any]:
    """Return the claim of a study with a number of cells; `raw` is the content of each study file.

    Files that only change settings have no claim.
    """
    files = {_key(file): content.get("study") for file, content in raw.items() if _GRID & content.keys()}
    return {"files": files, "cells": cells}


def check_claim(study: str, claim: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError` if `results/{study}/` belongs to other files.

    A file that was renamed, has got another `study:` or cannot be read any more has lost its claim.
    """
    files, cells = _known(study)
    own = claim["files"]
    lost = [file for file in files if file not in own and not _has_claim(file, files[file])]
    others = [file for file in files if file not in own and file not in lost]
    added = [file for file in own if file not in files]
    if files and own and (others or len(added) > len(lost)):
        raise ConfigError(
            f"{where}: study: found {study!r}, but {claim_path(study).parent} has the results of "
            f"{' and '.join(files)} ({cells} cells); those of {' and '.join(own)} ({claim['cells']} cells) "
            f"would replace them. Give one of the studies another name, or run snakemake once "
            "with --config replace_results=true."
        )


def has_claim(study: str, claim: Mapping[str, Any]) -> bool:
    """Whether the results in `results/{study}/` are those of these files."""
    return bool(_known(study)[0].keys() & claim["files"].keys())


def _known(study: str) -> tuple[dict[str, str | None], int]:
    """Return the files whose results are in `results/{study}/`, and the number of their cells."""
    try:
        known = read_json(claim_path(study), ConfigError)
        return dict(known["files"]), int(known["cells"])
    except (ConfigError, ValueError, KeyError, TypeError):
        return {}, 0


def _key(file: str) -> str:
    return str(relative(Path(file).resolve()))


def _has_claim(file: str, name: str | None) -> bool:
    try:
        return read_yaml(file).get("study") == name
    except ConfigError:
        return False
