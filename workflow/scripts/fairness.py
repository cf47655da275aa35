"""Adapter: error rates by group, from the metrics of every example and the groups of frozen tasks."""

import json

from ebbtide.logs import log_to
from ebbtide.statistics.fairness.tables import Collected, Groups, fairness_table, shots_used, spread_table
from ebbtide.statistics.panel import read_trajectories
from ebbtide.tables import CELL, REQUESTS, read_footer, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params, section = job.params, job.params.fairness
    reference = section["reference"]
    requests = dict(zip(params.tasks, job.input.requests, strict=True))
    groups = {
        task: Groups(read_frame(path, REQUESTS), section["group"], reference and reference["group"])
        for task, path in requests.items()
    }
    collected = Collected(section["conditions"], tuple(section["levels"]), groups, reference, params.alpha)
    for trajectory in read_trajectories(job.input.get("examples", [])):
        collected.add(trajectory)
    definitions = {task: read_footer(path, REQUESTS).get("definition", {}) for task, path in requests.items()}
    places = [
        (of["model"], of["checkpoint"], cell["task"])
        for of in json.loads(params.expected)
        for cell in of["cells"]
    ]
    shots = shots_used(
        (place, read_footer(path, CELL), definitions[place[2]])
        for place, path in zip(places, job.input.cells, strict=True)
    )
    table = fairness_table(collected, shots)
    write_tsv(table, job.output.fairness)
    write_tsv(spread_table(table), job.output.spread)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
