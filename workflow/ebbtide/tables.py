"""Tables on disk: Parquet schemas, atomic writes, validated reads.

Every Parquet file that Ebbtide writes has a JSON record in its footer under the key `FOOTER`. It contains at
least `kind` (the schema) and `content_sha256` of the rows. Every read checks both.

Arrow tables are written and read without pandas, so that scoring processes need not import it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ebbtide.arrow import (
    MANY,
    array_of,
    converted,
    digests,
    first_repeat,
    metrics_in_memory,
    metrics_on_disk,
    unknown_counts,
    with_missing_counts,
)
from ebbtide.errors import CellError, first_line
from ebbtide.files import atomic, canonical_json, kind_in_place
from ebbtide.texts import from_sheets, read_sheet, write_sheet

if TYPE_CHECKING:
    import pandas as pd

FOOTER = b"ebbtide"
# Columns of small tables that are text, whatever they look like.
TEXTS = (
    *("model", "checkpoint", "task", "metric", "series", "shots", "train_set", "quantity", "seed_runs"),
    *("against", "reference", "severity", "class", "verdict", "survives", "note", "why", "reason"),
    *("from_model", "from", "to", "level", "groups", "sentence", "recipe", "models", "smallest", "largest"),
    *("kind", "detail", "remedy", "group", "allowed", "allowed_until", "ability", "arm", "suite", "size"),
    *("origin", "weights_sha256", "versions", "device", "gpus", "first_scored", "last_scored", "currency"),
)


@dataclass(frozen=True)
class Schema:
    """Required columns of a table (name → allowed Arrow types), and `key`, those that identify a row.

    `optional` columns are absent in files of earlier versions. `remedy` is for a file that cannot be used,
    `missing` for one that does not exist. Some columns of `partial` tables can be read without the others.
    `on_disk` converts a table before it is written, `in_memory` after it was read.
    """

    kind: str
    columns: Mapping[str, tuple[pa.DataType, ...]]
    key: tuple[str, ...]
    remedy: str
    missing: str = "run snakemake to make it"
    optional: Mapping[str, tuple[pa.DataType, ...]] = field(default_factory=dict)
    partial: bool = False
    on_disk: Callable[[pa.Table], pa.Table] | None = None
    in_memory: Callable[[pa.Table], pa.Table] | None = None


TEXT = (pa.string(), pa.large_string())
INTEGER = (pa.int64(),)
REAL = (pa.float64(),)
FLAG = (pa.bool_(),)

REQUESTS = Schema(
    kind="requests",
    columns={
        "example": TEXT + INTEGER,
        "choice": INTEGER,
        "context": TEXT,
        "continuation": TEXT,
    },
    key=("example", "choice"),
    optional={"parts": (pa.list_(pa.int64()),)},  # of a context: where each begins (`scoring.fitting`)
    remedy="if it is a frozen task, delete the file and run snakemake",
    missing="correct the path; if it is a frozen task, run snakemake to make it",
    partial=True,  # metrics need no texts
)

CELL = Schema(
    kind="cell",
    columns={
        "example": TEXT + INTEGER,
        "choice": INTEGER,
        "loglikelihood": REAL,  # nats, summed over the continuation
        "tokens": INTEGER,  # of the continuation
        "bytes": INTEGER,
        "characters": INTEGER,
        "greedy": FLAG,  # every continuation token is the model's argmax
        "first_token_loglikelihood": REAL,  # nats
        "context_tokens": INTEGER,  # that the model read
        "truncated": FLAG,
    },
    key=("example", "choice"),
    remedy="delete the file and run snakemake (for many: ebbtide verify STUDY --move)",
    optional={
        "parts": INTEGER,  # of the context that were kept, for requests with parts
        "border_token": FLAG,  # a token spans the end of the context and the beginning of the continuation
    },
)

TOKENS = Schema(
    kind="tokens",
    columns={
        "example": TEXT + INTEGER,
        "choice": INTEGER,
        "place": INTEGER,  # 0 is the first token of the continuation
        "token": INTEGER,  # its id
        "text": TEXT,  # the token as text
        "loglikelihood": REAL,  # nats
        "rank": INTEGER,  # among all tokens; 1 is the model's argmax
    },
    key=("example", "choice", "place"),
    remedy="delete the file and score the requests again",
    missing="score the requests again, with --per-token",
)

METRICS = Schema(
    kind="metrics",
    columns={
        "model": TEXT,
        "checkpoint": TEXT,
        "step": INTEGER,
        "tokens": INTEGER,
        "parameters_total": INTEGER,
        "parameters_non_embedding": INTEGER,
        "parameters_active": INTEGER,  # non-embedding parameters that one token uses
        "parameters_nominal": INTEGER,  # by the model's name; 0 is none
        "task": TEXT,
        "metric": TEXT,
        "value": REAL,
        "stderr": REAL,
        "n": INTEGER,
        "chance": REAL,
        "source": TEXT,  # scored | imported | fake (made up, see `scoring.fake`)
    },
    key=("model", "checkpoint", "task", "metric"),
    remedy="delete the file and run snakemake",
    on_disk=metrics_on_disk,
    in_memory=metrics_in_memory,
)

EXAMPLES = Schema(
    kind="examples",
    # Further columns are metrics: the value of each example, NaN if its task does not have the metric.
    columns={
        "task": TEXT,
        "example": TEXT,
        "cluster": TEXT,  # examples of one cluster are not independent; the example itself without clusters
    },
    key=("task", "example"),
    remedy="delete the file and run snakemake",
    partial=True,
)


def content_sha256(table: pa.Table) -> str:
    """Return the sha256 of column names and values, independent of chunking, encoding and metadata."""
    return digests(table)[0]


def table_of(columns: Mapping[str, Sequence[Any] | pa.ChunkedArray], schema: Schema) -> pa.Table:
    """Build an Arrow table from lists without missing values, or from Arrow columns.

    A list gets the type that `schema` allows for its column.
    """
    arrays = {}
    for name, values in columns.items():
        if isinstance(values, pa.Array | pa.ChunkedArray):
            arrays[name] = values
        else:
            types = schema.columns.get(name) or schema.optional[name]  # text first, numbers last
            text = not len(values) or isinstance(values[0], str)
            arrays[name] = array_of(values, types[0 if text else -1])
    return pa.table(arrays)


def write_parquet(
    rows: "pd.DataFrame | pa.Table",
    path: str | Path,
    schema: Schema,
    footer: Mapping[str, Any] | None = None,
    strings: Mapping[str, str] | None = None,
    *,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Check `rows` against `schema` and write them atomically.

    `footer` is stored as JSON together with `kind` and `content_sha256`. `strings` are further footer keys in
    plain text, which can be found without a Parquet reader. `finish` is called with the temporary file.
    """
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
    _check_columns(table, schema, str(path))
    table = schema.on_disk(table) if schema.on_disk else table
    sha256, of_columns = digests(table)
    record = {"kind": schema.kind, "content_sha256": sha256, **(footer or {})}
    if schema.partial:
        record["columns_sha256"] = of_columns
    metadata = {FOOTER: canonical_json(record).encode()}
    metadata |= {k.encode(): v.encode() for k, v in (strings or {}).items()}
    with atomic(path) as temporary:
        # No timestamps, so equal rows give equal bytes. (`store_schema=False` would drop the footer, too.)
        table = table.replace_schema_metadata(metadata)
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        if finish:
            finish(temporary)


def read_footer(path: str | Path, schema: Schema) -> dict[str, Any]:
    """Return the JSON record in the footer of a file of kind `schema.kind`, without reading the rows.

    Raises `CellError` if the file is missing, truncated, not Parquet, or of another kind.
    """
    with _opened(path, schema) as file:
        return _record(file.metadata.metadata or {}, path, schema)


def read_parquet(
    path: str | Path, schema: Schema, *, foreign: bool = False, wanted: Callable[[str], bool] | None = None
) -> pa.Table:
    """Read and check a table: footer, columns, content hash, unique keys.

    `foreign=True` accepts a file without Ebbtide's footer, such as a user's own requests, and converts the
    columns of other programs (see `arrow.converted`). The schema metadata of the returned table contains the
    footer. `wanted` chooses columns by name; of a partial table, only these are read, without its keys.
    """
    with _opened(path, schema) as file:
        metadata = file.metadata.metadata or {}
        record = None if foreign and FOOTER not in metadata else _record(metadata, path, schema)
        known = (record or {}).get("columns_sha256") if wanted else None  # none in files of earlier versions
        names = list(filter(wanted, file.schema_arrow.names))
        many = file.metadata.num_rows > MANY  # threads cost more than they save for fewer
        try:
            table = file.read(columns=None if known is None else names, use_threads=many)
            if record is None:
                table.validate(full=True)  # text that is not UTF-8
                table = _converted(table, schema)
        except (pa.ArrowException, OSError) as error:
            raise CellError(f"{path} is damaged ({first_line(error)}); {schema.remedy}.") from error
    remedy = "" if record is None else f"; {schema.remedy}"
    if wanted and known is not None:
        columns = {name: types for name, types in schema.columns.items() if wanted(name)}
        schema = replace(schema, columns=columns, key=())
    stored, table = table, schema.in_memory(table) if schema.in_memory else table
    _check_columns(table, schema, str(path), remedy)
    expected = known or {"": (record or {}).get("content_sha256")}
    found = {} if record is None else digests(stored)[1] if known else {"": content_sha256(stored)}
    for name, sha256 in found.items():
        if sha256 != expected.get(name):
            what = f"the column {name!r} has" if name else "the rows have"
            raise CellError(
                f"{path}: {what} the sha256 {sha256}, the footer has {expected.get(name)}{remedy}."
            )
    return table.select([name for name in names if name in table.column_names])


def read_frame(path: str | Path, schema: Schema) -> "pd.DataFrame":
    """`read_parquet` as a data frame."""
    return read_parquet(path, schema).to_pandas()  # type: ignore[no-any-return]


def write_tsv(frame: "pd.DataFrame", path: str | Path) -> None:
    """Write a small table as TSV, atomically, without formulas; missing values are empty, 10 digits.

    Unknown counts are missing, too (`arrow.unknown_counts`).
    """
    with atomic(path) as temporary:
        write_sheet(with_missing_counts(frame), temporary, "\t", "%.10g")


def read_tsv(path: str | Path) -> "pd.DataFrame":
    """Read a table of `write_tsv`. Only an empty field is missing: a task may be called `NA` or `7`.

    An empty field is an empty text in a column of `TEXTS`, 0 in an unknown count, and NaN in any other.
    Raises `CellError` if the file is missing, cut within a row, or not such a table.
    """
    table = read_sheet(path, "\t", dict.fromkeys(TEXTS, str), CellError)
    counts = [name for name in unknown_counts(table) if table[name].isna().any()]
    table = table.fillna({name: "" for name in TEXTS if name in table} | dict.fromkeys(counts, 0))
    return from_sheets(table.astype(dict.fromkeys(counts, "int64")))


def _opened(path: str | Path, schema: Schema) -> pq.ParquetFile:
    if kind := kind_in_place(path):  # opening a pipe would wait for its writer
        raise CellError(f"{path} is a {kind}; {schema.remedy.replace('the file', f'the {kind}')}.")
    try:
        # Reading ahead (`pre_buffer`) is for object stores; on a file system it only costs time.
        return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
    except FileNotFoundError:
        raise CellError(f"{path} does not exist; {schema.missing}.") from None
    except (pa.ArrowException, OSError) as error:
        problem = f"not a complete Parquet file ({first_line(error)}); {schema.remedy}"
        if Path(path).suffix != ".parquet":  # such as the definition of a task, which must not be deleted
            problem = f"not a Parquet file; expected a table of {schema.kind}, such as NAME.parquet"
        raise CellError(f"{path} is {problem}.") from error


def _record(metadata: dict[bytes, bytes], path: str | Path, schema: Schema) -> dict[str, Any]:
    try:
        kind = (record := json.loads(metadata[FOOTER]))["kind"]
    except (KeyError, TypeError, ValueError):
        raise CellError(f"{path} was not written by Ebbtide (no footer record); {schema.remedy}.") from None
    if kind != schema.kind:
        raise CellError(f"{path}: found a table of kind {kind!r}, expected {schema.kind!r}; {schema.remedy}.")
    return dict(record)


def _converted(table: pa.Table, schema: Schema) -> pa.Table:
    """Convert the columns of a schema to the types that it allows, where this is possible without loss."""
    for index, name in enumerate(table.column_names):
        if types := schema.columns.get(name):
            table = table.set_column(index, name, converted(table.column(name), types))
    return table


def _check_columns(table: pa.Table, schema: Schema, where: str, remedy: str = "") -> None:
    for name, types in {**schema.columns, **schema.optional}.items():
        if name not in table.column_names:
            if name in schema.optional:
                continue
            found = ", ".join(table.column_names)
            raise CellError(f"{where}: column {name!r} is missing (found: {found}){remedy}.")
        if table.schema.field(name).type not in types:
            allowed = " or ".join(str(t) for t in types)
            found = table.schema.field(name).type
            raise CellError(
                f"{where}: column {name!r} has type {found}, allowed: {allowed}{remedy or '; cast it'}."
            )
        if types != REAL and (gaps := table.column(name).null_count):  # a float may be missing on purpose
            first = table.column(name).is_null().to_pylist().index(True) + 1
            raise CellError(
                f"{where}: column {name!r} has {gaps} missing values, the first in row {first}"
                f"{remedy or '; fill them, or drop these rows'}."
            )
    if not schema.key:
        return
    if (repeated := first_repeat(table, schema.key)) is not None:
        [row] = table.select(list(schema.key)).slice(repeated, 1).to_pylist()
        key = ", ".join(schema.key)
        raise CellError(f"{where}: more than one row has {row}; ({key}) must be unique{remedy}.")
