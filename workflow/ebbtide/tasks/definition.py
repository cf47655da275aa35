"""Task definitions: reading them with their includes, checks, and identities."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from ebbtide.corpus import DOCUMENTS, HELD_OUT, TOY_TASKS
from ebbtide.errors import ConfigError, nearest
from ebbtide.files import digest
from ebbtide.schema import catalogue_file, check, check_name, is_file, load_schema, read_yaml, relative
from ebbtide.sources import Source, check_content
from ebbtide.tasks.few_shot import check_few_shot, with_prefix
from ebbtide.tasks.formats import check_formats, in_formats
from ebbtide.tasks.generation import GENERATION_VERSION
from ebbtide.tasks.generation.checks import check_generation, generation_identity, with_lm_eval_keys
from ebbtide.tasks.kinds import Kind, kind_of, with_kinds
from ebbtide.tasks.local_data import check_unchanged, with_contents
from ebbtide.tasks.parts import check_fit
from ebbtide.tasks.prepare import identity_of, pinned_by, with_arguments, with_preparations
from ebbtide.tasks.render import check_template, was_changed

COMMIT = re.compile(r"[0-9a-f]{40}")
CATALOGUE = Path(__file__).parents[2] / "tasks"

# Increment when freezing makes different requests from the same definition and data.
FREEZE_VERSION = 1
# Part of the identity of the definitions that this version renders otherwise than version 1 (`was_changed`).
RENDERING = 2
# Fields whose template gives a value, not a text.
VALUES = ("fields.choices", "fields.gold", "fields.target", "fields.mc1.choices", "fields.mc1.gold")

# Keys that change the requests, with their defaults. A default does not enter the identity, so that a new key
# does not change the identities of existing tasks.
REQUEST_KEYS: dict[str, Any] = {
    "kind": "choice",
    "delimiter": "",
    "few_shot": None,
    "unconditional": None,
    "format": "cloze",
    "drop_bad_rows": False,
    "groups": {},
    "fit": None,
    "decoding": None,
    "texts": {},
    "chat_template": None,
}
# Keys that change the metrics. Only `kind` and `delimiter` also change the requests.
METRIC_KEYS = ("kind", "delimiter", "invert", "cluster", "metrics", "chance")
# Keys of `source` that locate the data. Its content is identified by a digest.
LOCATION_KEYS = frozenset(
    {"file", "include_path", "path", "dataset", "config", "split", "revision", "streaming", "columns"}
)


@dataclass(frozen=True)
class Task:
    """A checked task definition."""

    name: str
    file: Path
    definition: Mapping[str, Any]
    source: Source | None  # the file to fetch; None for other kinds of source

    @cached_property  # planning asks for it for every cell
    def identity(self) -> str:
        """Digest of everything that determines the requests: not titles or the location of the data."""
        source = {k: v for k, v in self.definition["source"].items() if k not in LOCATION_KEYS}
        source |= identity_of(source)
        settings = {
            key: self.definition[key]
            for key, default in REQUEST_KEYS.items()
            if self.definition.get(key, default) != default
        }
        if any(was_changed(text, text=key not in VALUES) for key, text in texts_of(self.definition)):
            settings["rendering"] = RENDERING
        if self.kind.needs == "samples":
            settings |= {"generation": GENERATION_VERSION, **generation_identity(self.definition)}
        fields = self.definition["fields"]
        return digest({"source": source, "fields": fields, "version": FREEZE_VERSION, **settings})

    @property
    def frozen(self) -> str:
        """Path of the requests. With the identity in its name, a changed task is a missing file."""
        return f"resources/tasks/frozen/{self.name}-{self.identity}.parquet"

    @property
    def data(self) -> str | None:
        """Path of the fetched data file; None for a task without one."""
        return None if self.source is None else self.source.fetched

    @property
    def origin(self) -> str:
        """Where the rows come from, for messages."""
        source = self.definition["source"]
        if "dataset" in source:
            return f"{source['dataset']} ({source['split']})"
        if "prepare" in source:
            made = source["prepare"]["function"]
            return f"{self.data} ({made})" if self.data else f"source.prepare ({made})"
        return str(self.data or source.get("path", "source.examples"))

    @property
    def kind(self) -> Kind:
        """The kind of the task."""
        return kind_of(self.definition)

    @property
    def world(self) -> Mapping[str, Any] | None:
        """The toy world of a generated task."""
        source = self.definition["source"]
        world: Mapping[str, Any] | None = source.get("prepare", source).get("world")
        return world

    @property
    def mixture(self) -> Mapping[str, float] | None:
        """The mixture of documents of a task on held-out text."""
        mixture: Mapping[str, float] | None = self.definition["source"].get("mixture")
        return mixture

    @property
    def measuring(self) -> dict[str, Any]:
        """Keys of the definition that affect only the metrics; changing them does not rescore."""
        return {k: self.definition[k] for k in METRIC_KEYS if k in self.definition}


def load_tasks(name: str, where: str) -> dict[str, Task]:
    """Read and check a definition, by its name in the catalogue or the path of a YAML file.

    Returns its tasks by name: one, or one for each of its formats. Raises `ConfigError`; `where` is the file
    and key that name the definition.
    """
    path = definition_file(name, where)
    check_name(path.stem, f"{where}: {name}")
    return {task.name: task for task in tasks_of(read_definition(path), path)}


def load_task(name: str, where: str, called: str | None = None) -> Task:
    """Read and check a definition, and return its task, or the one that is `called` so.

    Raises `ConfigError`, also if there are several and none is called.
    """
    tasks = load_tasks(name, where)
    if called is None and len(tasks) > 1:
        raise ConfigError(f"{where}: {name} makes {' and '.join(tasks)}; choose one with --name.")
    if called is not None and called not in tasks:
        raise ConfigError(f"--name: found {called!r}; allowed for {name}: {', '.join(tasks)}.")
    return tasks[called] if called else next(iter(tasks.values()))


def tasks_of(raw: Mapping[str, Any], path: Path) -> list[Task]:
    """Check a definition and return its tasks; `path` is the file it came from. Raises `ConfigError`."""
    definition = check_definition(raw, path)
    check_formats(definition, kind_of(definition), path)
    return [_task_of(name, one, path) for name, one in in_formats(path.stem, definition)]


def check_definition(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Check a definition against its schemas, and return it with the defaults. Raises `ConfigError`."""
    definition = with_arguments(check(raw, task_schema(), str(path)), str(path))
    return with_lm_eval_keys(definition, raw, path) if "lm_eval" in definition["source"] else definition


def _task_of(name: str, definition: dict[str, Any], path: Path) -> Task:
    source = definition["source"]
    if "toy" in source:
        (_check_held_out if source["toy"] == HELD_OUT else _check_generated)(definition, path)
        return Task(name, path, definition, None)
    if "lm_eval" in source:
        _check_generated(definition, path)
        return Task(name, path, with_contents(definition, path), None)
    _check_requests(definition, path)
    if "file" not in source and "prepare" in source:
        return Task(name, path, with_prefix(definition, path), None)
    if "file" not in source:
        _check_pinned(source, path)
        task = Task(name, path, with_prefix(definition, path), None)
        if "path" in source:
            check_unchanged(source, Path(task.frozen), f"{path}: source")
        return task
    algorithm = pinned_by(source, path)
    pinned = Source.parse(source["file"], source.get("sha256"), f"{path}: source.file", source.get("md5"))
    check_name(Path(pinned.path).name, f"{path}: source.file")
    check_content(
        pinned,
        f"{path}: source.{algorithm}",
        f"restore it, or remove {algorithm} and rows from the source, run `ebbtide pin TASK.yaml --to "
        "NEW.yaml` and use NEW.yaml.",
    )
    return Task(name, path, with_prefix(definition, path), pinned)


def check_streaming(source: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError` for `streaming` without `rows`."""
    if source.get("streaming") and "rows" not in source:
        raise ConfigError(
            f"{where}.rows: missing; expected: the number of rows to take, because of streaming."
        )


def definition_file(name: str, where: str) -> Path:
    """The file of a definition, by its path or its name in the catalogue. Raises `ConfigError`."""
    return catalogue_file(CATALOGUE, name, where)


def read_definition(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return a definition, unchecked, merged over the file that its key `include` names, recursively.

    An included file is in the directory of the including file, or in the catalogue. Keys of the including
    file override; mappings (source, fields, few_shot, groups) are merged by key. `including` lists the files
    that include this one.
    """
    definition = read_yaml(path)
    if "include" not in definition:
        return definition
    name = definition.pop("include")
    if not isinstance(name, str):
        raise ConfigError(f"{path}: include: found {name!r:.80}; allowed: the name of a YAML file.")
    places = [path.parent / name, CATALOGUE / name]
    found = next((place for place in places if is_file(place)), None)
    if not name.isprintable() or not any(
        (found or places[0]).resolve().is_relative_to(base.resolve()) for base in (path.parent, CATALOGUE)
    ):
        raise ConfigError(
            f"{path}: include: found {name!r:.80}; allowed: a file in its directory or in the catalogue."
        )
    if found is None:
        looked = " and ".join(str(relative(place)) for place in dict.fromkeys(places))
        raise ConfigError(f"{path}: include: {name} does not exist (looked for {looked}).")
    if found.resolve() in (file.resolve() for file in (*including, path)):
        raise ConfigError(f"{path}: include: {name} includes itself.")
    fragment = read_definition(found, (*including, path))
    both = {k: {**fragment[k], **v} for k, v in definition.items() if _are_mappings(fragment.get(k), v)}
    return {**fragment, **definition, **both}


def task_schema() -> dict[str, Any]:
    """Return the schema of definitions, including the registered kinds and preparations."""
    return with_preparations(with_kinds(_schema_file()))


@lru_cache(maxsize=1)
def _schema_file() -> dict[str, Any]:
    """Read the schema as in its file, once for all tasks of a study."""
    return load_schema("task")


def _are_mappings(one: Any, other: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(other, Mapping)


def _check_generated(definition: Mapping[str, Any], path: Path) -> None:
    """Raise `ConfigError` for keys that a generated task or a task of lm-eval cannot have."""
    maker, toy = ("lm_eval" if "lm_eval" in definition["source"] else "toy"), definition["source"].get("toy")
    if toy is not None and toy not in TOY_TASKS:
        generators = (*TOY_TASKS, HELD_OUT)
        raise ConfigError(
            f"{path}: source.toy: found {toy!r}; allowed: {', '.join(generators)}"
            f"{nearest(toy, generators) or '.'}"
        )
    if "mixture" in definition["source"]:
        raise ConfigError(f"{path}: source.mixture: only with source.toy: {HELD_OUT}; remove the key.")
    allowed = ("few_shot",) if maker == "toy" else ("kind", "decoding")
    if given := [key for key in (*REQUEST_KEYS, "cluster") if key in definition and key not in allowed]:
        raise ConfigError(
            f"{path}: {given[0]}: a generated task (source.{maker}) cannot have it; remove the key."
        )
    if "few_shot" in definition:
        check_few_shot(kind_of({}), definition["few_shot"], path)
        check_fit(definition, kind_of({}), path)
        if "k" not in definition["few_shot"]:
            raise ConfigError(f"{path}: few_shot: a generated task (source.toy) can only have k.")


def _check_held_out(definition: Mapping[str, Any], path: Path) -> None:
    """Raise `ConfigError` unless a task on held-out text is of kind rolling and has a valid mixture."""
    if definition.get("kind") != "rolling":
        found = repr(definition["kind"]) if "kind" in definition else "none"
        raise ConfigError(f"{path}: kind: found {found}; allowed: rolling, for source.toy: {HELD_OUT}.")
    if given := [key for key in (*REQUEST_KEYS, "cluster") if key in definition and key != "kind"]:
        raise ConfigError(
            f"{path}: {given[0]}: a generated task (source.toy) cannot have it; remove the key."
        )
    mixture = definition["source"].get("mixture")
    if not mixture or not sum(mixture.values()):
        raise ConfigError(
            f"{path}: source.mixture: found {mixture or 'none'}; expected: that of the ladder's corpus."
        )
    for kind in mixture:
        if kind not in DOCUMENTS:
            raise ConfigError(
                f"{path}: source.mixture.{kind}: unknown kind of document; allowed: {', '.join(DOCUMENTS)}"
                f"{nearest(str(kind), DOCUMENTS) or '.'}"
            )


def _check_pinned(source: Mapping[str, Any], path: Path) -> None:
    """Raise `ConfigError` unless a data set is pinned by a commit and the digest of its rows."""
    check_streaming(source, f"{path}: source")
    remedy = f"run `ebbtide pin {path} --to FILE.yaml`"
    if "dataset" in source and not COMMIT.fullmatch(source.get("revision", "")):
        found = f"found {source['revision']!r}" if "revision" in source else "missing"
        raise ConfigError(
            f"{path}: source.revision: {found}; expected: a commit of {source['dataset']} (40 hex digits); "
            f"{remedy} on a machine with a network, and use FILE.yaml."
        )
    if "rows_sha256" not in source:
        raise ConfigError(f"{path}: source.rows_sha256: missing; {remedy}, and use FILE.yaml.")


def _check_requests(definition: Mapping[str, Any], path: Path) -> None:
    """Checks of a task with data that the schema cannot express."""
    kind = kind_of(definition)
    kind.check_fields(definition["fields"], str(path))
    for key, text in texts_of(definition):
        check_template(text, f"{path}: {key}")
    if "unconditional" in definition and not kind.unconditional:
        raise ConfigError(
            f"{path}: unconditional: found for kind {kind.name!r}; allowed: with kind 'choice'."
        )
    if "separator" in definition["source"] and definition["source"]["format"] != "text":
        raise ConfigError(f"{path}: source.separator: only for source.format: text.")
    cluster, groups = definition.get("cluster"), definition.get("groups", {})
    if cluster is not None and cluster not in groups:
        allowed = ", ".join(groups) or "none, because there is no key groups"
        raise ConfigError(
            f"{path}: cluster: found {cluster!r}; allowed: {allowed}{nearest(cluster, list(groups)) or '.'}"
        )
    if "few_shot" in definition:
        check_few_shot(kind, definition["few_shot"], path)
    check_fit(definition, kind, path)
    check_generation(definition, kind, path)


def texts_of(definition: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the key and the text of every value that may be a template."""
    for key, value in definition["fields"].items():
        inner = value if isinstance(value, dict) else {"": value}
        for name, entry in inner.items():
            place = f"fields.{key}" + (f".{name}" if name else "")
            listed = enumerate(entry) if isinstance(entry, list) else [(None, entry)]
            for index, text in listed:
                if isinstance(text, str):
                    yield place if index is None else f"{place}[{index}]", text
    for name, text in definition.get("groups", {}).items():
        yield f"groups.{name}", text
    if "unconditional" in definition:
        yield "unconditional", definition["unconditional"]
