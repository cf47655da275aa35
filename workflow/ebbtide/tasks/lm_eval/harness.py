"""The installed lm-eval: its modules, its index of tasks, and its manners."""

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
    """A module of lm-eval. Raises `TaskError` when lm-eval is not installed; `why` says what needs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":  # something that lm-eval itself needs
            raise
        raise TaskError(
            f"{why} needs lm-eval, which is not installed; pip install 'ebbtide[lm-eval]'."
        ) from None


def installed_version() -> str:
    """Version of the installed lm-eval."""
    return version("lm_eval")


def manager(paths: Sequence[str | Path], why: str, *, builtin: bool) -> Any:
    """lm-eval's `TaskManager` over the YAML files of these directories.

    With `builtin` it also parses lm-eval's own fourteen thousand, which takes half a minute.
    """
    return module("lm_eval.tasks", why).TaskManager(
        include_path=[str(path) for path in paths], include_defaults=builtin
    )


def builtin_tasks() -> Path:
    """Directory of lm-eval's own task files."""
    return Path(module("lm_eval.tasks", "a task of lm-eval").__file__).parent


def builtin_file(name: str) -> Path | None:
    """The first file of lm-eval that names this task, which is the one it takes, without parsing them all."""
    line = re.compile(rf"""^["']?task["']?\s*:\s*["']?{re.escape(name)}["']?\s*$""", re.MULTILINE)
    files = sorted(builtin_tasks().rglob("*.yaml"), key=Path.as_posix)
    return next((file for file in files if line.search(file.read_text(encoding="utf-8"))), None)


@contextlib.contextmanager
def well_behaved() -> Iterator[None]:
    """lm-eval without chatter, on one core, with the seeds of its own runs.

    Its progress goes to stderr, and its bootstrap starts no processes (the draws are the same). For tasks
    that shuffle, the generators of Python and NumPy start where `lm_eval.simple_evaluate` starts them;
    afterwards they are as before. A template is compiled once, not once per document: several times faster.
    """
    logger = logging.getLogger("lm_eval")
    level, python, numpy = logger.level, random.getstate(), np.random.get_state()
    alone = os.environ.get("DISABLE_MULTIPROC")
    defaults = module("lm_eval.defaults", "a task of lm-eval")
    templates = module("lm_eval.utils", "a task of lm-eval").env
    try:
        templates.from_string = functools.lru_cache(maxsize=256)(
            type(templates).from_string.__get__(templates)
        )
        logger.setLevel(logging.ERROR)
        os.environ["DISABLE_MULTIPROC"] = "1"
        random.seed(defaults.DEFAULT_RANDOM_SEED)
        np.random.seed(defaults.DEFAULT_OTHER_SEED)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        del templates.from_string
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
