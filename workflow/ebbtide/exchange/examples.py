"""Examples of imported samples on disk, in the format of the examples of scored cells.

Samples number their examples (`doc_id`). The same number with another text, right choice or number of shots
is another example, so names of examples are unique over all texts of a task: the texts that come first keep
their numbers, others get a suffix. The same text with another number is the same example. Statistics then
compare examples of the same name only.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ebbtide.exchange.imported_cell import ImportedCell
from ebbtide.exchange.numbered_tables import numbered_table, write_count
from ebbtide.tables import EXAMPLES, REQUESTS, read_footer, read_frame, write_parquet
from ebbtide.tasks.texts import text_digests, texts_record


class ExamplesOnDisk:
    """Writes the examples of imported cells, and their texts.

    Parameters
    ----------
    examples, requests
        Directories. `examples` gets one table of examples (`tables.EXAMPLES`) per cell; its footer has the
        checkpoint (`place`) and the digest of the texts (`requests`, by task). `requests` gets the texts
        (`tables.REQUESTS`), each once.
    frozen
        Files of frozen tasks, whose texts come first.
    """

    def __init__(self, examples: Path, requests: Path, frozen: Iterable[str | Path] = ()) -> None:
        self._examples, self._requests = examples, requests
        self._texts: dict[str, dict[str, int]] = {}  # task → example → digest of its texts
        self._cells = self._tables = 0
        for path in frozen:
            of_task = self._texts.setdefault(read_footer(path, REQUESTS)["task"], {})
            of_task |= text_digests(read_frame(path, REQUESTS))
        examples.mkdir(parents=True, exist_ok=True)
        requests.mkdir(parents=True, exist_ok=True)
        for directory in (examples, requests):
            write_count(directory, 0)

    def write(self, cell: ImportedCell, examples: pd.DataFrame) -> None:
        """Write the examples of a cell, as `ImportedCell.measured` returns them."""
        found = text_digests(cell.requests)
        known = self._texts.setdefault(cell.task, {})
        names = _names(found, known)
        new = {name for name in found if names[name] not in known}
        if new:
            rows = cell.requests.assign(example=cell.requests["example"].astype(str))
            rows = rows[rows["example"].isin(new)]
            rows = rows.assign(example=rows["example"].map(names))
            footer = {"task": cell.task, "definition": dict(cell.definition)}
            write_parquet(rows, numbered_table(self._requests, self._tables), REQUESTS, footer)
            self._tables += 1
            write_count(self._requests, self._tables)
            known |= {names[name]: found[name] for name in new}
        clusters = examples["cluster"].map(names).fillna(examples["cluster"])
        renamed = examples.assign(example=examples["example"].map(names), cluster=clusters)
        renamed = renamed[[*EXAMPLES.columns, *(name for name in renamed if name not in EXAMPLES.columns)]]
        place = cell.checkpoint.columns()
        path = numbered_table(self._examples, self._cells)
        write_parquet(renamed, path, EXAMPLES, {"place": place, "requests": {cell.task: texts_record(found)}})
        self._cells += 1
        write_count(self._examples, self._cells)


def _names(found: Mapping[str, int], known: Mapping[str, int]) -> dict[str, str]:
    """Names of the examples of a cell among those known: by number and text, else by text, else new."""
    free: dict[int, list[str]] = {}  # digest → names that no example of the cell has under its own number
    for name, digest in known.items():
        if found.get(name) != digest:
            free.setdefault(digest, []).append(name)
    names = {}
    for name, digest in found.items():
        if known.get(name) == digest:
            names[name] = name
        elif free.get(digest):
            names[name] = free[digest].pop(0)
        else:
            names[name] = name if name not in known else f"{name}~{digest:016x}"[: len(name) + 9]
    return names
