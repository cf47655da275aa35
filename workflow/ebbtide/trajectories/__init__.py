"""What examples say about training: alarms, trends, forgetting, early warning.

Metrics average over examples. Here every example is followed through training, so that two checkpoints are
compared on the same examples, and intervals come from resampling examples jointly over all cells.
"""

from ebbtide.trajectories.panel import Trajectory, is_binary, read_trajectories, sign_of

__all__ = ["Trajectory", "is_binary", "read_trajectories", "sign_of"]
