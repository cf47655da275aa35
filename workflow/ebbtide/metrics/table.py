"""The table of metrics of a study, which a study without models does not have."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ebbtide.tables import METRICS, read_frame, table_of


def read_metrics(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Return the rows of metrics.parquet, or a table without rows for a study without models.

    `paths` is empty or has one path, as the inputs of a job.
    """
    if paths:
        return read_frame(paths[0], METRICS)
    empty: pd.DataFrame = table_of({name: [] for name in METRICS.columns}, METRICS).to_pandas()
    return empty
