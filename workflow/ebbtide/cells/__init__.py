"""Cells: identity, store, reading and writing, and the audit of results."""
