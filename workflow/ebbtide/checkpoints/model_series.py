"""Which series each model of a study belongs to."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.series import models_of
from ebbtide.errors import ConfigError, nearest

ALONE = "no series"  # the one of all models that have none


def catalogued(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Model → the series that its row of `models:` names; models of other rows are not in it."""
    found: dict[str, str] = {}
    for row in rows:
        if "series" in row:
            found |= {model.name: Path(row["series"]).stem for model in models_of(row, "models")}
    return found


def series_of(model: str, named: Mapping[str, Sequence[str]], known: Mapping[str, str]) -> str:
    """The series of a model: the first of `named` that fits, else its row's, else one for all others.

    Parameters
    ----------
    named
        Series → patterns of its models, with * and ?.
    known
        Model → series, see `catalogued`.
    """
    patterns = ((series, pattern) for series, listed in named.items() for pattern in listed)
    fitting = (series for series, pattern in patterns if fnmatchcase(model, pattern))
    return next(fitting, known.get(model, ALONE))


def check_named(named: Mapping[str, Sequence[str]], models: Iterable[str]) -> None:
    """Raise `ConfigError` for a pattern that fits no model of the metrics."""
    names = sorted(set(models))
    for series, patterns in named.items():
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(
                    f"scaling_trends.series.{series}: found {pattern!r}, which is no model of the metrics; "
                    f"allowed: {', '.join(names)}, with * and ?{nearest(pattern, names) or '.'}"
                )
