"""Train one model of a ladder on the toy corpus, and save checkpoints in Hugging Face layout.

The directory of a model contains

    step16/          a complete checkpoint: weights, config, tokenizer, and its record `checkpoint.json`
    trained.json     written last: the spec, and the record of every requested checkpoint

and, until training ends, the state from which a killed run resumes. Complete checkpoints of the same recipe
are kept; all others are trained again.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.corpus import write_tokenizer
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.files import atomic_directory, file_sha256, write_text
from ebbtide.locks import node_lock
from ebbtide.logs import Progress, log
from ebbtide.training.record import RECORD, Made, read_made
from ebbtide.training.spec import TRAINING_VERSION, Spec, check_spec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_STATE = "training_state.safetensors"


def train(spec: Mapping[str, Any], directory: Path, progress: Progress) -> None:
    """Train the checkpoints of `spec`: write `directory/step{N}/`, then `directory/trained.json`.

    `spec` is described in `training.spec`. The same spec gives bit-identical weights on the same kernels,
    even if the run was killed and resumed, or if it requests more checkpoints than an earlier run.
    Checkpoints of another recipe in `directory` are removed. A lock allows one process per node in a
    directory.

    Raises `ConfigError` for an invalid spec, `CheckpointError` if training diverges.
    """
    checked = check_spec(spec)
    directory.mkdir(parents=True, exist_ok=True)
    with node_lock(directory, "training"):
        wanted = {step: checked.identity(step) for step in checked.checkpoints}
        for step, path in _checkpoints_in(directory):
            record = _record(path)
            if record and record.weights != checked.identity(step):
                log.info("%s belongs to another recipe and is removed", path)
                shutil.rmtree(path)
        missing = [
            step for step, weights in wanted.items() if not _is_complete(directory / f"step{step}", weights)
        ]
        state = directory / _STATE
        if missing:
            # Imported here because it loads torch and transformers.
            from ebbtide.training.run import run

            run(checked, missing, state, partial(_save, checked, directory), progress)
        trained = {
            "training_version": TRAINING_VERSION,
            "spec": dict(spec),
            "checkpoints": [read_made(directory / f"step{step}").content for step in wanted],
        }
        write_text(json.dumps(trained, indent=2) + "\n", directory / "trained.json")
        state.unlink(missing_ok=True)
    progress.done(f"{directory}: {len(wanted)} checkpoints, {len(missing)} of them new")


def train_to_markers(spec: Mapping[str, Any], markers: Sequence[str | Path], progress: Progress) -> None:
    """Train the steps that `markers` name, then write the markers.

    A marker is `DIR/step{N}/trained-{ID}.json`. ID is the identity of the weights, so another recipe has
    another file. The marker contains the spec and the step. Markers of earlier recipes are removed.

    Raises `ConfigError` for a marker of another form, and the errors of `train`.
    """
    steps: dict[int, Path] = {}
    for marker in map(Path, markers):
        step = re.fullmatch(r"step(\d+)", marker.parent.name)
        if step is None or marker.parents[1] != Path(markers[0]).parents[1]:
            raise ConfigError(
                f"--markers: found {marker}; allowed: DIR/stepN/trained-ID.json with the same DIR for all."
            )
        steps[int(step[1])] = marker
    spec = {**spec, "checkpoints": sorted(steps)}
    train(spec, Path(markers[0]).parents[1], progress)
    for number, marker in steps.items():
        for stale in marker.parent.glob("trained-*.json"):
            stale.unlink()
        write_text(json.dumps({**spec, "step": number}, indent=1) + "\n", marker)


def _save(spec: Spec, directory: Path, step: int, model: "PreTrainedModel", held_out_loss: float) -> None:
    from safetensors.torch import save as serialize

    with atomic_directory(directory / f"step{step}") as folder:
        # Not `save_file`, which creates files that only their owner can read.
        weights = serialize(model.state_dict(), metadata={"format": "pt"})
        (folder / "model.safetensors").write_bytes(weights)
        model.config.save_pretrained(folder)
        write_tokenizer(folder)
        files = sorted(folder.iterdir())
        record = {
            "weights": spec.identity(step),
            "step": step,
            "tokens": spec.tokens(step),
            "held_out_loss": held_out_loss,  # nats per token, on held-out text of the same mixture
            "files": {path.name: file_sha256(path) for path in files},
        }
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _checkpoints_in(directory: Path) -> list[tuple[int, Path]]:
    found = ((re.fullmatch(r"step(\d+)", path.name), path) for path in directory.iterdir())
    return [(int(match[1]), path) for match, path in found if match]


def _record(checkpoint: Path) -> Made | None:
    """The record of a checkpoint; None if it is missing or unreadable."""
    try:
        return read_made(checkpoint)
    except CheckpointError:
        return None


def _is_complete(checkpoint: Path, weights: str) -> bool:
    record = _record(checkpoint)
    if record is None or record.weights != weights:
        return False
    files = {name: checkpoint / name for name in record.files}
    if all(path.is_file() and file_sha256(path) == record.files[name] for name, path in files.items()):
        return True
    log.info("%s is damaged and is trained again", checkpoint)
    return False
