"""Small evaluations: the accuracy of a checkpoint on all examples of a task, from a sample of them."""
