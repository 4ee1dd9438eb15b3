"""Captioned synthetic worlds with known truth, and the oracle that reads the truth back from frames."""
