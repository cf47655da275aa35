"""
Kept texts: some of the texts that models wrote, for the page, of tasks with `decoding.keep_text`.

INPUTS   cells of these tasks, their frozen requests
OUTPUTS  results/{study}/kept_texts.parquet    texts of the last checkpoint of each model: highest scores, random ones
RERUNS   when the cells, the grid, the classifier under `toxicity:` or the code change.
"""

# Task → whether it keeps its texts; an unlocked study has no tasks.
GENERATED = {
    name: bool(task.definition.get("decoding", {}).get("keep_text"))
    for name, task in STUDY.tasks.items()
    if task.kind.needs == "samples"
}
KEEPING = [name for name, keeps in GENERATED.items() if keeps]
OUTPUTS.tables(
    "kept_texts",
    {"kept_texts.parquet": "some texts that models wrote; untrusted"},
    when=bool(KEEPING),
    condition="tasks with `decoding.keep_text`",
)

if KEEPING:

    localrules:
        kept_texts,

    rule kept_texts:
        """Choose some of the texts of each model."""
        input:
            requests=frozen_tasks(KEEPING),
            cells=cells_on(KEEPING),
        output:
            texts=f"{RESULTS}/kept_texts.parquet",
        log:
            f"logs/kept_texts/{STUDY.name}.log",
        priority: COMMON
        params:
            expected=expected_on(KEEPING),
            classifiers={task: STUDY.classifier_of(task) for task in KEEPING},
            code=CODE.script("kept_texts"),
        script:
            "../scripts/kept_texts.py"
