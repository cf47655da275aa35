"""Access to the installed lm-eval: its modules, its index of tasks, and a quiet, seeded context.

Versions 0.4 and 0.5 differ. Since 0.5, a task has scorers, and may be named with a format (`arc_easy@mcqa`).
"""

import contextlib
import functools
import importlib
import logging
import os
import random
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ebbtide.errors import TaskError, first_line


def module(name: str, why: str) -> Any:
    """Import a module of lm-eval. Raises `TaskError` if it is not installed; `why` is what needs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":  # a dependency of lm-eval is missing
            raise
        raise TaskError(
            f"{why} needs lm-eval, which is not installed; pip install 'ebbtide[lm-eval]'."
        ) from None


def installed_version() -> str:
    """Return the version of the installed lm-eval."""
    return version("lm_eval")


def manager(paths: Sequence[str | Path], why: str, *, builtin: bool) -> Any:
    """Return lm-eval's `TaskManager` for the YAML files of these directories.

    With `builtin` it also parses the 14,000 files of lm-eval, which takes half a minute.
    """
    return module("lm_eval.tasks", why).TaskManager(
        include_path=[str(path) for path in paths], include_defaults=builtin
    )


def entries(index: Any) -> dict[str, Any]:
    """Return the entries of an index of tasks, by name."""
    found: dict[str, Any] = index.task_index if hasattr(index, "task_index") else index._task_index
    return found


def loaded(index: Any, spec: Any) -> Any:
    """Return the only task of a name, or of an inline group."""
    [task] = index.load(spec)["tasks"].values()
    return task


def scorers_of(task: Any) -> list[Any] | None:
    """Return the scorers of a task; None before version 0.5."""
    found: list[Any] | None = getattr(task, "_scorers", None)
    return found


def builtin_tasks() -> Path:
    """Return the directory of lm-eval's own task files."""
    return Path(module("lm_eval.tasks", "a task of lm-eval").__file__).parent


def builtin_file(name: str) -> Path | None:
    """Return the file of lm-eval that defines a task, the first of several, without parsing all files."""
    line = re.compile(rf"""^["']?task["']?\s*:\s*["']?{re.escape(name)}["']?\s*$""", re.MULTILINE)
    files = sorted(builtin_tasks().rglob("*.yaml"), key=Path.as_posix)
    return next((file for file in files if line.search(file.read_text(encoding="utf-8"))), None)


@contextlib.contextmanager
def well_behaved() -> Iterator[None]:
    """Context in which lm-eval is quiet, runs on one core, and has the seeds of its own runs.

    Its progress is printed to stderr, and its bootstrap starts no processes (the draws are the same). For
    tasks that shuffle, Python and NumPy get the seeds of `lm_eval.simple_evaluate`; their states are restored
    afterwards. A template is compiled once, not once per document, which is several times faster.
    """
    logger = logging.getLogger("lm_eval")
    level, python, numpy = logger.level, random.getstate(), np.random.get_state()
    alone = os.environ.get("DISABLE_MULTIPROC")
    defaults = module("lm_eval.defaults", "a task of lm-eval")
    templates = getattr(module("lm_eval.utils", "a task of lm-eval"), "env", None)  # 0.5 compiles once
    # 0.5 has read the environment.
    errors = getattr(module("lm_eval.api.metrics", "a task of lm-eval"), "stderr", None)
    try:
        if templates is not None:
            templates.from_string = functools.lru_cache(maxsize=256)(
                type(templates).from_string.__get__(templates)
            )
        if errors is not None:
            errors.DISABLE_MULTIPROC = True
        logger.setLevel(logging.ERROR)
        os.environ["DISABLE_MULTIPROC"] = "1"
        random.seed(defaults.DEFAULT_RANDOM_SEED)
        np.random.seed(defaults.DEFAULT_OTHER_SEED)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if templates is not None:
            del templates.from_string
        if errors is not None:
            errors.DISABLE_MULTIPROC = defaults.DISABLE_MULTIPROC
        logger.setLevel(level)
        random.setstate(python)
        np.random.set_state(numpy)
        if alone is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = alone


def named(error: BaseException) -> str:
    """What an error of lm-eval, or of a task's own code, says in one line, with its type."""
    kind, text = type(error).__name__, first_line(error)
    return text if text == kind else f"{kind}: {text}"
