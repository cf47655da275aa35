"""Tasks of lm-evaluation-harness: its own code builds the requests, and its own code measures the answers.

Between the two, lm-eval is not needed: a cell is scored from the frozen requests alone. It is an extra, and
neither its data sets nor a network are used after freezing.
"""

from ebbtide.tasks.lm_eval.freeze import requests_of
from ebbtide.tasks.lm_eval.results import PREFIX, results_of

__all__ = ["PREFIX", "requests_of", "results_of"]
