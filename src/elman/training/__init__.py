"""Training: the loop, truncated backpropagation through time, optimizers and schedules, checkpoints, the log."""
