"""Sampling over windows of frames: receives a denoise function and imports no model."""
