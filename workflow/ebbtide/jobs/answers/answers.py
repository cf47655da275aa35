"""What a scoring job does for the answers that a kind of task needs (`tasks.kinds.Kind.needs`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

if TYPE_CHECKING:
    from ebbtide.jobs.loaded import Job
    from ebbtide.scoring.engine import Scored
    from ebbtide.scoring.scorer import Scorer

Report = Callable[[int, int], None]  # gets the tokens done, and all
RULES = ("encoding", "bos", "truncation")  # entries of an identity


class Asked(NamedTuple):
    """The frozen task of a job: its requests, and the record in their footer."""

    job: "Job"
    requests: pa.Table
    frozen: Mapping[str, Any]


class Prepared(NamedTuple):
    """A task in tokens, the columns `example, choice` of its requests, and how it is answered."""

    task: Any  # what `Answers.encode` returned
    keys: pa.Table
    answers: "Answers"


@dataclass(frozen=True)
class Answers:
    """How a worker gets one sort of answers.

    Attributes
    ----------
    encode
        Function of a scorer, the task and the window in tokens; returns the task in tokens.
    score
        Function of a scorer, the prepared task, the job and a function that reports progress; returns the
        rows and the footer of the cell.
    rules
        Entries of a cell's identity that determine the tokens, besides the texts, tokenizer and window.
    stored
        Whether tasks in tokens are kept in the cell store, as `EncodedTask`.
    rescored
        Whether single requests can be scored again in float64, to check a cell.
    """

    encode: Callable[["Scorer", Asked, int], Any]
    score: Callable[["Scorer", Prepared, "Job", Report], "Scored"]
    rules: tuple[str, ...] = RULES
    stored: bool = True
    rescored: bool = False
