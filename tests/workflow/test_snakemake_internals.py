"""The parts of Snakemake that its documentation does not promise, against the installed version."""

import re
import subprocess
import sys
from pathlib import Path

from snakemake_interface_executor_plugins.utils import (
    TargetSpec,
    encode_target_jobs_cli_args,
    format_cli_arg,
)

from workspace import ROOT

SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(ROOT / "workflow")!r})
import inspect
from ebbtide.jobs.snakemake_internals import (
    escape_report, is_job, jobs_run_here, jobs_to_run, limit_resource, models_of_process, on_nothing_to_do,
    planned_rules, with_signature
)

on_nothing_to_do(lambda: print("NOTHING", sorted(planned_rules(workflow))))

limit_resource(workflow, "hub", 2)
limit_resource(workflow, "mine", 3)
escape_report()
escape_report()
from snakemake.report.html_reporter import data
print("REPORT", data.render_metadata({{"title": "</script>"}}), hasattr(data.render_results, "__wrapped__"))
print("MODELS", models_of_process(workflow))
print("LIMITS", workflow.global_resources["hub"], workflow.global_resources["mine"])

rule all:
    input: expand("{{name}}.done", name=["a", "b"])

@with_signature
def memory(wildcards, attempt):
    return attempt * 100

print("INSPECTED ONCE", inspect.signature(memory) is inspect.signature(memory))

rule make:
    output: "{{name}}.done"
    resources:
        here=lambda wildcards: int(jobs_run_here(workflow)), job=int(is_job(workflow)), mem_mb=memory
    shell:
        "echo HERE {{resources.here}} JOB {{resources.job}} MEMORY {{resources.mem_mb}} >&2; touch {{output}}"

rule of_model:
    output: "{{model}}/{{name}}.done"
    shell: "touch {{output}}"

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
    assert "MODELS None" in said  # a run needs all
    assert "INSPECTED ONCE True" in said
    assert "HERE 1 JOB 0 MEMORY 100" in said
    assert "PLANNED ['all', 'make']" in said
    assert "NOTHING" not in said
    for more in ([], ["-n"], ["--quiet", "all"]):  # no hook is called any more
        done = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.count("NOTHING ['all', 'make']") == 1


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


def test_a_process_started_for_jobs_knows_their_models(tmp_path: Path) -> None:
    """As executors start it on a node."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)

    def models(*jobs: TargetSpec) -> str:
        target = format_cli_arg("--target-jobs", encode_target_jobs_cli_args(jobs))
        rest = "--cores 1 --force --nolock --no-hooks --mode remote --resources mine=7"
        command = f"{sys.executable} -m snakemake {target} --allowed-rules make of_model {rest}"
        done = subprocess.run(command, cwd=tmp_path, shell=True, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        [found] = re.findall("^MODELS (.*)$", done.stdout + done.stderr, re.MULTILINE)
        return str(found)

    one, other = (TargetSpec("of_model", {"model": "m-1.4b", "name": name}) for name in "xy")
    assert models(one, other) == "{'m-1.4b'}"
    assert (tmp_path / "m-1.4b/y.done").exists()
    assert models(one, TargetSpec("make", {"name": "a"})) == "None"  # this job may need all


def test_no_other_file_reaches_into_snakemake() -> None:
    inside = re.compile(r"workflow\.(dag|global_resources|_)|needrun_jobs|sys\.argv")
    own = "jobs/snakemake_internals.py"
    files = [*ROOT.glob("workflow/rules/*.smk"), ROOT / "Snakefile", *ROOT.glob("workflow/ebbtide/**/*.py")]
    found = [str(f.relative_to(ROOT)) for f in files if inside.search(f.read_text())]
    read_own_arguments = ("cli/__init__.py", "jobs/worker.py", "jobs/doctor.py")
    assert [f for f in found if not f.endswith((own, *read_own_arguments))] == []
