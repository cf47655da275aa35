"""Adapter: alarms on the terminal, worst first, and the reports of the gate."""

from datetime import datetime
from pathlib import Path

from ebbtide.logs import log_to
from ebbtide.report.gate.examples import read_worst
from ebbtide.report.gate.reports import write_reports
from ebbtide.report.gate.terminal import lines
from ebbtide.report.gate.verdict import gate_of
from ebbtide.study.columns import read_described


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params, given = job.params, job.input
    gate = gate_of(
        read_described(given.alarms),
        read_described(given.not_compared),
        params.settings,
        datetime.now().astimezone().date(),
        study=params.study,
        examples=read_worst(given.flips, params.settings["examples"], params.offensive),
    )
    write_reports(gate, Path(params.reports))
    offensive = ", ".join(params.offensive)
    left_out = [f"Not in the reports: texts of {offensive}, which may be offensive"] if offensive else []
    print(*lines(gate), *left_out, f"All comparisons: {given.alarms}", f"Reports: {params.reports}", sep="\n")


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
