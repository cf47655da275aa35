"""Scaling trends: metrics over training compute, and the class of each curve."""
