"""Adapter: log-odds of toxic continuations, from log-likelihoods in cells and groups of frozen tasks."""

import json

from ebbtide.cells.cell import check_bytes
from ebbtide.logs import log_to
from ebbtide.metrics.examples import Examples, join
from ebbtide.statistics.toxicity.continuations import Asked, Scored, continuation_table
from ebbtide.tables import REQUESTS, read_footer, read_parquet, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params, section = job.params, job.params.toxicity
    paths = dict(zip(section["continuations"]["tasks"], job.input.requests, strict=True))
    requests = {task: read_parquet(path, REQUESTS) for task, path in paths.items()}
    definitions = {task: read_footer(path, REQUESTS)["definition"] for task, path in paths.items()}
    places = [
        ({key: of[key] for key in ("model", "checkpoint", "tokens")}, cell["task"])
        for of in json.loads(params.expected)
        for cell in of["cells"]
    ]
    asked, scored = {}, []
    for (place, task), path in zip(places, job.input.cells, strict=True):
        rows, footer = check_bytes(path)
        x = Examples(join(rows, requests[task]), definitions[task])
        if task not in asked:
            asked[task] = Asked.of(x, task, section, definitions[task].get("cluster"))
        size = int(footer["parameters_non_embedding"])
        scored.append(Scored(task, **place, size=size, per_byte=x.lp / x.column("bytes")))
    write_tsv(continuation_table(list(asked.values()), scored, params.alpha), job.output.continuations)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
