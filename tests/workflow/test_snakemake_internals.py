"""The parts of Snakemake that its documentation does not promise, against the installed version."""

import re
import subprocess
import sys
from pathlib import Path

from workspace import ROOT

SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(ROOT / "workflow")!r})
from ebbtide.jobs.snakemake_internals import (
    escape_report, is_job, jobs_run_here, jobs_to_run, limit_resource, planned_rules
)

limit_resource(workflow, "hub", 2)
limit_resource(workflow, "mine", 3)
escape_report()
escape_report()
from snakemake.report.html_reporter import data
print("REPORT", data.render_metadata({{"title": "</script>"}}), hasattr(data.render_results, "__wrapped__"))
print("LIMITS", workflow.global_resources["hub"], workflow.global_resources["mine"])

rule all:
    input: expand("{{name}}.done", name=["a", "b"])

rule make:
    output: "{{name}}.done"
    resources: here=lambda wildcards: int(jobs_run_here(workflow)), job=int(is_job(workflow))
    shell: "echo HERE {{resources.here}} JOB {{resources.job}} >&2; touch {{output}}"

onstart:
    print("TO RUN", sorted(w.name for w in jobs_to_run(workflow, "make")), jobs_to_run(workflow, "other"))

onsuccess:
    print("PLANNED", sorted(planned_rules(workflow)))
"""


def test_the_installed_snakemake_offers_what_is_used(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "a.done").touch()
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--resources", "mine=7"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(r"LIMITS .*\b2\b.*\b7\b", said)  # the command line has the last word
    assert 'REPORT {"title": "\\u003c/script\\u003e"} True' in said
    assert "TO RUN ['b'] []" in said
    assert "HERE 1 JOB 0" in said
    assert "PLANNED ['all', 'make']" in said


def test_a_dry_run_of_a_profile_that_submits_does_not_run_here(tmp_path: Path) -> None:
    """`--jobs` limits submissions, and is not the number of cores."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    for arguments, here in ((["--cores", "1"], 1), (["--jobs", "5"], 0)):
        command = [sys.executable, "-m", "snakemake", "-n", "-p", "--resources", "mine=7", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert f"HERE {here} JOB 0" in done.stdout + done.stderr


FAILING = f"""
import sys
sys.path.insert(0, {str(ROOT / "workflow")!r})
from ebbtide.jobs.snakemake_internals import is_quiet_about_rules, log_error, on_failed_job
from ebbtide.jobs.snakemake_internals import slurm_status_checks

print("QUIET", is_quiet_about_rules(workflow))
on_failed_job(lambda job: log_error(f"NOTED {{sorted(job.outputs)}} {{sorted(job.logs)}}"))

rule all:
    input: "a", "b"

rule single:
    output: "{{name}}"
    log: "{{name}}.log"
    shell: "exit 1"

onstart:
    print("CHECKS", slurm_status_checks(workflow))
"""


def test_failed_jobs_are_reported_once(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(FAILING)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going"]
    for quiet in ([], ["--quiet", "rules"]):
        done = subprocess.run([*command, *quiet], cwd=tmp_path, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert f"QUIET {bool(quiet)}" in said
        assert "CHECKS None" in said
        noted = sorted(line for line in said.splitlines() if line.startswith("NOTED"))
        assert noted == ["NOTED ['a'] ['a.log']", "NOTED ['b'] ['b.log']"]  # groups: tests/slurm


SLURM_SETTINGS = """
from snakemake_executor_plugin_slurm import ExecutorSettings
from types import SimpleNamespace
from ebbtide.jobs.snakemake_internals import slurm_status_checks

settings = ExecutorSettings(status_command="squeue", init_seconds_before_status_checks=10)
print(slurm_status_checks(SimpleNamespace(executor_settings=settings)))
"""


def test_the_settings_of_the_plugin_for_slurm_are_found() -> None:
    command = [sys.executable, "-c", SLURM_SETTINGS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "('squeue', 10)\n"


def test_no_other_file_reaches_into_snakemake() -> None:
    inside = re.compile(r"workflow\.(dag|global_resources|_)|needrun_jobs|sys\.argv")
    own = "jobs/snakemake_internals.py"
    files = [*ROOT.glob("workflow/rules/*.smk"), ROOT / "Snakefile", *ROOT.glob("workflow/ebbtide/**/*.py")]
    found = [str(f.relative_to(ROOT)) for f in files if inside.search(f.read_text())]
    assert [f for f in found if not f.endswith((own, "jobs/worker.py", "jobs/doctor.py"))] == []
