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

VICTIMS: dict[str, Callable[[int], list[int]]] = {
    "Snakemake and all its jobs": drills.descendants,
    "Snakemake alone": lambda pid: [pid],
    WORKER: drills.workers,
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_killed_run_is_finished_by_the_next(victim: str, finished_study: Workspace, tmp_path: Path) -> None:
    """The moment is a number of files or of cells that the run has made, plus a part of a second."""
    rng = random.Random(f"{SEED} {victim}")
    calm = _trained(finished_study, tmp_path / "undisturbed")
    assert drills.run(calm)[0] == 0
    undisturbed, files = drills.outcome(calm), drills.progress(calm)
    table = []
    for number in range(KILLS):
        workspace = _trained(finished_study, tmp_path / str(number))
        by_cells = number % 2 == 0  # a worker scores all cells of a model within a second
        at = rng.randrange(len(calm.cells())) if by_cells else rng.randrange(files)
        count = drills.cells_scored if by_cells else drills.progress
        table.append(_drill(workspace, victim, (count, at), rng.uniform(0, 0.3), undisturbed))
        print(f"\n{number + 1}: {table[-1]}", flush=True)
        if table[-1].equal:
            shutil.rmtree(workspace.path)
    drills.write_table(table, f"kills_{list(VICTIMS).index(victim) + 1}")
    assert all(drill.equal for drill in table)


def _trained(finished: Workspace, to: Path) -> Workspace:
    """The study in a directory of its own, its weights trained and its tasks frozen, but nothing scored."""
    workspace = write_small_study(to)
    shutil.copytree(finished.path / "resources", to / "resources")
    return workspace


def _drill(
    workspace: Workspace,
    victim: str,
    moment: tuple[Callable[[Workspace], int], int],
    pause: float,
    undisturbed: dict[str, object],
) -> drills.Drill:
    process, (count, at) = drills.start(workspace), moment
    family = [process.pid]
    try:
        drills.wait_until(lambda: count(workspace) >= at, process)
        time.sleep(pause)  # part of the moment
        if victim == WORKER:  # it lives for a part of the run only
            drills.wait_until(lambda: bool(drills.workers(process.pid)), process)
        family = drills.descendants(process.pid)
        drills.kill(VICTIMS[victim](process.pid))
        if victim == WORKER:
            process.wait()
        killed = (workspace.path / drills.OUTPUT).read_text()
        files, before = drills.progress(workspace), drills.stored(workspace)
        status, said = drills.run(workspace)
        if status != 0:  # a job that the killed Snakemake left behind may have worked beside this run
            (workspace.path / "rerun.txt").write_text(said)
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
        f"{files} files, {len(before)} cells",
        victim,
        drills.last_words(killed),
        equal=not different,
        differs=", ".join(different),
    )
