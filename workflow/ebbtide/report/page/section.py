"""A section of the page: what it shows of a stage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Section:
    """What the page shows of a stage.

    Attributes
    ----------
    result
        Function from the tables of the study to sentences of result; the first table must exist.
    figures, tables
        Names without suffix, of figures also patterns, as far as the study has them.
    method
        Two or three sentences.
    page
        Page of the documentation.
    """

    name: str
    title: str
    result: Callable[[Tables], list[str]]
    figures: Sequence[str]
    tables: Sequence[str]
    method: str
    page: str
