"""The worst day: files are damaged in many ways; what is said, and whether the remedy works."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import drills
import tiny
from reading import flip
from workspace import Workspace

pytestmark = [pytest.mark.long, pytest.mark.slow]

CHECKPOINTS = Path("resources/checkpoints")
NOTHING = "not said"
UNUSABLE = "files of the cell store cannot be used, so the scoring is repeated: "  # the first of them
SCORES = Path("results/scores")


@dataclass(frozen=True)
class Fault:
    """A way to break a study, what the run must say, and the remedy; by default nothing needs to be done."""

    broken: str
    plant: Callable[[Path], object]
    says: str  # regular expression
    remedy: Callable[[Path], object] = lambda root: None


def trained_checkpoint(broken: str, name: str, plant: Callable[[Path], object], says: str) -> Fault:
    """A fault of a trained checkpoint that must be scored; its remedy is to delete the directory."""
    place = CHECKPOINTS / name

    def forget_scores(root: Path) -> None:
        plant(root / place)
        shutil.rmtree(root / SCORES / name)

    remedy = f"; delete {place}: it is trained again"
    return Fault(broken, forget_scores, says + ".*" + remedy, lambda root: shutil.rmtree(root / place))


def replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Replace a text in a file; it must be there."""

    def edit(directory: Path) -> None:
        text = (directory / file).read_text()
        assert old in text
        (directory / file).write_text(text.replace(old, new))

    return edit


def swap_ids(directory: Path) -> None:
    """Exchange the ids 5 and 6 of the tokenizer."""
    path = directory / "tokenizer.json"
    path.write_text(
        re.sub(r": ([56]),", lambda found: f": {11 - int(found[1])},", path.read_text()),
    )


TRAINED = [
    trained_checkpoint(
        "one bit of the weights",
        "small-d8/step0",
        lambda directory: flip(directory / "model.safetensors", 5_000),
        "model.safetensors has the digest",
    ),
    trained_checkpoint(
        "two swapped ids in tokenizer.json", "small-d8/step16", swap_ids, "tokenizer.json has the digest"
    ),
    trained_checkpoint(
        "one flag in config.json",
        "small-d8/step256",
        replace("config.json", '"use_parallel_residual": true', '"use_parallel_residual": false'),
        "config.json has the digest",
    ),
    trained_checkpoint(
        "checkpoint.json is gone",
        "small-d16/step16",
        lambda directory: (directory / "checkpoint.json").unlink(),
        "checkpoint.json does not exist",
    ),
]


def in_store(root: Path, cell: Path) -> Path:
    """The file of the store that a cell of the results was copied from."""
    content = (root / cell).read_bytes()
    return next(p for p in root.glob("cells/[!.]*.parquet") if p.is_file() and p.read_bytes() == content)


def stored_cell(broken: str, name: str, damage: Callable[[Path], object], says: str) -> Fault:
    """A fault of a cell in the store whose copy in the results is gone; running again is the remedy."""
    cell = SCORES / f"{name}.parquet"

    def plant(root: Path) -> None:
        stored = in_store(root, cell)
        (root / cell).unlink()
        damage(stored)

    return Fault(broken, plant, says)


def copied_cell(broken: str, name: str, damage: Callable[[Path], object], says: str) -> Fault:
    """A fault of a cell in the results alone, found when it is measured; deleting it is the remedy."""
    cell = SCORES / f"{name}.parquet"

    def plant(root: Path) -> None:
        damage(root / cell)
        model, checkpoint, _ = name.split("/")
        for part in root.glob(f"results/small/metrics/{model}/{checkpoint}-*.parquet"):
            part.unlink()

    return Fault(broken, plant, says, lambda root: (root / cell).unlink())


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Put something else in the place of a file."""

    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    os.truncate(path, path.stat().st_size // 2)


CELLS = [
    stored_cell(
        "one bit of a cell in the store",
        "small-d8/step0/fact_qa",
        lambda cell: flip(cell, 100),
        r"cells/\w+.parquet is damaged: .* It was renamed to .*damaged; run the same command again",
    ),
    stored_cell("a cell in the store is cut", "small-d8/step16/fact_qa", cut, ""),
    stored_cell(
        "a directory in the place of a cell",
        "small-d8/step256/fact_qa",
        instead(Path.mkdir),
        UNUSABLE,
    ),
    stored_cell(
        "a pipe in the place of a cell",
        "small-d16/step0/fact_qa",
        instead(os.mkfifo),
        UNUSABLE,
    ),
    stored_cell(
        "a link to itself in the place of a cell",
        "small-d16/step16/fact_qa",
        instead(lambda path: path.symlink_to(path.name)),
        UNUSABLE,
    ),
    copied_cell(
        "one bit of a cell in the results",
        "small-d16/step256/fact_qa",
        lambda cell: flip(cell, 100),
        "step256/fact_qa.parquet is damaged: .*; delete the file and run snakemake",
    ),
]


@pytest.mark.parametrize("group", ["trained", "cells"])
def test_damage_is_named_and_the_remedy_leads_to_equal_results(
    group: str, study: Workspace, finished_study: Workspace
) -> None:
    faults = {"trained": TRAINED, "cells": CELLS}[group]
    if group == "trained":
        # Proofs stay: most checkpoints are not loaded again, and would have none in the tables.
        for place in (study.path / "cells").iterdir():
            if place.name != "proofs":
                shutil.rmtree(place) if place.is_dir() else place.unlink()
    for fault in faults:
        fault.plant(study.path)
    output = drills.run(study, "--keep-going")[1]
    for fault in faults:
        fault.remedy(study.path)
    status = drills.run(study, "--keep-going")[0]
    different = drills.differences(drills.outcome(study), drills.outcome(finished_study))
    equal = status == 0 and not different
    table = [drills.Drill("at rest", f.broken, _said(f.says, output), equal) for f in faults]
    drills.write_table(table, f"damage_{group}")
    assert all(re.search(fault.says, output) for fault in faults)
    assert equal, different


def _said(pattern: str, output: str) -> str:
    """The line that matches; `nothing` if none needs to."""
    if not pattern:
        return "nothing"
    return next((line.strip() for line in output.splitlines() if re.search(pattern, line)), NOTHING)


def sparse(path: Path, size: int) -> None:
    """A file of zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)


BOMB = "".join(f"  - &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 10))
FOREIGN: Mapping[str, tuple[str, Callable[[Path], object], str]] = {
    "a pipe as tokenizer.json": ("tokenizer.json", os.mkfifo, "named pipe"),
    "a device as config.json": (
        "config.json",
        lambda path: path.symlink_to("/dev/zero"),
        "not a regular file",
    ),
    "JSON of 10 GB": ("config.json", lambda path: sparse(path, 10**10), "10,000,000,000 bytes"),
    "JSON 200,000 deep": (
        "config.json",
        lambda path: path.write_text("[" * 200_000 + "]" * 200_000),
        "nested more than",
    ),
    "10⁹ layers": (
        "config.json",
        lambda path: path.write_text('{"model_type": "gpt_neox", "num_hidden_layers": 1000000000}'),
        "num_hidden_layers: found 1,000,000,000",
    ),
    "a header that claims 2^60 bytes": (
        "model.safetensors",
        lambda path: path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}"),
        "its header claims",
    ),
    "a shard outside the directory": (
        "model.safetensors.index.json",
        lambda path: (
            path.with_name("model.safetensors").rename(path.parents[2] / "outside.safetensors")
            and path.write_text('{"weight_map": {"number": "../../outside.safetensors"}}')
        ),
        r"\.\./\.\./outside.safetensors",
    ),
}


def test_foreign_files_are_refused_before_anything_runs(tmp_path: Path) -> None:
    """Each ends a dry run with one sentence, without a traceback."""
    table = []
    for number, (broken, (name, make, says)) in enumerate(FOREIGN.items()):
        workspace = Workspace(tmp_path / str(number))
        directory = tiny.hollow_checkpoint(workspace.path / "model")
        (directory / name).unlink(missing_ok=True)
        make(directory / name)
        models = [{"name": "m", "path": str(directory)}]
        workspace.write_yaml("config.yaml", {"study": "s", "models": models, "tasks": ["memo_trap_proverbs"]})
        table.append(_refused(workspace, broken, says))
    drills.write_table(table, "foreign")
    assert all(drill.equal for drill in table)


def test_bombs_in_a_task_are_refused_before_anything_runs(tmp_path: Path) -> None:
    table = []
    texts = {
        "aliases of nine levels": (f"title: T\nx:\n  - &l0 [a]\n{BOMB}", "aliases .* expand to more than"),
        "YAML 100,000 deep": ("title: " + "[" * 100_000 + "]" * 100_000, "nested more than"),
        "a file outside is included": ("include: ../../../etc/passwd\n", "include: found"),
    }
    for number, (broken, (text, says)) in enumerate(texts.items()):
        workspace = Workspace(tmp_path / str(number))
        directory = tiny.hollow_checkpoint(workspace.path / "model")
        (workspace.path / "task.yaml").write_text(text)
        models = [{"name": "m", "path": str(directory)}]
        workspace.write_yaml("config.yaml", {"study": "s", "models": models, "tasks": ["task.yaml"]})
        table.append(_refused(workspace, broken, says))
    drills.write_table(table, "bombs")
    assert all(drill.equal for drill in table)


def _refused(workspace: Workspace, broken: str, says: str) -> drills.Drill:
    """Whether a dry run ends with the sentence and leaves nothing behind."""
    done = workspace.snakemake("--dry-run", check=False)
    said = _said(says, done.stdout).replace(f"{workspace.path}/", "")
    if said == NOTHING:
        print(done.stdout[-2000:])
    refused = done.returncode != 0 and said != NOTHING
    quiet = "Traceback" not in done.stdout and "root:" not in done.stdout
    return drills.Drill("planning", broken, said, refused and quiet)
