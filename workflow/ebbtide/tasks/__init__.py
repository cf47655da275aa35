"""Tasks: from a definition in YAML to a frozen table of requests.

    definition   YAML with its includes, checked, and its identity
    rows         of a data file; dataset_rows: of a data set, read by the `datasets` library
    kinds        one module per kind of task: what the requests of an example are, with render
    few_shot     examples before a prompt
    freezing     all of them: the table of requests
    pin          commit and digest for a definition that has none
    preview      requests to read;  diff: of two freezes;  shots: tasks that differ in few-shot examples only
    lm_eval      tasks of lm-evaluation-harness

The package imports nothing itself, because the metrics and the scoring job need the kinds alone.
"""
