"""A cell scored by another tool: samples of lm-evaluation-harness, measured like cells of our own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ebbtide.cells.cell import write_cell
from ebbtide.errors import CellError
from ebbtide.exchange.specification import PARAMETERS, CheckpointRow
from ebbtide.metrics.notices import answer_notices
from ebbtide.metrics.of_cell import examples_of, loglikelihoods_sha256, measured
from ebbtide.notices import Notice
from ebbtide.tables import METRICS, REQUESTS, content_sha256, write_parquet


@dataclass(frozen=True)
class ImportedCell:
    """A cell scored by another tool."""

    checkpoint: CheckpointRow
    task: str
    rows: pd.DataFrame  # tables.CELL
    requests: pd.DataFrame  # tables.REQUESTS, and gold
    definition: Mapping[str, Any]
    footer: Mapping[str, Any]  # source, imported (file, sha256), unknown (columns), requests

    def measured(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Rows of the metrics table and of the table of examples, from the log-likelihoods.

        Raises `CellError`.
        """
        known = self.rows.drop(columns=list(self.footer["unknown"]))
        try:
            rows, examples = measured(known, self.requests, self.definition)
        except CellError as error:
            raise CellError(f"{self.footer['imported']['file']}: {error.args[0]}") from None
        columns = {**self.checkpoint.columns(), "task": self.task, "source": "imported"}
        metrics = pd.DataFrame(rows).assign(**columns)[list(METRICS.columns)]
        return metrics, pd.DataFrame(examples).assign(task=self.task)

    def notices(self) -> list[Notice]:
        """Return the notices of tied and constant answers, as of a scored cell."""
        where = {"model": self.checkpoint.model, "checkpoint": self.checkpoint.name, "task": self.task}
        known = self.rows.drop(columns=list(self.footer["unknown"]))
        x = examples_of(known, self.requests, self.definition)
        return answer_notices(x, self.footer, self.definition, where)

    def loglikelihoods(self) -> str:
        """Return the digest of its log-likelihoods."""
        return loglikelihoods_sha256(self.rows)

    def identity(self) -> dict[str, Any]:
        """Its identity: the digest of the file, and of the requests read from it."""
        return {
            "imported": self.footer["imported"]["sha256"],
            "task": f"requests:{self._requests_sha256()[:32]}",
        }

    def write(self, cell: str | Path, requests: str | Path) -> None:
        """Write cell and requests. The cell's footer records the imported file and its sha256."""
        sizes = {f"parameters_{name}": self.checkpoint.parameters[name] for name in PARAMETERS}
        footer = {**self.footer, **sizes, "requests_sha256": self._requests_sha256()}
        frozen = {
            "task": self.task,
            "identity": self.identity()["task"],
            "definition": dict(self.definition),
            "licence": "",
            "requests": len(self.requests),
            "examples": int(self.requests["example"].nunique()),
            "imported": self.footer["imported"],
        }
        write_parquet(self.requests, requests, REQUESTS, frozen)
        write_cell(self.rows, cell, self.identity(), footer)

    def _requests_sha256(self) -> str:
        return content_sha256(pa.Table.from_pandas(self.requests, preserve_index=False))
