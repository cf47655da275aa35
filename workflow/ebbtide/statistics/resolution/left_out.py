"""What a row leaves out so that runs of one size are compared at the same tokens, in words."""

from collections.abc import Iterable

from ebbtide.notices import counted, listed
from ebbtide.statistics.resolution.cells import Resolution
from ebbtide.statistics.resolution.windows import Window
from ebbtide.study.arms import short_number

# Parts of the column `note` by which notices find rows.
NOT_COMPARED = "not compared"
LEFT_OUT = "left out, because others have none at the same tokens"


def notes_of_alignment(of: Resolution) -> list[str]:
    """Return which runs, and how many checkpoints, are left out so that runs are compared at equal tokens."""
    if not of.aligned:
        return [f"{NOT_COMPARED}: {no_common_tokens(of)}"]
    notes = []
    if apart := of.apart:
        have = "has" if len(apart) == 1 else "have"
        notes.append(
            f"{len(apart)} of {len(of.every)} models {have} no checkpoint at {end_of(of)}, and "
            f"{'is' if len(apart) == 1 else 'are'} left out ({listed(apart)})"
        )
    if longer := [run for run in of.aligned if run.later]:
        notes.append(
            f"{counted(sum(run.later for run in longer), 'checkpoint')} of {counted(longer, 'model')} after "
            f"{end_of(of)} {LEFT_OUT}"
        )
    return notes


def end_of(of: Resolution) -> str:
    """Return where the windows of the runs end, such as `8.4M tokens`."""
    run = of.runs[0]
    return f"{short_number(run.x[-1])} tokens" if run.in_tokens else f"step {run.x[-1]:.0f}"


def no_common_tokens(of: Resolution) -> str:
    """Return why no runs of a size are compared."""
    return f"the {len(of.every)} models of this size have no checkpoint at the same training tokens"


def why_no_noise(of: Resolution) -> str:
    """Return why the noise of the runs is unknown."""
    if not of.aligned:
        return no_common_tokens(of)
    return "fewer than three trained checkpoints" + (
        f" until {end_of(of)}" if any(run.later for run in of.aligned) else ""
    )


def only_means(runs: Iterable[Window]) -> str:
    """Return that values by example are unknown; of cells, only those at the end of a run are read."""
    return "only means are known" + (" at these checkpoints" if any(run.later for run in runs) else "")
