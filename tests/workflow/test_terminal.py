"""What a run prints: a line for each stage, whole errors, and Snakemake's own output if it is asked for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from workspace import ROOT

SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(ROOT / "workflow")!r})
from ebbtide.jobs.stages import show_stages

STAGES = show_stages(workflow)

rule all:
    input: "all.done"

include: "scoring.smk"
include: "metrics.smk"

onerror:
    print(*STAGES.unfinished(), sep="\\n", file=sys.stderr)
"""
SCORING = """
rule score:
    output: "{name}.cell"
    log: "{name}.log"
    shell:
        "test {wildcards.name} != bad || {{ echo 'ScoringError: it is bad.' > {log}; exit 1; }}; "
        "touch {output}"
"""
METRICS = """
NAMES = config["names"].split("-")
rule measure:
    input: "{name}.cell"
    output: "{name}.tsv"
    shell: "touch {output}"
rule metrics:
    input: expand("{name}.tsv", name=NAMES)
    output: "all.done"
    shell: "echo a warning of a job >&2; touch {output}"
"""
PLUGIN = """
import sys
from snakemake_interface_logger_plugins.base import LogHandlerBase

class LogHandler(LogHandlerBase):
    writes_to_stream = has_filter = has_formatter = True
    writes_to_file = needs_rulegraph = False

    def emit(self, record):
        if getattr(record, "event", None) == "job_finished":
            print("PLUGIN", record.job_id, file=sys.stderr)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in (("Snakefile", SNAKEFILE), ("scoring.smk", SCORING), ("metrics.smk", METRICS)):
        (tmp_path / name).write_text(text)
    package = tmp_path / "plugins/snakemake_logger_plugin_mine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PLUGIN)
    return tmp_path


def run(directory: Path, *options: str, names: str = "a-b-c", status: int = 0) -> str:
    plugins = str(directory / "plugins")
    program = f"import sys; sys.path.insert(0, {plugins!r}); from snakemake.cli import main; main()"
    command = [sys.executable, "-c", program, "--cores", "1", "--config", f"names={names}", *options]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def without_times(said: str) -> list[str]:
    kept = [line for line in said.splitlines() if not line.startswith(("Complete log(s):", "Elapsed time:"))]
    return [re.sub(r"^\d\d:\d\d:\d\d |in \d+ s$", "", line).strip() for line in kept if line]


def test_a_run_prints_a_line_for_each_stage(directory: Path) -> None:
    said = run(directory)
    assert without_times(said) == [
        "Assuming unrestricted shared filesystem usage.",
        "7 jobs to run: scoring 3, metrics 4. (--verbose prints each.)",
        "scoring: 3 jobs done",
        "a warning of a job",
        "metrics: 4 jobs done",
    ]
    assert "Complete log(s): " in said
    [log] = directory.glob(".snakemake/log/*.log")
    text = log.read_text()
    assert text.count("rule score:") == 3 and "7 of 8 steps" in text, "Snakemake's log of the run is whole"
    assert "scoring: 3 jobs done" in text
    assert "Nothing to be done" in run(directory)


def test_an_error_is_whole_and_the_end_says_what_is_left(directory: Path) -> None:
    said = run(directory, "--show-failed-logs", "--keep-going", names="a-bad-c", status=1)
    for part in (
        "Error in rule score:",
        "output: bad.cell",
        "log: bad.log",
        "shell:",
        "ScoringError: it is bad.",
        "Jobs done: scoring 2 of 3, metrics 2 of 4. The same command continues.",
    ):
        assert part in said
    assert "scoring: 3 jobs" not in said and "rule measure:" not in said


@pytest.mark.parametrize("option", ["--verbose", "--printshellcmds", "--dry-run"])
def test_snakemakes_own_output_comes_back_where_it_is_asked_for(directory: Path, option: str) -> None:
    said = run(directory, option)
    assert said.count("rule score:") == 3 and "Job stats:" in said
    assert "jobs to run" not in said


@pytest.mark.parametrize(("quiet", "lines"), [("progress", 2), ("rules", 5), ("all", 1)])
def test_quiet_is_obeyed(directory: Path, quiet: str, lines: int) -> None:
    assert len(without_times(run(directory, "--quiet", quiet))) == lines


def test_another_logger_prints_in_its_own_way(directory: Path) -> None:
    said = run(directory, "--logger", "mine")
    assert said.count("PLUGIN") == 8
    assert "jobs to run" not in said and "rule score" not in said
