"""Rows of a data set, read by the `datasets` library from the hub, at one commit, or from a local path.

The library is an optional dependency. Only freezing and pinning import it, never scoring. Every later freeze
has the same rows, because the definition contains their digest.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ebbtide.errors import ConfigError, EbbtideError, SourceError, TaskError, nearest
from ebbtide.files import read_json
from ebbtide.sources import CHECKOUT, hub_token
from ebbtide.tasks.rows import Rows

# Builder of the library for a file, by suffix.
BUILDERS: dict[str, tuple[str, dict[str, str]]] = {
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".txt": ("text", {}),
}
_DTYPES = re.compile(r"null|bool|(large_)?string(_view)?|u?int\d+|float\d+")
_ALLOWED = "text, numbers, and lists and dicts of them"


def pinned_rows(source: Mapping[str, Any], where: str) -> Rows:
    """Return the rows of a pinned source, whose number and digest must match the definition.

    Raises `ConfigError`, `SourceError` or `TaskError`; `where` is the file and key for messages.
    """
    rows = dataset_rows(source, where)
    if source.get("rows", len(rows)) != len(rows):
        raise TaskError(
            f"{where}.rows: found {len(rows)} rows, expected {source['rows']} as in the definition."
        )
    if (found := rows_sha256(rows)) != source["rows_sha256"]:
        raise TaskError(
            f"{where}.rows_sha256: found rows with the digest {found}, expected {source['rows_sha256']} as "
            "in the definition; either the data has changed, or this version of the library reads it "
            "differently: check, then run `ebbtide pin` again."
        )
    return rows


def dataset_rows(source: Mapping[str, Any], where: str) -> Rows:
    """Return all rows of a source with `dataset` or `path`, or its first `rows` with streaming.

    Raises `ConfigError` for a missing configuration, split or column, `SourceError` for data that cannot be
    read, and `TaskError` for a column that is not text, numbers, or lists and dicts of them.
    """
    library = _library(where)
    name = source.get("dataset") or source["path"]
    key = "dataset" if "dataset" in source else "path"
    with _quiet(library), TemporaryDirectory(prefix="ebbtide-") as scratch:
        try:
            return list(_checked(_open(library, source, where, scratch), source, where))
        except EbbtideError:
            raise
        except Exception as error:  # raised by the library, or by a file system, codec or client that it uses
            raise SourceError(
                f"{where}.{key}: {name} cannot be read by datasets {library.__version__} "
                f"({_root_message(error)})."
            ) from error


def rows_sha256(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the sha256 of the rows, in order, as one line of JSON each, with sorted keys and no spaces."""
    sha256 = hashlib.sha256()
    for row in rows:
        sha256.update(json.dumps(row, sort_keys=True, separators=(",", ":")).encode())
        sha256.update(b"\n")
    return sha256.hexdigest()


def _library(where: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "datasets":  # a dependency of the library is missing
            raise
        raise TaskError(
            f"{where}: needs the library datasets, which is not installed; pip install 'ebbtide[datasets]'."
        ) from None
    return datasets


def _open(library: Any, source: Mapping[str, Any], where: str, scratch: str) -> Any:
    """Open a data set with the library."""
    if "dataset" in source:
        builder = _builder(
            library,
            source,
            where,
            # With the prefix, a local directory of the same name is ignored.
            path=f"hf://datasets/{source['dataset']}",
            revision=source["revision"],
            token=hub_token(),
        )
        return _split_of(builder, source, where)
    path = _existing(source["path"], where)
    if path.is_dir():
        return _open_directory(library, path, source, where, scratch)
    if path.suffix not in BUILDERS:
        raise ConfigError(
            f"{where}.path: found {source['path']}; allowed: a directory, or a file with one of the suffixes "
            f"{', '.join(BUILDERS)}."
        )
    if "config" in source:
        raise ConfigError(f"{where}.config: a file has no configurations; remove the key.")
    name, options = BUILDERS[path.suffix]
    files = {"train": str(path)}
    builder = _builder(library, source, where, path=name, data_files=files, cache_dir=scratch, **options)
    return _split_of(builder, source, where)


def _open_directory(library: Any, path: Path, source: Mapping[str, Any], where: str, scratch: str) -> Any:
    """Open a directory written by `save_to_disk`, or a directory of data files."""
    if (path / "dataset_dict.json").is_file():
        splits = read_json(path / "dataset_dict.json", SourceError)["splits"]
        return library.load_from_disk(str(path / _chosen(splits, source, where)))
    if (path / "state.json").is_file():
        data = library.load_from_disk(str(path))
        _chosen([str(data.split or "train")], source, where)
        return data
    # In the scratch directory, because the library's cache does not notice every change of a file.
    builder = _builder(library, source, where, path=str(path), cache_dir=scratch)
    return _split_of(builder, source, where)


def _builder(library: Any, source: Mapping[str, Any], where: str, *, path: str, **options: Any) -> Any:
    """Return the library's builder for one configuration. Raises `ConfigError` for an unknown one."""
    config = source.get("config")
    try:
        return library.load_dataset_builder(path, config, **options)
    except ValueError:
        configs: list[str] = []
        with suppress(Exception):  # the first error is more informative
            which = {key: options[key] for key in ("revision", "token") if key in options}
            configs = library.get_dataset_config_names(path, **which)
        if config in configs or (config is None and len(configs) < 2):
            raise
        found = "missing" if config is None else f"found {config!r}"
        raise ConfigError(
            f"{where}.config: {found}; allowed: {', '.join(configs)}{nearest(config or '', configs) or '.'}"
        ) from None


def _split_of(builder: Any, source: Mapping[str, Any], where: str) -> Any:
    """Return the split of the source, as a stream or as a table."""
    files = builder.config.data_files
    split = _chosen([str(split) for split in (files or builder.info.splits or ())], source, where)
    if source.get("streaming"):
        if files:  # otherwise the library opens the first file of every split
            builder.config.data_files = type(files)({split: files[split]})
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare()
    return builder.as_dataset(split=split)


def _chosen(splits: list[str], source: Mapping[str, Any], where: str) -> str:
    """Return the split that the source names, or the only split. Raises `ConfigError`."""
    split: str | None = source.get("split")
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None or split not in splits:
        found = "missing" if split is None else f"found {split!r}"
        hint = nearest(split or "", splits) or "."
        raise ConfigError(f"{where}.split: {found}; allowed: {', '.join(splits)}{hint}")
    return split


def _existing(path: str, where: str) -> Path:
    """Resolve a local path in the working directory or the checkout. Raises `SourceError`."""
    candidates = list(dict.fromkeys(base / Path(path).expanduser() for base in (Path.cwd(), CHECKOUT)))
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is None:
        raise SourceError(
            f"{where}.path: {path} does not exist (looked for {' and '.join(map(str, candidates))})."
        )
    return found


def _checked(data: Any, source: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Yield rows with the columns of the definition. Raises `ConfigError` or `TaskError` naming a column."""
    columns: list[str] | None = source.get("columns")
    if data.features is not None:  # unknown for some streams until they are read
        if missing := [name for name in columns or () if name not in data.features]:
            raise ConfigError(_no_column(missing[0], list(data.features), where))
        for name, feature in data.features.items():
            if columns is None or name in columns:
                _check_feature(feature, name, where)
        data = data.select_columns(columns) if columns else data
    for row in islice(data, source["rows"] if source.get("streaming") else None):
        if missing := [name for name in columns or () if name not in row]:
            raise ConfigError(_no_column(missing[0], list(row), where))
        used = row if columns is None else {name: row[name] for name in columns}
        for name, value in used.items():
            if not _is_plain(value):
                raise TaskError(_wrong_type(name, type(value).__name__, where))
        yield used


def _check_feature(feature: Any, column: str, where: str) -> None:
    """Raise `TaskError` for a column of an unsupported type, before the library decodes its values."""
    if isinstance(feature, dict):
        for name, inner in feature.items():
            _check_feature(inner, f"{column}.{name}", where)
        return
    name = type(feature).__name__
    if name in ("List", "LargeList", "Sequence"):
        _check_feature(feature.feature, column, where)
    elif isinstance(feature, list):
        _check_feature(feature[0], column, where)
    elif name == "Value":
        if not _DTYPES.fullmatch(feature.dtype):
            raise TaskError(_wrong_type(column, feature.dtype, where))
    elif name not in ("ClassLabel", "Json", "Translation"):
        raise TaskError(_wrong_type(column, name, where))


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    return value is None or isinstance(value, str | int | float)


def _wrong_type(column: str, found: str, where: str) -> str:
    return (
        f"{where}: column {column!r} has the type {found}; allowed: {_ALLOWED}. Name the columns to use in "
        "source.columns."
    )


def _no_column(name: str, columns: list[str], where: str) -> str:
    return f"{where}.columns: found {name!r}; allowed: {', '.join(columns)}{nearest(name, columns) or '.'}"


def _root_message(error: BaseException) -> str:
    """Return the first line of the original error in a chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Silence the library's progress bars and warnings; its errors are reported anyway."""
    disabled, level = library.are_progress_bars_disabled(), library.logging.get_verbosity()
    library.disable_progress_bars()
    library.logging.set_verbosity(library.logging.CRITICAL)
    try:
        yield
    finally:
        library.logging.set_verbosity(level)
        if not disabled:
            library.enable_progress_bars()
