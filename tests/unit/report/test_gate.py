"""Reports of the gate: all say the same, in formats that their readers accept, whatever texts contain."""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from ebbtide.report.gate.document import as_json
from ebbtide.report.gate.examples import PROMPT, Examples, read_worst
from ebbtide.report.gate.gate import Gate
from ebbtide.report.gate.junit import as_junit
from ebbtide.report.gate.markdown import MOST_CHARACTERS, as_markdown, code, plain
from ebbtide.report.gate.reports import REPORTS, read_verdict, write_reports
from ebbtide.report.gate.slack import MOST_BLOCKS, MOST_HEADER, MOST_TEXT, as_slack, escaped
from ebbtide.report.gate.terminal import lines
from ebbtide.report.gate.verdict import gate_of, not_checked
from ebbtide.report.gate.words import MOST_LINES
from ebbtide.schema import SCHEMAS
from ebbtide.statistics.alarms.alarms import COLUMNS, alarms
from ebbtide.statistics.alarms.not_compared import COLUMNS as MISSING
from ebbtide.statistics.flips.on_disk import EXAMPLES, write_flips
from simulate_alarms import SETTINGS, trajectory
from simulated import simulate

TODAY = date(2026, 6, 15)
NONE = pd.DataFrame(columns=list(MISSING))
HOSTILE = (
    "</pre></details><script>alert(1)</script> | `x` ```y``` \\| *b* _i_ [l](http://e.org) ![](//e.org) "
    "@channel <!channel> &amp; #12 ]]> \x00\x07\x1b[31m \u202e \ufffe http://e.org www.e.org\n\n# t\n| - |"
)


def table(means: tuple[float, ...] = (0.5, 0.6, 0.3, 0.3), **settings: Any) -> pd.DataFrame:
    """alarms.tsv of a model that falls at its third checkpoint, unless other means are given."""
    values = simulate(np.random.default_rng(0), len(means), 200, np.array(means), 0.5, 1.0)
    one = replace(trajectory(values), model="m", task="t")
    return alarms([one], SETTINGS | {"against": ["predecessor", "best"]} | settings)


def missing(model: str = "other", checkpoint: str = "step9", task: str = "t") -> pd.DataFrame:
    row = (model, checkpoint, 9, 9000, task, "one trained checkpoint", "Score more checkpoints.")
    return pd.DataFrame([row], columns=list(MISSING))


def entry(**keys: Any) -> dict[str, Any]:
    return {"model": "m", "task": "t", "checkpoints": None, "reason": "known", "until": None} | keys


def gate(rows: pd.DataFrame, left: pd.DataFrame = NONE, flips: Any = (), **settings: Any) -> Gate:
    used = {"fail_on": "moderate", "checkpoints": "all", "allow": [], **settings}
    examples = Examples(pd.DataFrame(flips, columns=list(EXAMPLES)), 3)
    return gate_of(rows, left, used, TODAY, study="s", examples=examples)


def flip(rank: int, text: str = "Water freezes at", **keys: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(EXAMPLES),
        **{
            "model": "m",
            "task": "t",
            "metric": "accuracy",
            "from_model": "m",
            "from": "step1",
            "to": "step2",
        },
        **{"against": "best", "severity": "severe"},
        **{"example": f"e{rank}", "flip": "lost", "rank": rank, "value_before": 1.0, "value_after": 0.0},
        **{"margin_before": 1.5, "margin_after": -0.25 * rank, "margin_lost": 1.5 + 0.25 * rank},
        **{"chosen_before": 1, "chosen_after": 0, "right": [1], "choices": [" ten", " zero"]},
        **{"prompt": text, "characters_before": 0},
        **keys,
    }


def hostile() -> Gate:
    """Names and texts that could break every format."""
    rows = table(allow=[entry(checkpoints="step3", reason=HOSTILE)])
    rows = rows.assign(model=HOSTILE, task=HOSTILE)
    flips = [flip(1, HOSTILE, model=HOSTILE, task=HOSTILE, from_model=HOSTILE, choices=[HOSTILE, HOSTILE])]
    left = missing(HOSTILE, HOSTILE, HOSTILE)
    return replace(gate(rows, left, flips), causes=(f"{HOSTILE}\ud800",), study=HOSTILE)


def many() -> Gate:
    """10,000 drops with examples."""
    one, text = table(), "x" * 2000
    rows = pd.concat([one.assign(task=f"t{i}") for i in range(5000)], ignore_index=True)
    return gate(rows, flips=[flip(1, text, task=f"t{i}", choices=[text] * 2) for i in range(5000)])


GATES = {
    "alarms": lambda: gate(table(), missing(), [flip(rank) for rank in (1, 2, 3, 4)]),
    "none": lambda: gate(table((0.5, 0.5, 0.5))),
    "allowed": lambda: gate(table(allow=[entry()]), allow=[entry()]),
    "expired": lambda: gate(table(allow=[late := entry(until="2026-06-14")]), allow=[late]),
    "never": lambda: gate(table(), fail_on="never"),
    "nothing compared": lambda: gate(pd.DataFrame(columns=list(COLUMNS)), missing()),
    "empty": lambda: gate(pd.DataFrame(columns=list(COLUMNS))),
    "last not compared": lambda: gate(table(), missing("m"), checkpoints="last"),
    "failed": lambda: not_checked("s", {"fail_on": "minor", "checkpoints": "all"}, TODAY, ["a.log: x."]),
    "hostile": hostile,
}
STATUS = {"none": 0, "allowed": 0, "never": 0, "nothing compared": 2, "empty": 2, "last not compared": 2}


@pytest.fixture(scope="module")
def gates() -> Mapping[str, Gate]:
    return {name: make() for name, make in GATES.items()}


@pytest.mark.parametrize("name", GATES)
def test_every_report_has_the_same_verdict(gates: Mapping[str, Gate], name: str) -> None:
    one = gates[name]
    assert one.status == STATUS.get(name, 2 if name == "failed" else 1)
    assert plain(one.reason) in as_markdown(one)
    slack = json.loads(as_slack(one))
    assert escaped(one.reason, MOST_TEXT) in slack["blocks"][1]["text"]["text"]
    found = json.loads(as_json(one))
    assert (found["status"], found["reason"]) == (one.status, one.reason)
    suites = list(ET.fromstring(as_junit(one)))
    red = sum(int(suite.get("failures", 0)) + int(suite.get("errors", 0)) for suite in suites)
    assert (red > 0) == (one.status != 0)
    if one.comparisons:
        [counts] = [line for line in lines(one) if " drops (" in line or "0 drops" in line]
        assert counts in as_markdown(one) and counts in slack["blocks"][1]["text"]["text"]


@pytest.mark.parametrize("name", GATES)
def test_the_document_follows_its_schema(gates: Mapping[str, Gate], name: str) -> None:
    schema = json.loads((SCHEMAS / "gate.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    found = json.loads(as_json(gates[name]))
    jsonschema.validate(found, schema)
    assert found["counts"]["drops"] == len(found["drops"]) == len(gates[name].drops)
    assert found["counts"]["failing"] == sum(drop["fails"] for drop in found["drops"])


# What the schema of Ant's JUnit task demands: attributes of a suite and of a case.
SUITE = ["package", "id", "name", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time"]
CHILDREN = {"failure", "error", "skipped"}


@pytest.mark.parametrize("name", GATES)
def test_junit_is_what_ci_systems_read(gates: Mapping[str, Gate], name: str) -> None:
    root = ET.fromstring(as_junit(gates[name]))
    assert root.tag == "testsuites" and not root.attrib and len(root)
    for number, suite in enumerate(root):
        assert list(suite.attrib) == SUITE and suite.get("id") == str(number) and suite.get("name")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp", ""))
        first, *cases, out, err = suite
        assert [first.tag, out.tag, err.tag] == ["properties", "system-out", "system-err"]
        assert {case.tag for case in cases} == {"testcase"}
        found = [child.tag for case in cases for child in case]
        assert all(set(case.attrib) == {"name", "classname", "time"} for case in cases)
        assert all(len(case) <= 1 for case in cases) and set(found) <= CHILDREN
        for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert found.count(tag) == int(suite.get(count, -1))
        assert len(cases) == int(suite.get("tests", -1))
        assert all(set(child.attrib) == {"message", "type"} for case in cases for child in case)


def cases_of(one: Gate) -> list[tuple[str, str, str, str]]:
    """Model, task, element and message of each case."""
    found = []
    for case in ET.fromstring(as_junit(one)).iter("testcase"):
        child = case[0] if len(case) else None
        tag, message = ("", "") if child is None else (child.tag, child.get("message", ""))
        found.append((case.get("classname", ""), case.get("name", ""), tag, message))
    return found


def test_cases_say_why_they_fail_or_are_skipped(gates: Mapping[str, Gate]) -> None:
    fallen, other = cases_of(gates["alarms"])
    assert fallen[:3] == ("s.m", "t", "failure") and fallen[3].startswith("severe at step2: accuracy 0.3")
    assert fallen[3].endswith("(and 1 more)")
    assert other == ("s.other", "t", "skipped", "one trained checkpoint")
    assert cases_of(gates["allowed"]) == [
        ("s.m", "t", "skipped", "severe, allowed: known (and 1 more)"),
    ]
    assert cases_of(gates["none"]) == [("s.m", "t", "", "")]
    assert cases_of(gates["never"]) == [("s.m", "t", "", "")]
    assert cases_of(gates["nothing compared"]) == [("s.other", "t", "error", "one trained checkpoint")]
    assert cases_of(gates["empty"])[0][2:] == ("error", gates["empty"].reason)
    assert cases_of(gates["failed"])[0][3].endswith("exit status 2. a.log: x.")
    assert [case[2] for case in cases_of(gates["last not compared"])] == ["error"]


def test_an_allowance_that_expired_is_named(gates: Mapping[str, Gate]) -> None:
    assert gates["expired"].allowances == (
        "alarms.allow[0] (m, t) expired on 2026-06-14, and 3 alarms count again. Remove the entry, or set "
        "until to a later day.",
    )
    for report in (as_markdown, as_slack, as_json):
        assert "expired on 2026-06-14, and 3 alarms count again" in html.unescape(report(gates["expired"]))
    assert all("which has expired" in report(gates["expired"]) for report in (as_junit, as_markdown))


# --- examples ----------------------------------------------------------------------------------


def test_a_drop_has_its_three_worst_examples(gates: Mapping[str, Gate], tmp_path: Path) -> None:
    first, second = gates["alarms"].drops
    assert [one.example for one in first.examples] == ["e1", "e2", "e3"] and second.examples == ()
    one = first.examples[0]
    assert (one.right, one.answer_before, one.answer_after) == ((" zero",), " zero", " ten")
    assert one.margin_change == -1.75
    for report in (as_markdown, as_junit, as_slack):
        text = report(gates["alarms"])
        text = text.replace(r"\u2192", "→")  # of JSON
        assert "example e3, margin +1.5 → -0.75 (-2.25)" in text
        assert "Water freezes at" in text and "after:  ten" in text and "e4" not in text


def test_only_texts_that_were_asked_for_are_read(tmp_path: Path) -> None:
    rows = pd.DataFrame([flip(rank) for rank in (1, 2, 3, 4)] + [flip(1, flip="gained", example="g")])
    write_flips(rows[list(EXAMPLES)], tmp_path / "flips.parquet")
    drop = gate(table()).drops[0]
    found = read_worst(tmp_path / "flips.parquet", 2).of(drop)
    assert [one.example for one in found] == ["e1", "e2"]
    assert read_worst(tmp_path / "flips.parquet", 0).of(drop) == ()
    assert read_worst(tmp_path / "flips.parquet", 2, hidden=["t"]).of(drop) == ()


def test_a_baseline_of_another_model_has_its_own_examples() -> None:
    rows = table().assign(against="baseline", reference="base/step7")
    own = [flip(1), flip(1, **{"from_model": "base", "from": "step7", "example": "of base"})]
    assert [one.example for one in gate(rows, flips=own).drops[0].examples] == ["of base"]


def test_texts_are_cut_and_unknown_answers_are_not_named() -> None:
    unknown = {
        "chosen_before": None,
        "chosen_after": None,
        "margin_before": None,
        "choices": None,
        "right": None,
    }
    long = [flip(1, "a" * PROMPT + "b" * PROMPT, **unknown)]
    one = gate(table(), flips=long)
    example = one.drops[0].examples[0]
    assert example.prompt == "b" * PROMPT and example.is_cut and example.right == ()
    assert f"…{'b' * PROMPT}</pre>" in as_markdown(one)
    assert "before:" not in as_markdown(one) and "margin" not in as_markdown(one)


# --- limits and texts of others ----------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> Gate:
    return many()


def test_slack_takes_the_message(gates: Mapping[str, Gate], large: Gate) -> None:
    for one in (*gates.values(), large):
        message = json.loads(as_slack(one))
        assert set(message) == {"text", "blocks"} and len(message["blocks"]) <= MOST_BLOCKS
        header, *blocks = message["blocks"]
        assert header["type"] == "header" and 0 < len(header["text"]["text"]) <= MOST_HEADER
        texts = [b["text"] if b["type"] == "section" else b["elements"][0] for b in blocks]
        assert all(text["type"] == "mrkdwn" and 0 < len(text["text"]) <= MOST_TEXT for text in texts)
        for text in [message["text"], *(text["text"] for text in texts)]:
            assert "<" not in text and ">" not in text
            assert not re.search(r"&(?!amp;|lt;|gt;)", text)
            assert text.count("```") in (0, 2)


def test_an_escaped_text_is_not_cut_within_a_character() -> None:
    for most in range(1, 30):
        found = escaped("<&>" * 10, most)
        assert len(found) <= most and not re.search(r"&(?!amp;|lt;|gt;)", found)
    assert escaped("a" * 30, 31) == "a" * 30


def test_long_reports_say_what_they_leave_out(large: Gate) -> None:
    one, text = large, as_markdown(large)
    assert len(one.drops) == 10_000 and len(text) < MOST_CHARACTERS
    rows = text.count("| **severe** |")
    assert rows == MOST_LINES and f"… and {10_000 - rows:,} more in `gate.json`" in text
    kept = text.count("<pre>")
    assert kept > MOST_LINES and f"… and {5_000 - kept:,} more in `gate.json`" in text
    assert text.rstrip().endswith("</details>")
    assert as_json(one).count('"severity":') == 10_000
    assert as_junit(one).count("<failure ") == 5_000
    assert f"… and {10_000 - MOST_LINES} more, none more severe" in lines(one)


def rendered(text: str) -> str:
    return MarkdownIt("commonmark", {"linkify": False}).enable("table").render(text)


def test_hostile_texts_stay_texts_in_markdown(gates: Mapping[str, Gate]) -> None:
    page = rendered(as_markdown(gates["hostile"]))
    assert not re.search(r"<(script|img|a|em|h1)\b", page)
    assert page.count("<details>") == page.count("</details>") == 1
    rows = re.findall(r"<tr>.*?</tr>", page, re.DOTALL)
    assert len(rows) == 3 and all(row.count("<td") + row.count("<th") == 8 for row in rows)
    outside = re.sub(r"<(code|pre)>.*?</\1>", "", page, flags=re.DOTALL)
    assert "@channel" not in outside and "#12" not in outside  # mentions work only there


@pytest.mark.parametrize("text", ["a_b*c", "x|y", "`x`", "a\\|b", "<b>", " ", "", "@me", "a\nb"])
def test_code_is_the_text_again(text: str) -> None:
    page = rendered(f"| a |\n|---|\n| {code(text)} |\n")
    found = re.search(r"<code>(.*?)</code>", page)
    assert found and html.unescape(found[1]).strip() == " ".join(text.split())


def test_control_characters_are_removed(gates: Mapping[str, Gate]) -> None:
    for name, report in REPORTS.items():
        text = report(gates["hostile"])
        text.encode()  # no lone surrogates
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text), name
    assert all(line.isprintable() for line in lines(gates["hostile"]))


def test_reports_on_disk_and_the_verdict(gates: Mapping[str, Gate], tmp_path: Path) -> None:
    write_reports(gates["alarms"], tmp_path / "gate")
    assert {path.name for path in (tmp_path / "gate").iterdir()} == set(REPORTS)
    assert read_verdict(tmp_path / "gate") == (1, gates["alarms"].reason)
    status, reason = read_verdict(tmp_path)
    assert status == 2 and "gate.json does not exist" in reason and reason.endswith("exit status 2.")
