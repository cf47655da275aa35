"""`snakemake --lint`, without its demand for a conda environment or a container per rule.

All rules run in the environment that runs Snakemake: it is one package with one lock (`envs/cpu.txt`), and
`conda:` on every rule would expand the params of every job while planning.
"""

import subprocess
import sys

ALLOWED = "Specify a conda environment or container for each rule."


def findings(report: str) -> list[str]:
    """Titles that the lint reports, without the allowed one, each with the rule or file it is about."""
    found, place = [], ""
    for line in report.splitlines():
        if line.startswith("Lints for "):
            place = line.removeprefix("Lints for ").rstrip(":")
        elif line.lstrip().startswith("* ") and ALLOWED not in line:
            found.append(f"{place}: {line.strip(' *').rstrip(':')}")
    return found


if __name__ == "__main__":
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"], capture_output=True, text=True, check=False
    )
    report = done.stdout + done.stderr
    if done.returncode and "Lints for " not in report:
        sys.exit(report)
    sys.exit("\n".join(findings(report)) or 0)
