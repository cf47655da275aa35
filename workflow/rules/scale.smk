"""
Scale: metrics over training compute, a point per model of a series, and the class of every curve.

INPUTS   results/{study}/metrics.parquet, results/{study}/examples/{model}/{checkpoint}-{expected}.parquet
OUTPUTS  results/{study}/scale_points.tsv              one row per model, task, metric, with its compute
         results/{study}/scale_trends.tsv              one row per series, task, shots, metric: the class
         results/{study}/figures/scale_{metric}.{pdf,png}
RERUNS   when metrics are new, the grid, the settings under `scale:` or the code changes. A study without
         `scale:` has none of this.
"""

SCALE = STUDY.config.get("scaling_trends")
if SCALE is not None and STUDY.has_metrics():
    try:
        SERIES = catalogued(STUDY.config["models"])
        SHOTS = shots_of(STUDY.tasks, imported_tasks(STUDY.imported))
    except EbbtideError as error:
        sys.exit(str(error))

    localrules:
        scale_trends,
        plot_scale,

    rule scale_trends:
        """Put every model at its training compute, and classify every curve."""
        input:
            metrics=f"{RESULTS}/metrics.parquet",
            examples=all_examples(),
        output:
            points=f"{RESULTS}/scale_points.tsv",
            trends=report(
                f"{RESULTS}/scale_trends.tsv",
                caption="../report/scale_trends.rst",
                category="Scale",
            ),
        log:
            f"logs/scale_trends/{STUDY.name}.log",
        priority: COMMON
        conda:
            "../../envs/ebbtide.yaml"
        params:
            examples=all_examples(),  # one less is a change, too
            scale=SCALE,
            series=SERIES,
            shots={name: [s.asked, s.shots] for name, s in SHOTS.items()},
            parameters=STUDY.config["regression"]["parameters"],
            alpha=STUDY.config["trajectories"]["alpha"],
            flat=STUDY.config["trends"]["equivalence_margin"],
            code=code_digest("trajectories", "metrics", "tables", "model_series"),
        script:
            "../scripts/scale_trends.py"

    rule plot_scale:
        """Draw every metric over training compute: a panel per task, a line per series and number of shots."""
        input:
            points=f"{RESULTS}/scale_points.tsv",
            trends=f"{RESULTS}/scale_trends.tsv",
        output:
            pdf=[f"{RESULTS}/figures/scale_{metric}.pdf" for metric in SCALE["metrics"]],
            png=[
                report(
                    f"{RESULTS}/figures/scale_{metric}.png",
                    caption="../report/plot_scale.rst",
                    category="Figures",
                )
                for metric in SCALE["metrics"]
            ],
        log:
            f"logs/plot_scale/{STUDY.name}.log",
        priority: COMMON
        conda:
            "../../envs/ebbtide.yaml"
        params:
            metrics=SCALE["metrics"],
            parameters=STUDY.config["regression"]["parameters"],
            titles=STUDY.config["titles"],
            code=code_digest("figures", "abilities", "metrics"),
        script:
            "../scripts/plot_scale.py"
