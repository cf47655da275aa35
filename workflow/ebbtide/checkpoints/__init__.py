"""Checkpoints: from the rows of `models:` to directories with loadable weights."""
