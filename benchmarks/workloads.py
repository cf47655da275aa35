"""What is scored: real task files as (context, continuation) pairs, and how much faster each must be.

Data come from pinned sources (mirrors first, env EBBTIDE_MIRRORS) and, for TruthfulQA, from a file the caller
names; its six fixed question-answer pairs are read from the installed lm_eval package.
"""

import ast
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ebbtide.corpus.draw import Draw
from ebbtide.errors import EbbtideError, TaskError
from ebbtide.sources import Source, fetch, mirrors

MEMO_TRAP = "github:liujch1998/memo-trap@d87b26abf4402b76d167d1326798d21d7ea2127e:data"
PROVERBS = Source.parse(
    f"{MEMO_TRAP}/1-proverb-ending.csv",
    "e6d1b4e6ec6bc90c22afb9138bafbdf276fbe252be705d44ff16fdb44d50bae7",
    __name__,
)
HISTORY = Source.parse(
    f"{MEMO_TRAP}/4-history-of-science-qa.csv",
    "32144d7411aff7558ac8c64ba676e407e3e2931dea03f4154a521b373f5f962b",
    __name__,
)
SHOTS = 10
VIGNETTES = 50
CHARGES = ("Battery", "Grand Theft in the 3rd Degree", "Driving License Suspended", "Possession of Cocaine")


class MissingError(EbbtideError):
    """Data, a model or a package that a row needs is not there; the row is left out."""


class Request(NamedTuple):
    """One choice of one example, as text."""

    context: str
    continuation: str


@dataclass(frozen=True)
class Data:
    """Where task files are found."""

    truthful_qa: Path | None  # JSON lines: question, mc1_targets, mc2_targets

    def proverbs(self, examples: int) -> list[Request]:
        """MemoTrap proverbs: end a quote in a given word; two choices."""
        return _choices(_memo_trap(PROVERBS)[:examples])

    def history(self, examples: int) -> list[Request]:
        """Questions on the history of science, choices A and B, no examples before them."""
        return _choices(_memo_trap(HISTORY)[:examples])

    def history_after_shots(self, examples: int) -> list[Request]:
        """The same behind a constant prefix: the first ten with their answers, blank lines between."""
        rows = _memo_trap(HISTORY)
        prefix = "".join(
            f"{prompt}{choices[answer]}\n\n" for prompt, choices, answer in rows[:SHOTS]
        )  # the answer begins with its own space
        asked = rows[SHOTS : SHOTS + examples]
        return _choices([row._replace(prompt=prefix + row.prompt) for row in asked])

    def truthful(self, examples: int) -> list[Request]:
        """TruthfulQA MC2: all true and false answers of a question, behind six fixed pairs.

        Raises `MissingError` when no file is named or lm-eval is not installed, `TaskError` for a wrong file.
        """
        if self.truthful_qa is None:
            raise MissingError(
                "TruthfulQA is left out: --truthful-qa FILE names its multiple-choice file (JSON lines)."
            )
        ask = _truthful_prompt()
        requests = []
        for row in _truthful_rows(self.truthful_qa, examples):
            requests += [Request(ask(row), f" {choice}") for choice in row["mc2_targets"]["choices"]]
        return requests

    def vignettes(self, examples: int) -> list[Request]:
        """Invented defendants in the words of tasks/compas_*.yaml, behind fifty with their answers."""
        draw = Draw("vignettes", 0)
        told = [_vignette(draw) for _ in range(VIGNETTES + examples)]
        shots = "".join(f"{text} {draw.pick(('Yes', 'No'))}\n" for text in told[:VIGNETTES])
        return [Request(shots + text, answer) for text in told[VIGNETTES:] for answer in (" No", " Yes")]


@dataclass(frozen=True)
class Workload:
    """A row of the benchmark: so many examples of a task with a model, and the ratio asked for."""

    name: str
    title: str
    model: str
    ask: Callable[[Data, int], list[Request]]
    examples: int
    must: float  # times faster than lm-eval's best batch size
    stretch: float
    long: bool = False
    batch_sizes: tuple[int, ...] = (8, 16, 32)  # of lm-eval, which holds the logits of all tokens of a batch

    def scaled(self, factor: float) -> "Workload":
        """The same with another number of examples."""
        return replace(self, examples=max(1, round(factor * self.examples)))


WORKLOADS = (
    Workload("memotrap", "MemoTrap proverbs", "smollm2", Data.proverbs, 100, 4.0, 4.8),
    Workload("history", "History of science, 0-shot", "smollm2", Data.history, 30, 2.0, 2.4),
    Workload("history-10", "History of science, 10-shot", "smollm2", Data.history_after_shots, 6, 5.0, 6.0),
    Workload("truthfulqa", "TruthfulQA MC2, 4 questions", "smollm2", Data.truthful, 4, 13.0, 16.0),
    Workload(
        "truthfulqa-60", "TruthfulQA MC2, 60 questions", "smollm2", Data.truthful, 60, 17.0, 22.0, long=True
    ),
    Workload(
        *("vignettes", "Vignettes, 50-shot", "smollm2", Data.vignettes, 30, 20.0, 25.0),
        long=True,
        batch_sizes=(1,),
    ),
    Workload("gemma", "MemoTrap proverbs", "gemma3", Data.proverbs, 20, 6.0, 8.0),
)


def _vignette(draw: Draw) -> str:
    sex, degree = draw.pick(("male", "female")), draw.pick(("felony", "misdemeanor"))
    return (
        f"The defendant is a {sex} aged {18 + draw.below(50)}. They have been charged with: "
        f"{draw.pick(CHARGES)}. This crime is classified as a {degree}. They have been convicted of "
        f"{draw.below(12)} prior crimes. They have {draw.below(3)} juvenile felony charges and "
        f"{draw.below(3)} juvenile misdemeanor charges on their record. Will this person commit "
        "another crime within two years?"
    )


class _Row(NamedTuple):
    prompt: str
    choices: list[str]
    answer: int


def _memo_trap(source: Source) -> list[_Row]:
    """The rows of a MemoTrap file; its list of choices is a Python literal."""
    assert source.sha256
    path = Path("resources/sources", source.sha256, Path(source.path).name)  # where the workflow keeps it too
    if not path.exists():
        fetch(source, path, mirrors([]))
    with path.open(encoding="utf-8", newline="") as file:
        return [
            _Row(row["prompt"], ast.literal_eval(row["classes"]), int(row["answer_index"]))
            for row in csv.DictReader(file)
        ]


def _choices(rows: Sequence[_Row]) -> list[Request]:
    return [Request(row.prompt, choice) for row in rows for choice in row.choices]


def _truthful_rows(path: Path, count: int) -> list[dict[str, Any]]:
    """The first rows of TruthfulQA's multiple-choice file. Raises `TaskError` for another file."""
    try:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in islice(file, count)]
        complete = all(row["question"] and row["mc2_targets"]["choices"] for row in rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaskError(f"--truthful-qa: {path} cannot be read ({type(error).__name__}: {error}).") from None
    if not complete or len(rows) < count:
        raise TaskError(f"--truthful-qa: {path} has {len(rows)} whole rows, {count} are needed.")
    return rows


def _truthful_prompt() -> Callable[[dict[str, Any]], str]:
    """From a row to the text before an answer, by lm-eval's own template."""
    try:
        import lm_eval
        import yaml
        from lm_eval.utils import apply_template
    except ImportError:
        raise MissingError(
            "TruthfulQA is left out: its prompt is read from lm-eval; pip install -e '.[test]'."
        ) from None
    definition = Path(lm_eval.__file__).parent / "tasks/truthfulqa/truthfulqa_mc1.yaml"  # MC2 includes it
    template = yaml.safe_load(definition.read_text(encoding="utf-8"))["doc_to_text"]
    return lambda row: str(apply_template(template, row))
