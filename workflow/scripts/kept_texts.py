"""Adapter: some of the texts that models wrote, of the last checkpoint of each model."""

import json

from ebbtide.cells.cell import check_bytes
from ebbtide.logs import log_to
from ebbtide.report.kept_texts import Written, kept_texts, last_places, write_kept_texts
from ebbtide.tables import REQUESTS, read_frame


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    prompts = {}
    for task, path in zip(params.classifiers, job.input.requests, strict=True):
        rows = read_frame(path, REQUESTS)
        prompts[task] = dict(zip(map(str, rows["example"]), rows["context"], strict=True))
    places = [
        {"task": cell["task"], **{key: of[key] for key in ("model", "checkpoint", "tokens")}}
        for of in json.loads(params.expected)
        for cell in of["cells"]
    ]
    last = last_places(places)
    written = []
    for place, path, is_last in zip(places, job.input.cells, last, strict=True):
        if is_last:
            rows, _ = check_bytes(path)
            names = {name: place[name] for name in ("task", "model", "checkpoint")}
            task = place["task"]
            written.append(
                Written(
                    **names,
                    classifier=params.classifiers[task],
                    rows=rows.to_pandas(),
                    prompts=prompts[task],
                )
            )
    write_kept_texts(kept_texts(written), job.output.texts)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
