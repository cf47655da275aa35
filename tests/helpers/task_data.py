"""Task definitions with data of a test's own, in the test's working directory."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ebbtide.tasks.definition import Task, load_task

Row = Mapping[str, Any]
WHERE = "study.yaml: tasks[0]"


def put(content: bytes, name: str) -> dict[str, str]:
    """Write a file, and lay it where a fetched one lies; its source: file and sha256."""
    sha256 = hashlib.sha256(content).hexdigest()
    for place in (Path(name), Path("resources/sources", sha256, name)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return {"file": name, "sha256": sha256}


def json_lines(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def define(rows: Sequence[Row] | bytes, name: str = "data.jsonl", **keys: Any) -> Task:
    """A task with these rows; `keys` are those of the definition, `source` is added to."""
    content = rows if isinstance(rows, bytes) else json_lines(rows)
    source = {**put(content, name), **keys.pop("source", {})}
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": source, **keys}))
    return load_task("mine.yaml", WHERE)
