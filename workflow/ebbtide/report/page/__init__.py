"""The report page of a study: one self-contained HTML file with the answer first."""
