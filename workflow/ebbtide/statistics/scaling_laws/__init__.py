"""Scaling laws: fits, identifiability and predictions."""
