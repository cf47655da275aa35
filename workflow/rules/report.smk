"""
Report: one page with the answer first, then changes, curves, flipped examples, and a section per stage.

INPUTS   results/{study}/metrics.parquet, all tables and figures (PNG) of the study, kept texts
OUTPUTS  results/{study}/report/index.html     self-contained: it opens from a disk, without a network
RERUNS   when one of these, titles or the code change.
"""

OUTPUTS.files(
    "report",
    "results/{study}/report/index.html",
    "the report page: one self-contained file, also part of `snakemake --report`",
    lambda: [f"{RESULTS}/report/index.html"] if STUDY.has_page() else [],
    "anything scored or imported, or `compute_trends:`",
)


localrules:
    report_page,


if STUDY.has_page():

    rule report_page:
        """Write the report page."""
        input:
            **OUTPUTS.tables_of_study(),
            metrics=[METRICS] if STUDY.has_metrics() else [],
            kept=[f"{RESULTS}/kept_texts.parquet"] if KEEPING else [],
            flipped=(
                [f"{RESULTS}/flips.parquet"]
                if f"{RESULTS}/flips.parquet" in OUTPUTS.named_files()
                else []
            ),
            figures=list(OUTPUTS.pictures().values()),
        output:
            # A file: of a directory, Snakemake would not see that the page in it is missing.
            page=report(
                f"{RESULTS}/report/index.html",
                caption="../report/page.rst",
                category="Report",
            ),
        log:
            f"logs/report_page/{STUDY.name}.log",
        priority: COMMON
        params:
            study=STUDY.name,
            tables=list(OUTPUTS.tables_of_study()),
            figures=OUTPUTS.pictures(),
            captions=OUTPUTS.captions(),
            lacking=OUTPUTS.not_drawn(),
            followed=STUDY.config["trajectories"]["metrics"],
            alpha=STUDY.config["trajectories"]["alpha"],
            titles=STUDY.config["titles"],
            averaged=STUDY.averaged(),
            generated=GENERATED,
            blurred=STUDY.offensive_tasks(),
            code=CODE.script("report_page"),
        script:
            "../scripts/report_page.py"
