"""Texts of users in tables, pages and figures: they stay texts, and come back as they were."""

import csv
import io
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.exchange.tables import read_table
from ebbtide.exchange.tidy import write_metrics_csv
from ebbtide.tables import read_tsv, write_tsv
from ebbtide.texts import for_script, for_sheets, for_tex, from_sheets, one_line, write_sheet

HOSTILE = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "-2+3",
    "\t=1",
    "\r=1",
    "'=1",
    "''+x",
    "=a\nb",
    "=a\r\tb",
]
HARMLESS = ["-0.5", "+1e-3", "-", "'quoted'", "it's", "-inf", "a=b", "2 - 1", "NA", "7"]


def cells_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_is_a_formula(text: str) -> None:
    written = io.StringIO(newline="")
    write_sheet(pd.DataFrame({"task": [text], "value": [-0.5]}), written, "\t")
    [_, [cell, value]] = cells_of(written.getvalue())
    assert cell == f"'{text}" and value == "-0.5"


def test_what_is_no_formula_is_written_as_it_is() -> None:
    table = pd.DataFrame({"task": HARMLESS, "value": -1.0})
    assert for_sheets(table) is table


@settings(deadline=None)  # it writes a file
@given(
    texts=st.lists(
        st.one_of(st.sampled_from([*HOSTILE, *HARMLESS]), st.text("='+-@\t\r\n\"a1", max_size=6)), min_size=1
    )
)
def test_texts_come_back_from_tables(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    table = pd.DataFrame({"task": texts, "value": [-0.5] * len(texts)})
    assert from_sheets(for_sheets(table))["task"].tolist() == texts
    path = tmp_path_factory.mktemp("tables") / "table.tsv"
    write_tsv(table, path)
    found = read_tsv(path)
    assert found["task"].tolist() == texts and found["value"].tolist() == [-0.5] * len(texts)


def test_exported_names_come_back_when_they_are_imported(tmp_path) -> None:
    table = pd.DataFrame({"model": HOSTILE, "value": range(len(HOSTILE))})
    write_metrics_csv(table, tmp_path / "metrics.csv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "metrics.csv"), table)


def test_json_in_a_script_cannot_end_it() -> None:
    value = {"title": "</script><script>alert(1)</script><!-- &amp; \"'"}
    written = for_script(json.dumps(value))
    assert not set("<>&") & set(written)
    assert json.loads(written) == value


def test_one_line_of_text_and_of_tex() -> None:
    assert one_line("a\nb\t\x1b[31mred\u2028c") == "a b [31mred c"
    assert for_tex("p < 0.05 > |x|") == (r"p \textless{} 0.05 \textgreater{} \textbar{}x\textbar{}")
    assert for_tex("A & B_1\n^2 \\input{x} ~ 5% $x$ #1") == (
        r"A \& B\_1 \textasciicircum{}2 \textbackslash{}input\{x\} \textasciitilde{} 5\% \$x\$ \#1"
    )
