"""What planning a large grid costs: CPU seconds and memory, beside a minimal Snakefile of the same shape.

    python benchmarks/planning.py                    16 models × 154 checkpoints × 12 tasks: 29,568 cells
    python benchmarks/planning.py --models 2         3,696 cells
    python benchmarks/planning.py --directory DIR    keep the finished grids there, and use them again

The study is Pythia's series with a made lock, so nothing needs a network. Its cells are files with the right
footer, in the results and in the store; all other files of a finished run are empty. Snakemake's records of
the run are made by Snakemake itself. The minimal Snakefile has the same cells, weights, tables
per checkpoint and one aggregate, and no functions: it shows what Snakemake itself costs. Both are measured in
turns in one run; the least of all repetitions counts. The table has the ratios, and what they must not
exceed.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ebbtide.cells import store
from ebbtide.checkpoints.hub.catalogue import HubModel
from ebbtide.checkpoints.hub.fetched import FETCHED
from ebbtide.checkpoints.hub.lock import Lock, Locked, LockedFile, LockedModel, write_lock
from ebbtide.files import digest
from ebbtide.grid import Checkpoint
from ebbtide.jobs.leads import cell_path
from ebbtide.study.load import read_study
from ebbtide.study.study import Study

ROOT = Path(__file__).parents[1]
SIZES = ("14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
DEDUPLICATED = ("70m", "160m", "410m", "1b", "1.4b", "2.8b")
MODELS = [*(f"pythia-{size}" for size in SIZES), *(f"pythia-{size}-deduped" for size in DEDUPLICATED)]
TOY = ("fact_qa", "quote_repetition", "redefine", "pattern_suppression", "arithmetic", "negated_qa")
MEMO_TRAPS = ("proverbs", "translation", "hate_speech", "history_of_science")
TASKS = ["memo_trap", "truthful_qa", *TOY, *(f"memo_trap_{name}" for name in MEMO_TRAPS)]

MINIMAL = """
import json
GRID, TASKS, WEIGHTS = json.load(open("grid.json"))
CELL = "results/scores/{model}/{checkpoint}/{task}.parquet"
FROZEN = "resources/tasks/{task}.parquet"
FETCHED = "resources/checkpoints/{model}/{checkpoint}/weights"
TABLES = ("metrics", "examples")
METRICS, EXAMPLES = (f"results/planning/{t}/{{model}}/{{checkpoint}}.parquet" for t in TABLES)
ALL = [(m, c) for m in GRID for c in GRID[m]]
PARTS = [part.format(model=m, checkpoint=c) for part in (METRICS, EXAMPLES) for m, c in ALL]

wildcard_constraints:
    model="|".join(GRID),
    checkpoint="|".join(sorted({c for _, c in ALL})),
    task="|".join(TASKS),

rule all:
    default_target: True
    input:
        [CELL.format(model=m, checkpoint=c, task=t) for m, c in ALL for t in TASKS],
        PARTS,
        "results/planning/table.tsv",

rule freeze:
    output: FROZEN
    log: "logs/freeze/{task}.log"
    shell: "freeze {output}"

rule fetch:
    output: temp(directory(FETCHED))
    log: "logs/fetch/{model}/{checkpoint}.log"
    benchmark: "logs/fetch/{model}/{checkpoint}.benchmark.tsv"
    resources: hub=1
    shell: "fetch {output}"

rule score:
    input:
        requests=ancient(FROZEN),
        weights=ancient(FETCHED) if WEIGHTS else [],
    output: CELL
    log: "logs/score/{model}/{checkpoint}/{task}.log"
    benchmark: "logs/score/{model}/{checkpoint}/{task}.benchmark.tsv"
    group: "checkpoint"
    resources: slot=1, mem_mb=2000, runtime=5
    params: identity="{model} {checkpoint} {task}"
    shell: "score {input} {params.identity} {output}"

rule measure:
    input:
        cells=expand(CELL, task=TASKS, allow_missing=True),
        requests=[ancient(FROZEN.format(task=t)) for t in TASKS],
    output: metrics=METRICS, examples=EXAMPLES
    log: "logs/measure/{model}/{checkpoint}.log"
    group: "checkpoint"
    resources: slot=0, mem_mb=1000, runtime=5
    params: expected="{model} {checkpoint}"
    shell: "measure {input} {params.expected} {output}"

rule aggregate:
    input: PARTS
    output: "results/planning/table.tsv"
    log: "logs/aggregate.log"
    params: parts=PARTS
    shell: "aggregate {output}"
"""


def made_lock(models: Sequence[HubModel]) -> Lock:
    """A lock of all checkpoints, each with one weight file of its own; `main` is the last step."""
    configs: dict[str, Any] = {}
    locked = {}
    for model in models:
        [stage], steps = model.stages, list(model.stages[0].steps or ())
        config = f"git:{digest(model.name)}{'0' * 8}"
        configs[config] = {**(model.architecture or {}), "dtype": "float16"}
        checkpoints = {
            stage.checkpoint(step): _locked(model, f"step{step}", step, step, config) for step in steps
        }
        checkpoints["main"] = _locked(model, "main", None, steps[-1], config)
        locked[model.name] = LockedModel({stage.name: tuple(steps)}, checkpoints)
    return Lock(locked, configs)


def _locked(model: HubModel, revision: str, step: int | None, content: int, config: str) -> Locked:
    size = 2 * model.nominal
    weights = LockedFile(f"sha256:{2 * digest([model.name, content])}", size, "2023-01-01")
    files = {
        "model.safetensors": weights,
        "config.json": LockedFile(config, 500, "2023-01-01"),
        "tokenizer.json": LockedFile(f"git:{'1' * 40}", 2_000_000, "2023-01-01"),
    }
    commit = f"{digest([model.name, revision])}{'0' * 8}"
    return Locked(model.repo, revision, commit, step, files)


def write_study(directory: Path, models: int, steps: list[int] | str = "all") -> Study:
    """Write the study of the first models and its lock; return it loaded."""
    directory.mkdir(parents=True, exist_ok=True)
    study = {
        "study": "planning",
        "models": [{"series": "pythia", "sizes": MODELS[:models], "steps": steps}],
        "tasks": TASKS,
        "weights": {"disk_gb": 100, "keep": "none"},
        "scoring": {"backend": "fake", "dtype": "float32", "load_once_per": "checkpoint"},
    }
    (directory / "study.yaml").write_text(yaml.safe_dump(study))
    with _inside(directory):
        write_lock(made_lock(read_study("study.yaml").hub), "study.lock.json")
        return read_study("study.yaml")


@contextmanager
def _inside(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def write_cells(study: Study, directory: Path) -> None:
    """Write every cell of the study as a file with its footer, once; the store has the same file."""
    for checkpoint in study.checkpoints():
        for task in study.tasks:
            identity = study.identity(checkpoint, task)
            footer = json.dumps(dict(identity), sort_keys=True, separators=(",", ":")).encode()
            cell = directory / store.path_of(study.config["scoring"]["store"], identity)
            published = directory / cell_path(checkpoint, task)
            cell.parent.mkdir(parents=True, exist_ok=True)
            published.parent.mkdir(parents=True, exist_ok=True)
            length = len(footer).to_bytes(4, "little")
            cell.write_bytes(store.MAGIC + footer + length + store.MAGIC)
            published.hardlink_to(cell)


def write_minimal(study: Study, directory: Path, *, weights: bool) -> None:
    """Write the minimal Snakefile of the same shape; in a finished grid, no cell needs weights."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Snakefile").write_text(MINIMAL)
    grid = {name: [c.name for c in model.checkpoints] for name, model in study.models.items()}
    (directory / "grid.json").write_text(json.dumps([grid, list(study.tasks), weights]))


# Its own scheduler takes an hour for 30,000 jobs that do nothing, so that this one finishes all at once.
RECORDING = """
import sys
from pathlib import Path
from snakemake.cli import main
from snakemake.scheduling.job_scheduler import JobScheduler

def schedule(self):
    dag = self.workflow.dag

    async def finish_all():
        for level in dag.toposorted(set(dag.needrun_jobs())):
            for job in level:
                for file in job.output:
                    Path(file).parent.mkdir(parents=True, exist_ok=True)
                    Path(file).touch()
                await self.workflow.persistence.finished(job)

    self.workflow.async_run(finish_all())
    return True

JobScheduler.schedule = schedule
main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Cost:
    """What a process took: CPU seconds (user and system), peak memory in MB, and printed bytes in MB."""

    cpu: float
    memory: float
    printed: float


@dataclass(frozen=True)
class Grid:
    """A directory with a grid and the command that runs it."""

    directory: Path
    snakefile: Path
    options: tuple[str, ...] = ()

    def command(self, *arguments: str) -> list[str]:
        """The options of Snakemake for this grid."""
        return [
            *("--snakefile", str(self.snakefile), "--directory", str(self.directory)),
            *("--scheduler", "greedy", "--rerun-triggers", "mtime", "params", "software-env", "code"),
            *self.options,
            *arguments,
        ]

    def run(self, *arguments: str) -> Cost:
        """Run Snakemake and return what it took; its output goes to a file."""
        log = self.directory / "output.txt"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "snakemake", *self.command(*arguments)]
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=self.directory)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{shlex.join(command)[:2000]}\n{log.read_text()[-3000:]}")
        cpu = used.ru_utime + used.ru_stime
        return Cost(cpu, used.ru_maxrss / 1024, log.stat().st_size / 1e6)

    def record(self) -> None:
        """Let Snakemake make all missing files, empty, and its records of them, as after a finished run."""
        command = [
            sys.executable,
            "-c",
            RECORDING,
            *self.command("--touch", "--cores", "1", "--quiet", "all"),
        ]
        with (self.directory / "record.txt").open("wb") as log:
            subprocess.run(command, check=True, cwd=self.directory, stdout=log, stderr=subprocess.STDOUT)
        self.run("-n")
        if "Nothing to be done" not in (self.directory / "output.txt").read_text():
            sys.exit(f"{self.directory}: a finished run plans jobs: see output.txt there")


def last_checkpoint(study: Study) -> Checkpoint:
    """The checkpoint whose submission is measured."""
    return list(study.checkpoints())[-1]


def prepare_submission(study: Study, directory: Path) -> None:
    """Make what a submission of the last checkpoint finds: weights and frozen tasks, as empty files."""
    frozen = [task.frozen for task in study.tasks.values()]
    make_empty(directory, [f"{last_checkpoint(study).marker}/{FETCHED}", *frozen])


def make_empty(directory: Path, files: Sequence[str]) -> None:
    """Make empty files."""
    for file in files:
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (directory / file).touch()


def submission(study: Study, more: str = "") -> list[str]:
    """Options of the Snakemake that a cluster runs for a group, as executors write them; a dry run of it.

    The group is the last checkpoint: its cells and its tables, which have `more` wildcards.
    """
    checkpoint = last_checkpoint(study)
    where = f"model={checkpoint.model},checkpoint={checkpoint.name}"
    jobs = [*(f"score:{where},task={task}" for task in study.tasks), f"measure:{where}{more}"]
    return [
        *("--target-jobs", *jobs, "--allowed-rules", "score", "measure", "--local-groupid", "made"),
        *("--cores", "1", "--attempt", "1", "--force", "--target-files-omit-workdir-adjustment"),
        *("--max-inventory-time", "0", "--retries", "0", "--nocolor", "--no-hooks", "--nolock"),
        *("--ignore-incomplete", "--mode", "remote", "-n"),
    ]


@dataclass(frozen=True)
class Row:
    """A measured command: what it is, and what it must not exceed."""

    name: str
    product: list[Cost]
    minimal: list[Cost]
    ratio: float | None = None  # of CPU to that of the minimal Snakefile
    aim: float | None = None
    seconds: float | None = None
    most_memory: float | None = None  # MB

    def text(self) -> str:
        """The row as a line of a Markdown table."""
        own, floor = (min(costs, key=lambda c: c.cpu) for costs in (self.product, self.minimal))
        ratio, must = own.cpu / floor.cpu, []
        good = True
        if self.ratio is not None:
            must.append(f"≤ {self.ratio:g} × (aim {self.aim:g})")
            good &= ratio <= self.ratio
        if self.seconds is not None:
            must.append(f"≤ {self.seconds:g} s (aim {self.aim:g})")
            good &= own.cpu <= self.seconds
        if self.most_memory is not None:
            must.append(f"≤ {self.most_memory:g} MB")
            good &= own.memory <= self.most_memory
        cells = [self.name, f"{own.cpu:.1f}", f"{floor.cpu:.1f}", f"{ratio:.2f}", "; ".join(must)]
        cells += ["yes" if good else "NO", f"{own.memory:.0f}", f"{floor.memory:.0f}"]
        return "| " + " | ".join([*cells, f"{own.printed:.1f}", f"{floor.printed:.1f}"]) + " |"


HEADER = """| command | CPU s | minimal | ratio | must | met | MB | minimal | MB printed | minimal |
|---|---|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Grids:
    """The product's grid and the minimal one of the same shape."""

    study: Study
    product: Grid
    minimal: Grid

    def cost(self, repeat: int, own: list[str], floor: list[str]) -> tuple[list[Cost], list[Cost]]:
        """Costs of a command in both grids, in turns."""
        pairs = [(self.product.run(*own), self.minimal.run(*floor)) for _ in range(repeat)]
        return [p for p, _ in pairs], [m for _, m in pairs]

    def prepare_submission(self) -> None:
        """Make what a submission of the last checkpoint finds, in both."""
        prepare_submission(self.study, self.product.directory)
        checkpoint = last_checkpoint(self.study)
        made = [f"resources/checkpoints/{checkpoint.model}/{checkpoint.name}/weights/{FETCHED}"]
        made += [f"resources/tasks/{name}.parquet" for name in self.study.tasks]
        make_empty(self.minimal.directory, made)

    def finish(self) -> None:
        """Make both finished runs, unless they are."""
        mark = self.product.directory / "finished"
        if not mark.exists():
            write_cells(self.study, self.product.directory)
            self.product.record()
            self.minimal.record()
            mark.touch()


def expected_wildcard(study: Study) -> str:
    """The wildcard of the tables of the last checkpoint that the minimal Snakefile lacks."""
    return f",expected={Path(study.part('metrics', last_checkpoint(study))).stem.rpartition('-')[2]}"


def planned(grids: Grids, repeat: int) -> Iterator[Row]:
    """Measure the commands whose jobs are all missing."""
    everything = ["--quiet", "all", "-n"]
    yield Row("all missing, `-n --quiet all`", *grids.cost(repeat, everything, everything), 1.6, 1.2)
    last = list(grids.study.models.values())[-1]
    targets = [cell_path(c, task) for c in last.checkpoints for task in grids.study.tasks]
    one = [*everything, *targets]
    yield Row("one model, `-n --quiet all`", *grids.cost(repeat, one, one), 2, 1.5)
    parse = ["--list-rules"]
    yield Row("parse, `--list-rules`", *grids.cost(repeat, parse, parse), aim=2.0, seconds=2.5)
    jobs = submission(grids.study, expected_wildcard(grids.study)), submission(grids.study)
    grids.prepare_submission()
    yield Row("job of a submission", *grids.cost(repeat, *jobs), aim=2.0, seconds=2.5)


def finished(grids: Grids, repeat: int) -> Iterator[Row]:
    """Measure a run of finished grids."""
    run = ["--cores", "1"]
    yield Row("nothing to do", *grids.cost(repeat, run, run), 1.4, 1.15, most_memory=700)


def grids(root: Path, models: int, *, weights: bool) -> Grids:
    """Write a study and the minimal Snakefile in a directory; see `write_minimal`."""
    study = write_study(root / "product", models)
    write_minimal(study, root / "minimal", weights=weights)
    return Grids(
        study,
        Grid(root / "product", ROOT / "Snakefile", ("--configfile", str(root / "product/study.yaml"))),
        Grid(root / "minimal", root / "minimal/Snakefile"),
    )


def main() -> None:
    """Make the grids, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=len(MODELS), help="how many (default: 16)")
    parser.add_argument("--repeat", type=int, default=2, help="how often each is measured (default: 2)")
    parser.add_argument("--directory", type=Path, help="where the finished grids go, and stay")
    parser.add_argument("--only", choices=("planned", "finished"), help="measure only these commands")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        empty = grids(Path(temporary), options.models, weights=True)
        cells = len(empty.study.tasks) * sum(1 for _ in empty.study.checkpoints())
        print(f"{cells:,} cells\n\n{HEADER}", flush=True)
        if options.only != "finished":
            for row in planned(empty, options.repeat):
                print(row.text(), flush=True)
        if options.only != "planned":
            place = (options.directory or Path(temporary, "done")).resolve()
            done = grids(place, options.models, weights=False)
            done.finish()
            for row in finished(done, options.repeat):
                print(row.text(), flush=True)


if __name__ == "__main__":
    main()
