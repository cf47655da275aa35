"""Results out: lm-evaluation-harness's shapes, and one tidy file of everything."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.errors import CellError
from ebbtide.exchange.export import export_checkpoint
from ebbtide.exchange.exported import Exported
from ebbtide.exchange.imports import import_cells, import_metrics
from ebbtide.exchange.specification import CheckpointRow, sizes
from ebbtide.exchange.tidy import ROWS, examples_of, read_examples, write_examples, write_metrics_csv
from ebbtide.metrics.of_cell import measure
from ebbtide.tables import CELL, METRICS, REQUESTS, write_parquet

CHECKPOINT = CheckpointRow(
    "m-1", "step512", 512, 1024, sizes({"total": 90, "non_embedding": 70, "nominal": 100})
)


def cell_of(requests: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A cell of invented numbers."""
    draw = np.random.default_rng(seed)
    n = len(requests)
    tokens = draw.integers(1, 6, n)
    return pd.DataFrame(
        {
            "example": requests["example"],
            "choice": requests["choice"],
            "loglikelihood": -draw.exponential(5, n),
            "tokens": tokens,
            "bytes": [len(c.encode()) for c in requests["continuation"]],
            "characters": [len(c) for c in requests["continuation"]],
            "greedy": draw.random(n) < 0.5,
            "first_token_loglikelihood": np.where(draw.random(n) < 0.2, np.nan, -draw.exponential(2, n)),
            "context_tokens": draw.integers(0, 50, n),
            "truncated": draw.random(n) < 0.1,
        }
    )


def requests_of(rows: list[tuple[Any, ...]], **columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["example", "choice", "context", "continuation", "gold"])
    return frame.assign(**columns)


CHOICE = requests_of(
    [(f"e{e}", c, f"Frage {e}:", f" Wört{c}", c == (7 * e) % 3) for e in range(12) for c in range(3)],
    group_part=[str(e % 2) for e in range(12) for _ in range(3)],
)
SEQUENCE = requests_of([(str(e), 0, f"Line {e}", f" goes on\u2028{e}", True) for e in range(5)])
ROLLING = requests_of([(str(e), 0, "", f"Document {e} " * (e + 1), True) for e in range(4)])
ODDS = requests_of(
    [
        (str(e), c, ("one", "other")[c // 2], (" yes", " no")[c % 2], c == 0)
        for e in range(6)
        for c in range(4)
    ],
    role=["choice", "choice", "other", "other"] * 6,
    of=[0, 1, 0, 1] * 6,
)
RATING = pd.DataFrame(
    [(str(e), c, f"Film {e} is a", f" {c + 1}", c + 1.0, 1.0 + e % 5) for e in range(5) for c in range(5)],
    columns=["example", "choice", "context", "continuation", "value", "target"],
)
TASKS = {
    "words_of_three": (CHOICE, {"kind": "choice", "cluster": "part", "chance": 1 / 3}),
    "songs": (SEQUENCE, {"kind": "sequence"}),
    "books": (ROLLING, {"kind": "rolling"}),
    "odds": (ODDS, {"kind": "log_odds"}),
    "films": (RATING, {"kind": "rating"}),
}


def exported(checkpoint: CheckpointRow = CHECKPOINT, names: tuple[str, ...] = tuple(TASKS)) -> list[Exported]:
    cells = []
    for seed, name in enumerate(names):
        requests, definition = TASKS[name]
        rows = cell_of(requests, seed)
        metrics = measure(rows, requests, definition).assign(
            **checkpoint.columns(), task=name, source="scored"
        )
        footer = {"identity": {"dtype": "float32", "weights": "abc"}}
        cells.append(Exported(name, rows, requests, metrics[list(METRICS.columns)], definition, footer, "id"))
    return cells


def all_metrics(cells: list[Exported]) -> pd.DataFrame:
    rows = pd.concat([c.metrics for c in cells], ignore_index=True)
    return rows[rows["value"].notna()].reset_index(drop=True)


def test_names_hold_no_dates(tmp_path: Path) -> None:
    checkpoint = CheckpointRow("m-1", "stage1_step5", 5, 0, sizes({}))
    files = export_checkpoint(exported(checkpoint, ("songs", "words_of_three")), checkpoint, tmp_path)
    assert [f.relative_to(tmp_path).as_posix() for f in files] == [
        "m-1__stage1_step5/results_stage1-step5.json",
        "m-1__stage1_step5/samples_songs_stage1-step5.jsonl",
        "m-1__stage1_step5/samples_words_of_three_stage1-step5.jsonl",
    ]


def test_equal_results_make_equal_bytes(tmp_path: Path) -> None:
    one, two = (export_checkpoint(exported(), CHECKPOINT, tmp_path / name) for name in ("one", "two"))
    assert [f.read_bytes() for f in one] == [f.read_bytes() for f in two]


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    """Export and import: the same rows to the last bit, but for where they come from."""
    cells = exported()
    export_checkpoint(cells, CHECKPOINT, tmp_path)
    back = import_metrics({"format": "lm_eval_results", "files": [f"{tmp_path}/*/results_*.json"]})
    expected = all_metrics(cells)
    assert "accuracy[part=1]" in set(expected["metric"])
    pd.testing.assert_frame_equal(
        back, expected.assign(source="imported"), check_dtype=False, check_exact=True
    )


def test_metrics_of_pipelines_have_the_keys_of_lm_eval(tmp_path: Path) -> None:
    [cell] = exported(names=("songs",))
    one = cell.metrics.iloc[[0]].assign(value=0.25, stderr=0.125)
    rows = pd.concat([one.assign(metric=f"exact_match{of}") for of in ("", "[filter=strict-match]")])
    results, _ = export_checkpoint([replace(cell, metrics=rows)], CHECKPOINT, tmp_path)
    values = json.loads(results.read_text())["results"]["songs"]
    assert values["exact_match,none"] == values["exact_match,strict-match"] == 0.25
    found = import_metrics({"format": "lm_eval_results", "files": [str(results)]})
    assert {*found["metric"]} == {*rows["metric"]}


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    cells = exported()
    export_checkpoint(cells, CHECKPOINT, tmp_path)
    row = {"format": "lm_eval_samples", "files": [f"{tmp_path}/*/samples_*.jsonl"]}
    back = {c.task: c for c in import_cells(row)}
    assert set(back) == set(TASKS)
    for cell in cells:
        found = back[cell.task]
        assert found.checkpoint == CHECKPOINT
        assert dict(found.definition) == cell.definition
        assert found.footer["unknown"] == []
        pd.testing.assert_frame_equal(found.rows, cell.rows, check_exact=True)
        pd.testing.assert_frame_equal(found.requests[list(cell.requests)], cell.requests, check_exact=True)
    rows = import_metrics(row).set_index(["task", "metric"]).sort_index()
    expected = all_metrics(cells).set_index(["task", "metric"]).sort_index()
    pd.testing.assert_frame_equal(
        rows[rows["value"].notna()].drop(columns="source"), expected.drop(columns="source"), check_exact=True
    )


NUMBER = st.floats(-1e6, -1e-300, allow_subnormal=False)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(examples=st.lists(st.lists(st.tuples(NUMBER, TEXT), min_size=2, max_size=4), min_size=1, max_size=4))
def test_any_numbers_and_texts_survive(
    examples: list[list[tuple[float, str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    to = tmp_path_factory.mktemp("out")
    requests = requests_of(
        [
            (str(e), c, t + "\n", t, c == 0)
            for e, choices in enumerate(examples)
            for c, (_, t) in enumerate(choices)
        ]
    )
    rows = cell_of(requests).assign(loglikelihood=[lp for choices in examples for lp, _ in choices])
    metrics = measure(rows, requests).assign(**CHECKPOINT.columns(), task="t", source="scored")
    export_checkpoint([Exported("t", rows, requests, metrics[list(METRICS.columns)])], CHECKPOINT, to)
    [back] = import_cells({"format": "lm_eval_samples", "files": [f"{to}/*/samples_*.jsonl"]})
    pd.testing.assert_frame_equal(back.rows, rows, check_exact=True)
    pd.testing.assert_frame_equal(back.requests, requests, check_exact=True)


def test_samples_have_the_shape_of_lm_eval(tmp_path: Path) -> None:
    """The keys, and types of values, are those of a file that lm-eval itself has written."""
    export_checkpoint(exported(names=("words_of_three", "songs", "books")), CHECKPOINT, tmp_path)
    theirs = Path(__file__).parents[2] / "samples/exchange/my-lab__my-model"
    for ours, name in (("words_of_three", "choice"), ("songs", "sequence"), ("books", "rolling")):
        line = (tmp_path / f"m-1__step512/samples_{ours}_step512.jsonl").read_text().split("\n")[0]
        mine = json.loads(line)
        model = json.loads(next(theirs.glob(f"samples_sample_{name}_*")).read_text().split("\n")[0])
        own = {"metrics", *model["metrics"]}
        for key in model.keys() - own:
            assert type(mine[key]) is type(model[key]), key
        assert set(mine["metrics"]) <= mine.keys()
        assert isinstance(mine["arguments"]["gen_args_0"]["arg_0"], str)
        assert mine["arguments"]["gen_args_0"].keys() == model["arguments"]["gen_args_0"].keys()
        assert np.shape(mine["resps"][0]) == np.shape(model["resps"][0])
        assert np.shape(mine["filtered_resps"][0]) == np.shape(model["filtered_resps"][0])
    lines = (tmp_path / "m-1__step512/samples_words_of_three_step512.jsonl").read_text().split("\n")[:-1]
    answers = [answer for line in lines for answer in json.loads(line)["filtered_resps"]]
    cell = cell_of(CHOICE)
    assert [float(score) for score, _ in answers] == cell["loglikelihood"].tolist()
    assert [greedy == "True" for _, greedy in answers] == cell["greedy"].tolist()
    assert mine["bits_per_byte"][0] == float(mine["filtered_resps"][0])


def test_results_have_the_keys_of_lm_eval(tmp_path: Path) -> None:
    [path, *_] = export_checkpoint(exported(), CHECKPOINT, tmp_path)
    mine = json.loads(path.read_text())
    model = json.loads(
        next((Path(__file__).parents[2] / "samples/exchange/my-lab__my-model").glob("results_*")).read_text()
    )
    of_the_run = {
        "date",
        "git_hash",
        "upper_git_hash",
        "pretty_env_info",
        "transformers_version",
        "lm_eval_version",
    }
    absent = model.keys() - mine.keys() - of_the_run
    assert absent == {
        *("system_instruction", "system_instruction_sha", "fewshot_as_multiturn"),
        *("chat_template", "chat_template_sha", "total_evaluation_time_seconds"),
    }
    assert mine["config"]["model_args"] == "pretrained=m-1,revision=step512"
    assert mine["higher_is_better"]["songs"]["acc"] is True
    assert mine["n-samples"]["words_of_three"] == {"original": 12, "effective": 12}
    assert mine["results"]["books"]["bits_per_byte,none"] > 0


def test_a_cell_of_other_requests_is_refused(tmp_path: Path) -> None:
    [cell] = exported(names=("songs",))
    wrong = Exported("songs", cell.rows[1:], cell.requests, cell.metrics, cell.definition)
    with pytest.raises(CellError, match="only in the requests"):
        export_checkpoint([wrong], CHECKPOINT, tmp_path)
    assert not list(tmp_path.rglob("*.jsonl"))


def lm_eval_utils() -> Any:
    return pytest.importorskip("lm_eval.utils", reason="lm_eval is not installed")


def test_lm_evals_own_tools_read_it(tmp_path: Path) -> None:
    utils = lm_eval_utils()
    files = export_checkpoint(exported(), CHECKPOINT, tmp_path)
    names = [str(f) for f in files]
    assert utils.get_results_filenames(names) == names[:1]
    assert utils.get_sample_results_filenames(names) == names[1:]
    assert [utils.get_file_task_name(f.name) for f in files[1:]] == list(TASKS)
    assert utils.get_latest_filename(names[:1]) == names[0]
    results = json.loads(files[0].read_text())
    table = utils.make_table(results)
    row = next(line for line in table.split("\n") if "|acc_norm|" in line.replace(" ", ""))
    value = all_metrics(exported()).set_index(["task", "metric"])["value"]
    assert f"{value['words_of_three', 'accuracy_per_character']:.4f}" in row


def test_hashes_are_those_of_lm_eval(tmp_path: Path) -> None:
    utils = lm_eval_utils()
    _, path = export_checkpoint(exported(names=("words_of_three",)), CHECKPOINT, tmp_path)
    for line in path.read_text().split("\n")[:-1]:
        sample = json.loads(line)
        doc = json.dumps(sample["doc"], indent=2, default=utils.handle_non_serializable, ensure_ascii=False)
        assert sample["doc_hash"] == utils.hash_string(doc)
        assert sample["target_hash"] == utils.hash_string(sample["target"])


def test_lm_evals_logger_makes_a_table_of_the_samples(tmp_path: Path) -> None:
    """The frame that it sends to a dashboard; it reads arguments in the form that they have in memory."""
    lm_eval_utils()
    logger = pytest.importorskip("lm_eval.loggers.wandb_logger")
    results, *files = export_checkpoint(exported(), CHECKPOINT, tmp_path)
    configs = json.loads(results.read_text())["configs"]
    for task, path in zip(TASKS, files, strict=True):
        samples = [json.loads(line) for line in path.read_text().split("\n") if line]
        for sample in samples:
            sample["arguments"] = [list(a.values()) for a in sample["arguments"].values()]
        frame = logger.WandbLogger._generate_dataset(None, samples, configs[task])
        assert len(frame) == TASKS[task][0]["example"].nunique()


def test_datasets_loads_the_samples(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed (it comes with lm_eval)")
    _, path = export_checkpoint(exported(names=("words_of_three",)), CHECKPOINT, tmp_path)
    loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "c"))
    assert loaded.num_rows == 12
    assert loaded[0]["acc"] in (0.0, 1.0)


def parts(n: int, calls: list[int]) -> Iterator[pa.Table]:
    requests, _ = TASKS["words_of_three"]
    for number in range(n):
        calls.append(number)
        place = {
            "model": "m",
            "checkpoint": f"step{number}",
            "step": number,
            "tokens": 2 * number,
            "task": "t",
        }
        yield examples_of(
            place, pa.Table.from_pandas(cell_of(requests, number)), pa.Table.from_pandas(requests)
        )


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_all_examples_in_one_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"examples{suffix}"
    assert write_examples(parts(3, []), path) == 3 * 36
    table = pq.read_table(path) if suffix == ".parquet" else pyarrow.csv.read_csv(path)
    frame = table.to_pandas()
    requests = TASKS["words_of_three"][0]
    cell = cell_of(requests, 1)
    second = frame[frame["checkpoint"] == "step1"]
    assert second["example"].tolist() == requests["example"].tolist()
    assert second["gold"].tolist() == requests["gold"].astype(float).tolist()
    assert second["loglikelihood"].tolist() == cell["loglikelihood"].tolist()
    assert second["continuation_tokens"].tolist() == cell["tokens"].tolist()
    assert set(second["tokens"]) == {2}
    assert set(second["role"]) == {"choice"}


def test_cells_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a row group and one cell is held: groups are on disk before the last cell is read."""
    monkeypatch.setattr("ebbtide.exchange.tidy.ROWS", 72)
    calls: list[int] = []
    sizes_seen: list[int] = []
    write = pq.ParquetWriter.write_table

    def noted(self: Any, table: pa.Table, *more: Any, **named: Any) -> None:
        sizes_seen.append(len(table))
        assert len(calls) == 2 * len(sizes_seen)  # cells that were read so far
        write(self, table, *more, **named)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", noted)
    assert write_examples(parts(6, calls), tmp_path / "e.parquet") == 216
    assert sizes_seen == [72, 72, 72]
    assert ROWS > 72


def test_examples_of_cells_on_disk(tmp_path: Path) -> None:
    requests, _ = TASKS["odds"]
    write_parquet(requests, tmp_path / "r.parquet", REQUESTS)
    write_parquet(cell_of(requests), tmp_path / "c.parquet", CELL)
    place = {"model": "m", "checkpoint": "step1", "step": 1, "tokens": 2, "task": "odds"}
    cells = [{**place, "cell": str(tmp_path / "c.parquet"), "requests": str(tmp_path / "r.parquet")}]
    write_examples(read_examples(cells), tmp_path / "e.parquet")
    frame = pq.read_table(tmp_path / "e.parquet").to_pandas()
    assert frame["role"].tolist() == requests["role"].tolist()
    write_parquet(cell_of(requests)[1:], tmp_path / "c.parquet", CELL)
    with pytest.raises(CellError, match="m/step1/odds: cell and requests have different rows"):
        write_examples(read_examples(cells), tmp_path / "e.parquet")
    assert len(pq.read_table(tmp_path / "e.parquet")) == len(requests)  # the old file is whole
    with pytest.raises(CellError, match=r"found suffix '\.xlsx'"):
        write_examples(read_examples(cells), tmp_path / "e.xlsx")


def test_the_order_of_a_cell_does_not_matter() -> None:
    requests, _ = TASKS["words_of_three"]
    place = {"model": "m", "checkpoint": "step1", "step": 1, "tokens": 2, "task": "t"}
    cell = cell_of(requests)
    tables = [
        examples_of(place, pa.Table.from_pandas(rows, preserve_index=False), pa.Table.from_pandas(requests))
        for rows in (cell, cell[::-1])
    ]
    assert tables[0].to_pylist()[0]["gold"] == 1
    straight, turned = (t.to_pandas().sort_values(["example", "choice"]) for t in tables)
    pd.testing.assert_frame_equal(straight.reset_index(drop=True), turned.reset_index(drop=True))


def test_metrics_as_csv(tmp_path: Path) -> None:
    rows = all_metrics(exported())
    write_metrics_csv(rows, tmp_path / "metrics.csv")
    back = pd.read_csv(tmp_path / "metrics.csv")
    pd.testing.assert_frame_equal(back, rows, check_dtype=False, check_exact=True)


ONE_LINE = """
SELECT task, model, step, avg(hit) AS accuracy FROM (
    SELECT task, model, step, example, arg_max(gold, loglikelihood) AS hit
    FROM '{path}' WHERE role = 'choice' GROUP BY ALL)
GROUP BY ALL ORDER BY ALL
"""


def test_duckdb_reads_it(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    path = tmp_path / "examples.parquet"
    write_examples(parts(2, []), path)
    requests, _ = TASKS["words_of_three"]
    expected = [
        measure(cell_of(requests, n), requests).set_index("metric").loc["accuracy", "value"] for n in (0, 1)
    ]
    found = duckdb.sql(ONE_LINE.format(path=path)).fetchall()
    assert [row[:3] for row in found] == [("t", "m", 0), ("t", "m", 1)]
    assert [row[3] for row in found] == pytest.approx(expected)
