"""Every study that ships loads, and what the files say of defaults is what the schema does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from ebbtide.schema import load_schema, read_yaml
from ebbtide.study.checks import RENAMED, WITHOUT_MODELS
from ebbtide.study.load import read_study
from workspace import ROOT

STUDIES = sorted(path.relative_to(ROOT) for path in (ROOT / "studies").glob("*.yaml"))

# Keys of the embedded study that are not the defaults of real runs, and why.
EMBEDDED = {
    "scoring.dtype": "float32",  # on a CPU the 16-bit types are slower
    "scoring.load_once_per": "model",  # loading a tiny model costs more than scoring with it
}


def defaults(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, default) of every key of a section that has one."""
    for name, key in schema.get("properties", {}).items():
        if "properties" in key:
            yield from defaults(key, f"{prefix}{name}.")
        elif "default" in key:
            yield prefix + name, key["default"]


def values(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of every key of a configuration, sections taken apart."""
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from values(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


SCHEMA = load_schema("config")
DEFAULTS = dict(defaults(SCHEMA))
# Stages that only some studies have: without their section, none of it is made.
OPTIONAL = {
    name for name, key in SCHEMA["properties"].items() if "properties" in key and "default" not in key
}


@pytest.mark.parametrize("file", STUDIES, ids=lambda path: path.stem)
def test_every_study_loads(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a fresh checkout, where models on disk lie in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    content = read_yaml(ROOT / file)
    for row in content.get("models", []):
        for step in row.get("steps", [0]) if "path" in row else []:
            directory = Path(row["path"].replace("{step}", str(step)).lstrip("/"))
            tiny.hollow_checkpoint(tmp_path / directory)
    if file.stem == "template":  # its path is a user's
        text = (ROOT / file).read_text().replace("path: /data", "path: data")
        (tmp_path / "template.yaml").write_text(text)
        file = Path("template.yaml")
    study = read_study(file)
    assert study.name == read_yaml(file)["study"]
    assert study.models or study.imported or {*WITHOUT_MODELS} & study.config.keys() or study.unlocked


def test_config_yaml_states_every_default() -> None:
    stated = dict(values(read_yaml(ROOT / "config.yaml")))
    other = {"models", "tasks", "recompute", "replace_results"} | OPTIONAL  # the study, and switches
    of_one_run = {"watch.only", "watch.left_out"}
    for key, default in DEFAULTS.items():
        if key.partition(".")[0] not in other and key not in of_one_run:
            assert stated.get(key) == EMBEDDED.get(key, default), key
    assert set(EMBEDDED) <= set(DEFAULTS)


def test_the_template_states_defaults_below_its_line() -> None:
    stated = dict(values(read_yaml(ROOT / "studies/template.yaml")))
    own = {key for key in stated if key.partition(".")[0] in ("study", "models", "tasks")}
    assert own == {"study", "models", "tasks"}
    assert {key: stated[key] for key in stated.keys() - own} == {
        key: DEFAULTS[key] for key in stated.keys() - own
    }


def test_the_docs_use_no_old_name() -> None:
    """A key as it is written in a file, `key: value`, or on the command line, `key=value`."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for old, new in RENAMED.items():
        key = old.rpartition(".")[2]
        if key in (
            "rows",
            "scale",
            "scaling",
            "verify",
            "hold",
            "flat",
            "ahead",
            "fail",
            "downloads",
            "watch",
        ):
            written = re.compile(rf"`{re.escape(old)}`|`{re.escape(old)}:|^{re.escape(old)}:", re.MULTILINE)
        else:
            written = re.compile(rf"`{key}[:=`]|--config {key}=|^ *{key}:", re.MULTILINE)
        for page in pages:
            assert not written.search(page.read_text()), f"{page.name}: {old} is now {new}"
