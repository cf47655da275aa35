"""Jobs: how scoring jobs share one load of weights, and the disk that holds the weights."""
