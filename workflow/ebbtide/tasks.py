"""Tasks: from a definition in YAML to a frozen table of requests."""

import ast
import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.corpus import TOY_TASKS, World
from ebbtide.errors import ConfigError, TaskError, nearest
from ebbtide.files import digest
from ebbtide.sources import Source
from ebbtide.validation import check, check_name, load_schema, read_yaml, relative

if TYPE_CHECKING:
    import pandas as pd

CATALOGUE = Path(__file__).parent.parent / "tasks"

# Bump by hand when freezing makes other requests of the same definition and data.
FREEZE_VERSION = 1


@dataclass(frozen=True)
class Task:
    """A checked task definition."""

    name: str
    file: Path
    definition: Mapping[str, Any]
    source: Source | None  # data to fetch; None for a generated task

    @property
    def identity(self) -> str:
        """Digest of what determines the requests: source and fields, not titles or the place of the data."""
        source = {k: v for k, v in self.definition["source"].items() if k != "file"}
        return digest({"source": source, "fields": self.definition["fields"], "version": FREEZE_VERSION})

    @property
    def frozen(self) -> str:
        """Where the requests of this identity lie. The identity in the name makes a change a missing file."""
        return f"resources/tasks/frozen/{self.name}-{self.identity}.parquet"

    @property
    def data(self) -> str | None:
        """Where the fetched data file lies."""
        if self.source is None:
            return None
        return f"resources/sources/{self.source.sha256}/{Path(self.source.path).name}"

    @property
    def world(self) -> Mapping[str, Any] | None:
        """The toy world a generated task asks about."""
        world: Mapping[str, Any] | None = self.definition["source"].get("world")
        return world


def load_task(name: str, where: str) -> Task:
    """Read and check a definition: a name of the catalogue or the path of a YAML file.

    Raises `ConfigError`; `where` is the place in the study that named the task.
    """
    path = _definition_file(name, where)
    check_name(path.stem, f"{where}: {name}")
    definition = check(_with_includes(path), load_schema("task"), str(path))
    source = definition["source"]
    if "toy" in source:
        if source["toy"] not in TOY_TASKS:
            allowed = ", ".join(TOY_TASKS)
            raise ConfigError(
                f"{path}: source.toy: found {source['toy']!r}; allowed: {allowed}"
                f"{nearest(source['toy'], TOY_TASKS) or '.'}"
            )
        return Task(path.stem, path, definition, None)
    pinned = Source.parse(source["file"], source["sha256"], f"{path}: source.file")
    check_name(Path(pinned.path).name, f"{path}: source.file")
    return Task(path.stem, path, definition, pinned)


def freeze(task: Task) -> "pd.DataFrame":
    """Requests of a task: `example, choice, context, continuation, gold`, one row per example × choice.

    Raises `TaskError` naming file and row for data that cannot be asked.
    """
    from ebbtide.corpus import toy_requests

    source = task.definition["source"]
    if task.data is None:
        return toy_requests(source["toy"], World(**source["world"]), source["examples"], source["seed"])
    rows = _read_rows(Path(task.data), source["format"])
    expected = source.get("rows")
    if expected is not None and len(rows) != expected:
        raise TaskError(f"{task.data} has {len(rows)} rows, {task.file}: source.rows says {expected}.")
    return _requests(rows, task)


def footer(task: Task, rows: int, examples: int) -> dict[str, Any]:
    """What the footer of the frozen requests records."""
    return {
        "task": task.name,
        "identity": task.identity,
        "definition": dict(task.definition),
        "licence": task.definition.get("licence", ""),
        "requests": rows,
        "examples": examples,
    }


def _requests(rows: list[dict[str, Any]], task: Task) -> "pd.DataFrame":
    import pandas as pd

    fields = task.definition["fields"]
    columns: dict[str, list[Any]] = {k: [] for k in ("example", "choice", "context", "continuation", "gold")}
    for number, row in enumerate(rows):
        where = f"{task.data}: row {number + 1}"
        for field in fields.values():
            if field not in row:
                raise TaskError(f"{where} has no field {field!r} (found: {', '.join(map(str, row))}).")
        choices = _choices(row[fields["choices"]], where)
        gold = _gold(row[fields["gold"]], len(choices), where)
        for index, choice in enumerate(choices):
            columns["example"].append(str(number))
            columns["choice"].append(index)
            columns["context"].append(str(row[fields["prompt"]]))
            columns["continuation"].append(choice)
            columns["gold"].append(index == gold)
    if not columns["example"]:
        raise TaskError(f"{task.data} holds no rows.")
    return pd.DataFrame(columns)


def _choices(value: Any, where: str) -> list[str]:
    if isinstance(value, str):  # CSV files hold the list as a Python literal
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            raise TaskError(f"{where}: choices are not a list: {value!r}.") from None
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(c, str) and c for c in value):
        raise TaskError(f"{where}: choices must be two or more non-empty texts, found {value!r}.")
    if len(set(value)) < len(value):
        raise TaskError(f"{where}: a choice occurs twice: {value!r}.")
    return value


def _gold(value: Any, choices: int, where: str) -> int:
    if isinstance(value, bool) or not (
        isinstance(value, int) or (isinstance(value, str) and value.isdigit())
    ):
        raise TaskError(f"{where}: the right choice must be an index, found {value!r}.")
    gold = int(value)
    if not 0 <= gold < choices:
        raise TaskError(f"{where}: the right choice is {gold}, allowed: 0 to {choices - 1}.")
    return gold


def _read_rows(path: Path, format: str) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 text: {error}.") from None
    if format == "csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    rows = []
    # Not `splitlines`: JSON texts may hold the line separators of Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TaskError(f"{path}: line {number} is not JSON ({error}).") from None
        if not isinstance(row, dict):
            raise TaskError(f"{path}: line {number} is {row!r}, expected fields and values.")
        rows.append(row)
    return rows


def _with_includes(path: Path) -> dict[str, Any]:
    """The definition, on top of the fragment that its key `include` names (beside it)."""
    definition = read_yaml(path)
    if "include" not in definition:
        return definition
    beside = path.parent / str(definition.pop("include"))
    if not beside.exists():
        raise ConfigError(f"{path}: include: {beside} does not exist.")
    fragment = read_yaml(beside)
    merged = {**fragment, **definition}
    if isinstance(fragment.get("source"), dict) and isinstance(definition.get("source"), dict):
        merged["source"] = {**fragment["source"], **definition["source"]}
    return merged


def _definition_file(name: str, where: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        if not Path(name).exists():
            raise ConfigError(f"{where}: {name} does not exist.")
        return Path(name)
    known = sorted(p.stem for p in CATALOGUE.glob("[!_]*.yaml"))
    if name not in known:
        raise ConfigError(
            f"{where}: found {name!r}; allowed: {', '.join(known)}, or the path of a YAML file"
            f"{nearest(name, known) or '.'}"
        )
    return relative(CATALOGUE / f"{name}.yaml")
