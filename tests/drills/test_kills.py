"""Kills at random moments: no finished cell is lost or scored twice, and every table is equal."""

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import drills
from workspace import Workspace, write_small_study

pytestmark = [pytest.mark.long, pytest.mark.slow]

KILLS, SEED = int(os.environ["DRILL_KILLS"]), 1
WORKER = "the scoring worker"

# What is counted, from which number on, and a pause in seconds.
Moment = tuple[Callable[[Workspace], int], int, float]

VICTIMS: dict[str, Callable[[int], list[int]]] = {
    "Snakemake and all its jobs": drills.descendants,
    "Snakemake alone": lambda pid: [pid],
    WORKER: drills.workers,
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_killed_run_is_finished_by_the_next(victim: str, finished_study: Workspace, tmp_path: Path) -> None:
    rng = random.Random(f"{SEED} {victim}")
    calm = _trained(finished_study, tmp_path / "undisturbed")
    assert drills.run(calm)[0] == 0
    undisturbed, files = drills.outcome(calm), drills.progress(calm)
    table: list[drills.Drill] = []
    for number in range(2 * KILLS):
        workspace = _trained(finished_study, tmp_path / str(number))
        found = _drill(workspace, victim, _moment(rng, victim, number, files), undisturbed)
        print(f"\n{number + 1}: {found or 'ended before the kill'}", flush=True)
        table += filter(None, [found])
        if found is None or found.equal:
            shutil.rmtree(workspace.path)
        if len(table) == KILLS:
            break
    drills.write_table(table, f"kills_{list(VICTIMS).index(victim) + 1}")
    assert len(table) == KILLS
    assert all(drill.equal for drill in table)


def _moment(rng: random.Random, victim: str, number: int, files: int) -> Moment:
    """A number of cells or of files that the run has made, and a part of a second.

    A worker starts within seconds and scores all cells of a model within one: its moments are a number of
    cells, or seconds after its start.
    """
    by_cells = number % 2 == 0
    if victim == WORKER:
        seconds = 0 if by_cells else rng.uniform(0, 3)
        return drills.cells_scored, rng.randrange(len(drills.CELLS)) if by_cells else 0, seconds
    if by_cells:
        return drills.cells_scored, rng.randrange(len(drills.CELLS)), rng.uniform(0, 0.3)
    return drills.progress, rng.randrange(files), rng.uniform(0, 0.3)


def _trained(finished: Workspace, to: Path) -> Workspace:
    """The study in a directory of its own, its weights trained and its tasks frozen, but nothing scored."""
    workspace = write_small_study(to)
    shutil.copytree(finished.path / "resources", to / "resources")
    return workspace


def _drill(
    workspace: Workspace, victim: str, moment: Moment, undisturbed: dict[str, object]
) -> drills.Drill | None:
    """Kill a run at a moment and run it again; None if the victim had ended before."""
    process, (count, at, pause) = drills.start(workspace), moment
    family = [process.pid]

    def lives() -> bool:
        return process.poll() is None and bool(VICTIMS[victim](process.pid))

    try:
        drills.wait_until(lambda: count(workspace) >= at and lives(), process)
        time.sleep(pause)  # part of the moment
        family = drills.descendants(process.pid)
        if not lives():
            return None
        when = f"{drills.progress(workspace)} files, {drills.cells_scored(workspace)} cells"
        drills.kill(VICTIMS[victim](process.pid))
        if victim == WORKER:
            process.wait()
        killed = (workspace.path / drills.OUTPUT).read_text()
        before = drills.stored(workspace)
        status, said = drills.run(workspace)
        if status != 0:  # a job that the killed Snakemake left behind may have worked beside this run
            status, said = drills.run(workspace)
    finally:
        drills.kill(family)
        process.wait()
    different = drills.differences(drills.outcome(workspace), undisturbed)
    if status != 0:
        different.append(f"status {status}: {said[-3000:]}")
    after = drills.stored(workspace)
    different += [f"{name} was written again" for name, cell in before.items() if after.get(name) != cell]
    return drills.Drill(
        when,
        victim,
        drills.last_words(killed),
        equal=not different,
        differs=", ".join(different),
    )
