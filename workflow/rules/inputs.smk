"""
Inputs that several stages share: functions of rules for cells, requests and tables of examples. No rule is here.
"""


def windows(wildcards):
    """Return what the cells of the last checkpoints of all models must be, as text."""
    require_checkpoints()
    last = STUDY.last_checkpoints(STUDY.config["resolution"]["last"])
    return canonical_json([STUDY.expected(checkpoint) for checkpoint in last])


def cells_of_windows(wildcards):
    """Return the cells of the last checkpoints, those of one checkpoint in the order of the configuration."""
    require_checkpoints()
    return [
        CELL.format(model=c.model, checkpoint=c.name, task=task)
        for c in STUDY.last_checkpoints(STUDY.config["resolution"]["last"])
        for task in STUDY.tasks
    ]


def compared():
    """Return the checkpoints that stages compare: all but averages, which are made of others."""
    require_checkpoints()
    return [c for c in STUDY.checkpoints() if c.model not in STUDY.averaged()]


def cells_on(tasks):
    """Return a function for input: the cells of some tasks, by checkpoint, in the order of the configuration.

    Like those below, it asks for the tasks late: an unlocked study has none, and must still be parsed.
    """
    return lambda wildcards: [
        CELL.format(model=c.model, checkpoint=c.name, task=task)
        for c in compared()
        for task in STUDY.tasks
        if task in tasks
    ]


def expected_on(tasks):
    """Return a function for params: what these cells must be, as text."""
    return lambda wildcards: canonical_json(
        [STUDY.expected(checkpoint, tasks) for checkpoint in compared()]
    )


def frozen_tasks(tasks):
    """Return a function for input: the requests of some tasks."""
    return lambda wildcards: require_checkpoints() or [
        ancient(STUDY.tasks[task].frozen) for task in tasks
    ]


def parts_of(table, without=()):
    """Return a function for inputs and params: `metrics` or `examples` of all checkpoints but of some models."""
    return lambda wildcards: require_checkpoints() or STUDY.parts(table, without)
