"""Ratings: errors of expected ratings, compared with baselines, and over sizes."""
