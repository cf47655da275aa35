"""Tasks of lm-evaluation-harness: its code builds the requests and computes the metrics.

Scoring uses only the frozen requests and does not need lm-eval, which is an optional dependency. After
freezing, neither its data sets nor a network are used.
"""

from ebbtide.tasks.lm_eval.freeze import requests_of
from ebbtide.tasks.lm_eval.results import PREFIX, results_of

__all__ = ["PREFIX", "requests_of", "results_of"]
