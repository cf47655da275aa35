"""The structure of the gate: every report is written from it and from nothing else."""

from dataclasses import dataclass
from datetime import date

PASSED, ALARMS, WRONG = 0, 1, 2  # exit statuses
OUTCOMES = ("passed", "failed", "allowed", "not_compared", "error")  # of a model and task


@dataclass(frozen=True)
class Example:
    """An example that got worse in a drop. Texts are as the task has them, but for their length.

    Attributes
    ----------
    prompt, is_cut
        The end of the prompt without few-shot examples, and whether something of the context precedes it.
    right, answer_before, answer_after
        Texts of the right choices, and of the chosen ones; None if answers are not known.
    value_before, value_after
        The metric of the example.
    margin_before, margin_after
        How good the answer is, higher is better (`flips.answers.Answers.margins`); None if unknown.
    """

    example: str
    prompt: str
    is_cut: bool
    right: tuple[str, ...]
    answer_before: str | None
    answer_after: str | None
    value_before: float | None
    value_after: float | None
    margin_before: float | None
    margin_after: float | None

    @property
    def margin_change(self) -> float | None:
        """The change of the margin, below 0 for a worse answer; None if a margin is unknown."""
        known = self.margin_before is not None and self.margin_after is not None
        return self.margin_after - self.margin_before if known else None  # type: ignore[operator]


@dataclass(frozen=True)
class Fall:
    """The alarms of a drop that compare with the same checkpoint.

    Attributes
    ----------
    against
        `predecessor`, `best`, `baseline`: what the reference is.
    change, low, high
        Value minus that of the reference, with its interval, in the unit of the metric.
    p_adjusted
        The largest of the alarms.
    seeds
        What other runs of the recipe show, in words; empty without other runs.
    """

    against: tuple[str, ...]
    reference: str
    reference_value: float | None
    change: float
    low: float | None
    high: float | None
    n: int
    discordant: int | None
    p_adjusted: float
    effect: float | None
    seeds: str = ""


@dataclass(frozen=True)
class Part:
    """The change of a drop in the examples of one level of a group (`NAME=LEVEL`)."""

    group: str
    change: float


@dataclass(frozen=True)
class Drop:
    """A metric of a model and task that got worse at a checkpoint, whatever it was compared with.

    Attributes
    ----------
    allowed, allowed_until
        Reason and last day of the entry of `alarms.allow` that matches; empty without one.
    is_allowed
        Whether the entry counts on the day of the gate.
    fails
        Whether the drop makes the gate fail: its severity is at or above `fail_on`, and it is not allowed.
    falls
        By reference; the worst first.
    parts
        By the groups of the task, for the worst fall; the largest change first.
    examples
        Those that lost most in the worst fall.
    """

    model: str
    task: str
    metric: str
    checkpoint: str
    step: int | None
    tokens: int | None
    value: float
    severity: str
    allowed: str
    allowed_until: str
    is_allowed: bool
    fails: bool
    falls: tuple[Fall, ...]
    parts: tuple[Part, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def label(self) -> str:
        """The severity, or `allowed`."""
        return "allowed" if self.is_allowed else self.severity


@dataclass(frozen=True)
class NotCompared:
    """Checkpoints and tasks of a model that were not compared, for one reason."""

    model: str
    checkpoints: tuple[str, ...]
    tasks: tuple[str, ...]
    reason: str
    remedy: str


@dataclass(frozen=True)
class Detectable:
    """The smallest true drops that the comparisons without an alarm detect with 80 % power.

    In the unit of the metric; None if no comparison can detect any.
    """

    metric: str
    comparisons: int
    median: float | None
    least: float | None
    most: float | None


@dataclass(frozen=True)
class Case:
    """A model and task at the selected checkpoints.

    Attributes
    ----------
    outcome
        `failed` if a drop fails the gate; `error` if nothing was compared and the gate fails for it; else
        `not_compared`, `allowed` (all drops that would fail are), or `passed`.
    comparisons
        Number of comparisons.
    drops
        Its drops, worst first; of a case that passed, those below `fail_on`.
    reason
        Why it was not compared; empty if it was.
    """

    model: str
    task: str
    outcome: str
    comparisons: int
    drops: tuple[Drop, ...]
    reason: str = ""


@dataclass(frozen=True)
class Gate:
    """The verdict of `check_alarms` and what it rests on.

    Attributes
    ----------
    day
        The day on which entries of `alarms.allow` were judged.
    fail_on, checkpoints
        Settings of the section `alarms`.
    status, reason
        Exit status, and the reason for it in a sentence.
    comparisons, models, tasks
        Their numbers at the selected checkpoints.
    drops
        Worst first, allowed ones last.
    cases
        One per model and task.
    allowances
        Sentences about entries of `alarms.allow` that have expired or match nothing.
    causes
        What failed, if the run failed before alarms were checked.
    """

    study: str
    day: date
    fail_on: str
    checkpoints: str
    status: int
    reason: str
    comparisons: int = 0
    models: int = 0
    tasks: int = 0
    drops: tuple[Drop, ...] = ()
    cases: tuple[Case, ...] = ()
    detectable: tuple[Detectable, ...] = ()
    not_compared: tuple[NotCompared, ...] = ()
    allowances: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
