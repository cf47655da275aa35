"""Where the weights of each checkpoint of a study come from, as text for people."""

from pathlib import Path

from ebbtide.study.study import Study


def origins(study: Study) -> dict[str, dict[str, str]]:
    """Return, by model and checkpoint, the commit of the hub, the directory, or how the weights were made."""
    known: dict[tuple[str, str], str] = {}
    for hub in study.hub:
        for wanted in hub.wanted(study.lock):
            if wanted.locked:
                known[hub.name, wanted.name] = f"{wanted.locked.repo}@{wanted.locked.commit}"
    for disk in study.on_disk:
        how = f" (converted from {disk.reading.format})" if disk.reading else ""
        known |= {(disk.name, d.name): _absolute(d.path) + how for d in disk.directories}
    found: dict[str, dict[str, str]] = {name: {} for name in study.models}
    for checkpoint in study.checkpoints():
        if checkpoint.parents:
            names = ", ".join(parent.name for parent in checkpoint.parents)
            text = f"average of {checkpoint.parents[-1].model}: {names}"
        elif study.models[checkpoint.model].training:
            text = "trained by this workflow"
        else:
            text = known[checkpoint.model, checkpoint.name]
        found[checkpoint.model][checkpoint.name] = text
    return found


def _absolute(path: Path) -> str:
    return str(path.expanduser().absolute())
