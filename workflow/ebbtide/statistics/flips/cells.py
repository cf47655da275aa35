"""Read cells and frozen tasks for flips."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ebbtide.arrow import Columns, columns_of
from ebbtide.cells.cell import read_cell
from ebbtide.cells.samples import columns_per_row, is_sampled, with_choices
from ebbtide.cells.validity import check_rows
from ebbtide.errors import CellError
from ebbtide.metrics.examples import TEXTS, Examples, key_order, without_texts
from ebbtide.metrics.measure import measured_definition
from ebbtide.metrics.of_cell import examples_of, texts_needed
from ebbtide.tables import CELL, REQUESTS, read_footer, read_parquet

KEPT = 8  # cells in memory: neighbouring pairs of checkpoints share one


class _Frozen(NamedTuple):
    """A frozen task, without its texts."""

    rows: Columns
    order: np.ndarray
    sha256: str
    definition: Mapping[str, Any]


class Cells:
    """The cells of a study, each joined with its frozen task.

    Parameters
    ----------
    requests
        Task → frozen requests.
    measuring
        Task → the keys of its definition that change only the metrics.
    place
        Function from model, checkpoint and task to the path of the cell, and the identity that it must have;
        None is any identity.
    """

    def __init__(
        self,
        requests: Mapping[str, str | Path],
        measuring: Mapping[str, Mapping[str, Any]],
        place: Callable[[str, str, str], tuple[Path, Mapping[str, Any] | None]],
    ) -> None:
        self._requests, self._measuring, self._place = requests, measuring, place
        self._frozen: dict[str, _Frozen] = {}
        self.examples = lru_cache(maxsize=KEPT)(self._examples)

    def _examples(self, model: str, checkpoint: str, task: str) -> Examples:
        """Return the examples of a cell.

        Raises `CellError` if it is missing, damaged or another one, or if its task has no single examples.
        """
        frozen = self._of_task(task)
        path, identity = self._place(model, checkpoint, task)
        wanted = read_footer(path, CELL).get("identity", {}) if identity is None else identity
        table, footer = read_cell(path, wanted, frozen.sha256)
        rows = columns_of(with_choices(table, footer).drop_columns(list(footer.get("unknown", ()))))
        asked, order = columns_per_row(frozen.rows, footer), None if is_sampled(footer) else frozen.order
        check_rows(rows, asked, path)
        return examples_of(rows, asked, frozen.definition, order)

    def _of_task(self, task: str) -> _Frozen:
        if task not in self._frozen:
            path = self._requests[task]
            footer = read_footer(path, REQUESTS)
            definition = measured_definition(footer, self._measuring.get(task, {}))
            if definition is None:
                raise CellError(
                    f"{path}: lm-eval's own code measures {task} as a whole, not example by example; choose "
                    "other tasks."
                )
            unread = set(TEXTS) - texts_needed(definition)
            whole = "texts" not in footer  # files of earlier versions
            table = read_parquet(path, REQUESTS, wanted=None if whole else lambda name: name not in unread)
            rows = without_texts(table)
            self._frozen[task] = _Frozen(rows, key_order(rows), footer["content_sha256"], definition)
        return self._frozen[task]
