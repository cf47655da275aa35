"""Adapter: the figures of scaling laws."""

from pathlib import Path

import pandas as pd

from ebbtide.figures import save
from ebbtide.figures import scaling as draw
from ebbtide.logs import log_to


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    names = ("predictions", "exponents", "tradeoff", "curves", "configurations")
    table = {name: pd.read_csv(job.input[name], sep="\t") for name in names if job.input[name]}
    for name in names[:4]:
        table[name] = table[name].replace({"train_set": job.params.scaling["titles"]})
    loss = f"loss_{job.params.scaling['loss']}"
    predictions, curves = table["predictions"], table["curves"]
    # The train set of the largest held-out runs is shown in full.
    most = predictions[predictions["quantity"] == loss].groupby("train_set")["C"].nlargest(2).groupby(level=0)
    widest = most.sum().idxmax()
    plots = {
        "scaling_laws": draw.plot_laws(predictions, curves, widest),
        "scaling_exponents": draw.plot_exponents(predictions, table["exponents"], loss),
        "scaling_error": draw.plot_error_of_loss(predictions, curves, loss),
        "scaling_relative_error": draw.plot_relative_error(predictions, loss),
        "scaling_tradeoff": draw.plot_tradeoff(table["tradeoff"]),
    }
    if "configurations" in table:
        plots["scaling_search"] = draw.plot_search(table["configurations"])
    for path in job.output:
        save(plots[Path(path).stem], path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
