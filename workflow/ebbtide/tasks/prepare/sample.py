"""Preparation `sample`: some rows of a file, drawn without replacement, in the order of the file."""

from pathlib import Path

from ebbtide.corpus.draw import Draw
from ebbtide.errors import TaskError
from ebbtide.tasks.prepare.preparation import Arguments, Preparation, check_columns, register
from ebbtide.tasks.rows import Rows, read_rows


def sampled(path: Path, arguments: Arguments, where: str) -> Rows:
    """Return `count` of the rows, with all columns or those in `columns`."""
    rows, count = read_rows(path, arguments), arguments["count"]
    if count > len(rows):
        raise TaskError(f"{where}.count: found {count}; {path} has {len(rows)} rows.")
    drawn = Draw("sample", arguments["seed"]).shuffled(range(len(rows)))[:count]
    chosen = [rows[number] for number in sorted(drawn)]
    if "columns" not in arguments:
        return chosen
    for row in chosen:
        check_columns(row, arguments["columns"], path)
    return [{name: row[name] for name in arguments["columns"]} for row in chosen]


SAMPLE = register(
    Preparation(
        "sample",
        "rows of a file, drawn at random without replacement",
        1,
        sampled,
        arguments={
            "format": {
                "description": "Format of the file",
                "enum": ["jsonl", "json", "csv", "tsv", "parquet"],
                "default": "jsonl",
            },
            "count": {"description": "Number of rows to draw", "type": "integer", "minimum": 1},
            "seed": {"description": "Seed of the draw", "type": "integer", "minimum": 0, "default": 0},
            "columns": {
                "description": "Columns to keep; default all",
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "minItems": 1,
                "uniqueItems": True,
            },
        },
        required=("count",),
    )
)
