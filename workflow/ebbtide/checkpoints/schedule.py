"""Schedules: which of the available steps a study uses."""

from collections.abc import Mapping, Sequence

from ebbtide.errors import ConfigError

Schedule = str | Mapping[str, int] | Sequence[int]  # all, log2, last, {every: N}, or steps

_MAX_LISTED = 20  # steps listed in full in a message


def pick(schedule: Schedule, offered: Sequence[int], where: str, source: str, *, unit: int = 1) -> list[int]:
    """Return the steps that a schedule selects from the available ones, in ascending order.

    Parameters
    ----------
    schedule
        `all`; `last`; `log2`: 2, 4, 8, … times `unit`, and the last step; `{every: N}`: multiples of N; or a
        list of steps. For Pythia (unit 1000), `log2` gives the eight steps of *Emergent inabilities?*:
        2, 4, … 128 and 143 thousand.
    offered
        Available steps in any order, at least one.
    where
        File and key of the schedule, for messages.
    source
        Where the steps are available (a series file, a repository), for messages.

    Raises
    ------
    ConfigError
        A listed step is not available (the message names the nearest ones), or no step is selected.
    """
    known = sorted(set(offered))
    if isinstance(schedule, Mapping):
        taken = [step for step in known if step % schedule["every"] == 0]
        if not taken:
            raise ConfigError(
                f"{where}.every: found {schedule['every']}, but {source} has no multiple of it; "
                f"available: {_format_steps(known)}."
            )
        return taken
    if schedule == "all":
        return known
    if schedule == "last":
        return known[-1:]
    if schedule == "log2":
        powers = {unit * 2**k for k in range(1, (known[-1] // unit).bit_length())}
        return [step for step in known if step in powers or step == known[-1]]
    return _listed_steps([int(step) for step in schedule], known, where, source)


def _listed_steps(steps: Sequence[int], known: Sequence[int], where: str, source: str) -> list[int]:
    for step in steps:
        if step not in set(known):
            near = " and ".join(map(str, sorted(sorted(known, key=lambda k: abs(k - step))[:2])))
            raise ConfigError(
                f"{where}: found {step}, but {source} has no such step; nearest: {near}; "
                f"available: {_format_steps(known)}."
            )
    return sorted(steps)


def _format_steps(steps: Sequence[int]) -> str:
    if len(steps) <= _MAX_LISTED:
        return ", ".join(map(str, steps))
    return f"{', '.join(map(str, steps[:5]))}, … {', '.join(map(str, steps[-3:]))} ({len(steps)} steps)"
