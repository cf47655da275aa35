"""List the cell files of a study, for an export."""

from ebbtide.exchange.results import CellFiles
from ebbtide.jobs.leads import cell_path
from ebbtide.study.study import Study


def cell_files(study: Study) -> list[CellFiles]:
    """Return every cell of the grid, by checkpoint, with its expected identity."""
    return [
        CellFiles(
            model=checkpoint.model,
            checkpoint=checkpoint.name,
            step=checkpoint.step,
            tokens=checkpoint.tokens,
            task=name,
            cell=cell_path(checkpoint, name),
            requests=task.frozen,
            identity=study.identity(checkpoint, name),
            version=task.identity,
            measuring=task.measuring,
        )
        for checkpoint in study.checkpoints()
        for name, task in study.tasks.items()
    ]
