"""Schedules: which of the steps on offer a study takes."""

from collections.abc import Mapping, Sequence

from ebbtide.errors import ConfigError

Schedule = str | Mapping[str, int] | Sequence[int]  # all, log2, last, {every: N}, or steps

_MANY = 20  # steps that a message lists


def pick(schedule: Schedule, offered: Sequence[int], where: str, source: str, *, unit: int = 1) -> list[int]:
    """The steps that a schedule takes from those on offer, in order.

    Parameters
    ----------
    schedule
        `all`; `last`; `log2`: 2, 4, 8, … times `unit`, and the last (of Pythia, unit 1000, the eight
        of *Emergent inabilities?*: 2, 4, … 128 and 143 thousand); `{every: N}`: multiples of N; or the steps
        themselves.
    offered
        Steps on offer, in any order, at least one.
    where
        File and key of the schedule, for the message.
    source
        What offers the steps (a series file, a repository), for the message.

    Raises
    ------
    ConfigError
        A step that is not on offer (the message names the nearest), or nothing to take.
    """
    known = sorted(set(offered))
    if isinstance(schedule, Mapping):
        taken = [step for step in known if step % schedule["every"] == 0]
        if not taken:
            raise ConfigError(
                f"{where}.every: found {schedule['every']}, and no step that {source} offers is a multiple "
                f"of it; on offer: {_listed(known)}."
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
                f"{where}: found {step}, which {source} does not offer; nearest: {near}; "
                f"on offer: {_listed(known)}."
            )
    return sorted(steps)


def _listed(steps: Sequence[int]) -> str:
    if len(steps) <= _MANY:
        return ", ".join(map(str, steps))
    return f"{', '.join(map(str, steps[:5]))}, … {', '.join(map(str, steps[-3:]))} ({len(steps)} steps)"
