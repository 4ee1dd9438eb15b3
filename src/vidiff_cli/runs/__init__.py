"""Training runs: their plan, folder, checkpoints, log, trackers, monitor, memory and text encoder."""
