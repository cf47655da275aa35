"""What studies refer to in a cell store, so that the rest can be removed."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ebbtide.cells import store
from ebbtide.cells.garbage import Garbage, garbage
from ebbtide.errors import ConfigError
from ebbtide.schema import relative
from ebbtide.study.claim import has_claim
from ebbtide.study.load import read_study
from ebbtide.study.load_proofs import all_proof_entries

_CHECKOUT = ("Snakefile", ".snakemake")  # in a directory in which studies run


def unreferenced(
    directory: str | Path, studies: Sequence[str | Path], *, now: float, older_than: float
) -> list[Garbage]:
    """Return the files of a store that no study refers to (see `cells.garbage`).

    Raises
    ------
    ConfigError
        A study that cannot be loaded, is not locked or runs in another directory, because what it refers to
        is unknown; or no study uses this store.
    """
    keep: set[str] = set()
    weights: set[str] = set()
    stores: set[str] = set()
    for file in studies:
        # Also the cells that `results: imported` ignores, and those of several studies of one name.
        study = read_study(file, results="both", uses_results=False)
        if study.unlocked:
            raise ConfigError(
                f"{file}: what it refers to is unknown, because these are not locked: "
                f"{', '.join(study.unlocked)}. Run snakemake lock --cores 1 --configfile {file}."
            )
        if (elsewhere := _other_checkout(file)) and not has_claim(study.name, study.claim):
            raise ConfigError(
                f"{file}: what it refers to is unknown, because it lies {elsewhere} and has no results here, "
                "and its relative paths start where it runs. Copy it into this checkout, with absolute paths."
            )
        stores.add(study.config["scoring"]["store"])
        keep |= {str(entry["key"]) for of in study.models.values() for entry in all_proof_entries(study, of)}
        for checkpoint in study.checkpoints():
            weights.add(checkpoint.weights)
            keep |= {store.key(study.identity(checkpoint, task)) for task in study.tasks}
    if not _names(directory, stores):
        raise ConfigError(
            f"gc: found the store {directory}, but the studies use {', '.join(sorted(stores))}; allowed: the "
            "store of at least one of them."
        )
    return list(garbage(directory, keep, weights, now=now, older_than=older_than))


def _other_checkout(file: str | Path) -> str | None:
    """Say where a study file is if it may run in another directory; else None."""
    here, parents = Path.cwd(), Path(file).resolve().parents
    if here not in parents:
        return "outside this directory"
    below = parents[: parents.index(here)]
    found = [place for place in below if any((place / mark).exists() for mark in _CHECKOUT)]
    return f"in another checkout ({relative(found[0])})" if found else None


def _names(directory: str | Path, stores: Iterable[str]) -> bool:
    return Path(directory).resolve() in {Path(store).resolve() for store in stores}
