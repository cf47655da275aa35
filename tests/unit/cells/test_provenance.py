"""The record of a checkpoint: sums and facts of the footers of its cells."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from ebbtide.cells.provenance import provenance_of

IDENTITY = {"weights": "hub:a", "tokenizer": "hub:b", "dtype": "bfloat16", "recipe": 1, "task": "t"}


def footer(**entries: Any) -> dict[str, Any]:
    return {
        "identity": IDENTITY,
        "parameters_active": 1000,
        "implementation": "ebbtide",
        "method": "trie",
        "versions": {"torch": "2.13", "tokenizers": "0.23"},
        "device": "cuda",
        "device_name": "NVIDIA H200",
        "gpus": 2,
        "threads": 1,
        "forwarded_tokens": 60,
        "unique_tokens": 50,
        "seconds": 3.0,
        "total_seconds": 10.0,
        "written": {"host": "n1", "time": "2026-03-01T00:00:00+00:00", "version": "0.4"},
        **entries,
    }


def test_a_record_has_the_sums_and_the_facts_of_all_cells() -> None:
    later = {"host": "n2", "time": "2026-03-02T00:00:00+00:00", "version": "0.5"}
    record = provenance_of([footer(), footer(written=later, gpus=1, unique_tokens=10)])
    assert record == {
        "cells": 2,
        "weights": "hub:a",
        "tokenizer": "hub:b",
        "dtype": "bfloat16",
        "weights_sha256": None,
        "scoring_version": 1,
        "implementation": ["ebbtide"],
        "method": ["trie"],
        "versions": ["ebbtide 0.4", "ebbtide 0.5", "torch 2.13"],
        "device": ["NVIDIA H200"],
        "gpus": [1, 2],
        "hosts": 2,
        "forwarded_tokens": 120,
        "unique_tokens": 60,
        "generated_tokens": None,
        "flop": 2 * 1000 * 60,
        "scoring_seconds": 6.0,
        "scoring_gpu_seconds": 9.0,
        "total_seconds": 20.0,
        "gpu_seconds": 30.0,
        "core_seconds": 20.0,
        "first_scored": "2026-03-01T00:00:00+00:00",
        "last_scored": "2026-03-02T00:00:00+00:00",
    }


def test_what_one_cell_does_not_know_is_unknown_and_never_zero() -> None:
    new = ("device_name", "gpus", "threads", "total_seconds", "written")
    old = {name: value for name, value in footer().items() if name not in new}
    record = provenance_of([footer(), old])
    for name in ("scoring_gpu_seconds", "total_seconds", "gpu_seconds", "core_seconds"):
        assert record[name] is None
    assert (record["scoring_seconds"], record["hosts"]) == (6.0, 1)
    assert record["device"] == ["NVIDIA H200", "cuda"]
    alone = provenance_of([old])
    assert alone["hosts"] is alone["first_scored"] is None
    assert provenance_of([footer(parameters_active=0)])["flop"] is None  # 0 is unknown


def test_the_digest_of_weights_is_that_of_their_file_or_list(tmp_path: Path) -> None:
    assert provenance_of([footer(weights_sha256={"m": "ab" * 32})])["weights_sha256"] == "ab" * 8
    digests = {}
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
        digests[name] = hashlib.sha256(name.encode()).hexdigest()
    command = "sha256sum a b | sha256sum"
    shown = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert provenance_of([footer(weights_sha256=digests)])["weights_sha256"] == shown.stdout[:16]
    both = [footer(weights_sha256={"m": "ab" * 32}), footer(weights_sha256={"m": "cd" * 32})]
    assert provenance_of(both)["weights_sha256"] is None


def test_generated_tokens_are_those_of_samples() -> None:
    sampled = footer(layout="samples", generated_tokens=7, unique_tokens=20)
    record = provenance_of([footer(), sampled, sampled])
    assert record["generated_tokens"] == 14 and record["unique_tokens"] == 90
