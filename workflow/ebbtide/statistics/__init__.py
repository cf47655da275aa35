"""Statistics: what the metrics and examples of a study say, one package per stage and helpers beside them."""
