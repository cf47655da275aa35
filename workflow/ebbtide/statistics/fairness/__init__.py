"""Fairness: error rates of yes-or-no answers by group, their ratios, and what a condition changes."""
