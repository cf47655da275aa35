"""Ebbtide: watch language-model abilities rise and ebb over pre-training.

The packages follow the path of the data: `checkpoints` (weights), `tasks` (requests), `scoring` (the
engine), `cells` (results), `metrics`, `statistics`, `figures`, `report`. Imports run from right to left only.
"""

__version__ = "0.1.0"
