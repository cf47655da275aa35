"""Notices of all stages in one list: audits, cells, files of older runs; merged where they repeat."""

from pathlib import Path

import pandas as pd

from ebbtide.notices import Notice, from_records, notices_table
from ebbtide.report.notices import merged, of_audit, of_leftovers
from ebbtide.tables import read_tsv, write_tsv


def tied(checkpoint: str, count: int, model: str = "m", task: str = "t") -> Notice:
    detail = f"{count} of 300 examples are tied; first 'x{count}'."
    return Notice("warning", "tied", detail, "Score in float32.", model, checkpoint, task, count)


def test_the_same_at_many_checkpoints_is_said_once_with_the_worst():
    [one] = merged(tied(f"step{i}", i) for i in range(1, 155))
    assert one.detail == "154 of 300 examples are tied; first 'x154'. The same at 153 more checkpoints."
    assert (one.checkpoint, one.count) == ("step154", sum(range(155)))


def test_models_are_merged_when_there_are_many():
    assert len(merged(tied("step1", 3, model) for model in "ab")) == 2
    [one] = merged(tied("step1", 3, model) for model in "abcd")
    assert one.detail.endswith("The same at 3 more models.")


def test_what_is_equal_in_all_tasks_is_said_once():
    window = "config.json sets no context window, so 2,048 tokens were used."
    found = [Notice("note", "defaulted", window, "", "m", f"step{i}", task) for i in (1, 2) for task in "tuv"]
    [one] = merged(found)
    assert one.detail == f"{window} The same at 1 more checkpoint. The same at 2 more tasks."
    assert len(merged([tied("step1", 3, task="t"), tied("step1", 4, task="u")])) == 2


def test_different_things_stay_apart():
    different = [
        Notice("note", "text", "2 prompts end with a space.", task="t", count=2),
        Notice("note", "text", "1 choice begins without a space.", task="t"),
        Notice("note", "text", "2 prompts end with a space.", task="u", count=2),
    ]
    assert sorted(merged(different), key=str) == sorted(different, key=str)


def test_warnings_come_first_and_the_table_can_be_read_again(tmp_path: Path):
    notices = [Notice("note", "defaulted", "No steps."), tied("step1", 2)]
    write_tsv(notices_table(notices), tmp_path / "notices.tsv")
    assert from_records(read_tsv(tmp_path / "notices.tsv").to_dict("records")) == notices[::-1]


def test_findings_of_audits():
    rows = [
        ("error", "drop", "mixed_shards", "shards differ", "leave these steps out", ""),
        ("allowed", "allowed", "duplicate", "equal to step 0", "", "a warm-up from zero"),
        ("warning", "warn", "duplicate_models", "equal to those of n", "check the paths", ""),
        ("note", "warn", "gone", "weights have been deleted", "restore them", ""),
        ("warning", "warn", "lone_head", "the head differs", "check it", ""),
    ]
    columns = ["severity", "action", "finding", "detail", "remedy", "reason"]
    table = pd.DataFrame(rows, columns=columns).assign(model="m", steps="1 2")
    dropped, allowed, *others = of_audit(table)
    assert [n.kind for n in others] == ["duplicated", "reused", "suspicious"]
    assert (dropped.kind, dropped.severity, dropped.checkpoint) == ("dropped", "warning", "1 2")
    assert dropped.detail == "Shards differ." and dropped.remedy == "Leave these steps out."
    assert (allowed.kind, allowed.severity) == ("duplicated", "note")
    assert allowed.remedy == "Allowed: a warm-up from zero"


def test_files_of_an_older_run_are_named(tmp_path: Path):
    (tmp_path / "figures").mkdir()
    for name in ("trends.tsv", "old.tsv", "figures/old.pdf", "report.zip", ".hidden.tsv"):
        (tmp_path / name).touch()
    made = [f"{tmp_path}/trends.tsv", f"{tmp_path}/figures/new.pdf"]
    [notice] = of_leftovers(tmp_path, made)
    assert notice.kind == "unused" and notice.count == 2
    assert "2 files that this study does not make (old.tsv, figures/old.pdf)" in notice.detail
    assert not of_leftovers(tmp_path, [*made, f"{tmp_path}/old.tsv", f"{tmp_path}/figures/old.pdf"])
