"""Pinning: add commit and digest to a definition, once, on a machine with a network.

A pinned definition needs no other file. Includes are resolved, and the source is one file with its sha256, or
one commit of a data set (or a local path) with the digest of its rows.
"""

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ebbtide.errors import ConfigError, SourceError, TaskError, first_line
from ebbtide.files import file_sha256, write_text
from ebbtide.sources import Source, fetch, hub_endpoint, hub_token
from ebbtide.tasks.dataset_rows import dataset_rows, rows_sha256
from ebbtide.tasks.definition import (
    COMMIT,
    check_definition,
    check_streaming,
    definition_file,
    read_definition,
    tasks_of,
)
from ebbtide.tasks.prepare import rows_of
from ebbtide.tasks.rows import format_of
from ebbtide.transport import Transport

_ANY = "0" * 64


def pin(name: str, to: Path, mirrors: list[Path], transport: Transport | None = None) -> dict[str, Any]:
    """Pin the source of task `name` (of the catalogue, or a file), write the definition to `to`, return it.

    A data set of the hub is pinned to a commit (of its `revision`, or the newest one) and to the digest of
    its rows, a local path to the digest of its rows, and a file to its sha256. A commit, digest or number of
    rows that the definition already has must match. `transport` replaces the default one.

    Raises `ConfigError`, `SourceError` or `TaskError`, and writes nothing then.
    """
    path = definition_file(name, "pin")
    if to.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--to: found {to}; allowed: the path of a YAML file.")
    definition = read_definition(path)
    source = dict(definition.get("source") or {})
    if "toy" in source:
        raise ConfigError(f"{path}: source.toy: a generated task has no data to pin.")
    where = f"{path}: source"
    if "dataset" in source or "path" in source:
        source = _pinned_rows(check_definition(definition, path)["source"], where)
    elif "file" in source:
        if "prepare" not in source:
            source.setdefault("format", format_of(str(source["file"])))
        has_digest = {"sha256", "md5"} & source.keys()
        any_content = {**definition, "source": source if has_digest else {**source, "sha256": _ANY}}
        checked = check_definition(any_content, path)["source"]
        source = _pinned_file(source, checked, where, mirrors, transport)
    else:
        raise ConfigError(f"{where}: found none of file, dataset and path; there is nothing to pin.")
    pinned = {**definition, "source": source}
    tasks_of(pinned, path)
    few_shot = pinned.get("few_shot", {})
    if "prefix_file" in few_shot:  # relative to the original
        moved = os.path.relpath(path.parent / few_shot["prefix_file"], to.parent)
        pinned["few_shot"] = {**few_shot, "prefix_file": moved}
    text = yaml.safe_dump(pinned, sort_keys=False, allow_unicode=True, width=110)
    write_text(f"# Pinned from {path}.\n{text}", to)
    return pinned


def _pinned_rows(source: dict[str, Any], where: str) -> dict[str, Any]:
    """Add commit, number of rows and their digest to a source read by the `datasets` library."""
    check_streaming(source, where)
    if "dataset" in source:
        source["revision"] = _commit(source["dataset"], source.get("revision"), where)
    rows = dataset_rows(source, where)
    found = {"rows": len(rows), "rows_sha256": rows_sha256(rows)}
    for key, value in found.items():
        if source.get(key, value) != value:
            raise TaskError(f"{where}.{key}: found {value}, expected {source[key]} as in the definition.")
    return {**source, **found}


def _commit(dataset: str, revision: str | None, where: str) -> str:
    """Return the commit of a revision of a data set on the hub; None is the newest commit."""
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    hub = HfApi(endpoint=hub_endpoint(), token=hub_token())
    try:
        return str(hub.dataset_info(dataset, revision=revision).sha)
    except (HTTPError, HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise SourceError(
            f"{where}.dataset: {dataset} at {revision or 'its newest commit'} cannot be read from "
            f"{hub_endpoint()} ({type(error).__name__}: {first_line(error)})."
        ) from error


def _pinned_file(
    source: dict[str, Any],
    checked: dict[str, Any],
    where: str,
    mirrors: list[Path],
    transport: Transport | None,
) -> dict[str, Any]:
    """Add sha256 and number of rows to a source of one file; `checked` has its defaults."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / f"data{Path(str(source['file'])).suffix}"
        source["sha256"] = _fetched(source, file, where, mirrors, transport)
        rows = len(rows_of(file, checked, where))
    if source.get("rows", rows) != rows:
        raise TaskError(f"{where}.rows: found {source['rows']}, but {source['file']} has {rows} rows.")
    return {**{key: value for key, value in source.items() if key != "md5"}, "rows": rows}


def _fetched(
    source: dict[str, Any], to: Path, where: str, mirrors: list[Path], transport: Transport | None
) -> str:
    """Fetch the file of a source, and return its sha256. It must have the digest that is given, if one is."""
    given, md5 = source.get("sha256"), source.get("md5")
    parsed = Source.parse(str(source["file"]), given or _ANY, f"{where}.file", md5)
    fetch(replace(parsed, sha256=given), to, mirrors, transport)
    return file_sha256(to)
