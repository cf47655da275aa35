"""Regression alarms: significant drops between checkpoints, tested on the same examples."""
