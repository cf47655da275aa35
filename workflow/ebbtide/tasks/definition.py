"""A task's definition: read with its includes, checked, and identified."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ebbtide.corpus import DOCUMENTS, HELD_OUT, TOY_TASKS
from ebbtide.errors import ConfigError, nearest
from ebbtide.files import digest, file_sha256
from ebbtide.schema import check, check_name, load_schema, read_yaml, relative
from ebbtide.sources import Source
from ebbtide.tasks.kinds import KINDS, check_fields
from ebbtide.tasks.render import check_template

CATALOGUE = Path(__file__).parents[2] / "tasks"

# Bump by hand when freezing makes other requests of the same definition and data.
FREEZE_VERSION = 1

# Keys that change the requests, and what an absent one means. An absent key leaves the identity as it was
# before the key existed.
ASKING: dict[str, Any] = {
    "kind": "choice",
    "delimiter": "",
    "few_shot": None,
    "unconditional": None,
    "drop_bad_rows": False,
    "groups": {},
}
# Keys that change what is made of the scores, never the requests.
MEASURING = ("kind", "delimiter", "invert", "cluster", "metrics", "chance")


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
        places = ("file", "include_path")
        source = {k: v for k, v in self.definition["source"].items() if k not in places}
        asked = {k: self.definition[k] for k in ASKING if self.definition.get(k, ASKING[k]) != ASKING[k]}
        fields = self.definition["fields"]
        return digest({"source": source, "fields": fields, "version": FREEZE_VERSION, **asked})

    @property
    def frozen(self) -> str:
        """Where the requests of this identity lie. The identity in the name makes a change a missing file."""
        return f"resources/tasks/frozen/{self.name}-{self.identity}.parquet"

    @property
    def data(self) -> str | None:
        """Where the fetched data file lies."""
        return None if self.source is None else self.source.fetched

    @property
    def world(self) -> Mapping[str, Any] | None:
        """The toy world a generated task asks about."""
        world: Mapping[str, Any] | None = self.definition["source"].get("world")
        return world

    @property
    def mixture(self) -> Mapping[str, float] | None:
        """The mixture of documents of a task on held-out text."""
        mixture: Mapping[str, float] | None = self.definition["source"].get("mixture")
        return mixture

    @property
    def measuring(self) -> dict[str, Any]:
        """What of the definition decides how scores are measured; a change of it needs no new scores."""
        return {k: self.definition[k] for k in MEASURING if k in self.definition}


def load_task(name: str, where: str) -> Task:
    """Read and check a definition: a name of the catalogue or the path of a YAML file.

    Raises `ConfigError`; `where` is the place in the study that named the task.
    """
    path = definition_file(name, where)
    check_name(path.stem, f"{where}: {name}")
    return task_of(read_definition(path), path)


def task_of(raw: Mapping[str, Any], path: Path) -> Task:
    """Check a definition; `path` is the file it came from. Raises `ConfigError`."""
    definition = check(raw, _schema(), str(path))
    source = definition["source"]
    if source.get("toy") == HELD_OUT:
        _check_held_out(definition, path)
        return Task(path.stem, path, definition, None)
    if "toy" in source:
        _check_generated(definition, path)
        return Task(path.stem, path, definition, None)
    if "lm_eval" in source:
        _check_generated(definition, path)
        return Task(path.stem, path, _with_files(definition, path), None)
    if "dataset" in source:
        raise ConfigError(
            f"{path}: source.dataset: {source['dataset']!r} is not pinned to a commit and a sha256; run "
            f"`python -m ebbtide pin {path} --to FILE.yaml` where there is a network, and name FILE.yaml."
        )
    _check_asking(definition, path)
    pinned = Source.parse(source["file"], source["sha256"], f"{path}: source.file")
    check_name(Path(pinned.path).name, f"{path}: source.file")
    return Task(path.stem, path, _with_prefix(definition, path), pinned)


def definition_file(name: str, where: str) -> Path:
    """The file of a definition, by its path or its name in the catalogue. Raises `ConfigError`."""
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


def read_definition(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The definition, unchecked, on top of the file that its key `include` names, and so on.

    An included file lies beside the one that names it, or in the catalogue. A key given wins; of mappings
    (source, fields, few_shot, groups) each key of theirs does. `including` are the files on the way here.
    """
    definition = read_yaml(path)
    if "include" not in definition:
        return definition
    name = str(definition.pop("include"))
    places = [path.parent / name, CATALOGUE / name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = " and ".join(str(relative(place)) for place in dict.fromkeys(places))
        raise ConfigError(f"{path}: include: {name} does not exist (looked for {looked}).")
    if found.resolve() in (file.resolve() for file in (*including, path)):
        raise ConfigError(f"{path}: include: {name} includes itself.")
    fragment = read_definition(found, (*including, path))
    both = {k: {**fragment[k], **v} for k, v in definition.items() if _are_mappings(fragment.get(k), v)}
    return {**fragment, **definition, **both}


@lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    """The schema, read once for all tasks of a study."""
    return load_schema("task")


def _are_mappings(one: Any, other: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(other, Mapping)


def _check_generated(definition: Mapping[str, Any], path: Path) -> None:
    """A generated task, and one of lm-eval, asks as it is made to."""
    maker, toy = ("lm_eval" if "lm_eval" in definition["source"] else "toy"), definition["source"].get("toy")
    if toy is not None and toy not in TOY_TASKS:
        generators = (*TOY_TASKS, HELD_OUT)
        raise ConfigError(
            f"{path}: source.toy: found {toy!r}; allowed: {', '.join(generators)}"
            f"{nearest(toy, generators) or '.'}"
        )
    if "mixture" in definition["source"]:
        raise ConfigError(f"{path}: source.mixture: only with source.toy: {HELD_OUT}; remove the key.")
    allowed = ("few_shot",) if maker == "toy" else ()
    if given := [key for key in (*ASKING, "cluster") if key in definition and key not in allowed]:
        raise ConfigError(
            f"{path}: {given[0]}: a generated task (source.{maker}) cannot have it; remove the key."
        )
    if "few_shot" in definition:
        _check_few_shot("choice", definition["few_shot"], path)
        if "k" not in definition["few_shot"]:
            raise ConfigError(f"{path}: few_shot: a generated task (source.toy) can only have k.")


def _check_held_out(definition: Mapping[str, Any], path: Path) -> None:
    """Held-out text is documents, of kinds that exist."""
    if definition.get("kind") != "rolling":
        found = repr(definition["kind"]) if "kind" in definition else "none"
        raise ConfigError(f"{path}: kind: found {found}; allowed: rolling, for source.toy: {HELD_OUT}.")
    if given := [key for key in (*ASKING, "cluster") if key in definition and key != "kind"]:
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


def _with_files(definition: dict[str, Any], path: Path) -> dict[str, Any]:
    """The definition with a digest of what lies in `include_path`, which decides what is asked."""
    place = definition["source"].get("include_path")
    if place is None:
        return definition
    if not Path(place).is_dir():
        raise ConfigError(f"{path}: source.include_path: {place} is not a directory.")
    files = sorted(p for p in Path(place).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    contents = digest({str(p.relative_to(place)): file_sha256(p) for p in files})
    return {**definition, "source": {**definition["source"], "contents": contents}}


def _check_asking(definition: Mapping[str, Any], path: Path) -> None:
    """What the schema cannot say about a task with data."""
    kind = definition.get("kind", ASKING["kind"])
    check_fields(kind, definition["fields"], str(path))
    for key, text in _texts(definition):
        check_template(text, f"{path}: {key}")
    if "unconditional" in definition and kind != "choice":
        raise ConfigError(f"{path}: unconditional: found for kind {kind!r}; allowed: with kind 'choice'.")
    if "separator" in definition["source"] and definition["source"]["format"] != "text":
        raise ConfigError(f"{path}: source.separator: only for source.format: text.")
    cluster, groups = definition.get("cluster"), definition.get("groups", {})
    if cluster is not None and cluster not in groups:
        allowed = ", ".join(groups) or "none, for there is no key groups"
        raise ConfigError(
            f"{path}: cluster: found {cluster!r}; allowed: {allowed}{nearest(cluster, list(groups)) or '.'}"
        )
    if "few_shot" in definition:
        _check_few_shot(kind, definition["few_shot"], path)


def _texts(definition: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """All that may be a template, with its key."""
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


def _check_few_shot(kind: str, few_shot: Mapping[str, Any], path: Path) -> None:
    ways = [key for key in ("k", "prefix", "prefix_file") if key in few_shot]
    if len(ways) != 1:
        found = " and ".join(ways) or "none of them"
        raise ConfigError(f"{path}: few_shot: found {found}; allowed: one of k, prefix, prefix_file.")
    if "prefix_sha256" in few_shot and ways != ["prefix_file"]:
        raise ConfigError(f"{path}: few_shot.prefix_sha256: only with few_shot.prefix_file.")
    if not KINDS[kind].has_answer:
        raise ConfigError(f"{path}: few_shot: kind {kind!r} has no answer to show; remove the key.")


def _with_prefix(definition: dict[str, Any], path: Path) -> dict[str, Any]:
    """The definition with the text of its prefix file in place of the file's name."""
    few_shot = dict(definition.get("few_shot", {}))
    if "prefix_file" not in few_shot:
        return definition
    file = path.parent / few_shot.pop("prefix_file")
    expected = few_shot.pop("prefix_sha256", None)
    if not file.is_file():
        wanted = f" with sha256 {expected}" if expected else ""
        raise ConfigError(f"{path}: few_shot.prefix_file: {file} does not exist; put the text{wanted} there.")
    if expected is not None and (found := file_sha256(file)) != expected:
        raise ConfigError(f"{path}: few_shot.prefix_file: {file} has sha256 {found}, expected {expected}.")
    try:
        few_shot["prefix"] = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: few_shot.prefix_file: {file} is not UTF-8 text: {error}.") from None
    return {**definition, "few_shot": few_shot}
