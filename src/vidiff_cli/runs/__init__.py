"""Training runs: their folder, log, trackers, monitor, text encoder and worker ranks."""
