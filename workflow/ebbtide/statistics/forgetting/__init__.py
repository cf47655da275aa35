"""Forgetting: the examples that a model learned and lost, compared with chance."""
