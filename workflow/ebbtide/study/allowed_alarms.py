"""The entries of `alarms.allow`: dates as text, and names that the grid has."""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

from ebbtide.errors import ConfigError, nearest
from ebbtide.grid import Model

WITH_DAYS = ("alarms", "compute_trends")


def with_dates_as_text(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with the days of sections that have any as ISO texts; YAML reads dates."""
    return {**config, **{name: _as_text(config[name]) for name in WITH_DAYS if name in config}}


def _as_text(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_text(of) for key, of in value.items()}
    if isinstance(value, list):
        return [_as_text(of) for of in value]
    return value.isoformat() if isinstance(value, date) else value


def check_allow(
    allow: Sequence[Mapping[str, Any]],
    models: Mapping[str, Model],
    tasks: Collection[str],
    where: str,
    *,
    imports: bool,
) -> None:
    """Raise `ConfigError` for an entry of `alarms.allow` that names what the grid lacks, or no day.

    Parameters
    ----------
    where
        File and key.
    imports
        Whether results are imported, whose models, checkpoints and tasks are not known yet. Then names that
        the grid lacks are not mistakes; an entry that matches no alarm is reported.
    """
    for number, entry in enumerate(allow):
        here = f"{where}[{number}]"
        wanted = entry["checkpoints"]
        if entry["until"] is not None:
            try:
                date.fromisoformat(entry["until"])
            except ValueError:
                raise ConfigError(
                    f"{here}.until: found {entry['until']!r}, but there is no such day; allowed: a date as "
                    "2026-12-31."
                ) from None
        if isinstance(wanted, Mapping) and wanted.get("from", 0) > wanted.get("to", math.inf):
            raise ConfigError(
                f"{here}.checkpoints: found from {wanted['from']} above to {wanted['to']}; allowed: from no "
                "larger than to."
            )
        if imports:
            continue
        for key, names in (("model", list(models)), ("task", list(tasks))):
            if entry[key] not in names:
                raise ConfigError(
                    f"{here}.{key}: found {entry[key]!r}, but there is no such {key}"
                    f"{nearest(entry[key], names) or '; allowed: ' + ', '.join(names) + '.'}"
                )
        if wanted is not None and not isinstance(wanted, Mapping):
            _check_checkpoints(wanted if isinstance(wanted, list) else [wanted], models[entry["model"]], here)


def _check_checkpoints(wanted: list[str | int], model: Model, where: str) -> None:
    known = {one for c in model.checkpoints for one in (c.name, str(c.step))}
    names = [c.name for c in model.checkpoints]
    for one in wanted:
        if str(one) not in known:
            listed = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
            raise ConfigError(
                f"{where}.checkpoints: found {one!r}, but {model.name} has no such checkpoint"
                f"{nearest(str(one), names) or f'; allowed: {listed}.'}"
            )
