"""Version of the scoring maths. A lean module: identities are computed without torch."""

# Increment by hand when a change affects scores by more than rounding. This rescores every cell.
# `tests/unit/scoring/test_golden.py` fails if scores change and this number does not.
SCORING_VERSION = 1
