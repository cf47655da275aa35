"""What the section `scaling:` of a study must fit: its grid. A lean module, read before anything runs."""

from collections.abc import Collection, Mapping
from typing import Any

from ebbtide.errors import ConfigError, nearest


def check_scaling(
    scaling: Mapping[str, Any], models: Collection[str], tasks: Collection[str], where: str
) -> None:
    """Raise `ConfigError` unless the runs come from one place, and what is scored here is in the grid.

    `scaling` follows its schema; `where` is its file and key.
    """
    places = [key for key in ("testbed", "scored") if key in scaling]
    if len(places) != 1:
        found = " and ".join(places) or "neither"
        raise ConfigError(f"{where}: found {found}; allowed: one of testbed, scored.")
    if places == ["testbed"]:
        return
    rows = [(key, i, row) for key in ("fit", "error_fit_adds") for i, row in enumerate(scaling[key])]
    runs = [(f"{key}[{i}].models", name) for key, i, row in rows for name in row["models"]]
    errors = [("scored.errors", name) for name in scaling["scored"]["errors"]]
    for grid, named in ((models, runs), (tasks, [("loss", scaling["loss"]), *errors])):
        for key, name in named:
            if name not in grid:
                raise ConfigError(
                    f"{where}.{key}: found {name!r}; allowed: {', '.join(grid) or 'none'}"
                    f"{nearest(name, list(grid)) or '.'}"
                )
