"""Results of a study in experiment trackers: one tracked run per model, points at the training step.

metrics, alarms → points, names, runs         points, tracked_run
what a tracker has and lacks                  difference → publish
the trackers                                  tensorboard_files, mlflow_store, wandb_offline, trackio_database

The content of the tracker decides what is new. Only of W&B, whose files leave this machine, a `record` is
kept.
"""
