"""From rows of `models:` to models: local ladders, hub series, hub repositories, directories on disk."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.average import AveragedModel, averaged_model
from ebbtide.checkpoints.hub.catalogue import HubModel, repository_model, series_models
from ebbtide.checkpoints.ladder import ladder_models
from ebbtide.checkpoints.on_disk import DiskModel, model_on_disk
from ebbtide.errors import ConfigError, nearest
from ebbtide.grid import Model
from ebbtide.schema import catalogue_file, check, load_schema, read_yaml

CATALOGUE = Path(__file__).parents[2] / "series"


Only = Mapping[str, Collection[str]]  # model → names of checkpoints
Row = Model | HubModel | DiskModel | AveragedModel  # a model of a study as its row describes it


def models_of(row: Mapping[str, Any], where: str, only: Only | None = None) -> list[Row]:
    """Return the models of one row of `models:`, and the averages it requests; `where` is its file and key.

    `only` lists the directories among which rows on disk choose, see `on_disk.directories_of`.

    Raises `ConfigError` for an unknown series, size, step or stage, an invalid series file, a missing
    directory, or averages that cannot be made.
    """
    found = _models_of(row, where, only or {})
    if "average" not in row:
        return [*found]
    return [*found, *(averaged_model(model, row["average"], f"{where}.average") for model in found)]


def _models_of(row: Mapping[str, Any], where: str, only: Only) -> list[Model | HubModel | DiskModel]:
    if "path" in row:
        return [model_on_disk(row, where, only.get(row["name"]))]
    if "repo" in row:
        return [repository_model(row, where)]
    file = catalogue_file(CATALOGUE, row["series"], f"{where}.series")
    series, is_ladder = read_series(file)
    names = list(series["models"]) if row["sizes"] == "all" else row["sizes"]
    for name in names:
        if name not in series["models"]:
            raise ConfigError(
                f"{where}.sizes: found {name!r}; allowed: {', '.join(series['models'])} "
                f"({file}){nearest(name, list(series['models'])) or '.'}"
            )
    if is_ladder:
        if (row["stages"], row["format"], row["remote_code"]) != (["pretraining"], "safetensors", False):
            raise ConfigError(
                f"{where}: stages, format and remote_code apply only to hub models; {file} is a local ladder."
            )
        return [*ladder_models(series, names, row, str(file), where)]
    return [*series_models(series, names, row, str(file), where)]


def read_series(file: str | Path) -> tuple[dict[str, Any], bool]:
    """Read and check a series file; also return whether it is a local ladder (has a recipe or corpus)."""
    series = read_yaml(file)
    is_ladder = "recipe" in series or "corpus" in series
    return check(series, load_schema("ladder" if is_ladder else "series"), str(file)), is_ladder
