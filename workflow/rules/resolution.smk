"""
Resolution: what each task can tell: signal, noise and detectable differences of the study's own runs; proxies, tested.

INPUTS   results/{study}/metrics.parquet, results/{study}/examples/{model}/{checkpoint}-{expected}.parquet
         cells and frozen tasks of the last `resolution: last` checkpoints, for metrics that the tables of examples lack
OUTPUTS  results/{study}/resolution.tsv      one row per task, followed metric, size
         results/{study}/proxies.tsv         one row per task, followed metric, other metric
         results/{study}/figures/resolution.{pdf,png}
RERUNS   when the metrics, the grid, arms and seeds, the settings under `resolution:`, `runs: arms:`, `runs: tolerance:`
         or `trajectories:`, or the code change.
"""

OUTPUTS.tables(
    "resolution",
    {
        "resolution.tsv": "what each task can tell: signal, noise, detectable differences, and a verdict",
        "proxies.tsv": "whether another metric of a task orders runs as the followed one does",
    },
    when=STUDY.has_metrics(),
    condition="anything scored or imported",
)
OUTPUTS.figures(
    "resolution",
    {"resolution": "tasks by signal-to-noise ratio"},
    shows=["resolution.tsv"],
    when=STUDY.has_metrics(),
    lacking=STUDY.lacks(models=2, trained=3, averages=False),
    condition="two models, one with three trained checkpoints",
)


localrules:
    resolution,


rule resolution:
    """Compute noise, signal and detectable differences of every task, and test its other metrics as proxies."""
    input:
        metrics=METRICS,
        examples=parts_of("examples", without=STUDY.averaged()),
        cells=cells_of_windows,
        requests=[ancient(task.frozen) for task in STUDY.tasks.values()],
    output:
        resolution=report(
            f"{RESULTS}/resolution.tsv",
            caption="../report/resolution.rst",
            category="Resolution",
        ),
        proxies=report(
            f"{RESULTS}/proxies.tsv",
            caption="../report/proxies.rst",
            category="Resolution",
        ),
    log:
        f"logs/resolution/{STUDY.name}.log",
    priority: COMMON
    params:
        examples=parts_of("examples", without=STUDY.averaged()),  # rerun also when one is removed
        windows=windows,
        averaged=list(STUDY.averaged()),
        replicates=REPLICATES,
        metrics=STUDY.config["trajectories"]["metrics"],
        tolerance=STUDY.config.get("runs", {}).get("tolerance", 0),
        alpha=STUDY.config["trajectories"]["alpha"],
        resolution=STUDY.config["resolution"],
        code=CODE.script("resolution"),
    script:
        "../scripts/resolution.py"
