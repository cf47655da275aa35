"""
Scaling trends: metrics against training compute, one point per model of a series, and the class of every curve.

INPUTS   results/{study}/metrics.parquet, results/{study}/examples/{model}/{checkpoint}-{expected}.parquet
OUTPUTS  results/{study}/scale_points.tsv              one row per model, task, metric, with its compute
         results/{study}/scale_trends.tsv              one row per series, task, shots, metric: the class
         results/{study}/figures/scale_{metric}.{pdf,png}
RERUNS   when the metrics, the grid, the settings under `scaling_trends:` or the code change. Only for studies with a
         section `scaling_trends:`.
"""

SCALING_TRENDS = STUDY.config.get("scaling_trends")
HAS_SCALING_TRENDS = SCALING_TRENDS is not None and STUDY.has_metrics()
OUTPUTS.tables(
    "scaling_trends",
    {
        "scale_points.tsv": "metrics at the training compute of each model",
        "scale_trends.tsv": "the class of every curve against compute",
    },
    when=HAS_SCALING_TRENDS,
    condition="section `scaling_trends:`",
)
OUTPUTS.figures(
    "scaling_trends",
    {
        f"scale_{metric}": f"{metric} against training compute"
        for metric in (SCALING_TRENDS or {"metrics": ["{metric}"]})["metrics"]
    },
    shows=["scale_points.tsv", "scale_trends.tsv"],
    when=HAS_SCALING_TRENDS,
    condition="section `scaling_trends:`",
)

if HAS_SCALING_TRENDS:
    from ebbtide.checkpoints.model_series import series_by_model
    from ebbtide.tasks.shots import imported_tasks, shots_of

    try:
        SERIES = series_by_model(STUDY.config["models"])
        SHOTS = shots_of(STUDY.tasks, imported_tasks(STUDY.imported))
    except EbbtideError as error:
        fail(error)

    localrules:
        scaling_trends,

    rule scaling_trends:
        """Compute the training compute of every model, and classify every curve."""
        input:
            metrics=METRICS,
            examples=parts_of("examples"),
        output:
            points=f"{RESULTS}/scale_points.tsv",
            trends=report(
                f"{RESULTS}/scale_trends.tsv",
                caption="../report/scale_trends.rst",
                category="Scaling trends",
            ),
        log:
            f"logs/scaling_trends/{STUDY.name}.log",
        priority: COMMON
        params:
            examples=parts_of("examples"),  # rerun also when one is removed
            scaling_trends=SCALING_TRENDS,
            series=SERIES,
            shots={name: [s.base, s.shots] for name, s in SHOTS.items()},
            parameters=REGRESSION["parameters"],
            alpha=STUDY.config["trajectories"]["alpha"],
            equivalence_margin=STUDY.config["trends"]["equivalence_margin"],
            code=CODE.script("scaling_trends"),
        script:
            "../scripts/scaling_trends.py"
