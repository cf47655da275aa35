"""
Summary: outcomes of training and verdicts in words, and everything that readers should know before they use them.

INPUTS   the tables of the other stages, as far as the study has them
OUTPUTS  results/{study}/summary.txt     printed at the end of every run that has anything to do
         results/{study}/outcomes.tsv    the outcome of training of every model and task, as the summary says it
         results/{study}/notices.tsv     what was defaulted, dropped, truncated, tied, duplicated, not compared, …
RERUNS   when one of these tables, the settings under `trajectories:` or `trends:`, the grid, arms, seeds or the code
         change.
"""

from ebbtide.study.notices import study_notices

# Tables that the summary reads; a study has some of them.
SUMMARISED = {
    name: path
    for name, path in OUTPUTS.tables_of_study().items()
    if name
    in (
        *(
            "verdicts",
            "robustness_verdicts",
            "regressions",
            "trends",
            "seed_curves",
            "alarms",
            "not_compared",
            "flips",
            "forgetting",
        ),
        *(
            "result_audit",
            "checkpoint_audit",
            "load_proofs",
            "load_twins",
            "scale_points",
            "predictions",
        ),
        *("resolution", "proxies"),
        *("run_sentences", "run_notices"),
        *("compute_models", "compute_trends", "academia", "timeline"),
        *("ratings", "ratings_law"),
    )
}
OUTPUTS.tables(
    "summary",
    {
        "summary.txt": "outcomes of training and verdicts in words, and what to know before using them",
        "outcomes.tsv": "the outcome of training of every model and task, with its evidence",
        "notices.tsv": "what was defaulted, dropped, truncated, tied, duplicated, reused or not compared",
    },
    when=STUDY.has_page(),
    condition="anything scored or imported, or `compute_trends:`",
)
# Named at the end of the summary, as far as the study has them.
NAMED = [
    name
    for name in (
        "figures/curves.pdf",
        "figures/trends.pdf",
        "figures/run_matrix.pdf",
        "figures/compute_trends.pdf",
        "figures/ratings.pdf",
        *(
            f"{t}.tsv"
            for t in (
                *("trends", "alarms", "verdicts", "run_verdicts"),
                *("compute_trends", "ratings", "notices"),
            )
        ),
    )
    if f"{RESULTS}/{name}" in OUTPUTS.named_files()
]


localrules:
    summary,


rule summary:
    """Write the outcomes of training, the verdicts and the notices of all stages in words."""
    input:
        **SUMMARISED,
        metrics=[METRICS] if STUDY.has_metrics() else [],
        parts=parts_of("metrics"),
        requests=[ancient(task.frozen) for task in STUDY.tasks.values()],
    output:
        summary=report(
            f"{RESULTS}/summary.txt",
            caption="../report/summary.rst",
            category="Summary",
        ),
        notices=report(
            f"{RESULTS}/notices.tsv",
            caption="../report/notices.rst",
            category="Summary",
        ),
        outcomes=f"{RESULTS}/outcomes.tsv",
    log:
        f"logs/summary/{STUDY.name}.log",
    priority: COMMON
    params:
        tables=list(SUMMARISED),
        tasks=list(STUDY.tasks),
        stated=lambda wildcards: [
            n.record() for n in [*study_notices(STUDY), *OUTPUTS.notices()]
        ],
        made=[*OUTPUTS.named_files(), *BY_NAME],
        named=["report/index.html", *NAMED],
        replicates=REPLICATES,
        config={
            **{n: STUDY.config[n] for n in ("trajectories", "alarms", "trends")},
            "forgetting": STUDY.config["forgetting"],
            "regression": REGRESSION,
        },
        judging={
            "followed": STUDY.config["trajectories"]["metrics"],
            "alpha": STUDY.config["trajectories"]["alpha"],
            "equivalence_margin": STUDY.config["trends"]["equivalence_margin"],
        },
        code=CODE.script("summary"),
    script:
        "../scripts/summary.py"
