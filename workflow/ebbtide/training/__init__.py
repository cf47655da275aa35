"""Training: the embedded ladder, a series of models small enough to train on a laptop."""
