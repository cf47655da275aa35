"""Flips: which examples of a task changed between two checkpoints, with their texts and answers."""
