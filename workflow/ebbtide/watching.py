"""Settings of trajectories and alarms that the schema allows, but that would quietly watch something else."""

from collections.abc import Callable, Mapping
from typing import Any

from ebbtide.errors import ConfigError, nearest


def check_watching(config: Mapping[str, Any], place: Callable[[str], str]) -> None:
    """Raise `ConfigError` for an unknown metric, grades of alarms out of order, or nothing to compare with.

    Parameters
    ----------
    config
        The checked configuration, with its defaults.
    place
        Section of the configuration → the file that holds it.
    """
    _check_metrics(config["trajectories"]["metrics"], place)
    alarms = config["alarms"]
    moderate, severe = alarms["effects"]["moderate"], alarms["effects"]["severe"]
    if moderate > severe:
        raise ConfigError(
            f"{place('alarms')}: alarms.effects: found moderate {moderate:g} above severe {severe:g}; "
            "allowed: moderate at most severe."
        )
    if alarms["against"] == ["baseline"] and alarms["baseline"] is None:
        raise ConfigError(
            f"{place('alarms')}: alarms.against: found the baseline alone, but alarms.baseline is null, "
            "which leaves nothing to compare; name a baseline, or add predecessor or best."
        )


def _check_metrics(watched: list[str], place: Callable[[str], str]) -> None:
    if watched == ["accuracy"]:
        return  # every job reads the study; the register of metrics takes a second to import
    from ebbtide.metrics import METRICS

    for name in watched:
        if name not in METRICS:
            raise ConfigError(
                f"{place('trajectories')}: trajectories.metrics: found {name!r}; "
                f"allowed: {', '.join(METRICS)}{nearest(name, list(METRICS)) or '.'}"
            )
