"""The gate as JUnit XML: a suite per model, a test case per task.

The document is valid by the schema of Ant's JUnit task and by that of Jenkins, which is laxer but for the
elements that it knows: so the root has no attributes, and a passed case no text.
"""

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from ebbtide.report.gate import words
from ebbtide.report.gate.gate import Case, Drop, Gate, NotCompared
from ebbtide.texts import one_line

_ELEMENTS = {"failed": "failure", "error": "error", "allowed": "skipped", "not_compared": "skipped"}


def as_junit(gate: Gate) -> str:
    """Return the document. A case fails if and only if the exit status is not 0.

    A case of outcome `failed` is a failure, `error` an error, `allowed` and `not_compared` are skipped, with
    the reason. Control characters and others that XML does not have become spaces.
    """
    root = ET.Element("testsuites")
    by_model: dict[str, list[Case]] = {}
    for case in gate.cases:
        by_model.setdefault(case.model, []).append(case)
    if not by_model:  # an empty study, or a run that failed before
        reason = " ".join((gate.reason, *gate.causes))
        by_model = {"gate": [Case("gate", "check_alarms", "error", 0, (), reason)]}
    left: dict[str, list[NotCompared]] = {}
    for item in gate.not_compared:
        left.setdefault(item.model, []).append(item)
    for number, (model, cases) in enumerate(by_model.items()):
        _suite(root, number, cases, left.get(model, ()), gate)
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(
    root: ET.Element, number: int, cases: Sequence[Case], left: Sequence[NotCompared], gate: Gate
) -> None:
    model = cases[0].model
    found = [_ELEMENTS.get(case.outcome) for case in cases]
    suite = ET.SubElement(
        root,
        "testsuite",
        {
            "package": _name(f"ebbtide.{gate.study}"),
            "id": str(number),
            "name": _name(model),
            "timestamp": f"{gate.day.isoformat()}T00:00:00",
            "hostname": "localhost",
            "tests": str(len(cases)),
            "failures": str(found.count("failure")),
            "errors": str(found.count("error")),
            "skipped": str(found.count("skipped")),
            "time": "0",
        },
    )
    properties = ET.SubElement(suite, "properties")
    for key in ("fail_on", "checkpoints"):
        ET.SubElement(properties, "property", {"name": f"alarms.{key}", "value": getattr(gate, key)})
    for case in cases:
        names = {"name": _name(case.task), "classname": _name(f"{gate.study}.{model}"), "time": "0"}
        element = ET.SubElement(suite, "testcase", names)
        if case.outcome in _ELEMENTS:
            message, text = _message(case), "\n".join(_text(case, left))
            detail = ET.SubElement(element, _ELEMENTS[case.outcome], {"message": message})
            detail.set("type", case.outcome)
            detail.text = _xml(text)
    ET.SubElement(suite, "system-out").text = _xml("\n".join(_about(cases, left, gate)))
    ET.SubElement(suite, "system-err").text = _xml("\n".join(gate.causes))


def _message(case: Case) -> str:
    if not case.drops:
        return _xml(case.reason)
    first, more = case.drops[0], len(case.drops) - 1
    reason = words.allowance(first) if case.outcome == "allowed" else ""
    text = reason or f"{first.label} at {first.checkpoint}: {words.value(first)}, {words.falls(first)}"
    return _xml(f"{text}{f' (and {more} more)' if more else ''}")


def _text(case: Case, left: Sequence[NotCompared]) -> Iterator[str]:
    if not case.drops:
        yield from (words.not_compared(item) for item in left if case.task in item.tasks)
    for drop in case.drops[: words.MOST_LINES]:
        yield f"{drop.label} at {drop.checkpoint}: {words.drop_text(drop)}"
        yield from _examples(drop)
    if len(case.drops) > words.MOST_LINES:
        yield f"… and {len(case.drops) - words.MOST_LINES} more in gate.json"


def _examples(drop: Drop) -> Iterator[str]:
    for example in drop.examples:
        yield f"  {words.example_heading(example, drop.metric)}"
        yield from (f"    {line}" for line in words.prompt(example).split("\n"))
        yield from (f"    {name}: {text}" for name, text in words.example_answers(example))


def _about(cases: Sequence[Case], left: Sequence[NotCompared], gate: Gate) -> Iterator[str]:
    """Yield the verdict, what could be detected, and drops of cases that passed."""
    yield gate.reason
    yield words.counts(gate)
    yield from map(words.detectable, gate.detectable)
    for case in cases:
        if case.outcome == "passed":
            for drop in case.drops[: words.MOST_LINES]:
                yield f"{drop.label}  {drop.task}  {drop.checkpoint}: {words.drop_text(drop)}"
    yield from (f"Not compared: {words.not_compared(item)}" for item in left)


def _xml(text: str) -> str:
    return words.printable(text, "\n\t")  # XML has all characters that print


def _name(text: str) -> str:
    """Return a text for an attribute that names something, never empty."""
    return one_line(text) or "?"
