"""Lines of samples of lm-evaluation-harness: requests and answers of one example each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.errors import CellError
from ebbtide.exchange.lm_eval_json import OWN

_OF_DOCUMENTS = ("word_perplexity", "byte_perplexity", "bits_per_byte")
_LARGEST = 1e-4  # nats; the logarithm of a probability is at most 0, up to rounding


class GeneratedError(CellError):
    """A sample has generated text instead of log-likelihoods."""


@dataclass(frozen=True)
class Line:
    """One example of a samples file."""

    where: str
    example: str
    filter: str
    requests: list[tuple[str, str]]  # context and continuation
    answers: list[tuple[float, bool]]  # log-likelihood, greedy
    row: Mapping[str, Any]
    rolling: bool

    @property
    def own(self) -> Mapping[str, Any]:
        """The block of an exported file; empty in files of lm-eval."""
        doc = self.row.get("doc")
        found = doc.get(OWN) if isinstance(doc, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    @property
    def is_mutual(self) -> bool:
        """Whether the second half of the requests are the choices without context (`acc_mutual_info`)."""
        metrics = self.row.get("metrics")
        listed = isinstance(metrics, list) and "acc_mutual_info" in metrics
        return listed and len(self.requests) % 2 == 0

    @property
    def choices(self) -> int:
        """Number of choices."""
        return len(self.requests) // 2 if self.is_mutual else len(self.requests)


def line_of(where: str, row: Mapping[str, Any]) -> Line:
    """The example of a line, which `where` names in messages. Raises `CellError`; see `read_samples`."""
    for key in ("doc_id", "arguments", "filtered_resps"):
        if key not in row:
            raise CellError(
                f"{where} has no key {key!r} (found: {', '.join(row)}); expected a sample of lm-eval."
            )
    arguments, responses = row["arguments"], row["filtered_resps"]
    if isinstance(arguments, Mapping):  # {"gen_args_0": {"arg_0": …, "arg_1": …}}; older versions write lists
        arguments = [
            [given[k] for k in sorted(given)] if isinstance(given, Mapping) else given
            for given in arguments.values()
        ]
    if not isinstance(arguments, list) or not isinstance(responses, list) or len(arguments) != len(responses):
        raise CellError(
            f"{where}: arguments and filtered_resps: found no lists of equal length; allowed: one answer per "
            "request."
        )
    if not arguments:
        raise CellError(f"{where}: arguments: found no request.")
    if any(isinstance(given, list) and _is_generation(given) for given in arguments):
        raise GeneratedError(
            f"{where}: arguments: found no contexts with continuations. Only tasks of type multiple_choice, "
            "loglikelihood and loglikelihood_rolling have log-likelihoods. Import the results of this task "
            "with format lm_eval_results."
        )
    alone = all(isinstance(given, list) and len(given) == 1 for given in arguments)
    requests = [("", given[0]) if alone else _pair(given) for given in arguments]
    if not all(len(a) == 2 and all(isinstance(text, str) for text in a) for a in requests):
        raise CellError(
            f"{where}: arguments: found no contexts with continuations. Only tasks of type multiple_choice, "
            "loglikelihood and loglikelihood_rolling have log-likelihoods."
        )
    for number, (context, continuation) in enumerate(requests):
        _check_text(context + continuation, f"{where}: arguments[{number}]")
    _check_text(str(row["doc_id"]), f"{where}: doc_id")
    answers = [_response(answer, f"{where}: filtered_resps[{i}]") for i, answer in enumerate(responses)]
    rolling = alone or (requests[0][0] == "" and len(requests) == 1 and _has_losses(row))
    return Line(where, str(row["doc_id"]), str(row.get("filter", "none")), requests, answers, row, rolling)


def _has_losses(row: Mapping[str, Any]) -> bool:
    """Whether a sample has metrics of a document: its log-likelihood with the number of words or bytes.

    Version 0.5 logs a document as a continuation without a context.
    """
    return any(isinstance(row.get(name), list) for name in _OF_DOCUMENTS)


def _is_generation(arguments: "list[Any]") -> bool:
    """Whether the second argument is the settings of generation, not a continuation."""
    return len(arguments) > 1 and isinstance(arguments[1], Mapping)


def _check_text(text: str, where: str) -> None:
    """Raise `CellError` for half of a surrogate pair, which no file can contain as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CellError(
            f"{where}: found {text[error.start]!r}, half of a surrogate pair, which is no character. Remove "
            "the line from the file, or repair its text."
        ) from None


def _pair(given: Any) -> tuple[Any, ...]:
    """Return context and continuation of a request; another number of values if there are no two."""
    return tuple(given[:2]) if isinstance(given, list) else ()


def _response(answer: Any, where: str) -> tuple[float, bool]:
    """Log-likelihood and whether it is greedy, which are numbers or (since 0.4.3) text.

    Version 0.5 logs a list of them, one per repeat, of which it has one.
    """
    if isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], list):
        answer = answer[0]
    value, greedy = (
        (answer[0], answer[1]) if isinstance(answer, list) and len(answer) == 2 else (answer, False)
    )
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise CellError(
            f"{where}: found {answer!r}, allowed: a log-likelihood (generated text has none)."
        ) from None
    if not math.isfinite(number) or str(greedy) not in ("True", "False"):
        raise CellError(
            f"{where}: found {answer!r}, allowed: a finite log-likelihood, and True or False. Evaluate this "
            "checkpoint again (with dtype=float32 if it overflows), or remove the file from files."
        )
    if number > _LARGEST:
        raise CellError(
            f"{where}: found {answer!r}, allowed: a log-likelihood of at most 0, because probabilities are "
            "at most 1. If these are losses, exchange their signs."
        )
    return number, str(greedy) == "True"
