"""Sentences of the gate. Each report takes them from here and escapes them for its format."""

from ebbtide.notices import counted, listed
from ebbtide.report.gate.gate import Detectable, Drop, Example, Fall, Gate, NotCompared
from ebbtide.statistics.alarms.alarms import SEVERITIES
from ebbtide.statistics.flips.answers import is_right_or_wrong

MOST_LINES = 40  # drops of a report, worst first; gate.json has all
HEADINGS = {0: "No alarm", 1: "Alarms", 2: "Not checked"}  # by exit status
_REFERENCES = {"predecessor": "the previous checkpoint", "best": "its best", "baseline": "the baseline"}
_SMALLEST_P = 1e-16
_MOST_PARTS = 6  # levels of groups of a drop


def heading(gate: Gate) -> str:
    """Return the verdict in a few words, with the study."""
    return f"{HEADINGS[gate.status]}: {gate.study}"


def counts(gate: Gate) -> str:
    """Return the numbers of drops, by severity, and of what was compared."""
    if not gate.comparisons:
        return "No comparison."
    labels = [drop.label for drop in gate.drops]
    named = [f"{labels.count(name)} {name}" for name in reversed(SEVERITIES)]
    if "allowed" in labels:
        named.append(f"{labels.count('allowed')} allowed")
    of = f"{counted(gate.models, 'model')} on {counted(gate.tasks, 'task')}"
    drops = f"{counted(len(gate.drops), 'drop')} ({', '.join(named)})"
    return f"{drops} in {counted(gate.comparisons, 'comparison')} of {of}"


def value(drop: Drop) -> str:
    """Return the metric and its value."""
    return f"{drop.metric} {drop.value:.3g}"


def falls(drop: Drop) -> str:
    """Return how far a drop fell, and from where."""
    return " and ".join(map(_fall, drop.falls))


def _fall(fall: Fall) -> str:
    names = " and ".join(_REFERENCES[against] for against in fall.against)
    where = "below" if fall.change < 0 else "above"
    text = f"{abs(fall.change):.3g} {where} {names} ({fall.reference}): {p_text(fall)}"
    return ", ".join(filter(None, (text, fall.seeds)))


def p_text(fall: Fall) -> str:
    """Return the adjusted p of a fall."""
    p = fall.p_adjusted
    return f"p_adj = {p:.2g}" if p >= _SMALLEST_P else f"p_adj < {_SMALLEST_P:g}"


def parts(drop: Drop) -> str:
    """Return the changes in the levels of groups; empty without groups."""
    named = ", ".join(f"{part.group} {part.change:+.2g}" for part in drop.parts[:_MOST_PARTS])
    return f"{named}, …" if len(drop.parts) > _MOST_PARTS else named


def allowance(drop: Drop) -> str:
    """Return the reason for which a drop is allowed, and until when; empty if no entry matches."""
    if not drop.allowed:
        return ""
    until = f" until {drop.allowed_until}" if drop.allowed_until else ""
    expired = "" if drop.is_allowed else ", which has expired"
    return f"{drop.severity}, allowed{until}{expired}: {drop.allowed}"


def drop_text(drop: Drop) -> str:
    """Return a drop in one line, without its label, model, task and checkpoint."""
    text = "; ".join(filter(None, (f"{value(drop)}, {falls(drop)}", parts(drop))))
    allowed = allowance(drop)
    return f"{text} [{allowed}]" if allowed else text


def not_compared(item: NotCompared) -> str:
    """Return what was not compared, why, and what to do."""
    return f"{item.model} {listed(item.checkpoints)}, {listed(item.tasks)}: {item.reason}. {item.remedy}"


def detectable(item: Detectable) -> str:
    """Return the smallest drops that comparisons without an alarm detect."""
    if item.median is None:
        return f"No comparison of {item.metric} has enough examples to detect any drop"
    return (
        f"Comparisons without an alarm detect a change of {item.metric} by {item.median:.2g} (median; "
        f"{item.least:.2g} to {item.most:.2g}) with 80 % power, before p is adjusted"
    )


def example_heading(example: Example, metric: str) -> str:
    """Return the name of an example and how its value and margin changed."""
    sizes = []
    if not is_right_or_wrong(metric) and None not in (example.value_before, example.value_after):
        sizes.append(f"{metric} {example.value_before:.4g} → {example.value_after:.4g}")
    elif example.margin_change is not None:
        change = example.margin_change
        sizes.append(f"margin {example.margin_before:+.3g} → {example.margin_after:+.3g} ({change:+.3g})")
    return ", ".join([f"example {example.example}", *sizes])


def example_answers(example: Example) -> list[tuple[str, str]]:
    """Return the right answer and the chosen ones, each with its name."""
    found = [("right", " | ".join(example.right))] if example.right else []
    answers = (("before", example.answer_before), ("after", example.answer_after))
    return found + [(name, text) for name, text in answers if text is not None]


def prompt(example: Example) -> str:
    """Return the end of the prompt, with an ellipsis if something precedes it."""
    return f"…{example.prompt}" if example.is_cut and example.prompt else example.prompt


def printable(text: str, keep: str = "") -> str:
    """Return a text in which characters that do not print, but for those of `keep`, are spaces."""
    return "".join(c if c.isprintable() or c in keep else " " for c in text.replace("\r\n", "\n"))
