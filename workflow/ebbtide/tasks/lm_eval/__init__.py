"""Tasks of lm-evaluation-harness: its code builds the requests and computes the metrics.

Scoring uses only the frozen requests and does not need lm-eval, which is an optional dependency. After
freezing, neither its data sets nor a network are used.
"""
