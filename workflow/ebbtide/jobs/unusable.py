"""Files of the cell store that cannot be used, although a run needs their cells: they count as missing."""

from collections.abc import Iterable

from ebbtide.cells import store
from ebbtide.jobs.leads import stored_names
from ebbtide.notices import Notice, counted, listed
from ebbtide.study.study import Study


def unusable_cells(study: Study, wanted: Iterable[tuple[str, str, str]]) -> list[Notice]:
    """Return a notice about all files in the places of cells that are not cells, or that cannot be read.

    `wanted` lists the (model, checkpoint, task) of a run.
    """
    directory, found = study.config["scoring"]["store"], []
    wanted = list(wanted)
    stored = stored_names(study, len(wanted))
    for model, checkpoint, task in wanted:
        identity = study.identity(study.checkpoint(model, checkpoint), task)
        path = store.path_of(directory, identity)
        if stored is not None and path.name not in stored:
            continue
        if reason := store.unusable(path, identity):
            found.append(f"{path} {reason}")
    if not found:
        return []
    files = counted(found, "file")
    detail = f"{files} of the cell store cannot be used, so the scoring is repeated: {listed(found)}."
    remedy = "Check the permissions and the file system of the store, and who writes there."
    return [Notice("note", "dropped", detail, remedy, count=len(found))]
