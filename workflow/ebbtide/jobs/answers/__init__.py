"""The answers that kinds of tasks need, one module each: how a worker encodes, scores and checks them."""

from collections.abc import Mapping
from typing import Any

from ebbtide.jobs.answers.answers import Answers, Asked, Prepared, Report
from ebbtide.jobs.answers.loglikelihoods import LOGLIKELIHOODS
from ebbtide.jobs.answers.losses import LOSSES
from ebbtide.jobs.answers.samples import SAMPLED_TEXTS
from ebbtide.tasks.kinds import kind_of

ANSWERS = {"loglikelihoods": LOGLIKELIHOODS, "losses": LOSSES, "samples": SAMPLED_TEXTS}

__all__ = ["ANSWERS", "Answers", "Asked", "Prepared", "Report", "answers_of"]


def answers_of(frozen: Mapping[str, Any]) -> Answers:
    """Return what a frozen task needs, by the record in its footer."""
    return ANSWERS[kind_of(frozen.get("definition", {})).needs]
