"""Losses of whole documents, which are scored in windows and not as one request."""

from typing import TYPE_CHECKING

from ebbtide.jobs.answers.answers import Answers, Asked, Prepared, Report

if TYPE_CHECKING:
    from ebbtide.jobs.loaded import Job
    from ebbtide.scoring.encoded_task import EncodedTask
    from ebbtide.scoring.engine import Scored
    from ebbtide.scoring.scorer import Scorer


def _encode(scorer: "Scorer", asked: Asked, window: int) -> "EncodedTask":
    from ebbtide.scoring.documents import encode_rolling

    return encode_rolling(scorer, asked.requests, asked.job["requests"], window=window)


def _score(scorer: "Scorer", prepared: Prepared, job: "Job", report: Report) -> "Scored":
    from ebbtide.scoring.documents import score_rolling_task

    return score_rolling_task(scorer, prepared.task, prepared.keys, job["requests"], report=report)


LOSSES = Answers(_encode, _score, rules=())
