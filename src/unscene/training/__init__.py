"""Training: the Lightning module, data order, schedules, checkpoints and the folder of a run."""
