"""Compare training runs."""
