"""Tasks: from a definition in YAML to a frozen table of requests.

    definition   YAML with its includes, checked, and its identity
    local_data   digests of local data, and whether they have changed
    rows         rows of a data file; dataset_rows: rows of a data set, read by the `datasets` library
    kinds        one module per kind of task: the requests of an example; render: values and templates
    few_shot     few-shot examples before a prompt
    freezing     the table of requests, from all of the above
    pin          add commit and digest to a definition
    preview      the first requests, as text;  diff: changes between two freezes
    notices      what readers should know of the texts of a frozen task
    shots        tasks that differ only in their few-shot examples
    lm_eval      tasks of lm-evaluation-harness

This file imports nothing, because the metrics and the scoring job need only the kinds.
"""
