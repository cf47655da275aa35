"""The series (model family) of each model of a study."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.average import AveragedModel, averaged_name
from ebbtide.checkpoints.series import models_of
from ebbtide.errors import ConfigError, nearest

NO_SERIES = "no series"  # name of the group of all models without a series


def series_by_model(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Map each model to the series that its row of `models:` names. Models of other rows are left out.

    Averages are a series of their own, `ladder-mean5`: a trend over sizes has each size once.
    """
    found: dict[str, str] = {}
    for row in rows:
        if "series" in row:
            series = Path(row["series"]).stem
            for model in models_of(row, "models"):
                own = isinstance(model, AveragedModel)
                found[model.name] = averaged_name(series, row["average"]) if own else series
    return found


def series_of(model: str, named: Mapping[str, Sequence[str]], known: Mapping[str, str]) -> str:
    """The series of a model: the first match in `named`, else the series of its row, else `NO_SERIES`.

    Parameters
    ----------
    named
        Series → patterns of model names, with the wildcards * and ?.
    known
        Model → series, see `series_by_model`.
    """
    patterns = ((series, pattern) for series, listed in named.items() for pattern in listed)
    fitting = (series for series, pattern in patterns if fnmatchcase(model, pattern))
    return next(fitting, known.get(model, NO_SERIES))


def check_patterns(named: Mapping[str, Sequence[str]], models: Iterable[str]) -> None:
    """Raise `ConfigError` for a pattern that matches no model of the metrics."""
    names = sorted(set(models))
    for series, patterns in named.items():
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(
                    f"scaling_trends.series.{series}: found {pattern!r}, which matches no model; "
                    f"allowed: {', '.join(names)}, with * and ?{nearest(pattern, names) or '.'}"
                )
