"""Training of local ladders: series of models small enough to train on a laptop."""
