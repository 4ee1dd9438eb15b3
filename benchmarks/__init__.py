"""Measurements behind the figures in docs/ and benchmarks/results; `python -m benchmarks` lists and runs them."""
