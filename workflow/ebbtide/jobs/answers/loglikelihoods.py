"""Log-likelihoods of continuations."""

from typing import TYPE_CHECKING

from ebbtide.jobs.answers.answers import RULES, Answers, Asked, Prepared, Report
from ebbtide.scoring.encoded_task import EncodedTask, encode_task

if TYPE_CHECKING:
    from ebbtide.jobs.loaded import Job
    from ebbtide.scoring.engine import Scored
    from ebbtide.scoring.scorer import Scorer


def _encode(scorer: "Scorer", asked: Asked, window: int) -> EncodedTask:
    rules = {name: asked.job["identity"][name] for name in RULES}
    return encode_task(scorer, asked.requests, asked.job["requests"], **rules, window=window)


def _score(scorer: "Scorer", prepared: Prepared, job: "Job", report: Report) -> "Scored":
    from ebbtide.scoring.engine import score_task

    return score_task(scorer, prepared.task, prepared.keys, job["requests"], report=report)


LOGLIKELIHOODS = Answers(_encode, _score, rescored=True)
