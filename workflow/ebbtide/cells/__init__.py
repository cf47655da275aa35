"""Cells: their identity, the store that holds them, reading and writing, and the audit of results."""
