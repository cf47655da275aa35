"""The table of flipped examples on disk: `flips.parquet`."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from ebbtide.tables import REAL, TEXT, Schema, read_parquet, write_parquet

PAIR = ("model", "task", "metric", "from_model", "from", "to")
_LIST_OF_REALS, _LIST_OF_WHOLE = pa.list_(pa.float64()), pa.list_(pa.int64())

# Column → type. Columns `group_NAME`, the level of each group, follow as texts.
EXAMPLES: dict[str, pa.DataType] = {
    **dict.fromkeys(PAIR, pa.string()),
    # Training tokens: 0 is untrained, missing is unknown.
    **dict.fromkeys(("from_tokens", "to_tokens"), pa.int64()),
    "against": pa.string(),  # what alarms compared with: predecessor, best, baseline
    "severity": pa.string(),  # of the worst of these alarms
    "example": pa.string(),
    "flip": pa.string(),  # lost or gained; worse or better if the metric is not 0 or 1
    "rank": pa.int64(),  # within the pair and direction; 1 changed most
    **dict.fromkeys(("value_before", "value_after"), pa.float64()),  # the metric of the example
    **dict.fromkeys(("margin_before", "margin_after", "margin_lost"), pa.float64()),  # `Answers.margins`
    **dict.fromkeys(("chosen_before", "chosen_after"), pa.int64()),  # index of a choice
    "right": _LIST_OF_WHOLE,  # indices of the right choices
    **dict.fromkeys(("probability_before", "probability_after"), _LIST_OF_REALS),  # sum to 1 over choices
    **dict.fromkeys(("other_models", "also_flipped"), pa.int64()),
    "also_in": pa.string(),  # names of models
    "prompt": pa.string(),  # without few-shot examples; the end of a long one
    "shots": pa.int64(),  # few-shot examples before it
    "characters_before": pa.int64(),  # of the context, before `prompt`
    "choices": pa.list_(pa.string()),  # the beginning of long ones
}

FLIPS = Schema(
    kind="flips",
    columns={
        **dict.fromkeys((*PAIR, "against", "severity", "example", "flip", "prompt"), TEXT),
        **dict.fromkeys(("value_before", "value_after", "margin_lost"), REAL),
    },
    key=(*PAIR, "example"),
    remedy="delete the file and run snakemake",
)


def write_flips(examples: pd.DataFrame, path: str | Path) -> None:
    """Write rows of `FlipTables.examples` as Parquet, atomically; columns that they lack are empty."""
    types = {**EXAMPLES, **{str(name): pa.string() for name in examples if name not in EXAMPLES}}
    table = pa.Table.from_pandas(
        examples.reindex(columns=list(types)).astype(object).where(lambda t: t.notna(), None),
        schema=pa.schema(types.items()),
        preserve_index=False,
    )
    write_parquet(table, path, FLIPS)


def read_flips(path: str | Path) -> pd.DataFrame:
    """Return the rows of `flips.parquet`. Raises `CellError` if it is missing, damaged or of another kind."""
    found: pd.DataFrame = read_parquet(path, FLIPS).to_pandas(integer_object_nulls=True)
    return found
