"""Names of metrics here and in lm-evaluation-harness; the register of metrics contains both.

lm-eval's `acc` has three meanings: accuracy, the share of greedy continuations in a task of type
`loglikelihood`, and MC2 in `truthfulqa_mc2`. Its `acc_norm` and `acc_bytes` divide by the length of the
choice *without* the delimiter between prompt and choice; ours divide by the length of the whole
continuation, as its version 0.5 does. With a delimiter that is not empty, the two can prefer different
choices.
"""

import re

from ebbtide.metrics import METRICS

KIND = {
    "multiple_choice": "choice",
    "loglikelihood": "sequence",
    "loglikelihood_rolling": "rolling",
    "generate_until": "generation",
}
OUTPUT_TYPE = {kind: output_type for output_type, kind in KIND.items()}
_PASS_AT = re.compile(r"pass@(\d+)\(exact_match\)")  # of version 0.5
_OF_TASK = {("truthfulqa_mc2", "acc"): "mc2"}


def ours(metric: str, *, kind: str = "", task: str = "") -> str:
    """Our name of a metric of lm-eval; a metric that we lack keeps its name.

    Parameters
    ----------
    kind
        The kind of the task, if known: it decides between metrics of the same name.
    task
        The task's name in lm-eval, for tasks that use a name differently.
    """
    base, bracket, group = metric.partition("[")
    if (of_repeats := _PASS_AT.fullmatch(base)) and f"pass_at_{of_repeats[1]}" in METRICS:
        return f"pass_at_{of_repeats[1]}{bracket}{group}"
    if (task, base) in _OF_TASK:
        return _OF_TASK[task, base] + bracket + group
    if base in METRICS and kind in METRICS[base].kinds:  # our name: `perplexity` of documents is per token
        return metric
    found = [m for m in METRICS.values() if m.harness == base]
    found.sort(key=lambda m: kind not in m.kinds)
    return (found[0].name if found else base) + bracket + group


def theirs(metric: str) -> str:
    """The name of our metric in lm-eval, else our own; the group in `accuracy[part=1]` is kept."""
    base, bracket, group = metric.partition("[")
    known = METRICS[base].harness if base in METRICS else ""
    return (known or base) + bracket + group
