"""How the cells of a checkpoint were made and what they cost: their footers, summed to one record."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ebbtide.cells.samples import is_sampled
from ebbtide.files import canonical_json

SHORT = 16  # hex digits of a digest
FLOP_PER_PARAMETER = 2  # and token: one forward pass, without attention scores and the output matrix
Footer = Mapping[str, Any]


def provenance_of(footers: Sequence[Footer]) -> dict[str, Any]:
    """Return the record of one checkpoint from the footers of its cells, as JSON.

    A sum is None if one of the cells lacks the entry, as cells of earlier versions do, and a list has what is
    known of any of them. Times are seconds.
    """
    identities = [footer["identity"] for footer in footers]
    return {
        "cells": len(footers),
        **{name: _only(i.get(name) for i in identities) for name in ("weights", "tokenizer", "dtype")},
        "weights_sha256": _only(_weights_sha256(footer.get("weights_sha256")) for footer in footers),
        "scoring_version": _only(identity.get("recipe") for identity in identities),
        "implementation": _known(footer.get("implementation") for footer in footers),
        "method": _known(footer.get("method") for footer in footers),
        "versions": _known(text for footer in footers for text in _versions(footer)),
        "device": _known(footer.get("device_name") or footer.get("device") for footer in footers),
        "gpus": _known(footer.get("gpus") for footer in footers),
        "hosts": len(_known(_written(footer, "host") for footer in footers)) or None,
        "forwarded_tokens": _sum(footers, lambda f: f["forwarded_tokens"]),
        "unique_tokens": _sum(footers, lambda f: f["unique_tokens"]),
        "generated_tokens": _sum([f for f in footers if is_sampled(f)], lambda f: f["generated_tokens"]),
        "flop": _sum(footers, lambda f: FLOP_PER_PARAMETER * _parameters(f) * f["unique_tokens"]),
        "scoring_seconds": _sum(footers, lambda f: f["seconds"]),
        "scoring_gpu_seconds": _sum(footers, lambda f: f["seconds"] * f["gpus"]),
        "total_seconds": _sum(footers, lambda f: f["total_seconds"]),
        "gpu_seconds": _sum(footers, lambda f: f["total_seconds"] * f["gpus"]),
        "core_seconds": _sum(footers, lambda f: f["total_seconds"] * f["threads"]),
        "first_scored": min(_known(_written(footer, "time") for footer in footers), default=None),
        "last_scored": max(_known(_written(footer, "time") for footer in footers), default=None),
    }


def _sum(footers: Sequence[Footer], of: Callable[[Footer], float]) -> float | None:
    try:
        return sum(of(footer) for footer in footers) if footers else None
    except KeyError:
        return None


def _only(values: Iterable[Any]) -> Any:
    """The value that all cells share; None if they differ or do not have it."""
    found = {canonical_json(value): value for value in values}
    return next(iter(found.values())) if len(found) == 1 else None


def _known(values: Iterable[Any]) -> list[Any]:
    """The distinct values, sorted, without None."""
    return sorted({value for value in values if value is not None})


def _parameters(footer: Footer) -> int:
    """Parameters that one token uses. Raises `KeyError` if they are unknown, which is 0."""
    count: int = footer["parameters_active"]
    if not count:
        raise KeyError("parameters_active")
    return count


def _weights_sha256(files: Mapping[str, str] | None) -> str | None:
    """The beginning of the sha256 of the weight file; of several, of what `sha256sum` prints of them."""
    if not files:
        return None
    if len(files) == 1:
        return next(iter(files.values()))[:SHORT]
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:SHORT]


def _versions(footer: Footer) -> list[str]:
    packages = {name: footer.get("versions", {}).get(name) for name in ("torch", "transformers")}
    return [
        f"{name} {version}"
        for name, version in {"ebbtide": _written(footer, "version"), **packages}.items()
        if version
    ]


def _written(footer: Footer, name: str) -> Any:
    return footer.get("written", {}).get(name)
