"""The seam of kinds: a kind made up here is defined, frozen, scored and measured without a line elsewhere."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import CellError, ConfigError, TaskError
from ebbtide.jobs.answers import ANSWERS
from ebbtide.jobs.encoded_tasks import EncodedTasks
from ebbtide.metrics import METRICS, check_metrics
from ebbtide.metrics.examples import CHECKS, Examples, check_of
from ebbtide.metrics.of_cell import measure
from ebbtide.metrics.registry import metric
from ebbtide.schema import load_schema
from ebbtide.tables import REQUESTS, read_footer, write_parquet
from ebbtide.tasks.definition import task_schema
from ebbtide.tasks.freezing import freeze, frozen
from ebbtide.tasks.kinds import KINDS, Example, Kind, Request, kind_of, register
from ebbtide.tasks.kinds.kind import COMMON_FIELDS, Maker
from ebbtide.tasks.render import Row, not_empty, text_of
from task_data import define

SENTENCE = {"description": "Of kind pair: a sentence", "type": "string"}
ROWS = [{"right": "She sees.", "wrong": "She see."}, {"right": "We see.", "wrong": "We sees."}]
FIELDS = {"good": "right", "bad": "{{ wrong }}"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pair_requests(fields: Mapping[str, Any], delimiter: str) -> Maker:
    good, bad = text_of(fields["good"]), text_of(fields["bad"])

    def make(row: Row) -> Example:
        texts = (good(row), not_empty(bad(row), "the bad sentence"))
        requests = (
            Request(i, "", delimiter + text, i == 0, extra={"length": float(len(text))})
            for i, text in enumerate(texts)
        )
        return Example(tuple(requests))

    return make


@pytest.fixture
def pair() -> Iterator[Kind]:
    """A kind of minimal pairs, with a metric and a check, as the modules of a new kind register them."""
    registries: tuple[dict[str, Any], ...] = (KINDS, METRICS, CHECKS)
    before = [dict(registry) for registry in registries]
    kind = register(
        Kind(
            "pair",
            "two sentences, of which one is good",
            pair_requests,
            common=frozenset(),
            fields={"good": SENTENCE, "bad": SENTENCE},
            required=frozenset({"good", "bad"}),
            rows=2,
            columns=("length",),
            few_shot=False,
        )
    )

    @metric("pair", unit="share", higher_is_better=True, main=True)
    def preference(x: Examples) -> np.ndarray:
        """1[the good sentence is more probable]: 0 to 1."""
        return x.right_where(x.lp / x.column("length"))

    @check_of("pair")
    def check(x: Examples) -> None:
        x.refuse(x.segments.sum(x.column("length") < 3) > 0, "has a sentence that is too short")

    yield kind
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


def scored(requests: pd.DataFrame, *loglikelihoods: float) -> pd.DataFrame:
    return requests[["example", "choice"]].assign(loglikelihood=loglikelihoods)


def test_a_new_kind_is_frozen_and_measured(pair: Kind) -> None:
    task = define(ROWS, kind="pair", fields=FIELDS, metrics=["preference"], invert=False)
    check_metrics("pair", ["preference"], "mine.yaml")
    requests, record = frozen(task)
    assert requests["continuation"].tolist() == ["She sees.", "She see.", "We see.", "We sees."]
    assert requests["gold"].tolist() == [True, False] * 2
    assert requests["length"].tolist() == [9, 8, 7, 8]
    write_parquet(requests, "pair.parquet", REQUESTS, record)
    definition = read_footer("pair.parquet", REQUESTS)["definition"]
    cell = scored(requests, -9.0, -16.0, -7.0, -16.0)
    rows = measure(cell, requests, definition)
    assert rows[["metric", "value", "n"]].to_numpy().tolist() == [["preference", 1.0, 2]]
    assert measure(cell, requests, {**definition, "invert": True})["value"].tolist() == [0.0]


def test_a_new_kind_s_layout_is_checked(pair: Kind) -> None:
    requests = freeze(define(ROWS, kind="pair", fields=FIELDS))
    cell = scored(requests, -1.0, -2.0, -1.0, -2.0)
    for broken, sentence in (
        (requests.assign(length=np.nan), "example 0 has a length that is not a number"),
        (requests.assign(length=2.0), "example 0 has a sentence that is too short"),
        (requests.drop(columns="length"), "the requests have no 'length', which the kind pair needs"),
        (requests.assign(gold=True), "example 0 needs a right and a wrong choice"),
        (requests.drop(columns="gold"), "no column 'gold'"),
    ):
        with pytest.raises(CellError, match=sentence):
            measure(cell, broken, {"kind": "pair"})
    with pytest.raises(CellError, match="example 1 has 1 choices, but the kind pair has 2"):
        measure(cell[:3], requests[:3], {"kind": "pair"})


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"fields": {"good": "right"}}, "fields.bad: missing; kind 'pair' needs it"),
        ({"fields": {**FIELDS, "completion": "c"}}, "fields.completion: found for kind 'pair'.*bad, good"),
        ({"fields": {**FIELDS, "god": "c"}}, "fields.god: unknown key; .*did you mean 'good'"),
        ({"fields": {**FIELDS, "bad": "{{ x"}}, "fields.bad: .*not a valid Jinja template"),
        ({"few_shot": {"k": 1}}, "few_shot: kind 'pair' has no answers for few-shot examples"),
        ({"unconditional": "A:"}, "unconditional: found for kind 'pair'"),
    ],
)
def test_a_new_kind_s_definition_is_checked(pair: Kind, keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        define(ROWS, kind="pair", **{"fields": FIELDS, **keys})


def test_without_its_registration_the_kind_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="kind: found 'pair'; allowed: choice, sequence"):
        define(ROWS, kind="pair", fields={})
    with pytest.raises(TaskError, match="kind: found 'pair', allowed: choice, sequence"):
        kind_of({"kind": "pair"})


@pytest.mark.parametrize(
    ("needs", "expected"),
    [("loglikelihoods", "requests"), ("losses", "rolling"), ("samples", "prompts")],
)
def test_the_scoring_job_gives_the_answers_that_the_kind_needs(
    needs: Any, expected: str, pair: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    KINDS["pair"] = Kind(**{**vars(pair), "needs": needs})
    keys = {"decoding": {"max_tokens": 2}} if needs == "samples" else {}
    task = define(ROWS, kind="pair", fields=FIELDS, **keys)
    requests, record = frozen(task)
    write_parquet(requests, "pair.parquet", REQUESTS, record)
    calls: list[str] = []

    def called(*_: Any, name: str, **__: Any) -> tuple[list[int], dict[str, Any]]:
        calls.append(name)
        return [], {"context_tokens": None, "truncated": None}

    for place, name in (
        ("scoring.documents.encode_rolling", "rolling"),
        ("jobs.answers.loglikelihoods.encode_task", "requests"),
        ("scoring.generation.prompts.encode_prompts", "prompts"),
    ):
        monkeypatch.setattr(f"ebbtide.{place}", partial(called, name=name))
    monkeypatch.setattr("ebbtide.jobs.encoded_tasks.write_encoded", lambda *_: None)
    rules = dict.fromkeys(("encoding", "bos", "truncation", "max_length"))
    job = {"requests": "pair.parquet", "identity": {"task": task.identity, "backend": "fake", **rules}}
    scorer: Any = SimpleNamespace(window=8, window_key=None, vocabulary=9, tokenizer=None)
    assert EncodedTasks("cells").get(job, scorer).answers is ANSWERS[needs]
    assert calls == [expected]


class TestRegister:
    taken: ClassVar[dict[str, Any]] = {"description": "", "maker": pair_requests}

    def test_a_name_is_taken_once(self) -> None:
        with pytest.raises(ValueError, match="already a kind 'choice'"):
            register(Kind("choice", **self.taken))

    def test_a_field_has_one_schema(self) -> None:
        with pytest.raises(ValueError, match="'rating' has the field 'target' with another schema"):
            register(Kind("other", **self.taken, fields={"target": {"type": "integer"}}))
        assert "other" not in KINDS


# ---- the kinds that there are


def test_the_schema_has_all_kinds_and_their_fields() -> None:
    schema = task_schema()["properties"]
    assert schema["kind"]["enum"] == list(KINDS)
    own = {name for kind in KINDS.values() for name in kind.fields}
    assert schema["fields"]["properties"].keys() == COMMON_FIELDS | own
    for kind in KINDS.values():
        assert f"{kind.name}: {kind.description}" in schema["kind"]["description"]
        assert all(field["description"] and field["type"] for field in kind.fields.values())
    # The file names none of them: it cannot disagree.
    file = load_schema("task")["properties"]
    assert "enum" not in file["kind"]
    assert file["fields"]["properties"].keys() == COMMON_FIELDS


def test_every_kind_has_a_metric_and_every_metric_a_kind() -> None:
    measured = {kind for found in METRICS.values() for kind in found.kinds}
    assert measured == set(KINDS)
    assert set(CHECKS) <= set(KINDS)
    for kind in KINDS.values():
        assert any(kind.name in found.kinds and found.main for found in METRICS.values())


def test_only_documents_need_losses() -> None:
    assert [kind.name for kind in KINDS.values() if kind.needs == "losses"] == ["rolling"]
    assert kind_of({}) is KINDS["choice"]
