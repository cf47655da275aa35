"""The lock: commit and file digests of each hub checkpoint of a study. A lean module.

A lock is a JSON file next to the study (`studies/mine.yaml` → `studies/mine.lock.json`) with one line per
file. It belongs under version control. Only `resolve` writes it. Scoring, audit and fetching read it and
never resolve a branch on the hub. A digest is `sha256:…` for files in large-file storage (weights), and
`git:…` (the SHA-1 of a git blob) for small files.
"""

import datetime
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ebbtide.checkpoints.hub.generation import GENERATION, generation_identity
from ebbtide.errors import CheckpointError, type_and_reason
from ebbtide.files import canonical_json, digest, read_json, write_text

T = TypeVar("T")

VERSION = 1
RECORD = 16_384  # bytes; upper bound for the record of a fetched checkpoint
MAIN = "main"
GONE = "gone"  # in `Locked.moved`: the revision no longer exists

CONFIG = "config.json"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
SHARD = re.compile(
    r"(?P<stem>model|pytorch_model)(-(?P<number>[0-9]{5})-of-(?P<of>[0-9]{5}))?\.(safetensors|bin)"
)
INDICES = {"safetensors": "model.safetensors.index.json", "bin": "pytorch_model.bin.index.json"}
STEMS = {"safetensors": "model", "bin": "pytorch_model"}
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")  # file systems allow 255, and parts are longer
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LINE = re.compile(r"(?P<digest>sha256:[0-9a-f]{64}|git:[0-9a-f]{40}) (?P<size>[0-9]{1,16})( (?P<date>\S+))?")


@dataclass(frozen=True)
class LockedFile:
    """A file of a revision: digest, size in bytes, and the date of its last commit (ISO, or empty)."""

    digest: str
    size: int
    date: str = ""


@dataclass(frozen=True)
class Locked:
    """One revision of a repository, resolved to a commit.

    Attributes
    ----------
    step
        Training step; None for `main`.
    files
        Relevant files of the top directory by name: weights of both formats, their indices, tokenizer,
        configuration, code.
    moved
        The commit to which the revision pointed when it was last checked, if it differs from `commit`;
        `gone` if the revision no longer existed.
    """

    repo: str
    revision: str
    commit: str
    step: int | None
    files: Mapping[str, LockedFile] = field(default_factory=dict)
    moved: str | None = None

    def weights(self, format: str) -> list[str]:
        """Names of the weight files of a format (`safetensors`, `bin`), in order; may be empty.

        A single file takes precedence over shards, as in transformers.
        """
        ending, whole = f".{format}", f"{STEMS[format]}.{format}"
        if whole in self.files:
            return [whole]
        shards = (n for n in self.files if n.endswith(ending) and SHARD.fullmatch(n))
        return sorted(n for n in shards if n.startswith(f"{STEMS[format]}-"))

    def tokenizer(self) -> list[str]:
        """Names of the tokenizer files."""
        return [name for name in TOKENIZER if name in self.files]

    def generation(self) -> list[str]:
        """Names of the files that only the generation of texts reads."""
        return [name for name in GENERATION if name in self.files]

    def code(self) -> list[str]:
        """Names of the Python files."""
        return sorted(name for name in self.files if name.endswith(".py"))

    def needed(self, format: str, *, remote_code: bool = False) -> list[str]:
        """Names of the files to fetch: weights, index, configuration, tokenizer, generation and code."""
        names = self.weights(format)
        beside = [CONFIG] if names == [f"{STEMS[format]}.{format}"] else [INDICES[format], CONFIG]
        names += [name for name in beside if name in self.files]
        return [*names, *self.tokenizer(), *self.generation(), *(self.code() if remote_code else [])]

    def size(self, format: str) -> int:
        """Bytes of the weights of a format."""
        return sum(self.files[name].size for name in self.weights(format))

    def peak_disk_bytes(self, format: str, *, remote_code: bool = False) -> int:
        """Largest number of bytes on disk during a fetch; `bin` shards are converted one at a time."""
        whole = sum(self.files[name].size for name in self.needed(format, remote_code=remote_code))
        twice = max((self.files[n].size for n in self.weights("bin")), default=0) if format == "bin" else 0
        return whole + twice + RECORD

    def weights_identity(self, format: str, *, remote_code: bool = False) -> str:
        """Digest of the files that determine the weights and the architecture.

        Repository and commit are not part of it: a new README moves a branch but changes no result, and two
        steps with the same weights share one cell.
        """
        others = {*self.tokenizer(), *self.generation()}
        names = [n for n in self.needed(format, remote_code=remote_code) if n not in others]
        return f"hub:{digest({name: self.files[name].digest for name in names})}"

    def tokenizer_identity(self) -> str:
        """Digest of the contents of the tokenizer files."""
        return f"hub:{digest({name: self.files[name].digest for name in self.tokenizer()})}"

    def generation_identity(self) -> str:
        """See `hub.generation`; empty without such files."""
        return generation_identity({name: self.files[name].digest for name in self.generation()})


@dataclass(frozen=True)
class LockedModel:
    """A model of a study: the steps on the hub, and the revisions that the study requests.

    `offered` are the steps that the hub listed, in ascending order. `checkpoints` are by name and include
    `main`.
    """

    offered: Mapping[str, tuple[int, ...]]  # by stage; the first is `pretraining`
    checkpoints: Mapping[str, Locked]


@dataclass(frozen=True)
class Index:
    """The content of an index of weights.

    Attributes
    ----------
    files
        The weight files that it names, sorted; empty if the file is not an index.
    total_size
        Bytes of all tensors as the index states them; 0 if it states none.
    """

    files: tuple[str, ...] = ()
    total_size: int = 0


@dataclass(frozen=True)
class Lock:
    """All models of a study, and the contents of small files by digest.

    Attributes
    ----------
    configs
        Every distinct `config.json`; empty if the file is not the configuration of a model.
    indices
        Every distinct index of weights. Locks of earlier versions lack them.
    pointers
        Whether a file is a pointer of Git LFS, for each file that might be one by its size. Locks of earlier
        versions lack them.
    """

    models: Mapping[str, LockedModel] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    indices: Mapping[str, Index] = field(default_factory=dict)
    pointers: Mapping[str, bool] = field(default_factory=dict)

    def config(self, locked: Locked) -> Mapping[str, Any]:
        """The `config.json` of a checkpoint; empty if it has none."""
        file = locked.files.get(CONFIG)
        return self.configs.get(file.digest, {}) if file else {}

    def index(self, locked: Locked, format: str) -> Index | None:
        """The index of the weights of a checkpoint; None if it has none, or its content is not locked."""
        file = locked.files.get(INDICES[format])
        return self.indices.get(file.digest) if file else None

    def used(self, models: Mapping[str, LockedModel]) -> "Lock":
        """The lock of these models, with the contents of their files only."""
        digests = {
            file.digest
            for model in models.values()
            for checkpoint in model.checkpoints.values()
            for file in checkpoint.files.values()
        }

        def of(contents: Mapping[str, T]) -> dict[str, T]:
            return {digest: content for digest, content in contents.items() if digest in digests}

        return Lock(models, of(self.configs), of(self.indices), of(self.pointers))


def is_plain(name: str) -> bool:
    """Whether a name from a listing is a plain file name, which cannot escape its directory."""
    return _PLAIN.fullmatch(name) is not None


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit (40 hex digits), which never moves."""
    return _COMMIT.fullmatch(revision) is not None


def day_of(date: str) -> str:
    """The day of an ISO date (YYYY-MM-DD), or an empty text if there is none."""
    try:
        return datetime.date.fromisoformat(date[:10]).isoformat()
    except ValueError:
        return ""


def weight_map(path: Path) -> dict[str, str]:
    """Map tensors to file names from an index of weights. Raises `CheckpointError` for any other file."""
    files = read_json(path, CheckpointError).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise CheckpointError(
            f"{path} is not an index of weights (JSON with a weight_map); fetch or copy it again."
        )
    return files


def lock_path(study: str | Path) -> Path:
    """Path of the lock of a study file, in the same directory."""
    return Path(study).with_suffix(".lock.json")


def read_lock(path: str | Path, names: Collection[str] | None = None) -> Lock:
    """Read a lock, of all models or only those named; it is empty if the file does not exist.

    Raises `CheckpointError` for a file that is damaged or was not written by `write_lock`.
    """
    path = Path(path)
    if not path.exists():
        return Lock()
    remedy = "restore it from version control, or delete it and lock again"
    document = read_json(path, CheckpointError, remedy)
    try:
        if document["lock"] != VERSION:
            raise CheckpointError(
                f"{path}: lock: found version {document['lock']!r:.40}, allowed: {VERSION}; "
                "delete the file and lock again."
            )
        models = {
            name: _read_model(name, model)
            for name, model in document["models"].items()
            if names is None or name in names
        }
        configs = dict(document["configs"])
        for key, config in configs.items():
            if not isinstance(config, dict):
                raise ValueError(f"configs.{key}: found {config!r}, expected a config.json")
        for name, checkpoint in ((n, c) for model in models.values() for n, c in model.checkpoints.items()):
            if CONFIG in checkpoint.files and checkpoint.files[CONFIG].digest not in configs:
                raise ValueError(f"{name}: its {CONFIG} is not among configs")
        indices = {key: _read_index(key, index) for key, index in document.get("indices", {}).items()}
        pointers = {key: bool(is_pointer) for key, is_pointer in document.get("pointers", {}).items()}
        return Lock(models, configs, indices, pointers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a complete lock ({type_and_reason(error)}); {remedy}."
        ) from None


def write_lock(lock: Lock, path: str | Path) -> None:
    """Write a lock atomically. Equal locks give equal bytes."""
    models = {name: _model_document(model) for name, model in sorted(lock.models.items())}
    configs = {key: json.loads(canonical_json(config)) for key, config in sorted(lock.configs.items())}
    indices = {key: asdict(index) for key, index in sorted(lock.indices.items())}
    document = {
        "lock": VERSION,
        "models": models,
        "configs": configs,
        **({"indices": indices} if indices else {}),
        **({"pointers": dict(sorted(lock.pointers.items()))} if lock.pointers else {}),
    }
    write_text(json.dumps(document, indent=1) + "\n", path)


def _model_document(model: LockedModel) -> dict[str, Any]:
    checkpoints = {
        name: {
            "repo": c.repo,
            "revision": c.revision,
            "commit": c.commit,
            **({} if c.step is None else {"step": c.step}),
            **({} if c.moved is None else {"moved": c.moved}),
            "files": {n: f"{f.digest} {f.size} {f.date}".strip() for n, f in sorted(c.files.items())},
        }
        for name, c in model.checkpoints.items()
    }
    offered = {stage: " ".join(map(str, steps)) for stage, steps in model.offered.items()}
    return {"offered": offered, "checkpoints": checkpoints}


def _read_model(name: str, document: Mapping[str, Any]) -> LockedModel:
    checkpoints = {}
    for checkpoint, entry in document["checkpoints"].items():
        step = entry.get("step")
        for key in ("repo", "revision", "commit", "moved"):
            if not isinstance(entry.get(key, ""), str):
                raise ValueError(f"{name}.{checkpoint}: {key}: found {entry[key]!r}, expected text")
        if not _COMMIT.fullmatch(entry["commit"]):
            raise ValueError(f"{name}.{checkpoint}: commit: found {entry['commit']!r}, expected 40 digits")
        if step is not None and (type(step) is not int or not checkpoint.endswith(f"step{step}")):
            raise ValueError(f"{name}.{checkpoint}: step: found {step!r}, which differs from the name")
        checkpoints[checkpoint] = Locked(
            repo=entry["repo"],
            revision=entry["revision"],
            commit=entry["commit"],
            step=step,
            files={n: _read_file(n, line, f"{name}.{checkpoint}") for n, line in entry["files"].items()},
            moved=entry.get("moved"),
        )
    offered = {stage: tuple(map(int, steps.split())) for stage, steps in document["offered"].items()}
    return LockedModel(offered, checkpoints)


def _read_index(key: str, document: Mapping[str, Any]) -> Index:
    files, total_size = document["files"], document["total_size"]
    if not all(isinstance(name, str) for name in files) or type(total_size) is not int:
        raise ValueError(f"indices.{key}: found {document!r:.80}, expected names of files and bytes")
    return Index(tuple(files), total_size)


def _read_file(name: str, line: str, where: str) -> LockedFile:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{where}.{name}: found {line!r}, expected a digest, a size and a date")
    if not is_plain(name):
        raise ValueError(f"{where}: {name!r} is not the name of a file in the top directory")
    return LockedFile(match["digest"], int(match["size"]), day_of(match["date"] or ""))
