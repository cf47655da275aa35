"""A small study in a directory of its own, run through Snakemake as a user would."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from forked import run_snakemake

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"

# Small enough for a test, large enough for the effect's sign.
SMALL_SERIES = {
    "title": "A small ladder for tests",
    "corpus": {
        "world": {"seed": 0, "proverbs": 24, "zipf": 0.7},
        "mixture": {
            "plain": 0.36,
            "proverb": 0.42,
            "fact": 0.2,
            "repeat": 0.01,
            "negation": 0.005,
            "arithmetic": 0.003,
            "instruction": 0.002,
        },
        "seed": 0,
    },
    "recipe": {
        "seed": 0,
        "steps": 256,
        "batch": 16,
        "length": 64,
        "warmup": 8,
        "final_fraction": 0.1,
        "betas": [0.9, 0.95],
        "weight_decay": 0.01,
        "clip": 1.0,
    },
    "checkpoints": [0, 16, 64, 256],
    "models": {
        "small-d8": {"width": 8, "layers": 1, "heads": 1, "learning_rate": 0.02},
        "small-d16": {"width": 16, "layers": 2, "heads": 2, "learning_rate": 0.015},
    },
}

SMALL_STUDY = {
    "study": "small",
    "models": [{"series": "series.yaml", "steps": [0, 16, 256]}],
    "tasks": ["tasks/memo_trap.yaml", "tasks/fact_qa.yaml", "tasks/quote_repetition.yaml"],
    "scoring": {"load_once_per": "model"},
}


class Workspace:
    """A directory with a study, and Snakemake to run it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Jobs of a test share two cores with other tests.
        self.env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        self.env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on this directory; output and errors come together in `stdout`."""
        command = [*self.command(), *arguments]
        with tempfile.NamedTemporaryFile("r", suffix=".log", errors="replace") as output:
            status = run_snakemake(command[3:], self.env, Path(output.name))
            done = subprocess.CompletedProcess(command, status, stdout=output.read())
        if check and done.returncode != 0:
            pytest.fail(
                f"snakemake {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-6000:]}"
            )
        return done

    def command(self, configfile: str = "config.yaml") -> list[str]:
        """The command line, without cores and targets; it begins with `python -m snakemake`."""
        return [
            *(sys.executable, "-m", "snakemake"),
            *("--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.path)),
            *("--configfile", str(self.path / configfile)),
        ]

    def run(self, *arguments: str, cores: int = 2) -> subprocess.CompletedProcess[str]:
        """Run everything, or the targets given."""
        return self.snakemake("--cores", str(cores), *arguments)

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs a dry run plans: rule → count, without `all`."""
        output = self.snakemake("--dry-run", *arguments).stdout
        jobs = {}
        if "Job stats:" in output:
            table = output.split("Job stats:")[-1].split("\n\n")[0]
            jobs = {name: int(count) for name, count in re.findall(r"^(\S+)\s+(\d+)$", table, re.MULTILINE)}
        elif "Nothing to be done" not in output:
            pytest.fail(f"no plan in:\n{output[-3000:]}")
        jobs.pop("total", None)
        jobs.pop("all", None)
        return jobs

    def read_yaml(self, name: str) -> dict:
        return yaml.safe_load((self.path / name).read_text())

    def write_yaml(self, name: str, content: dict) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(yaml.safe_dump(content, sort_keys=False))

    @contextmanager
    def edited(self, name: str) -> Iterator[dict]:
        """Read a YAML file, let the caller change it, write it back."""
        content = self.read_yaml(name)
        yield content
        self.write_yaml(name, content)

    def cells(self) -> list[Path]:
        return sorted(self.path.glob("results/scores/*/*/*.parquet"))

    def loads(self) -> int:
        """How often weights were loaded, by the logs of rule `score`."""
        logs = self.path.glob("logs/score/**/*.log")
        return sum(log.read_text().count("loaded weights") for log in logs)

    def workers(self) -> int:
        """How many processes imported torch to score, by the logs of rule `score`."""
        logs = self.path.glob("logs/score/**/*.log")
        return sum(log.read_text().count("loads of weights") for log in logs)


def write_small_study(path: Path) -> Workspace:
    """A study of two tiny models in an empty directory."""
    workspace = Workspace(path)
    workspace.write_yaml("series.yaml", SMALL_SERIES)
    workspace.write_yaml("config.yaml", SMALL_STUDY)
    for task in (ROOT / "workflow/tasks").glob("*.yaml"):
        (path / "tasks").mkdir(exist_ok=True)
        shutil.copy(task, path / "tasks" / task.name)
    with workspace.edited("tasks/_toy_language.yaml") as fragment:
        fragment["source"]["world"] = SMALL_SERIES["corpus"]["world"]
    return workspace
