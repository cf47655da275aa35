"""Samples: texts that the model writes, measured while they are at hand."""

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ebbtide.arrow import array_of
from ebbtide.cells import store
from ebbtide.cells.samples import LAYOUT, SAMPLED, SAMPLES
from ebbtide.checkpoints.directory import directory_of, tokenizer_of
from ebbtide.checkpoints.verification import check_generation
from ebbtide.errors import ScoringError
from ebbtide.jobs.answers.answers import Answers, Asked, Prepared, Report
from ebbtide.scoring.generation.decoding import generation_key
from ebbtide.scoring.scorer import FAKE, Counters, backend_of
from ebbtide.tables import content_sha256, table_of
from ebbtide.tasks.generation.checks import decoding_of
from ebbtide.tasks.generation.classifiers import classifiers_of
from ebbtide.tasks.generation.measures import text_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebbtide.jobs.loaded import Job
    from ebbtide.scoring.engine import Scored
    from ebbtide.scoring.generation.decoding import Samples
    from ebbtide.scoring.scorer import Scorer

NOT_RESCORED = "samples are not rescored: one token that rounding changes also changes all that follow it"


@dataclass(frozen=True)
class Prompts:
    """The prompts of a task in tokens, one per example.

    Attributes
    ----------
    ids
        Token ids of each prompt.
    context_tokens, truncated
        (P,) number of ids, and whether the prompt lost its beginning.
    targets
        The accepted texts of each prompt; None if the task has no target.
    definition
        Of the task.
    sha256
        Digest of the requests.
    """

    ids: "Sequence[Sequence[int]]"
    context_tokens: np.ndarray
    truncated: np.ndarray
    targets: "Sequence[Sequence[str]] | None"
    definition: "Mapping[str, Any]"
    sha256: str


def _encode(scorer: "Scorer", asked: Asked, window: int) -> Prompts:
    from ebbtide.scoring.generation.prompts import encode_prompts

    job, requests, definition = asked.job, asked.requests, asked.frozen["definition"]
    for classifier in classifiers_of(definition.get("texts", {})):
        classifier.check()
    contexts = requests.column("context").to_pylist()
    if not contexts:
        raise ScoringError(f"{job['requests']} contains no requests.")
    if "generation" in job["identity"]:
        check_generation(job["checkpoint"], job["identity"]["generation"])
    if "chat_template" in definition:
        from ebbtide.scoring.chat import in_chat

        contexts = in_chat(directory_of(job["checkpoint"]), contexts, tokenizer_of(job["checkpoint"]))
    ids, facts = encode_prompts(
        scorer.tokenizer,
        contexts,
        [f"{job['requests']}: example {name}" for name in requests.column("example").to_pylist()],
        bos=job["identity"]["bos"],
        truncation=job["identity"]["truncation"],
        window=window,
        vocabulary=scorer.vocabulary,
        max_tokens=definition["decoding"]["max_tokens"],
    )
    targets = None
    if "targets" in requests.column_names:
        targets = [json.loads(text) for text in requests.column("targets").to_pylist()]
    return Prompts(ids, **facts, targets=targets, definition=definition, sha256=content_sha256(requests))


def _score(scorer: "Scorer", prepared: Prepared, job: "Job", report: Report) -> "Scored":
    from ebbtide.scoring.engine import Scored, provenance
    from ebbtide.scoring.peak import peak_memory, reset_peak

    prompts: Prompts = prepared.task
    started = time.perf_counter()
    reset_peak(scorer.device)
    decoding, eos = decoding_of(prompts.definition), _end_tokens(scorer, job)
    counters, record = Counters(report=report), scorer.record()
    examples = [str(example) for example in prepared.keys.column("example").to_pylist()]
    cell = store.key(job["identity"])
    samples = scorer.generate(
        prompts.ids,
        decoding,
        keys=[generation_key(cell, example) for example in examples],
        eos=eos,
        counters=counters,
    )
    generated = time.perf_counter()
    rows = _rows(prompts, samples, prepared.keys, decoding.samples)
    classifiers = {
        one.name: {
            "version": one.version,
            "digest": one.digest,
            "failed": int(np.isnan(rows.column(f"score_{one.name}").to_numpy()).sum()),
        }
        for one in classifiers_of(prompts.definition.get("texts", {}))
    }
    footer = {
        LAYOUT: SAMPLED,
        "requests": len(prompts.ids),
        "requests_sha256": prompts.sha256,
        "truncated": int(prompts.truncated.sum()),
        "decoding": dict(prompts.definition["decoding"]),
        "end_tokens": sorted(eos),
        **({"classifiers": classifiers} if classifiers else {}),
        "generated_tokens": len(samples.tokens),
        "measuring_seconds": round(time.perf_counter() - generated, 3),
        "not_rescored": NOT_RESCORED,
        **provenance(scorer, counters, record),
        "peak_memory_bytes": peak_memory(scorer.device),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return Scored(rows, footer)


def _end_tokens(scorer: "Scorer", job: "Job") -> frozenset[int]:
    from ebbtide.scoring.generation.ends import end_tokens

    if backend_of(job["identity"]) == FAKE:  # which has a tokenizer of its own
        return frozenset(filter(None, [scorer.tokenizer.eos]))
    return end_tokens(directory_of(job["checkpoint"]), scorer.tokenizer)


def _rows(prompts: Prompts, samples: "Samples", keys: pa.Table, each: int) -> pa.Table:
    """The rows of the cell, in the order of the requests."""
    from ebbtide.scoring.engine import sums

    texts = [samples.texts[first : first + each] for first in range(0, len(samples), each)]
    place = np.repeat(np.arange(len(prompts.ids)), each)
    columns = {
        "example": keys.column("example").take(array_of(place.tolist(), pa.int64())),
        "sample": np.tile(np.arange(each), len(prompts.ids)),
        "loglikelihood": np.array(sums(samples.loglikelihood, samples.bounds)),
        "tokens": np.diff(samples.bounds),
        "ended": samples.ended.tolist(),
        "context_tokens": prompts.context_tokens[place],
        "truncated": prompts.truncated[place],
        **text_columns(texts, prompts.targets, prompts.definition.get("texts", {})),
    }
    if prompts.definition["decoding"]["keep_text"]:
        columns["text"] = samples.texts
    names = [name for name in (*SAMPLES.columns, *SAMPLES.optional) if name in columns]
    table = table_of({name: columns[name] for name in names}, SAMPLES)
    for name, values in columns.items():
        if name not in names:  # of pipelines of filters and of classifiers
            table = table.append_column(name, array_of(values, pa.float64()))
    return table


SAMPLED_TEXTS = Answers(_encode, _score, rules=("bos", "truncation"), stored=False)
