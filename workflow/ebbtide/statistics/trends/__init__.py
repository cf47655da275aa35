"""Trends: slopes over training, the class of each curve, and early warning."""
