"""Checkpoints: from rows of a configuration to directories whose weights can be loaded."""
