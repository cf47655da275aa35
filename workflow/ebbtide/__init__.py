"""Ebbtide: watch language-model abilities rise and ebb over pre-training.

The packages follow the path of the data: `checkpoints` (weights), `tasks` (requests), `scoring` (the
engine), `cells` (results), `metrics`, `statistics`, `figures`, `report`. Each imports only from those before
it.
"""

__version__ = "0.1.0"
