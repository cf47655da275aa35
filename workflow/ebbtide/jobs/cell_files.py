"""The cells of a study as files, for an export."""

from ebbtide.exchange.results import CellFiles
from ebbtide.jobs.leads import cell_path
from ebbtide.study.study import Study


def cell_files(study: Study) -> list[CellFiles]:
    """Every cell that the study scores, sorted by checkpoint, with the identity that it must have."""
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
