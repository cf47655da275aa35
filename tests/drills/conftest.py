"""Sixty kills take half an hour on two cores: they run with `make drills` only."""

import os

collect_ignore = [] if os.environ.get("DRILL_KILLS") else ["test_kills.py"]
