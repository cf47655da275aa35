"""Follow a run in training: find checkpoints, wait until they are whole, run the workflow, report."""
