"""Whether generated texts fit the context windows that are known before anything is scored."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.checkpoints.configuration import configuration, context_window, window_key
from ebbtide.checkpoints.directory import directory_of
from ebbtide.errors import CellError, CheckpointError, ConfigError
from ebbtide.scoring.scorer import FAKE
from ebbtide.tables import REQUESTS, read_footer

if TYPE_CHECKING:
    from ebbtide.study.study import Study
    from ebbtide.tasks.definition import Task


def check_windows(study: "Study") -> None:
    """Raise `ConfigError` for a task whose samples leave a prompt no room in a window.

    Windows are those of `scoring.max_length`, and of the `config.json` of each model's first checkpoint, if
    it is on disk. How much a task of lm-eval generates is known once it is frozen.
    """
    generating = [task for task in study.tasks.values() if task.kind.needs == "samples"]
    if not generating:
        return
    windows = list(_windows(study))
    for task in generating:
        key, most = _most_tokens(task)
        for where, window in windows:
            if most >= window:
                raise ConfigError(
                    f"{task.file}: {key}: found {most}, but {where} is {window:,} tokens, of which a prompt "
                    f"needs one; allowed: at most {window - 1}."
                )


def _most_tokens(task: "Task") -> tuple[str, int]:
    """Return the key of `max_tokens` and its value; 0 for a task of lm-eval that is not frozen."""
    if "lm_eval" not in task.definition["source"]:
        return "decoding.max_tokens", task.definition["decoding"]["max_tokens"]
    most = 0
    if Path(task.frozen).exists():
        with suppress(CellError):  # which scoring reports
            most = read_footer(task.frozen, REQUESTS)["definition"]["decoding"]["max_tokens"]
    return f"max_gen_toks of lm-eval's {task.definition['source']['lm_eval']}", most


def _windows(study: "Study") -> Iterator[tuple[str, int]]:
    """Yield where a window is set, and its tokens."""
    scoring = study.config["scoring"]
    if scoring["max_length"] is not None:
        yield f"scoring.max_length of {study.file}", scoring["max_length"]
    if scoring["backend"] == FAKE:  # whose window does not depend on the model
        return
    for model in study.models.values():
        for checkpoint in model.checkpoints[:1]:
            if Path(checkpoint.marker).exists():
                with suppress(CheckpointError):  # which scoring reports
                    config = configuration(directory_of(checkpoint.marker))
                    if window_key(config) is not None:
                        yield f"the window of {model.name}", context_window(config)
