"""
Paper: a short paper of the study, compiled with Typst, with every number from its tables.

INPUTS   all tables and figures (PDF) of the study, and the template: workflow/paper/, or one of your own
OUTPUTS  results/{study}/values.toml, values.tex     every number of the paper, for Typst and as LaTeX macros
         results/{study}/paper.pdf
         results/{study}/bundle.zip                  cells, frozen requests, lock, study, pins; `--config bundle=FILE` reads it
Run by name (`snakemake paper`, `snakemake bundle`), not part of `all`. The same cells make the same bytes: the PDF has no date.
RERUNS   when one of the tables or figures, the template, the configuration or the code change.
"""

for name, description in {
    "values.toml": "numbers, settings, tables and sentences of the paper, for Typst",
    "values.tex": "its numbers as LaTeX macros",
    "paper.pdf": "a short paper of the study",
}.items():
    OUTPUTS.files(
        "paper",
        f"results/{{study}}/{name}",
        description,
        condition="anything scored or imported; target `paper`",
    )
OUTPUTS.files(
    "paper",
    "results/{study}/bundle.zip",
    "cells, requests, lock, study and environment, to rebuild the rest elsewhere",
    condition="target `bundle`",
)
# What the text of a paper may state of the configuration; of scoring, what determines the numbers.
PAPER_CONFIG = {
    **{
        name: STUDY.config[name]
        for name in (
            *("paper", "titles", "regression", "trajectories", "alarms", "flips"),
            *("forgetting", "trends", "resolution", "runs", "scaling_trends"),
            "scaling_laws",
        )
        if name in STUDY.config
    },
    "scoring": {
        **{
            name: STUDY.config["scoring"][name]
            for name in (
                "dtype",
                "backend",
                "encoding",
                "bos",
                "truncation",
                "max_length",
            )
        },
        # A study that generates nothing has no such back end, whatever it sets.
        "generation_backend": VLLM if VLLM in STUDY.backends() else SAME,
    },
}


localrules:
    bundle,


if STUDY.has_metrics():

    localrules:
        paper_values,
        paper,

    rule paper_values:
        """Write every number of the paper, from the tables."""
        input:
            **OUTPUTS.tables_of_study(),
            metrics=METRICS,
            figures=list(OUTPUTS.pictures().values()),  # they say if they are placeholders
        output:
            toml=f"{RESULTS}/values.toml",
            tex=f"{RESULTS}/values.tex",
        log:
            f"logs/paper_values/{STUDY.name}.log",
        priority: COMMON
        params:
            study=STUDY.name,
            tables=list(OUTPUTS.tables_of_study()),
            captions=OUTPUTS.captions(),
            figures=OUTPUTS.pictures(),
            lacking=OUTPUTS.not_drawn(),
            config=PAPER_CONFIG,
            code=CODE.script("paper_values"),
        script:
            "../scripts/paper_values.py"

    rule paper:
        """Compile the paper."""
        input:
            template=paper_template,
            values=f"{RESULTS}/values.toml",
            figures=[OUTPUTS.figure(name, "pdf") for name in OUTPUTS.pictures()],
        output:
            paper=f"{RESULTS}/paper.pdf",
        log:
            f"logs/paper/{STUDY.name}.log",
        priority: COMMON
        params:
            code=CODE.script("paper"),
        script:
            "../scripts/paper.py"


rule bundle:
    """Pack cells, requests, lock, study and environment into one archive."""
    input:
        lambda wildcards: list(bundled().files.values()),
    output:
        bundle=f"{RESULTS}/bundle.zip",
    log:
        f"logs/bundle/{STUDY.name}.log",
    priority: COMMON
    params:
        study=STUDY.name,
        names=lambda wildcards: list(bundled().files),
        config=lambda wildcards: bundled().config,
        cells=lambda wildcards: bundled().cells,
        date=STUDY.config["paper"]["date"],
        code=CODE.script("bundle"),
    script:
        "../scripts/bundle.py"
