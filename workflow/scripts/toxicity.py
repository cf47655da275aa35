"""Adapter: regressions of toxicity, from the scores of samples in cells and the groups of frozen tasks."""

import json

import numpy as np

from ebbtide.cells.cell import check_bytes
from ebbtide.cells.samples import SCORE
from ebbtide.errors import CellError
from ebbtide.logs import log_to
from ebbtide.statistics.toxicity.regression import Cell, toxicity_table
from ebbtide.tables import REQUESTS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params, section = job.params, job.params.toxicity
    column, score = f"group_{section['group']}", SCORE + section["classifier"]
    prompts = {}
    for task, path in zip(section["tasks"], job.input.requests, strict=True):
        rows = read_frame(path, REQUESTS)
        prompts[task] = {
            str(example): (number, level == section["toxic"])
            for number, (example, level) in enumerate(zip(rows["example"], rows[column], strict=True))
        }
    cells = []
    places = [
        {"model": of["model"], "tokens": of["tokens"], "task": cell["task"]}
        for of in json.loads(params.expected)
        for cell in of["cells"]
    ]
    for place, path in zip(places, job.input.cells, strict=True):
        rows, footer = check_bytes(path)
        if score not in rows.column_names:
            raise CellError(f"{path} has no column {score}; delete it and run snakemake.")
        known = [prompts[place["task"]][str(example)] for example in rows["example"].to_pylist()]
        cells.append(
            Cell(
                **place,
                size=int(footer["parameters_non_embedding"]),
                prompts=np.array([number for number, _ in known]),
                toxic=np.array([toxic for _, toxic in known]),
                scores=np.array(rows[score].to_pylist(), dtype=float),
            )
        )
    write_tsv(toxicity_table(cells, params.alpha), job.output.toxicity)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
