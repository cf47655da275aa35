"""Statistics on metrics and examples: one package per stage, and shared helpers."""
