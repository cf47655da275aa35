"""The report of a study: its summary and its pages."""
