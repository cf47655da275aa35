"""Ebbtide: watch language-model abilities rise and ebb over pre-training.

The modules follow the path of the data: `study` and `series` (what to score),
`training` and `checkpoints` (weights), `tasks` (requests), `scoring` (the engine),
`cells` and `store` (results), `metrics`, `regression`, `figures`.
"""
