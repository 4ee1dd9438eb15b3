"""Captioned synthetic worlds with known ground truth, and the oracles that read the truth back from frames.

The demo's world (`shapes`, `oracle`) is not a part of the larger one (`scenes`, `scene_oracle`): its exact coverage of
a plus, its positions per frame and its seeds differ, and merging them would change every published clip and figure.
"""
