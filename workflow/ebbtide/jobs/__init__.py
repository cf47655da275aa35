"""Jobs: scoring jobs share one load of the weights, and fetches share a budget of disk space."""
