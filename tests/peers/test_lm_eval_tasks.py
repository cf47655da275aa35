"""Tasks of lm-eval: its own runs are the judge of our requests, log-likelihoods and metrics."""

import json
import math
import shutil
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ebbtide.cells import store
from ebbtide.checkpoints.directory import identities
from ebbtide.errors import CellError, TaskError
from ebbtide.exchange.lm_eval_json import read_results
from ebbtide.jobs import worker
from ebbtide.jobs.encoded_tasks import EncodedTasks
from ebbtide.jobs.freeze_task import freeze_task
from ebbtide.jobs.loaded import Loaded
from ebbtide.jobs.progress import CellProgress
from ebbtide.logs import Progress
from ebbtide.metrics.chosen import main_metric
from ebbtide.metrics.measure import measure_cell
from ebbtide.scoring.documents import DOCUMENTS, score_documents
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.scoring.rolling import rolling_windows
from ebbtide.scoring.scorer import Scorer
from ebbtide.tables import REQUESTS, write_parquet
from ebbtide.tasks.definition import load_task
from ebbtide.tasks.generation.measures import text_columns, text_sha256
from ebbtide.tasks.lm_eval.freeze import requests_of
from ebbtide.tasks.lm_eval.results import results_of
from real_models import smollm2
from tiny import bpe
from tiny import identity as identity_of_cell

SAMPLES = Path(__file__).parents[1] / "samples/lm_eval"
WINDOW = 96  # tokens: the longest sample document needs two windows, TruthfulQA's prompts are cut
VOCABULARY = 600
# Of 0.5.0.dev1, which has no aggregation of Brier scores, and cannot run sample_pmi and sample_schema itself.
SINCE_05 = find_spec("lm_eval") is not None and version("lm_eval").startswith("0.5")
ONLY_04 = pytest.mark.skipif(SINCE_05, reason="lm-eval 0.4 only")
ONLY_05 = pytest.mark.skipif(not SINCE_05, reason="lm-eval 0.5 only")
TASKS = ["choice", "few_shot", "same_split", "pmi", "filtered", "schema", "several", "last_word", "rolling"]
TASKS = [task for task in TASKS if not SINCE_05 or task not in ("pmi", "schema")]
BOOTSTRAP = 50  # draws: the seeds are lm-eval's, so that a few show that the draws are the same
LOSSES = ("perplexity", "bits_per_byte")


@pytest.fixture
def lm_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """lm-eval, in a directory with the sample tasks and a cache of its own."""
    found = pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SAMPLES / "data", "data")
    shutil.copytree(SAMPLES, "samples", ignore=shutil.ignore_patterns("data"))
    if SINCE_05:
        choice, generates = Path("samples/choice.yaml"), Path("samples/generates.yaml")
        without = [line for line in choice.read_text().splitlines() if "brier" not in line]
        choice.write_text("\n".join(without) + "\n")
        generates.write_text(generates.read_text() + "multiple_targets: true\n")
    return found


def checkpoint(directory: Path, *, beginning: bool = False) -> Path:
    """A small Llama with random weights; its tokenizer may add a beginning token."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=WINDOW, initializer_range=0.1, **sizes, **special
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    texts = [path.read_text() for path in sorted((SAMPLES / "data").iterdir())]
    bpe(beginning=beginning).train_new_from_iterator(texts, VOCABULARY).save_pretrained(directory)
    return directory


def by_lm_eval(name: str, model: Path, *, include_path: str = "samples", **options: Any) -> dict[str, Any]:
    """What lm-eval itself reports: (value, standard error) by our names of the metrics."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    tasks = TaskManager(include_path=include_path, include_defaults=False)
    arguments = {"pretrained": str(model), "dtype": "float32"}
    found = lm_eval.simple_evaluate(
        "hf",
        model_args=arguments,
        tasks=[name],
        task_manager=tasks,
        device="cpu",
        batch_size=16,
        bootstrap_iters=BOOTSTRAP,
        **options,
    )
    values = {tuple(key.split(",")): value for key, value in found["results"][name].items() if "," in key}
    return {
        f"lm_eval_{metric}" + (f"[filter={used}]" if used != "none" else ""): (
            value,
            values[f"{metric}_stderr", used],
        )
        for (metric, used), value in values.items()
        if not metric.endswith("_stderr")
    }


def answers(scorer: Scorer, requests: pd.DataFrame, kind: str) -> pd.DataFrame:
    """A cell from Ebbtide's engine."""
    if kind != "rolling":
        write_parquet(requests, "requests.parquet", REQUESTS)
        return score_requests(scorer, "requests.parquet").rows.to_pandas()
    documents = requests.rename(columns={"example": "document", "continuation": "text"})[["document", "text"]]
    write_parquet(documents, "documents.parquet", DOCUMENTS)
    losses = score_documents(scorer, "documents.parquet").rows.to_pandas()
    return losses.rename(columns={"document": "example"}).assign(choice=0)


def agree(ours: pd.DataFrame, theirs: dict[str, Any]) -> None:
    """Accuracies and what else is a mean to 1e-6, losses to 1e-4 of their size."""
    assert set(ours["metric"]) == set(theirs)
    for row in ours.itertuples():
        value, stderr = theirs[row.metric]
        near = {"rel": 1e-4} if any(loss in row.metric for loss in LOSSES) else {"abs": 1e-6, "rel": 0}
        assert row.value == pytest.approx(value, **near), row.metric
        if stderr == "N/A":
            assert math.isnan(row.stderr)
        else:
            assert row.stderr == pytest.approx(stderr, **near), row.metric


@pytest.mark.parametrize("task", TASKS)
def test_metrics_are_those_of_lm_eval_s_own_run(task: str, lm_eval: Any) -> None:
    model = checkpoint(Path("model"))
    requests, record = requests_of(f"sample_{task}", include_path="samples")
    cell = answers(load_scorer(model), requests, record["kind"])
    ours = results_of(cell, requests, record, bootstrap_iters=BOOTSTRAP)
    agree(ours, by_lm_eval(f"sample_{task}", model))


TRUTHFUL_QA = """
include: {own}
task: truthful_qa_local
dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {{validation: {data}}}}}
"""


def truthful_qa(number: int, shared: Path) -> None:
    """lm-eval's own definition of TruthfulQA, with a data file for the hub's."""
    import lm_eval.tasks

    own = Path(lm_eval.tasks.__file__).parent / f"truthfulqa/truthfulqa_mc{number}.yaml"
    data = shared.resolve() / "tasks/truthful_qa_multiple_choice.jsonl"
    Path("truthful").mkdir(exist_ok=True)
    Path("truthful/task.yaml").write_text(TRUTHFUL_QA.format(own=own, data=data))


@pytest.mark.parametrize("number", [1, 2])
def test_truthful_qa_by_its_own_definition(number: int, lm_eval: Any, shared: Path) -> None:
    truthful_qa(number, shared)
    model = checkpoint(Path("model"))
    requests, record = requests_of("truthful_qa_local", include_path="truthful", limit=60)
    assert requests["example"].nunique() == 60
    assert record["own_process_results"] == (number == 2)
    cell = answers(load_scorer(model), requests, record["kind"])
    assert cell["truncated"].all()
    ours = results_of(cell, requests, record)
    agree(ours, by_lm_eval("truthful_qa_local", model, include_path="truthful", limit=60))
    [row] = ours.itertuples()
    assert (row.metric, row.n, row.value > 0) == ("lm_eval_acc", 60, True)


@pytest.mark.long
@pytest.mark.slow
def test_a_real_model_on_truthful_qa_and_prose(lm_eval: Any, shared: Path) -> None:
    model = smollm2()
    scorer = load_scorer(model)
    for task in ("last_word", "rolling", *(() if SINCE_05 else ("schema",))):
        requests, record = requests_of(f"sample_{task}", include_path="samples")
        cell = answers(scorer, requests, record["kind"])
        agree(
            results_of(cell, requests, record, bootstrap_iters=BOOTSTRAP),
            by_lm_eval(f"sample_{task}", model),
        )
    truthful_qa(2, shared)
    requests, record = requests_of("truthful_qa_local", include_path="truthful", limit=8)
    ours = results_of(answers(scorer, requests, record["kind"]), requests, record)
    agree(ours, by_lm_eval("truthful_qa_local", model, include_path="truthful", limit=8))


def generating(name: str, **keys: Any) -> None:
    """Write the definition of a task of lm-eval that generates."""
    source = {"lm_eval": name, "include_path": "samples", "version": version("lm_eval")}
    definition = {"title": "Generates", "source": source, "kind": "generation", **keys}
    given = {key: value for key, value in definition.items() if value is not None}
    Path("generates.yaml").write_text(yaml.safe_dump(given))


@pytest.mark.parametrize("name", ["sample_generates", "sample_pipelines"])
def test_generated_texts_and_their_match_are_those_of_lm_eval_s_own_run(name: str, lm_eval: Any) -> None:
    from lm_eval.tasks import TaskManager

    model = checkpoint(Path("model")).resolve()
    generating(name, decoding={"keep_text": True})
    record = freeze_task("generates.yaml", "frozen.parquet")
    assert record["definition"]["kind"] == "generation"
    weights, tokenizer = identities(model)
    identity = identity_of_cell(record["identity"], weights=weights, tokenizer=tokenizer)
    job = {"name": "m/c/t", "checkpoint": str(model / "config.json"), "requests": "frozen.parquet"}
    job |= {"identity": identity, "cells": "cells", "hint": None, "threads": 1}
    Path("cells").mkdir()
    state = Loaded(1), EncodedTasks("cells"), CellProgress(Progress())
    worker._scored(worker.Work(job, {"rescore_examples": 2}, *state), job)
    cell = store.path_of("cells", identity)
    rows = pd.read_parquet(cell).set_index("example")

    theirs = lm_eval.simple_evaluate(
        "hf",
        model_args={"pretrained": str(model), "dtype": "float32"},
        tasks=[name],
        task_manager=TaskManager(include_path="samples", include_defaults=False),
        device="cpu",
        batch_size=3,
        log_samples=True,
    )
    samples = theirs["samples"][name]
    texts = {str(sample["doc_id"]): sample["resps"][0][0] for sample in samples}
    assert len(set(texts.values())) > 3 and len(set(rows["ended"])) > 1
    assert rows["text_sha256"].to_dict() == {name: text_sha256(text) for name, text in texts.items()}
    assert rows["text"].to_dict() == texts
    columns = {"vowel": "exact", "none": "exact"}
    used = list(dict.fromkeys(sample["filter"] for sample in samples))
    for one in used:
        exact = {str(s["doc_id"]): s["exact_match"] for s in samples if s["filter"] == one}
        assert rows[columns.get(one, f"exact[filter={one}]")].to_dict() == exact
    where = {"model": "m", "checkpoint": "c", "step": 1, "tokens": 1, "parameters_nominal": 0}
    asked = {"task": "generates", "identity": identity, "measuring": {}}
    found = measure_cell(cell, "frozen.parquet", where, asked).metrics
    values = dict(zip(found["metric"], zip(found["value"], found["stderr"], strict=True), strict=True))
    result = theirs["results"][name]
    Path("results.json").write_text(json.dumps({"results": theirs["results"]}, default=str))
    imported = {m.logged: m.metric for m in read_results("results.json").measured}
    assert len(used) == (1 if name == "sample_generates" else 3)
    for one in used:
        metric = imported[f"exact_match,{one}" if one != "none" else "exact_match"]
        assert values[metric][0] == result[f"exact_match,{one}"]
        assert values[metric][1] == pytest.approx(result[f"exact_match_stderr,{one}"], rel=1e-12)
        assert 0 < values[metric][0] < 1
    assert len({values[metric][0] for metric in imported.values()}) == len(used)
    assert main_metric(found["metric"]) == (
        "exact_match" if "none" in used else imported["exact_match,vowel"]
    )
    assert not [name for name in values if name.startswith("lm_eval_")]


@ONLY_04
def test_rows_and_settings_of_a_task_that_generates(lm_eval: Any) -> None:
    rows, record = requests_of("sample_generates", include_path="samples", num_fewshot=1)
    assert set(rows["choice"]) == {0} and set(rows["continuation"]) == {""} and rows["gold"].all()
    assert json.loads(rows["targets"].iloc[0]) == ["Z", "E", "a", "A"]
    decoding, texts = record["keys"]["decoding"], record["keys"]["texts"]
    assert (decoding["max_tokens"], decoding["stop"], decoding["temperature"]) == (24, [",", "\n\n"], 0)
    assert [each["function"] for each in texts["pipelines"][0]["filters"]] == [
        "regex",
        "uppercase",
        "take_first",
    ]
    assert texts["exact_match"] == {"ignore_case": True, "ignore_punctuation": True}

    sampled = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "until": "x"}
    definition = {"include": "generates.yaml", "task": "sampled", "generation_kwargs": sampled}
    definition |= {"doc_to_target": "{{choices.label.index(key)}}", "doc_to_choice": "{{choices.text}}"}
    Path("samples/sampled.yaml").write_text(yaml.safe_dump(definition))
    rows, record = requests_of("sampled", include_path="samples", limit=1)
    decoding = record["keys"]["decoding"]
    assert (decoding["max_tokens"], decoding["stop"]) == (256, ["x"])
    assert (decoding["temperature"], decoding["top_p"], decoding["top_k"]) == (0.7, 0.9, 0)
    assert json.loads(rows["targets"].iloc[0]) == ["honey"]


FIRST_3 = {"function": "take_first_k", "k": 3}


SAMPLED = {"do_sample": True, "temperature": 0.7}


def frozen_keys(**change: Any) -> dict[str, Any]:
    """The keys of a task like `sample_generates`."""
    definition = {"include": "generates.yaml", "task": "changed", **change}
    Path("samples/changed.yaml").write_text(yaml.safe_dump(definition))
    return requests_of("changed", include_path="samples", limit=1)[1]["keys"]  # type: ignore[no-any-return]


@ONLY_05
def test_formats_repeats_and_targets_since_0_5(lm_eval: Any) -> None:
    rows, record = requests_of("sample_choice@mcqa", include_path="samples")
    assert (record["task"], record["kind"]) == ("sample_choice@mcqa", "choice")
    assert rows["continuation"].iloc[:3].tolist() == [" A", " B", " C"]
    found = results_of(made_up(rows), rows, record, bootstrap_iters=0).set_index("metric")
    assert found.loc["lm_eval_acc", "n"] == 7
    keys = frozen_keys(repeats=4, filter_list=None, generation_kwargs=SAMPLED)
    assert keys["decoding"]["samples"] == 4 and "filters" not in keys["texts"], "pass@k is of all samples"
    keys = frozen_keys(repeats=4, filter_list=[pipeline("take_first", "majority_vote")])
    assert [each["function"] for each in keys["texts"]["pipelines"][0]["filters"]] == [
        "take_first",
        "majority_vote",
    ]
    options = {"metric": "exact_match", "aggregation": "mean"}
    number = {"multiple_targets": False, "doc_to_target": "12", "metric_list": [options]}
    with pytest.raises(
        TaskError, match=r"the target is the number 12, which lm-eval 0.5 compares with texts"
    ):
        frozen_keys(**number)
    frozen_keys(**number | {"metric_list": [{**options, "regexes_to_ignore": [","]}]})
    only_bees = "{{choices.label.index(key) if key == 'A' else 'nothing'}}"
    definition = {"include": "choice.yaml", "task": "some", "doc_to_target": only_bees}
    Path("samples/some.yaml").write_text(yaml.safe_dump(definition))
    with pytest.raises(
        TaskError, match=r"lm-eval skips \d of 7 documents, the first is 1, because it finds no"
    ):
        requests_of("some", include_path="samples")


@ONLY_04
def test_repeats_are_samples_and_those_of_greedy_decoding_are_one(lm_eval: Any) -> None:
    vote = [pipeline(FIRST_3, "majority_vote", "take_first"), pipeline("take_first", name="first")]
    keys = frozen_keys(repeats=4, filter_list=vote, generation_kwargs=SAMPLED)
    assert keys["decoding"]["samples"] == 4
    texts = [["b", "a", "a", "b"], ["e", "x", "y", "b"]]
    columns = text_columns(texts, [["a"], ["e"]], keys["texts"])
    expected = {"one": [1, 1], "first": [0, 1]}
    for name, values in expected.items():
        found = columns[f"exact[filter={name}]"].reshape(2, 4)
        assert found[:, 0].tolist() == values and math.isnan(found[:, 1:].sum()), name
    keys = frozen_keys(repeats=4, filter_list=None, generation_kwargs=SAMPLED)
    assert keys["texts"]["filters"] == [{"function": "take_first"}]
    greedy = frozen_keys(repeats=4, filter_list=vote)
    assert greedy["decoding"]["samples"] == 1
    assert [each["function"] for each in greedy["texts"]["pipelines"][0]["filters"]] == [
        "majority_vote",
        "take_first",
    ]


@ONLY_04
def test_a_target_that_is_no_list_among_lists_is_refused(lm_eval: Any) -> None:
    target = "{{['Z', 'E'] if loop_first else 'honey'}}".replace("loop_first", "key == 'A'")
    definition = {"include": "generates.yaml", "task": "mixed", "doc_to_target": target}
    Path("samples/mixed.yaml").write_text(yaml.safe_dump(definition))
    with pytest.raises(
        TaskError, match=r"document 1: the target is 'honey', but that of the first .* a list"
    ):
        requests_of("mixed", include_path="samples")
    Path("samples/mixed.yaml").write_text(
        yaml.safe_dump({**definition, "doc_to_target": target.replace("honey", "h")})
    )
    rows, _ = requests_of("mixed", include_path="samples")
    assert json.loads(rows["targets"].iloc[1]) == ["h"]


def test_the_kind_in_the_definition(lm_eval: Any, caplog: pytest.LogCaptureFixture) -> None:
    generating("sample_generates", kind=None)
    unknown = load_task("generates.yaml", "--task")
    record = freeze_task("generates.yaml", "frozen.parquet")
    assert record["definition"]["kind"] == "generation"
    assert "sample_generates generates text; add `kind: generation`" in caplog.text
    caplog.clear()
    generating("sample_generates")
    known = load_task("generates.yaml", "--task")
    assert known.kind.needs == "samples" and known.identity != unknown.identity
    assert not freeze_task("generates.yaml", "frozen.parquet")["definition"]["decoding"]["keep_text"]
    assert not caplog.text
    generating("sample_generates", decoding={"keep_text": True})
    kept = freeze_task("generates.yaml", "frozen.parquet")["definition"]["decoding"]
    assert (kept["keep_text"], kept["max_tokens"]) == (True, 24)
    assert load_task("generates.yaml", "--task").identity not in (known.identity, unknown.identity)
    generating("sample_choice")
    with pytest.raises(
        TaskError,
        match=r"generates.yaml: kind: found 'generation', but lm-eval's sample_choice is of type "
        r"multiple_choice; remove the key\.",
    ):
        freeze_task("generates.yaml", "frozen.parquet")


def pipeline(*functions: Any, name: str = "one") -> dict[str, Any]:
    return {"name": name, "filter": [f if isinstance(f, dict) else {"function": f} for f in functions]}


LETTERS = ("order", "not one")  # after which filters of 0.4 see letters, and those of 0.5 texts
NOT_MEASURED = {
    "first of more": (
        {"repeats": 2, "filter_list": [pipeline(FIRST_3, "take_first")]},
        r"filter_list: one: take_first_k: found k 3; allowed: 1 to repeats, 2\.",
    ),
    "pipelines": (
        {"filter_list": [pipeline("take_first"), pipeline("take_first")]},
        r"texts.pipelines\[1\].name: found 'one' twice; allowed: once",
    ),
    "name": (
        {"filter_list": [pipeline("take_first", name="a]")]},
        r"texts.pipelines\[0\].name: found 'a\]'",
    ),
    "not one": (
        {"repeats": 2, "filter_list": [pipeline("majority_vote")]},
        r"filter_list: one: allowed: the filter take_first once, as the last one",
    ),
    "filter": (
        {"filter_list": [pipeline("format_span", "take_first")]},
        r"the filter 'format_span' does not run here; allowed: regex,",
    ),
    "order": ({"filter_list": [pipeline("take_first", "regex")]}, r"take_first once, as the last one"),
    "argument": (
        {
            "filter_list": [
                {
                    "name": "n",
                    "filter": [{"function": "regex", "regex_pattern": "("}, {"function": "take_first"}],
                }
            ]
        },
        r"texts.pipelines\[0\].filters\[0\].regex_pattern: '\(' is not a regular expression",
    ),
    "metric": (
        {"metric_list": [{"metric": "bleu"}]},
        r"metric_list: bleu does not run here; allowed: exact_match",
    ),
    "option": (
        {"metric_list": [{"metric": "exact_match", "ignore_spaces": True}]},
        r"texts.exact_match.ignore_spaces",
    ),
    "aggregation": (
        {"metric_list": [{"metric": "exact_match", "aggregation": "median"}]},
        r"exact_match with aggregation mean",
    ),
    "beams": (
        {"generation_kwargs": {"num_beams": 4}},
        r"generation_kwargs.num_beams: cannot be applied; allowed",
    ),
    "greedy": ({"generation_kwargs": {"do_sample": True}}, r"temperature: found 0 with do_sample"),
    "length": ({"generation_kwargs": {"max_gen_toks": 0}}, r"decoding.max_tokens: .*0"),
}


@pytest.mark.parametrize("case", [case for case in NOT_MEASURED if not SINCE_05 or case not in LETTERS])
def test_a_task_that_generates_what_we_cannot_measure_says_why(case: str, lm_eval: Any) -> None:
    change, message = NOT_MEASURED[case]
    definition = {"include": "generates.yaml", "task": "broken", **change}
    Path("samples/broken.yaml").write_text(yaml.safe_dump(definition))
    with pytest.raises(TaskError, match=message) as caught:
        requests_of("broken", include_path="samples")
    assert str(caught.value).count("lm_eval: broken (samples/broken.yaml)") == 1


def test_a_task_whose_own_code_measures_texts_is_refused(lm_eval: Any) -> None:
    text = "include: generates.yaml\ntask: broken\nprocess_results: !function several.process_results\n"
    Path("samples/broken.yaml").write_text(text)
    with pytest.raises(
        TaskError, match=r"process_results: its own code measures texts; allowed: metric_list"
    ):
        requests_of("broken", include_path="samples")


def test_measuring_needs_no_data_set(lm_eval: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    for task in TASKS:
        requests, record = requests_of(f"sample_{task}", include_path="samples")
        record = json.loads(json.dumps(record))  # as from a footer
        cell = made_up(requests)
        before = results_of(cell, requests, record, bootstrap_iters=BOOTSTRAP)
        shutil.move("data", "away")
        with monkeypatch.context() as patch:
            patch.setattr(datasets, "load_dataset", None)
            shuffled = cell.sample(frac=1, random_state=1)
            after = results_of(shuffled, requests, record, bootstrap_iters=BOOTSTRAP)
        shutil.move("away", "data")
        pd.testing.assert_frame_equal(before, after)


def made_up(requests: pd.DataFrame) -> pd.DataFrame:
    """A cell that no model made."""
    values = [-1.0 - (7 * i % 11) / 4 for i in range(len(requests))]
    greedy = [i % 3 == 0 for i in range(len(requests))]
    return requests[["example", "choice"]].assign(loglikelihood=values, greedy=greedy)


def test_values_by_hand(lm_eval: Any) -> None:
    requests, record = requests_of("sample_last_word", include_path="samples")
    cell = made_up(requests)
    found = results_of(cell, requests, record, bootstrap_iters=0).set_index("metric")
    assert list(found.index) == ["lm_eval_perplexity", "lm_eval_acc"]
    assert found.loc["lm_eval_acc", "value"] == 2 / 5  # rows 0 and 3 are greedy
    assert found.loc["lm_eval_perplexity", "value"] == pytest.approx(math.exp(-cell["loglikelihood"].mean()))
    assert found["stderr"].isna().all()

    requests, record = requests_of("sample_several", include_path="samples")
    cell = requests[["example", "choice"]].assign(loglikelihood=-1.0, greedy=False)
    found = results_of(cell, requests, record, bootstrap_iters=BOOTSTRAP).set_index("metric")
    assert found.loc["lm_eval_mass", "value"] == pytest.approx((2 / 3 + 1 / 2 + 1 / 2 + 1 / 2) / 4)
    assert found["n"].to_dict() == {"lm_eval_mass": 4, "lm_eval_middle": 4, "lm_eval_long": 2}


def test_rows_of_choices(lm_eval: Any) -> None:
    rows, record = requests_of("sample_choice", include_path="samples")
    assert list(rows.columns) == ["example", "choice", "context", "continuation", "gold", "doc"]
    first = rows[rows["example"] == "0"]
    assert list(first["choice"]) == [0, 1, 2]
    assert set(first["context"]) == {"Question: What do bees make?\nAnswer:"}
    assert list(first["continuation"]) == [" honey", " a great deal of paper", " rope"]
    assert list(first["gold"]) == [True, False, False]
    assert json.loads(first["doc"].iloc[0])["key"] == "A"
    assert list(first["doc"].iloc[1:]) == ["", ""]
    assert list(rows["example"].unique()) == [str(i) for i in range(7)]
    assert (record["kind"], record["version"], record["documents"]) == ("choice", 1.0, 7)


@ONLY_04
def test_rows_of_schemas_differ_in_their_contexts(lm_eval: Any) -> None:
    rows, _ = requests_of("sample_schema", include_path="samples", limit=2)
    assert list(rows["gold"]) == [True, False, False, True]
    assert list(rows["context"].str.extract(r"(the \w+)$")[0]) == ["the cup", "the box"] * 2
    assert list(rows["continuation"]) == [" was too large."] * 2 + [" was too small."] * 2


def test_rows_without_a_condition_are_marked(lm_eval: Any) -> None:
    rows, _ = requests_of("sample_pmi", include_path="samples", limit=1)
    assert list(rows["role"]) == ["choice"] * 3 + ["unconditional"] * 3
    assert list(rows["of"]) == [0, 1, 2, 0, 1, 2]
    assert list(rows["choice"]) == [0, 1, 2, 3, 4, 5]
    assert list(rows["context"].iloc[3:]) == [""] * 3
    assert list(rows["gold"]) == [True] + [False] * 5


def test_rows_of_several_right_choices_and_of_documents(lm_eval: Any) -> None:
    rows, record = requests_of("sample_several", include_path="samples")
    assert list(rows[rows["example"] == "2"]["gold"]) == [False, True, True, False]
    assert json.loads(rows["doc"].iloc[0])["right"] == [1, 2]  # as the task's own code left it
    function = record["config"]["process_results"]
    assert function["function"] == "process_results"
    assert len(function["sha256"]) == 64
    rows, record = requests_of("sample_rolling", include_path="samples")
    assert record["kind"] == "rolling"
    assert set(rows["context"]) == {""}
    assert rows["continuation"].str.startswith("Rain had").sum() == 1


def test_few_shot_examples_follow_the_seed(lm_eval: Any) -> None:
    contexts = {}
    for seed in (1234, 1234, 5):
        rows, record = requests_of("sample_few_shot", include_path="samples", seed=seed)
        if seed in contexts:
            assert list(rows["context"]) == contexts[seed]
        contexts[seed] = list(rows["context"])
        assert rows["context"].str.count("Question:").eq(3).all()
        assert (record["num_fewshot"], record["seed"]) == (2, seed)
    assert contexts[5] != contexts[1234]
    rows, record = requests_of("sample_few_shot", include_path="samples", num_fewshot=4)
    assert rows["context"].str.count("Question:").eq(5).all()
    own, _ = requests_of("sample_same_split", include_path="samples")
    for row in own.itertuples():
        assert row.context.count(row.context.rsplit("Question:", 1)[1]) == 1  # never the question itself


def test_a_beginning_token_is_scored_by_lm_eval_only(lm_eval: Any) -> None:
    """The one difference of rolling: what a tokenizer puts before a text counts as text there."""
    model = checkpoint(Path("model"), beginning=True)
    scorer = load_scorer(model)
    requests, record = requests_of("sample_rolling", include_path="samples")
    theirs = by_lm_eval("sample_rolling", model)
    cell = answers(scorer, requests, record["kind"])
    ours = results_of(cell, requests, record, bootstrap_iters=0).set_index("metric")["value"]
    assert abs(ours["lm_eval_bits_per_byte"] / theirs["lm_eval_bits_per_byte"][0] - 1) > 1e-3
    beginning = list(scorer.tokenizer.beginning)
    windows = [
        rolling_windows([[*beginning, *ids]], beginning[0], WINDOW)[0]
        for ids in scorer.tokenizer.ids(list(requests["continuation"]))
    ]
    assert max(map(len, windows)) > 1
    sums = [math.fsum(x for scored in scorer.score(each) for x in scored.loglikelihoods) for each in windows]
    agree(results_of(cell.assign(loglikelihood=sums), requests, record, bootstrap_iters=BOOTSTRAP), theirs)


OWN_ERRORS = ("gold", "word", "empty", "field")  # of which 0.5 has errors of its own
BROKEN = {
    "type": ({"output_type": "answers"}, r"output_type: found 'answers', allowed: multiple_choice, loglik"),
    "gold": (
        {"doc_to_target": "{{0 if key == 'A' else 7}}"},
        r"document 1: the right choice is 7, allowed: 0 to 2 or",
    ),
    "word": ({"doc_to_target": "D"}, r"document 0: the right choice is 'D', allowed"),
    "empty": (
        {
            "doc_to_choice": "{{['x', '' if key == 'B' else 'y']}}",
            "doc_to_target": "0",
            "target_delimiter": "",
        },
        r"document 1, choice 1 is empty",
    ),
    "field": (
        {"doc_to_text": "{{questions}}"},
        r"cannot build it \(UndefinedError: 'questions' is undefined\)",
    ),
    "file": ({"dataset_kwargs": {"data_files": "data/none.jsonl"}}, r"cannot build it \(FileNotFoundError"),
    "zero": ({"num_fewshot": 0}, r"num_fewshot: found 3, but the task fixes 0"),
    "python": ({"class": "none"}, r"is a Python class, and its metrics need its data set"),
}


@pytest.mark.parametrize("case", [case for case in BROKEN if not SINCE_05 or case not in OWN_ERRORS])
def test_what_cannot_be_frozen_says_why(case: str, lm_eval: Any) -> None:
    change, message = BROKEN[case]
    definition = {"include": "choice.yaml", "task": "broken", **change}
    Path("samples/broken.yaml").write_text(yaml.safe_dump(definition))
    with pytest.raises(TaskError, match=message) as caught:
        requests_of("broken", include_path="samples", num_fewshot=3 if case == "zero" else None)
    assert "lm_eval: broken (samples/broken.yaml)" in str(caught.value)


def test_a_document_that_is_no_json(lm_eval: Any) -> None:
    Path("samples/several.py").write_text(
        "import datetime\n"
        + Path("samples/several.py")
        .read_text()
        .replace('{"right": [i', '{"when": datetime.datetime(2020, 1, 1), "right": [i')
    )
    with pytest.raises(TaskError, match=r"document 0 cannot be saved as JSON \(Object of type datetime"):
        requests_of("sample_several", include_path="samples")


def test_names_that_are_no_task(lm_eval: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ebbtide.tasks.lm_eval import freeze

    own = freeze.manager
    monkeypatch.setattr(freeze, "manager", lambda paths, why, builtin: own(paths, why, builtin=False))
    with pytest.raises(
        TaskError, match=r"sample_group is a group, .* one by one: sample_choice, sample_pmi\."
    ):
        requests_of("sample_group", include_path="samples")
    with pytest.raises(TaskError, match=r"no such task in lm-eval .*, samples; did you mean 'sample_choice'"):
        requests_of("sample_choise", include_path="samples")
    with pytest.raises(TaskError, match=r"include_path: nowhere is not a directory"):
        requests_of("sample_choice", include_path="nowhere")


def test_without_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(TaskError, match=r"lm_eval: piqa needs lm-eval, which is not installed; pip install"):
        requests_of("piqa")


def test_a_task_that_changed_is_not_measured(lm_eval: Any) -> None:
    requests, record = requests_of("sample_several", include_path="samples")
    cell = made_up(requests)
    with pytest.raises(
        TaskError, match=r"frozen by lm-eval 0\.0\.1, installed is .*; pip install lm_eval==0\.0"
    ):
        results_of(cell, requests, {**record, "lm_eval": "0.0.1"})
    code = Path("samples/several.py").read_text()
    Path("samples/several.py").write_text(code.replace("mass.sum()", "1"))
    with pytest.raises(
        TaskError, match=r"samples/several.yaml, or its code, has changed since it was frozen"
    ):
        results_of(cell, requests, record)
    Path("samples/several.py").write_text(code)
    assert len(results_of(cell, requests, record, bootstrap_iters=0)) == 3
    Path("samples/several.yaml").unlink()
    with pytest.raises(TaskError, match=r"samples/several.yaml, from which it was frozen, does not exist"):
        results_of(cell, requests, record)


def test_a_cell_of_other_requests_is_not_measured(lm_eval: Any) -> None:
    requests, record = requests_of("sample_choice", include_path="samples")
    cell = made_up(requests)
    with pytest.raises(CellError, match=r"example 6, choice 2 is only in the requests"):
        results_of(cell.iloc[:-1], requests, record)
    with pytest.raises(CellError, match=r"example 6, choice 2 is only in the cell"):
        results_of(cell, requests.iloc[:-1], record)
    with pytest.raises(CellError, match=r"7 examples, but 6 documents"):
        results_of(cell, requests.assign(doc=[*requests["doc"].iloc[:-3], "", "", ""]), record)
