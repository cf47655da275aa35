"""
Ratings: errors of expected ratings beside baselines, with errors clustered by user and item, and a law over sizes.

INPUTS   results/{study}/metrics.parquet, cells and frozen tasks of kind rating with the groups user and item
OUTPUTS  results/{study}/ratings.tsv         one row per model, checkpoint, task
         results/{study}/ratings_law.tsv     one row per task
         results/{study}/figures/ratings.{pdf,png}
RERUNS   when the cells, the grid, the settings under `ratings:`, how size is counted, or the code change.
"""

RATINGS = STUDY.config.get("ratings")
OUTPUTS.tables(
    "ratings",
    {
        "ratings.tsv": "errors of expected ratings, with baselines, and errors clustered by user and item",
        "ratings_law.tsv": "the law RMSE = a N^-b over sizes, and the size at which a target is reached",
    },
    when=RATINGS is not None,
    condition="section `ratings:`",
)
OUTPUTS.figures(
    "ratings",
    {"ratings": "RMSE of expected ratings over model size, with baselines"},
    shows=["ratings.tsv", "ratings_law.tsv"],
    when=RATINGS is not None,
    condition="section `ratings:`",
)

if RATINGS is not None:

    localrules:
        ratings,

    rule ratings:
        """Compare expected ratings with the true ones and with baselines, and fit a law over sizes."""
        input:
            metrics=METRICS,
            cells=cells_on(STUDY.rating_tasks()),
            requests=[
                ancient(STUDY.tasks[task].frozen) for task in STUDY.rating_tasks()
            ],
        output:
            ratings=report(
                f"{RESULTS}/ratings.tsv",
                caption="../report/ratings.rst",
                category="Ratings",
            ),
            law=report(
                f"{RESULTS}/ratings_law.tsv",
                caption="../report/ratings_law.rst",
                category="Ratings",
            ),
        log:
            f"logs/ratings/{STUDY.name}.log",
        priority: COMMON
        params:
            tasks=STUDY.rating_tasks(),
            expected=expected_on(STUDY.rating_tasks()),
            ratings=RATINGS,
            parameters=REGRESSION["parameters"],
            code=CODE.script("ratings"),
        script:
            "../scripts/ratings.py"
