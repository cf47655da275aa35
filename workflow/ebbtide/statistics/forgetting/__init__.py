"""Forgetting: which examples a model learned and lost, compared with chance."""
