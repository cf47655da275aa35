"""The report: what a study found, in words and pages."""
