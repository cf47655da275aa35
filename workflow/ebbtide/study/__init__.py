"""The study: a checked configuration and its grid of model × checkpoint × task."""
