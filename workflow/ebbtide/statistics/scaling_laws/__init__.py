"""Scaling laws: fitted, judged, and used to predict."""
