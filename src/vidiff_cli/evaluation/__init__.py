"""Evaluation of generated videos: both sides, the protocol that they are compared by, and the measures."""
